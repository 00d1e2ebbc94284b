//! What the server sends.
//!
//! Forwarded messages are written by hand on the forward path (`Forward::to_frame`); the types here are their shape,
//! used for everything else, for the JSON Schema and for the golden vectors.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ErrorCode;
use crate::id::{NodeId, PeerId, Role, RoomId, UserId};

/// One server of `RTCConfiguration.iceServers` (webrtc-pc, section 4.2.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// `RTCConfiguration.iceTransportPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IcePolicy {
    /// Any candidate.
    #[default]
    All,
    /// Relayed candidates only.
    Relay,
}

/// What one peer is told of another.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerEntry {
    /// The peer.
    pub peer_id: PeerId,
    /// Its user.
    pub user_id: UserId,
    /// The name to show; empty where none was given.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// Whatever the application attached: a JSON object.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum E2ee {
    /// They do not.
    #[default]
    Off,
    /// Those who can do.
    Optional,
    /// All of them do.
    Required,
}

/// What the members of a room are told of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoomInfo {
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Whatever the application attached: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub metadata: Option<Arc<RawValue>>,
    /// Whether somebody may come in at all.
    pub enabled: bool,
    /// Whether it is closed to newcomers for now.
    pub locked: bool,
    /// Whether newcomers wait until they are admitted.
    pub lobby: bool,
    /// Whether peers encrypt end to end.
    pub e2ee: E2ee,
    /// Most peers, where the room has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_peers: Option<u32>,
    /// When everybody must leave, milliseconds since 1970, where the room has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
}

/// Somebody who waits to be let in.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Knocker {
    /// The peer.
    pub peer_id: PeerId,
    /// Its user.
    pub user_id: UserId,
    /// The name to show; empty where none was given.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// Whatever the application attached: a JSON object.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub metadata: Arc<RawValue>,
}

/// The first frame of a peer that waits in the lobby.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// This peer.
    pub peer_id: PeerId,
    /// The room it waits for.
    pub room_id: RoomId,
    /// Its user.
    pub user_id: UserId,
    /// Its role.
    pub role: Role,
    /// The process that serves the connection.
    pub node: NodeId,
    /// What proves this peer when it comes back.
    pub resume: Option<String>,
    /// Always 0: a peer that waits is told nothing.
    pub seq: u64,
    /// The limits in force.
    pub limits: WireLimits,
    /// Milliseconds between the server's pings.
    pub ping_interval: u64,
    /// Optional parts of the protocol that this server serves.
    pub features: Vec<String>,
}

/// Why somebody waits no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KnockEnd {
    /// It was let in.
    Admitted,
    /// It is gone, for this reason.
    #[serde(untagged)]
    Left(LeftReason),
}

/// The limits a client is told, so that it can keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// The first frame: everything a peer needs to begin, so that no further trip is needed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// This peer.
    pub peer_id: PeerId,
    /// Its room.
    pub room_id: RoomId,
    /// Its user.
    pub user_id: UserId,
    /// Its role.
    pub role: Role,
    /// What the role may do.
    pub permissions: Arc<[Arc<str>]>,
    /// The process that serves the connection.
    pub node: NodeId,
    /// The others.
    pub peers: Vec<PeerEntry>,
    /// What the room is like.
    pub room: RoomInfo,
    /// Who waits to be let in, for those who may let somebody in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Knocker>,
    /// For `RTCConfiguration`.
    pub ice_servers: Arc<[IceServer]>,
    /// For `RTCConfiguration`.
    pub ice_policy: IcePolicy,
    /// What proves this peer when it comes back; null where that is not offered.
    pub resume: Option<String>,
    /// The number before the first entry.
    pub seq: u64,
    /// The limits in force.
    pub limits: WireLimits,
    /// Milliseconds between the server's pings.
    pub ping_interval: u64,
    /// Optional parts of the protocol that this server serves.
    pub features: Vec<String>,
}

/// Why a peer left for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeftReason {
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

impl LeftReason {
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

/// Everything the server sends. `seq` is absent from the frame that is stored and is put in front of it at delivery.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "docs/PROTOCOL.md, section 5, describes each")]
pub enum ServerMessage {
    Joined(Joined),
    Resumed {
        #[serde(flatten)]
        joined: Joined,
        recovered: bool,
        last_id: u64,
    },
    Waiting(Waiting),
    #[serde(rename_all = "camelCase")]
    Ack {
        id: u64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        durable: bool,
    },
    Duplicate {
        seq: u64,
        from: PeerId,
        id: u64,
    },
    Error {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        code: ErrorCode,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u32>,
    },
    Pong {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    Goaway {
        reconnect_in: u64,
    },
    TokenExpiring {
        expires_in: u64,
    },
    TokenRefreshed {
        expires_in: u64,
        role: Role,
        permissions: Arc<[Arc<str>]>,
        resume: Option<String>,
    },
    IceServers {
        ice_servers: Arc<[IceServer]>,
        ice_policy: IcePolicy,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_in: Option<u64>,
    },
    PeerJoined {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(flatten)]
        peer: PeerEntry,
    },
    PeerUpdated {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(flatten)]
        peer: PeerEntry,
    },
    PeerDetached {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        peer_id: PeerId,
    },
    PeerAttached {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        peer_id: PeerId,
    },
    PeerLeft {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        peer_id: PeerId,
        reason: LeftReason,
    },
    Knock {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(flatten)]
        peer: Knocker,
    },
    KnockEnded {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        peer_id: PeerId,
        reason: KnockEnd,
    },
    RoomUpdated {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(flatten)]
        room: RoomInfo,
    },
    Permissions {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        role: Role,
        permissions: Arc<[Arc<str>]>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        muted: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ice_policy: Option<IcePolicy>,
    },
    Notice {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        code: String,
        message: String,
    },
    Offer(Described),
    Answer(Described),
    Pranswer(Described),
    Rollback(Described),
    Candidate {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        from: PeerId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        re: Option<u64>,
        candidate: serde_json::Map<String, serde_json::Value>,
    },
    Message {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<PeerId>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        room: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        data: serde_json::Value,
    },
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// A forwarded description: an `RTCSessionDescriptionInit` with an address.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Described {
    /// Its place in the reader's mailbox; absent where it came outside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Who sent it; set by the server.
    pub from: PeerId,
    /// The sender's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The `id` of the offer it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<u64>,
    /// Absent in a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp: Option<String>,
}

impl ServerMessage {
    /// What a message that was written is answered with.
    pub fn ack(id: u64) -> Self {
        Self::Ack { id, duplicate: false, durable: true }
    }

    /// The frame as JSON text.
    pub fn to_json(&self) -> String {
        // Serialising these types to a string cannot fail: every map key is a string.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// An error for a peer, with the code's own retry hint.
    pub fn error(id: Option<u64>, code: ErrorCode, field: Option<&str>, message: &str) -> Self {
        Self::Error {
            id,
            code,
            message: message.to_owned(),
            field: field.map(str::to_owned),
            retry_ms: code.retry_ms(),
        }
    }
}
