//! The order of one peer's requests: at most one store call in flight, what comes meanwhile goes into the next one.
//!
//! Ids whose outcome is unknown are remembered: later ids are answered `unavailable` until every earlier one has been sent again, so
//! that nothing overtakes them. Only the first would not do: its client may send it again before it hears of the others. While the store is away, messages whose targets are all on this node go straight to
//! them; there an id that waits holds up only what goes to the same targets.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::Arc,
};

use serde_json::value::RawValue;
use signalbox_shared::protocol::{Command, ErrorCode, LeftReason, ServerMessage};

use crate::registry::{Accepted, LocalPeer, LocalRoom, Riding};
use signalbox_rooms::{
    room::{Act, Input, Manage, Outcome, Whom},
    store::{AppendError, Item, Target, Unavailable},
};

/// Most ids that are remembered as refused; beyond it only these are taken.
const MOST_REFUSED: usize = 1_024;

/// Most messages in one call.
const MOST_ITEMS: usize = 64;

/// Bytes that may wait for their call; beyond it nothing more is read from the socket.
const MOST_BYTES: usize = 256 * 1024;

/// One request of a peer.
#[derive(Debug)]
pub(super) enum Request {
    /// A message to forward.
    Forward(Item),
    /// A message that the rules of its sender's role keep back: it is accepted and goes nowhere.
    Drop {
        /// Its number.
        id: Option<u64>,
    },
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
    /// The peer asks for something to be done to the room, or to another.
    Command {
        /// Its number.
        id: Option<u64>,
        /// What.
        command: Command,
    },
}

impl Request {
    fn id(&self) -> Option<u64> {
        match self {
            Self::Forward(item) => item.id,
            Self::Drop { id, .. }
            | Self::Update { id, .. }
            | Self::Leave { id }
            | Self::Command { id, .. } => *id,
        }
    }

    /// Whom it reaches; a change of one's own record reaches everybody.
    fn target(&self) -> &Target {
        match self {
            Self::Forward(item) => &item.to,
            Self::Drop { .. } | Self::Update { .. } | Self::Leave { .. } | Self::Command { .. } => {
                &Target::Room
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Forward(item) => item.body.len(),
            Self::Update { metadata, .. } => metadata.as_ref().map_or(0, |json| json.get().len()),
            Self::Drop { .. } | Self::Leave { .. } | Self::Command { .. } => 0,
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
    /// This node does not own the peer, or it is gone: somebody must look before the next call.
    Look,
}

enum Done {
    Appended(Vec<Item>, Result<Vec<Accepted>, AppendError>),
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
    /// Whether the peer must be looked after before the next call.
    held: bool,
    /// Ids that were refused and have not come again, with their targets.
    refused: BTreeMap<u64, Target>,
    /// Every id up to this one is settled.
    floor: u64,
    /// The highest id that went straight to its targets.
    straight: u64,
    /// The last entry that the store was told of.
    told: u64,
    /// The handle that the client is known to have, until the store knows too.
    handle: Option<u64>,
    /// Whether it may be told without a message to ride on: once, and again when the store has answered something else.
    handle_alone: bool,
}

impl Requests {
    /// No requests yet; ids up to `floor` were accepted before.
    pub(super) fn new(room: Arc<LocalRoom>, peer: Arc<LocalPeer>, floor: u64, told: u64) -> Self {
        Self {
            room,
            peer,
            waiting: VecDeque::new(),
            bytes: 0,
            call: None,
            held: false,
            refused: BTreeMap::new(),
            floor,
            straight: 0,
            told,
            handle: None,
            handle_alone: true,
        }
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
        if let Some(id) = request.id() {
            if self.is_held_up(id, &request) {
                self.note_refused(id, request.target().clone());
                return Some(unavailable(id));
            }
            self.refused.remove(&id);
        }
        self.bytes += request.bytes();
        self.waiting.push_back(request);
        None
    }

    /// Whether an earlier id must come again before this one.
    fn is_held_up(&self, id: u64, request: &Request) -> bool {
        let mut earlier = self.refused.range(..id);
        if self.refused.len() >= MOST_REFUSED && !self.refused.contains_key(&id) {
            return true;
        }
        match self.goes_straight(request) {
            true => earlier.any(|(_, to)| to.overlaps(request.target())),
            false => earlier.next().is_some(),
        }
    }

    fn goes_straight(&self, request: &Request) -> bool {
        matches!(request, Request::Forward(_)) && !self.room.is_open()
    }

    fn note_refused(&mut self, id: u64, target: Target) {
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(id, target);
        }
    }

    /// Whether an id is, or comes after, one whose outcome is unknown.
    pub(super) fn waits_for_an_earlier(&self, id: u64) -> bool {
        self.refused.range(..=id).next().is_some()
    }

    /// The highest id up to which all are settled.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Starts the next call if none is in flight. `acked` is the last entry the peer has; it rides along.
    pub(super) fn start(&mut self, acked: u64, answers: &mut Vec<ServerMessage>) {
        while self.call.is_none() && !self.held {
            let Some(first) = self.waiting.pop_front() else {
                if self.handle.is_some() && self.handle_alone && self.room.is_open() {
                    self.handle_alone = false;
                    self.call = Some(self.append_items(Vec::new(), acked));
                }
                return;
            };
            self.bytes -= first.bytes();
            // What was held up by nothing when it came may be now.
            if let Some(id) = first.id().filter(|id| self.is_held_up(*id, &first)) {
                self.note_refused(id, first.target().clone());
                answers.push(unavailable(id));
                continue;
            }
            let straight = self.goes_straight(&first);
            match first {
                Request::Forward(item) if straight => self.forward_straight(&item, answers),
                Request::Forward(item) => self.call = Some(self.append(item, acked)),
                Request::Drop { id } => self.keep_back(id, answers),
                Request::Update { id, name, metadata } => self.call = Some(self.update(id, name, metadata)),
                Request::Leave { id } => self.call = Some(self.leave(id)),
                Request::Command { id, command } => self.call = Some(self.command(id, command)),
            }
        }
    }

    /// Nothing is written: what was sent before it has been settled, and so is this.
    fn keep_back(&mut self, id: Option<u64>, answers: &mut Vec<ServerMessage>) {
        self.settle(id);
        self.raise_floor();
        answers.extend(id.map(ServerMessage::ack));
    }

    /// The store is away: straight to the targets if all are here, else refused.
    fn forward_straight(&mut self, item: &Item, answers: &mut Vec<ServerMessage>) {
        let arrived = self.room.forward_straight(&self.peer, item);
        match (item.id, arrived) {
            (Some(id), true) => {
                self.straight = self.straight.max(id);
                self.raise_floor();
                answers.push(ServerMessage::Ack { id, duplicate: false, durable: false });
            }
            (None, true) => {}
            (Some(id), false) => self.refuse_from(vec![(id, item.to.clone())], answers),
            (None, false) => {
                answers.push(lost("the store does not answer and the target is not on this node"))
            }
        }
    }

    /// The client has sent something, so it has the handle it was last given.
    pub(super) fn confirm_handle(&mut self, handle: u64) {
        self.handle = Some(handle);
        self.handle_alone = true;
    }

    /// Whether the peer must be looked after first.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// The peer is ours.
    pub(super) fn release(&mut self) {
        self.held = false;
        self.handle_alone = true;
    }

    /// Its mailbox is another one: nothing of it has been told.
    pub(super) fn begin_mailbox(&mut self, seq: u64) {
        self.told = seq;
    }

    /// Tells the store what the peer has, if that is not told by a message anyway.
    pub(super) fn acknowledge(&mut self, acked: u64) {
        if self.call.is_none() && !self.held && acked > self.told && self.room.is_open() {
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
        let riding = Riding { acked, floor: self.floor, handle: self.handle };
        Box::pin(async move {
            let outcome = room.append(&peer, riding, items.clone()).await;
            Done::Appended(items, outcome)
        })
    }

    fn update(&mut self, id: Option<u64>, name: Option<Arc<str>>, metadata: Option<Arc<RawValue>>) -> Call {
        let duplicate = id.is_some_and(|id| id <= self.floor);
        let (room, peer, epoch) = (self.room.clone(), self.peer.id.clone(), self.peer.epoch());
        Box::pin(async move {
            if duplicate {
                return Done::Repeated(id);
            }
            let accepted = id.map(|id| (peer.clone(), id));
            let answer = room.submit(Input::Update { peer, epoch, name, metadata }, accepted).await;
            Done::Updated(id, answer.map(|(outcome, _)| outcome))
        })
    }

    fn command(&mut self, id: Option<u64>, command: Command) -> Call {
        let duplicate = id.is_some_and(|id| id <= self.floor);
        let (room, peer, epoch) = (self.room.clone(), self.peer.id.clone(), self.peer.epoch());
        Box::pin(async move {
            if duplicate {
                return Done::Repeated(id);
            }
            let accepted = id.map(|id| (peer.clone(), id));
            let answer = room.submit(Manage::member(peer, epoch, act(command)), accepted).await;
            Done::Updated(id, answer.map(|(outcome, _)| outcome))
        })
    }

    fn leave(&mut self, id: Option<u64>) -> Call {
        let (room, peer) = (self.room.clone(), self.peer.clone());
        Box::pin(async move {
            let input = Input::Leave { peer: peer.id.clone(), epoch: peer.epoch(), reason: LeftReason::Left };
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
            Done::Appended(items, outcome) => self.appended(items, outcome, answers),
            Done::Updated(id, outcome) => self.updated(id, outcome, answers),
            Done::Repeated(id) => {
                answers.extend(id.map(|id| ServerMessage::Ack { id, duplicate: true, durable: true }));
                Verdict::GoOn
            }
            Done::Left(id) => {
                answers.extend(id.map(ServerMessage::ack));
                Verdict::Left
            }
        }
    }

    fn appended(
        &mut self,
        items: Vec<Item>,
        outcome: Result<Vec<Accepted>, AppendError>,
        answers: &mut Vec<ServerMessage>,
    ) -> Verdict {
        match outcome {
            Ok(results) => {
                self.handle = None;
                for (item, result) in items.iter().zip(results) {
                    if matches!(result, Accepted::Written | Accepted::Duplicate) {
                        self.settle(item.id);
                    }
                    answers.extend(reply(item.id, result));
                }
                self.raise_floor();
                Verdict::GoOn
            }
            Err(AppendError::NotOwner) => {
                // Nothing was written: they go first when the peer has been looked after.
                for item in items.into_iter().rev() {
                    self.bytes += item.body.len();
                    self.waiting.push_front(Request::Forward(item));
                }
                self.held = true;
                Verdict::Look
            }
            Err(AppendError::Unavailable(_)) => {
                if items.iter().any(|item| item.id.is_none()) {
                    answers.push(lost("the store did not answer; what had no id may not have been sent"));
                }
                let refused = items.into_iter().filter_map(|item| Some((item.id?, item.to))).collect();
                self.refuse_from(refused, answers);
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
            (Ok(Outcome::NotPermitted), id) => {
                let text = "you may not do that, or not to this peer";
                answers.push(ServerMessage::error(id, ErrorCode::NotPermitted, None, text));
            }
            (Ok(Outcome::MustNotRead), id) => {
                let text = "the room demands encryption end to end, and this would make the server read what the peer sends";
                answers.push(ServerMessage::error(id, ErrorCode::NotPermitted, None, text));
            }
            (Ok(Outcome::NoSuchPeer), id) => {
                let text = "there is no such peer in this room";
                answers.push(ServerMessage::error(id, ErrorCode::NoSuchPeer, Some("peer"), text));
            }
            (Ok(Outcome::Done | Outcome::Removed(_)), id) => {
                self.settle(id);
                self.raise_floor();
                answers.extend(id.map(ServerMessage::ack));
            }
            (Ok(_), id) => {
                // It may be known again after a look.
                self.held = true;
                self.refuse_from(id.map(|id| (id, Target::Room)).into_iter().collect(), answers);
                return Verdict::Look;
            }
            (Err(Unavailable), Some(id)) => self.refuse_from(vec![(id, Target::Room)], answers),
            (Err(Unavailable), None) => {
                answers.push(lost("the store did not answer; the update may not have been made"));
            }
        }
        Verdict::GoOn
    }

    /// The store has accepted this id, and so all before it.
    fn settle(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.floor = self.floor.max(id);
            self.refused = self.refused.split_off(&id);
        }
    }

    /// What went straight counts as settled once nothing before it waits.
    fn raise_floor(&mut self) {
        let waits = |request: &Request| request.id().is_some_and(|id| id < self.straight);
        if self.refused.is_empty() && !self.waiting.iter().any(waits) {
            self.floor = self.floor.max(self.straight);
        }
    }

    /// The outcome of these ids is unknown; they and what must not overtake them must come again.
    fn refuse_from(&mut self, mut refused: Vec<(u64, Target)>, answers: &mut Vec<ServerMessage>) {
        // While the store is away, what goes straight to others need not wait; the rest finds out by itself.
        if self.room.is_open() {
            for request in std::mem::take(&mut self.waiting) {
                match request.id() {
                    Some(id) => refused.push((id, request.target().clone())),
                    // What has no id has no promise, except a leave, which must happen.
                    None if matches!(request, Request::Leave { .. }) => self.waiting.push_back(request),
                    None => {}
                }
            }
            self.bytes = 0;
        }
        for (id, target) in refused {
            self.note_refused(id, target);
            answers.push(unavailable(id));
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if self.call.is_some() {
            // What it wrote for peers of this node stands in its answer only, which nobody reads any more.
            self.room.peers().iter().for_each(|peer| peer.doubt());
        }
    }
}

/// What a command does to the room.
fn act(command: Command) -> Act {
    match command {
        Command::Kick(peer) => Act::Remove { whom: Whom::Peer(peer), reason: LeftReason::Removed },
        Command::Mute { peer, on } => Act::Mute { peer, on },
        Command::Lock(locked) => Act::Lock(locked),
        Command::Admit(peer) => Act::Admit(peer),
        Command::End { lock } => Act::End { lock },
    }
}

fn lost(text: &str) -> ServerMessage {
    ServerMessage::error(None, ErrorCode::Unavailable, None, text)
}

fn unavailable(id: u64) -> ServerMessage {
    let text = "the store did not answer; send this id again, and the later ones after it";
    ServerMessage::error(Some(id), ErrorCode::Unavailable, None, text)
}

fn reply(id: Option<u64>, result: Accepted) -> Option<ServerMessage> {
    match result {
        Accepted::Written => id.map(ServerMessage::ack),
        Accepted::Duplicate => id.map(|id| ServerMessage::Ack { id, duplicate: true, durable: true }),
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
