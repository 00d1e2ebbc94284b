//! Types that several server messages share.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    ErrorCode,
    id::{CallerId, PeerId, Role, UserId},
};

/// A message id of the client that was refused, although `lastId` is higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RefusedId {
    /// The message id.
    pub id: u64,
    /// The code of the answer.
    pub code: ErrorCode,
}

/// One server of `RTCConfiguration.iceServers` (webrtc-pc, section 4.2.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs (RFC 7064, RFC 7065).
    pub urls: Vec<String>,
    /// The TURN user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The TURN password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for IceServer {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let optional = [utoipa::openapi::Type::String, utoipa::openapi::Type::Null];
        let optional = || {
            utoipa::openapi::ObjectBuilder::new()
                .schema_type(utoipa::openapi::schema::SchemaType::from_iter(optional.clone()))
        };
        utoipa::openapi::ObjectBuilder::new()
            .description(Some("`RTCIceServer`."))
            .property("urls", Vec::<String>::schema())
            .required("urls")
            .property("username", optional())
            .property("credential", optional())
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for IceServer {
    fn name() -> std::borrow::Cow<'static, str> {
        "IceServerView".into()
    }
}

/// `RTCConfiguration.iceTransportPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = IceTransportPolicy))]
#[serde(rename_all = "lowercase")]
pub enum IcePolicy {
    /// Candidates of every type.
    #[default]
    All,
    /// Only candidates of type `relay`.
    Relay,
}

/// Who has named a user. Users of two sources never have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum UserSource {
    /// The application, with an API key or with a token that it has signed.
    Application,
    /// A provider, or the application in the place of a provider, at `POST /auth/exchange`.
    Provider,
    /// The guest: the server checks nothing but the prefix `guest:`.
    Guest,
    /// The server, for a person with an invite; the prefix is `invite:`.
    Invite,
}

impl UserSource {
    /// The source of the user of a token, by the caller that requested the token.
    pub fn of_caller(caller: &CallerId) -> Self {
        match caller.as_str() {
            "guest" => Self::Guest,
            CallerId::USER => Self::Provider,
            "invite" => Self::Invite,
            _ => Self::Application,
        }
    }
}

/// The public record of a peer, as the other peers of the room see it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerInfo {
    /// The peer.
    pub peer_id: PeerId,
    /// The user of the peer.
    pub user_id: UserId,
    /// Who has named the user.
    pub source: UserSource,
    /// The display name; empty if the peer has none.
    pub name: Arc<str>,
    /// The role of the peer.
    pub role: Role,
    /// A JSON object from the application.
    #[cfg_attr(test, schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    pub metadata: Arc<RawValue>,
    /// Whether the receiver of this record is polite toward this peer.
    pub polite: bool,
    /// Whether the peer has no connection and may still resume.
    pub detached: bool,
    /// Whether a moderator has muted the peer; absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub muted: bool,
}

/// Whether the peers of a room encrypt end to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(as = Encryption, description = "Whether the peers of a room encrypt end to end.")
)]
#[serde(rename_all = "lowercase")]
pub enum E2eeMode {
    /// No peer encrypts.
    #[default]
    Off,
    /// A peer encrypts if its client supports it.
    Optional,
    /// Every peer must encrypt.
    Required,
}

/// The settings of a room, as its members see them.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomInfo {
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// A JSON object from the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub metadata: Option<Arc<RawValue>>,
    /// Whether peers may join the room at all.
    pub enabled: bool,
    /// Whether the room is locked against new peers.
    pub locked: bool,
    /// Whether new peers wait in the lobby until a moderator admits them.
    pub lobby: bool,
    /// Whether peers encrypt end to end.
    pub e2ee: E2eeMode,
    /// The maximum of peers, if the room has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_peers: Option<u32>,
    /// When the room ends and all peers leave, milliseconds since 1970; absent if it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
}

/// A peer in the lobby.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LobbyPeer {
    /// The peer.
    pub peer_id: PeerId,
    /// The user of the peer.
    pub user_id: UserId,
    /// Who has named the user.
    pub source: UserSource,
    /// The display name; empty if the peer has none.
    pub name: Arc<str>,
    /// The role of the peer.
    pub role: Role,
    /// A JSON object from the application.
    #[cfg_attr(test, schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    pub metadata: Arc<RawValue>,
}

/// Why a peer no longer waits in the lobby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KnockEndReason {
    /// A moderator admitted the peer.
    Admitted,
    /// The peer left the lobby, for this reason.
    #[serde(untagged)]
    Left(LeaveReason),
}

/// The limits that a client must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireLimits {
    /// The longest message, bytes.
    pub frame_bytes: u64,
    /// The longest `sdp`, bytes of JSON.
    pub sdp_bytes: u64,
    /// The longest `candidate`, bytes of JSON.
    pub candidate_bytes: u64,
    /// The longest `data`, bytes of JSON.
    pub data_bytes: u64,
    /// The longest `metadata`, bytes of JSON.
    pub metadata_bytes: u64,
    /// The maximum of peers in a room.
    pub room_peers: u32,
    /// Frames that a client may send at once.
    pub burst: u32,
    /// Frames per second that a client may send after the burst.
    pub rate_per_second: u32,
    /// Entries that may wait in the mailbox of one peer.
    pub backlog: u32,
}

/// Why a peer left its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LeaveReason {
    /// The client sent `leave`.
    Left,
    /// The connection was lost, and the peer did not resume within the resume window.
    Timeout,
    /// A new peer of the same user replaced it.
    Replaced,
    /// A moderator removed it.
    Removed,
    /// The room ended.
    Ended,
    /// Its token expired.
    Expired,
    /// Its user was banned.
    Banned,
    /// Its token was revoked.
    Revoked,
    /// A moderator rejected it in the lobby. Only `knock-ended` has this reason.
    Denied,
}

impl LeaveReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Left,
        Self::Timeout,
        Self::Replaced,
        Self::Removed,
        Self::Ended,
        Self::Expired,
        Self::Banned,
        Self::Revoked,
        Self::Denied,
    ];

    /// The reason with this stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Timeout => "timeout",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Banned => "banned",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
        }
    }
}
