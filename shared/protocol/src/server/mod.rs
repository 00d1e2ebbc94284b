//! The messages of the server.
//!
//! Owns: [`ServerMessage`], the shape of every frame that a client receives. Must not: write
//! forwarded messages, because `ForwardMessage::to_frame` does that without serde for speed. Here
//! they are described for the JSON Schema and the golden vectors only.
//!
//! Next: `first_message` for `joined` and `waiting`, `message_parts` for shared types.

mod first_message;
mod message_parts;

use std::sync::Arc;

use serde::Serialize;

use super::ErrorCode;
use crate::id::{PeerId, Role};

pub use first_message::{JoinedMessage, WaitingMessage};
pub use message_parts::{
    E2eeMode, IcePolicy, IceServer, KnockEndReason, LeaveReason, LobbyPeer, PeerInfo, RefusedId, RoomInfo,
    UserSource, WireLimits,
};

/// A message of the server. A stored frame has no `seq`; the server adds it at delivery.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "docs/PROTOCOL.md, section 5, describes each")]
pub enum ServerMessage {
    Joined(JoinedMessage),
    Resumed {
        #[serde(flatten)]
        joined: JoinedMessage,
        recovered: bool,
        last_id: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<RefusedId>,
    },
    Waiting(WaitingMessage),
    LobbyUpdated {
        moderator_present: bool,
    },
    #[serde(rename_all = "camelCase")]
    Ack {
        id: u64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
        #[serde(default = "default_true", skip_serializing_if = "is_true")]
        durable: bool,
    },
    Duplicate {
        seq: u64,
        from: PeerId,
        id: u64,
    },
    Superseded {
        seq: u64,
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
        peer: PeerInfo,
    },
    PeerUpdated {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(flatten)]
        peer: PeerInfo,
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
        reason: LeaveReason,
    },
    Knock {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(flatten)]
        peer: LobbyPeer,
    },
    KnockEnded {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        peer_id: PeerId,
        reason: KnockEndReason,
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
    Offer(DescriptionMessage),
    Answer(DescriptionMessage),
    Pranswer(DescriptionMessage),
    Rollback(DescriptionMessage),
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

#[cfg(test)]
fn default_true() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

/// A forwarded description: an `RTCSessionDescriptionInit` with an address.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DescriptionMessage {
    /// The seq in the mailbox of the target; absent in a direct delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The peer that sent it; set by the server.
    pub from: PeerId,
    /// The message id that the sender gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The `id` of the offer that it answers or rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<u64>,
    /// The SDP; absent in a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp: Option<String>,
}

impl ServerMessage {
    /// The answer to a message that the store has appended.
    pub fn ack(id: u64) -> Self {
        Self::Ack { id, duplicate: false, durable: true }
    }

    /// Adds the frame to a text.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        // Half of all frames. A test compares them with the other way.
        if let Self::Ack { id, duplicate: false, durable: true } = self {
            out.extend_from_slice(br#"{"type":"ack","id":"#);
            out.extend_from_slice(itoa::Buffer::new().format(*id).as_bytes());
            return out.push(b'}');
        }
        // As below; and a write to a vector cannot fail.
        let _ = serde_json::to_writer(out, self);
    }

    /// The frame as JSON text.
    pub fn to_json(&self) -> String {
        // Serialization of these types cannot fail: every map key is a string.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// An error for a peer, with the retry delay of its code.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_is_written_as_serde_writes_it() {
        for id in [0, 9, 10, 4_294_967_296, u64::MAX] {
            for (duplicate, durable) in [(false, true), (false, false), (true, true), (true, false)] {
                let (ack, mut written) = (ServerMessage::Ack { id, duplicate, durable }, b"before ".to_vec());
                ack.write_json(&mut written);
                assert_eq!(String::from_utf8(written).unwrap(), format!("before {}", ack.to_json()));
            }
        }
    }
}
