//! The answers to the requests of a peer: `ack`, or `error` with a stable code. Pure functions.

use signalbox_protocol::{ErrorCode, ServerMessage};

use crate::{payload_filter::MessageRefusal, registry::ForwardResult};

/// A request without an id may not have been carried out.
pub(super) fn unavailable_without_id(text: &str) -> ServerMessage {
    ServerMessage::error(None, ErrorCode::Unavailable, None, text)
}

/// The outcome of this id is unknown.
pub(super) fn unavailable_answer(id: u64) -> ServerMessage {
    let text = "the store did not answer; send this id again, and the later ones after it";
    ServerMessage::error(Some(id), ErrorCode::Unavailable, None, text)
}

/// The request of this id was carried out before.
pub(super) fn duplicate_ack(id: u64) -> ServerMessage {
    ServerMessage::Ack { id, duplicate: true, durable: true }
}

/// The peer may not do this.
pub(super) fn not_permitted_answer(id: Option<u64>) -> ServerMessage {
    let text = "you may not do that, or not to this peer";
    ServerMessage::error(id, ErrorCode::NotPermitted, None, text)
}

/// The change would let the server read messages of a room that requires end-to-end encryption.
pub(super) fn e2ee_required_answer(id: Option<u64>) -> ServerMessage {
    let text =
        "the room demands encryption end to end, and this would make the server read what the peer sends";
    ServerMessage::error(id, ErrorCode::NotPermitted, None, text)
}

/// The peer that this member names is not in the room.
pub(super) fn no_such_peer_answer(id: Option<u64>, field: &str) -> ServerMessage {
    ServerMessage::error(id, ErrorCode::NoSuchPeer, Some(field), "there is no such peer in this room")
}

/// The answer for a message; none for a written message without an id.
pub(super) fn forward_answer(id: Option<u64>, result: ForwardResult) -> Option<ServerMessage> {
    match result {
        ForwardResult::Written => id.map(ServerMessage::ack),
        ForwardResult::Duplicate => id.map(duplicate_ack),
        ForwardResult::NoSuchPeer => Some(no_such_peer_answer(id, "to")),
        ForwardResult::Backlogged => {
            let text = "the target takes no more for now; try again later under a new id";
            Some(ServerMessage::error(id, ErrorCode::PeerBacklogged, Some("to"), text))
        }
        ForwardResult::Refused(MessageRefusal { code, field, reason }) => {
            Some(ServerMessage::error(id, code, Some(field), &reason))
        }
    }
}
