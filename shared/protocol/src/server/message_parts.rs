//! What several frames have in common.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{PeerId, Role, UserId};

/// One server of `RTCConfiguration.iceServers` (webrtc-pc, section 4.2.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs (RFC 7064, RFC 7065).
    pub urls: Vec<String>,
    /// TURN user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// TURN password.
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
    /// Any candidate.
    #[default]
    All,
    /// Relayed candidates only.
    Relay,
}

/// What one peer is told of another.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerInfo {
    /// The peer.
    pub peer_id: PeerId,
    /// Its user.
    pub user_id: UserId,
    /// The name to show; empty where none was given.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// Whatever the application attached: a JSON object.
    #[cfg_attr(test, schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    pub metadata: Arc<RawValue>,
    /// Whether the reader is the polite one toward this peer.
    pub polite: bool,
    /// Whether its socket is lost for now.
    pub detached: bool,
    /// Whether a moderator took its permission to publish; absent where not.
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
    /// They do not.
    #[default]
    Off,
    /// Those who can do.
    Optional,
    /// All of them do.
    Required,
}

/// What the members of a room are told of it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomInfo {
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Whatever the application attached: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub metadata: Option<Arc<RawValue>>,
    /// Whether somebody may come in at all.
    pub enabled: bool,
    /// Whether it is closed to newcomers for now.
    pub locked: bool,
    /// Whether newcomers wait until they are admitted.
    pub lobby: bool,
    /// Whether peers encrypt end to end.
    pub e2ee: E2eeMode,
    /// Most peers, where the room has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_peers: Option<u32>,
    /// When everybody must leave, milliseconds since 1970, where the room has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
}

/// Somebody who waits to be let in.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LobbyPeer {
    /// The peer.
    pub peer_id: PeerId,
    /// Its user.
    pub user_id: UserId,
    /// The name to show; empty where none was given.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// Whatever the application attached: a JSON object.
    #[cfg_attr(test, schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    pub metadata: Arc<RawValue>,
}

/// Why somebody waits no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KnockEndReason {
    /// It was let in.
    Admitted,
    /// It is gone, for this reason.
    #[serde(untagged)]
    Left(LeaveReason),
}

/// The limits a client is told, so that it can keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireLimits {
    /// Longest message, bytes.
    pub frame_bytes: u64,
    /// Longest `sdp`, bytes of JSON.
    pub sdp_bytes: u64,
    /// Longest `candidate`, bytes of JSON.
    pub candidate_bytes: u64,
    /// Longest `data`, bytes of JSON.
    pub data_bytes: u64,
    /// Longest `metadata`, bytes of JSON.
    pub metadata_bytes: u64,
    /// Most peers in a room.
    pub room_peers: u32,
    /// Frames that may come at once.
    pub burst: u32,
    /// Frames a second after the burst.
    pub rate_per_second: u32,
    /// Entries that may wait for one peer.
    pub backlog: u32,
}

/// Why a peer left for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LeaveReason {
    /// It said so.
    Left,
    /// Its socket was lost and it did not come back in time.
    Timeout,
    /// The same client came back as another peer.
    Replaced,
    /// A moderator removed it.
    Removed,
    /// The room ended.
    Ended,
    /// The life of its token was over.
    Expired,
    /// Its user was banned.
    Banned,
    /// Its token was taken back.
    Revoked,
    /// It was not admitted from the lobby; only in `knock-ended`, since others never knew of it.
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

    /// Reads the stable text.
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
