//! The calls that requests become. Owns nothing: each call holds what it needs, so that it runs beside the connection's loop.

use std::{pin::Pin, sync::Arc};

use signalbox_protocol::LeaveReason;

use crate::registry::{self, ForwardResult, LocalPeer, LocalRoom, OutgoingMessage, SenderProgress};
use signalbox_rooms::{
    room::{InputOutcome, RoomInput},
    store::{AppendError, StoreUnavailable},
};

/// What became of a call.
pub(super) enum CallResult {
    /// Messages were appended, or not.
    MessagesAppended(Vec<OutgoingMessage>, Result<Vec<ForwardResult>, AppendError>),
    /// The room was changed, or not.
    RoomChanged(Option<u64>, Result<InputOutcome, StoreUnavailable>),
    /// It had been done before.
    DuplicateRequest(Option<u64>),
    /// The peer has left.
    PeerLeft(Option<u64>),
}

/// A call in flight.
pub(super) type PendingCall = Pin<Box<dyn Future<Output = CallResult>>>;

/// Appends a batch; an empty one only tells what rides on it.
pub(super) fn append_messages(
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    riding: SenderProgress,
    items: Vec<OutgoingMessage>,
) -> PendingCall {
    let (room, peer) = (room.clone(), peer.clone());
    Box::pin(async move {
        let outcome = registry::append_messages(&room, &peer, riding, &items).await;
        CallResult::MessagesAppended(items, outcome)
    })
}

/// Changes the room.
pub(super) fn change_room(
    room: &Arc<LocalRoom>,
    peer: &LocalPeer,
    id: Option<u64>,
    input: RoomInput,
) -> PendingCall {
    let (room, accepted) = (room.clone(), id.map(|id| (peer.id.clone(), id)));
    Box::pin(async move {
        let answer = room.submit_input(input, accepted).await;
        CallResult::RoomChanged(id, answer.map(|(outcome, _)| outcome))
    })
}

/// Does nothing.
pub(super) fn answer_duplicate(id: Option<u64>) -> PendingCall {
    Box::pin(std::future::ready(CallResult::DuplicateRequest(id)))
}

/// Leaves.
pub(super) fn leave_room(room: &Arc<LocalRoom>, peer: &Arc<LocalPeer>, id: Option<u64>) -> PendingCall {
    let (room, peer) = (room.clone(), peer.clone());
    Box::pin(async move {
        let input =
            RoomInput::Leave { peer: peer.id.clone(), epoch: peer.epoch(), reason: LeaveReason::Left };
        // Should the store be away, the leave stays queued and the peer may go.
        let _ = room.submit_input(input, None).await;
        CallResult::PeerLeft(id)
    })
}
