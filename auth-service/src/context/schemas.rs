//! The forms of what stands in bodies and paths, as the document has them: one component each, so that a client generator makes one type of
//! each. The handlers judge by `signalbox_protocol::id`; these only say it.

use serde::Serialize;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::SchemaType},
};

/// The name of a room.
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9._~-]{1,64}$")]
pub(crate) struct RoomName(#[expect(dead_code, reason = "the document reads it")] String);

/// The name of a user.
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9._~@:+-]{1,128}$")]
pub(crate) struct UserName(#[expect(dead_code, reason = "the document reads it")] String);

/// The name of a role.
#[derive(ToSchema)]
#[schema(pattern = "^[a-z0-9-]{1,32}$")]
pub(crate) struct RoleName(#[expect(dead_code, reason = "the document reads it")] String);

/// The name of a region.
#[derive(ToSchema)]
#[schema(pattern = "^[a-z0-9-]{1,32}$")]
pub(crate) struct RegionName(#[expect(dead_code, reason = "the document reads it")] String);

/// A peer of a room.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9a-f]{32}$")]
pub(crate) struct PeerName(#[expect(dead_code, reason = "the document reads it")] String);

/// On whose word: the id of an API key, `guest`, `user`, `invite` or `app`.
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
pub(crate) struct CallerName(#[expect(dead_code, reason = "the document reads it")] String);

/// A name to show.
#[derive(ToSchema)]
#[schema(pattern = r"^[^\x00-\x1F\x7F-\x9F\u202A-\u202E\u2066-\u2069]{0,64}$")]
pub(crate) struct DisplayName(#[expect(dead_code, reason = "the document reads it")] String);

/// Why, for those who read the rules later.
#[derive(ToSchema)]
#[schema(as = Reason, pattern = r"^[^\x00-\x1F\x7F-\x9F\u202A-\u202E\u2066-\u2069]{1,256}$")]
pub(crate) struct ReasonText(#[expect(dead_code, reason = "the document reads it")] String);

/// Anything, in an object.
#[derive(ToSchema)]
#[schema(as = Metadata, value_type = Object)]
pub(crate) struct MetadataObject(());

/// Anything but `null`.
pub(crate) struct MessageData;

impl PartialSchema for MessageData {
    fn schema() -> RefOr<Schema> {
        let types = [Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];
        let anything = ObjectBuilder::new().schema_type(SchemaType::from_iter(types));
        anything.description(Some("Anything but `null`.")).into()
    }
}

impl ToSchema for MessageData {}

/// Whether what is sent is encrypted end to end.
#[derive(ToSchema)]
#[schema(as = Encryption)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) enum EncryptionMode {
    Off,
    Optional,
    Required,
}

/// `RTCConfiguration.iceTransportPolicy`.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) enum IceTransportPolicy {
    All,
    Relay,
}

/// `RTCIceServer`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct IceServerView {
    urls: Vec<String>,
    username: Option<String>,
    credential: Option<String>,
}

/// Nothing to say: `{}`.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmptyResponse {}

/// A path about a room.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct RoomPath {
    room: RoomName,
}

/// A path about one of its peers.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct PeerPath {
    room: RoomName,
    peer: PeerName,
}
