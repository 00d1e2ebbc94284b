//! What a client is answered.

use signalbox_protocol::{ErrorCode, ServerMessage};

use crate::{registry::Accepted, rules::NotAllowed};

/// What had no id may not have been done.
pub(super) fn lost(text: &str) -> ServerMessage {
    ServerMessage::error(None, ErrorCode::Unavailable, None, text)
}

/// The outcome of this id is unknown.
pub(super) fn unavailable(id: u64) -> ServerMessage {
    let text = "the store did not answer; send this id again, and the later ones after it";
    ServerMessage::error(Some(id), ErrorCode::Unavailable, None, text)
}

/// It had been done before.
pub(super) fn repeated(id: u64) -> ServerMessage {
    ServerMessage::Ack { id, duplicate: true, durable: true }
}

/// Whoever asked for it may not.
pub(super) fn not_permitted(id: Option<u64>) -> ServerMessage {
    let text = "you may not do that, or not to this peer";
    ServerMessage::error(id, ErrorCode::NotPermitted, None, text)
}

/// Then the server would have to read what the peer sends.
pub(super) fn must_not_read(id: Option<u64>) -> ServerMessage {
    let text =
        "the room demands encryption end to end, and this would make the server read what the peer sends";
    ServerMessage::error(id, ErrorCode::NotPermitted, None, text)
}

/// Nobody is there whose id stands in this member.
pub(super) fn no_such_peer(id: Option<u64>, field: &str) -> ServerMessage {
    ServerMessage::error(id, ErrorCode::NoSuchPeer, Some(field), "there is no such peer in this room")
}

/// What became of a message; none where it had no id and all is well.
pub(super) fn of_message(id: Option<u64>, result: Accepted) -> Option<ServerMessage> {
    match result {
        Accepted::Written => id.map(ServerMessage::ack),
        Accepted::Duplicate => id.map(repeated),
        Accepted::NoSuchPeer => Some(no_such_peer(id, "to")),
        Accepted::Backlogged => {
            let text = "the target takes no more for now; try again later under a new id";
            Some(ServerMessage::error(id, ErrorCode::PeerBacklogged, Some("to"), text))
        }
        Accepted::Refused(NotAllowed { code, field, why }) => {
            Some(ServerMessage::error(id, code, Some(field), &why))
        }
    }
}
