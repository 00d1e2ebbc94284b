//! The calls that requests become. Owns nothing: each call holds what it needs, so that it runs beside the connection's loop.

use std::{pin::Pin, sync::Arc};

use signalbox_protocol::LeftReason;

use crate::registry::{Accepted, LocalPeer, LocalRoom, Outgoing, Riding};
use signalbox_rooms::{
    room::{Input, Outcome},
    store::{AppendError, Unavailable},
};

/// What became of a call.
pub(super) enum Done {
    /// Messages were appended, or not.
    Appended(Vec<Outgoing>, Result<Vec<Accepted>, AppendError>),
    /// The room was changed, or not.
    Updated(Option<u64>, Result<Outcome, Unavailable>),
    /// It had been done before.
    Repeated(Option<u64>),
    /// The peer has left.
    Left(Option<u64>),
}

/// A call in flight.
pub(super) type Call = Pin<Box<dyn Future<Output = Done>>>;

/// Appends a batch; an empty one only tells what rides on it.
pub(super) fn append(
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    riding: Riding,
    items: Vec<Outgoing>,
) -> Call {
    let (room, peer) = (room.clone(), peer.clone());
    Box::pin(async move {
        let outcome = room.append(&peer, riding, &items).await;
        Done::Appended(items, outcome)
    })
}

/// Changes the room.
pub(super) fn change(room: &Arc<LocalRoom>, peer: &LocalPeer, id: Option<u64>, input: Input) -> Call {
    let (room, accepted) = (room.clone(), id.map(|id| (peer.id.clone(), id)));
    Box::pin(async move {
        let answer = room.submit(input, accepted).await;
        Done::Updated(id, answer.map(|(outcome, _)| outcome))
    })
}

/// Does nothing.
pub(super) fn repeat(id: Option<u64>) -> Call {
    Box::pin(std::future::ready(Done::Repeated(id)))
}

/// Leaves.
pub(super) fn leave(room: &Arc<LocalRoom>, peer: &Arc<LocalPeer>, id: Option<u64>) -> Call {
    let (room, peer) = (room.clone(), peer.clone());
    Box::pin(async move {
        let input = Input::Leave { peer: peer.id.clone(), epoch: peer.epoch(), reason: LeftReason::Left };
        // Should the store be away, the leave stays queued and the peer may go.
        let _ = room.submit(input, None).await;
        Done::Left(id)
    })
}
