//! What a client is answered.

use signalbox_protocol::{ErrorCode, ServerMessage};

use crate::{payload_filter::MessageRefusal, registry::ForwardResult};

/// What had no id may not have been done.
pub(super) fn unavailable_without_id(text: &str) -> ServerMessage {
    ServerMessage::error(None, ErrorCode::Unavailable, None, text)
}

/// The outcome of this id is unknown.
pub(super) fn unavailable_answer(id: u64) -> ServerMessage {
    let text = "the store did not answer; send this id again, and the later ones after it";
    ServerMessage::error(Some(id), ErrorCode::Unavailable, None, text)
}

/// It had been done before.
pub(super) fn duplicate_ack(id: u64) -> ServerMessage {
    ServerMessage::Ack { id, duplicate: true, durable: true }
}

/// What became of a message; none where it had no id and all is well.
pub(super) fn forward_answer(id: Option<u64>, result: ForwardResult) -> Option<ServerMessage> {
    match result {
        ForwardResult::Written => id.map(ServerMessage::ack),
        ForwardResult::Duplicate => id.map(duplicate_ack),
        ForwardResult::NoSuchPeer => {
            let text = "there is no such peer in this room";
            Some(ServerMessage::error(id, ErrorCode::NoSuchPeer, Some("to"), text))
        }
        ForwardResult::Backlogged => {
            let text = "the target takes no more for now; try again later under a new id";
            Some(ServerMessage::error(id, ErrorCode::PeerBacklogged, Some("to"), text))
        }
        ForwardResult::Refused(MessageRefusal { code, field, reason: why }) => {
            Some(ServerMessage::error(id, code, Some(field), &why))
        }
    }
}
