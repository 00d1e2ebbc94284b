//! The answers to the requests of a peer: `ack`, or `error` with a stable code. Pure functions.

use signalbox_protocol::{ErrorCode, ServerMessage};
use signalbox_rooms::store::BacklogBound;

use crate::{payload_filter::MessageRefusal, registry::ForwardResult};

/// The answer to a request without an id that may not have been carried out.
pub(super) fn unavailable_without_id(text: &str) -> ServerMessage {
    ServerMessage::error(None, ErrorCode::Unavailable, None, text)
}

/// The answer to a request whose outcome is unknown.
pub(super) fn unavailable_answer(id: u64) -> ServerMessage {
    let text = "the store did not answer; send this id again, and the later ids after it";
    ServerMessage::error(Some(id), ErrorCode::Unavailable, None, text)
}

/// The answer to an id that was refused before, and after which a later id was accepted.
pub(super) fn refused_again(id: u64, code: ErrorCode) -> ServerMessage {
    let text = "this id was refused before; to try again, send the message under a new id";
    ServerMessage::error(Some(id), code, None, text)
}

/// The answer to a request that was carried out before.
pub(super) fn duplicate_ack(id: u64) -> ServerMessage {
    ServerMessage::Ack { id, duplicate: true, durable: true }
}

/// The answer for a message; none for a written message without an id.
pub(super) fn forward_answer(id: Option<u64>, result: ForwardResult) -> Option<ServerMessage> {
    match result {
        ForwardResult::Written => id.map(ServerMessage::ack),
        ForwardResult::Duplicate => id.map(duplicate_ack),
        ForwardResult::RefusedBefore(code) => id.map(|id| refused_again(id, code)),
        ForwardResult::NoSuchPeer => {
            let text = "the target is not in this room";
            Some(ServerMessage::error(id, ErrorCode::NoSuchPeer, Some("to"), text))
        }
        ForwardResult::Backlogged(bound) => {
            let text = match bound {
                BacklogBound::Mailbox => "the backlog of the target is full; try again later under a new id",
                BacklogBound::Room => {
                    "too much waits in this room, and a target does not read; try again later under a new id"
                }
                BacklogBound::Grant => {
                    "too many of your messages wait for peers that do not read; try again later under a new id"
                }
                BacklogBound::Memory => {
                    "the store has little memory, and a target does not read; try again later under a new id"
                }
            };
            Some(ServerMessage::error(id, ErrorCode::PeerBacklogged, Some("to"), text))
        }
        ForwardResult::Refused(MessageRefusal { code, field, reason }) => {
            Some(ServerMessage::error(id, code, Some(field), &reason))
        }
    }
}
