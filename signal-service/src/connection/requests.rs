//! The order of one peer's requests: at most one store call in flight, what comes meanwhile goes into the next one.
//!
//! A call whose outcome is unknown leaves a mark: later ids are answered `unavailable` until the first unknown one has been
//! sent again, so that nothing overtakes it.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use serde_json::value::RawValue;
use signalbox_shared::protocol::{ErrorCode, LeftReason, ServerMessage};

use crate::{
    registry::{Accepted, LocalPeer, LocalRoom},
    room::{Input, Outcome},
    store::{AppendError, Item, Unavailable},
};

/// Most messages in one call.
const MOST_ITEMS: usize = 64;

/// Bytes that may wait for their call; beyond it nothing more is read from the socket.
const MOST_BYTES: usize = 256 * 1024;

/// One request of a peer.
#[derive(Debug)]
pub(super) enum Request {
    /// A message to forward.
    Forward(Item),
    /// A change of its own public record.
    Update {
        /// Its number.
        id: Option<u64>,
        /// The new name.
        name: Option<Arc<str>>,
        /// The new metadata.
        metadata: Option<Arc<RawValue>>,
    },
    /// The peer leaves.
    Leave {
        /// Its number.
        id: Option<u64>,
    },
}

impl Request {
    fn id(&self) -> Option<u64> {
        match self {
            Self::Forward(item) => item.id,
            Self::Update { id, .. } | Self::Leave { id } => *id,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Forward(item) => item.body.len(),
            Self::Update { metadata, .. } => metadata.as_ref().map_or(0, |json| json.get().len()),
            Self::Leave { .. } => 0,
        }
    }
}

/// What a finished call means for the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    GoOn,
    /// The peer has left as it asked.
    Left,
    /// A newer connection owns the peer.
    Fenced,
    /// The peer's shared state is gone.
    Gone,
}

enum Done {
    Appended(Vec<Option<u64>>, Result<Vec<Accepted>, AppendError>),
    Updated(Option<u64>, Result<Outcome, Unavailable>),
    Repeated(Option<u64>),
    Left(Option<u64>),
}

type Call = Pin<Box<dyn Future<Output = Done>>>;

/// The requests of one peer, in order.
pub(super) struct Requests {
    room: Arc<LocalRoom>,
    peer: Arc<LocalPeer>,
    waiting: VecDeque<Request>,
    bytes: usize,
    call: Option<Call>,
    /// The first id whose outcome is unknown.
    unknown_from: Option<u64>,
    /// The highest id that was accepted.
    accepted: u64,
    /// The last entry that the store was told of.
    told: u64,
}

impl Requests {
    /// No requests yet.
    pub(super) fn new(room: Arc<LocalRoom>, peer: Arc<LocalPeer>) -> Self {
        let (waiting, bytes, call) = (VecDeque::new(), 0, None);
        Self { room, peer, waiting, bytes, call, unknown_from: None, accepted: 0, told: 0 }
    }

    /// Whether the socket should not be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES || self.waiting.len() >= 4 * MOST_ITEMS
    }

    /// Whether nothing waits and nothing is in flight.
    pub(super) fn is_done(&self) -> bool {
        self.call.is_none() && self.waiting.is_empty()
    }

    /// Takes a request, or answers it at once.
    pub(super) fn push(&mut self, request: Request) -> Option<ServerMessage> {
        if let (Some(first), Some(id)) = (self.unknown_from, request.id()) {
            if id > first {
                return Some(unavailable(id));
            }
            if id == first {
                self.unknown_from = None;
            }
        }
        self.bytes += request.bytes();
        self.waiting.push_back(request);
        None
    }

    /// Whether an id is, or comes after, one whose outcome is unknown.
    pub(super) fn waits_for_an_earlier(&self, id: u64) -> bool {
        self.unknown_from.is_some_and(|first| id >= first)
    }

    /// Starts the next call if none is in flight. `acked` is the last entry the peer has; it rides along.
    pub(super) fn start(&mut self, acked: u64) {
        if self.call.is_some() {
            return;
        }
        let Some(first) = self.waiting.pop_front() else { return };
        self.bytes -= first.bytes();
        self.call = Some(match first {
            Request::Forward(item) => self.append(item, acked),
            Request::Update { id, name, metadata } => self.update(id, name, metadata),
            Request::Leave { id } => self.leave(id),
        });
    }

    /// Tells the store what the peer has, if that is not told by a message anyway.
    pub(super) fn acknowledge(&mut self, acked: u64) {
        if self.call.is_none() && acked > self.told {
            self.call = Some(self.append_items(Vec::new(), acked));
        }
    }

    /// The last entry that the store was told of.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Asks the store, by an empty call, whether the peer is still in its room.
    pub(super) fn check(&mut self, acked: u64) {
        if self.call.is_none() {
            self.call = Some(self.append_items(Vec::new(), acked));
        }
    }

    fn append(&mut self, first: Item, acked: u64) -> Call {
        let mut items = vec![first];
        while items.len() < MOST_ITEMS {
            match self.waiting.pop_front() {
                Some(Request::Forward(item)) => {
                    self.bytes -= item.body.len();
                    items.push(item);
                }
                Some(other) => {
                    self.waiting.push_front(other);
                    break;
                }
                None => break,
            }
        }
        self.append_items(items, acked)
    }

    fn append_items(&mut self, items: Vec<Item>, acked: u64) -> Call {
        // A confirmation that comes late must not take back what was told for it.
        let acked = acked.max(self.told);
        self.told = acked;
        self.peer.told(acked);
        let (room, peer) = (self.room.clone(), self.peer.clone());
        let ids = items.iter().map(|item| item.id).collect();
        Box::pin(async move { Done::Appended(ids, room.append(&peer, acked, items).await) })
    }

    fn update(&mut self, id: Option<u64>, name: Option<Arc<str>>, metadata: Option<Arc<RawValue>>) -> Call {
        let duplicate = id.is_some_and(|id| id <= self.accepted);
        let (room, peer) = (self.room.clone(), self.peer.id.clone());
        Box::pin(async move {
            if duplicate {
                return Done::Repeated(id);
            }
            let accepted = id.map(|id| (peer.clone(), id));
            let answer = room.submit(Input::Update { peer, name, metadata }, accepted).await;
            Done::Updated(id, answer.map(|(outcome, _)| outcome))
        })
    }

    fn leave(&mut self, id: Option<u64>) -> Call {
        let (room, peer) = (self.room.clone(), self.peer.clone());
        Box::pin(async move {
            let input = Input::Leave { peer: peer.id.clone(), epoch: peer.epoch, reason: LeftReason::Left };
            // Should the store be away, the leave stays queued and the peer may go.
            let _ = room.submit(input, None).await;
            Done::Left(id)
        })
    }

    /// Waits for the call in flight; for ever if there is none. Pushes the answers.
    pub(super) async fn finished(&mut self, answers: &mut Vec<ServerMessage>) -> Verdict {
        let done = match &mut self.call {
            Some(call) => call.await,
            None => std::future::pending().await,
        };
        self.call = None;
        match done {
            Done::Appended(ids, outcome) => self.appended(&ids, outcome, answers),
            Done::Updated(id, outcome) => self.updated(id, outcome, answers),
            Done::Repeated(id) => {
                answers.extend(id.map(|id| ServerMessage::Ack { id, duplicate: true }));
                Verdict::GoOn
            }
            Done::Left(id) => {
                answers.extend(id.map(|id| ServerMessage::Ack { id, duplicate: false }));
                Verdict::Left
            }
        }
    }

    fn appended(
        &mut self,
        ids: &[Option<u64>],
        outcome: Result<Vec<Accepted>, AppendError>,
        answers: &mut Vec<ServerMessage>,
    ) -> Verdict {
        match outcome {
            Ok(results) => {
                for (id, result) in ids.iter().zip(results) {
                    if matches!(result, Accepted::Written | Accepted::Duplicate) {
                        self.accepted = self.accepted.max(id.unwrap_or(0));
                    }
                    answers.extend(reply(*id, result));
                }
                Verdict::GoOn
            }
            Err(AppendError::Fenced) => Verdict::Fenced,
            Err(AppendError::Gone) => Verdict::Gone,
            Err(AppendError::Unavailable(_)) => {
                if ids.contains(&None) {
                    let text = "the store did not answer; what had no id may not have been sent";
                    answers.push(ServerMessage::error(None, ErrorCode::Unavailable, None, text));
                }
                self.refuse_from(ids.iter().flatten().copied(), answers);
                Verdict::GoOn
            }
        }
    }

    fn updated(
        &mut self,
        id: Option<u64>,
        outcome: Result<Outcome, Unavailable>,
        answers: &mut Vec<ServerMessage>,
    ) -> Verdict {
        match (outcome, id) {
            (Ok(Outcome::Done), Some(id)) => {
                self.accepted = self.accepted.max(id);
                answers.push(ServerMessage::Ack { id, duplicate: false });
            }
            (Ok(Outcome::Done), None) => {}
            (Ok(_), _) => return Verdict::Gone,
            (Err(Unavailable), Some(id)) => {
                self.refuse_from(std::iter::once(id), answers);
            }
            (Err(Unavailable), None) => {
                let text = "the store did not answer; the update may not have been made";
                answers.push(ServerMessage::error(None, ErrorCode::Unavailable, None, text));
            }
        }
        Verdict::GoOn
    }

    /// The outcome of these ids is unknown; they and every later one must come again.
    fn refuse_from(&mut self, ids: impl Iterator<Item = u64>, answers: &mut Vec<ServerMessage>) {
        let waiting = std::mem::take(&mut self.waiting);
        let later = waiting.iter().filter_map(Request::id).collect::<Vec<_>>();
        let refused: Vec<u64> = ids.chain(later).collect();
        self.unknown_from = self.unknown_from.or(refused.first().copied());
        answers.extend(refused.into_iter().map(unavailable));
        // What has no id has no promise, except a leave, which must happen.
        self.waiting =
            waiting.into_iter().filter(|request| matches!(request, Request::Leave { id: None })).collect();
        self.bytes = 0;
    }
}

fn unavailable(id: u64) -> ServerMessage {
    let text = "the store did not answer; send this id again, and the later ones after it";
    ServerMessage::error(Some(id), ErrorCode::Unavailable, None, text)
}

fn reply(id: Option<u64>, result: Accepted) -> Option<ServerMessage> {
    match result {
        Accepted::Written => id.map(|id| ServerMessage::Ack { id, duplicate: false }),
        Accepted::Duplicate => id.map(|id| ServerMessage::Ack { id, duplicate: true }),
        Accepted::NoSuchPeer => Some(ServerMessage::error(
            id,
            ErrorCode::NoSuchPeer,
            Some("to"),
            "there is no such peer in this room",
        )),
        Accepted::Backlogged => {
            let text = "the target takes no more for now; try again later under a new id";
            Some(ServerMessage::error(id, ErrorCode::PeerBacklogged, Some("to"), text))
        }
    }
}
