//! The order of one peer's requests: at most one store call in flight, what comes meanwhile goes into the next one.
//!
//! Owns: the queue (`start` begins the next call, `finished` takes what became of it) and what rides on calls. While the store is away,
//! messages whose targets are all on this node go straight to them. Must not: decide what a peer may send (`reader`, `policy`).
//! Next: `request` is one request, `calls` what it becomes, `ids` which ids must come again before others, `answers` what the client hears.

mod answers;
mod calls;
mod ids;
mod request;

use std::{collections::VecDeque, sync::Arc};

use signalbox_protocol::ServerMessage;

use self::{
    answers::{lost, unavailable},
    calls::{Call, Done},
    ids::Ids,
};
use crate::registry::{Accepted, LocalPeer, LocalRoom, Outgoing, Riding};
use signalbox_rooms::{
    room::{Input, Manage, Outcome},
    store::{AppendError, Target, Unavailable},
};

pub(super) use request::Request;

/// Most messages in one call.
const MOST_ITEMS: usize = 64;

/// Bytes that may wait for their call; beyond it nothing more is read from the socket.
const MOST_BYTES: usize = 256 * 1024;

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

/// The requests of one peer, in order.
pub(super) struct Requests {
    room: Arc<LocalRoom>,
    peer: Arc<LocalPeer>,
    waiting: VecDeque<Request>,
    bytes: usize,
    call: Option<Call>,
    /// Whether the peer must be looked after before the next call.
    held: bool,
    ids: Ids,
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
            ids: Ids::new(floor),
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
                self.ids.refuse(id, request.target().clone());
                return Some(unavailable(id));
            }
            self.ids.take(id);
        }
        self.bytes += request.bytes();
        self.waiting.push_back(request);
        None
    }

    /// Whether an earlier id must come again before this one.
    fn is_held_up(&self, id: u64, request: &Request) -> bool {
        self.ids.is_held_up(id, self.goes_straight(request).then(|| request.target()))
    }

    fn goes_straight(&self, request: &Request) -> bool {
        matches!(request, Request::Forward(_)) && !self.room.is_open()
    }

    /// Whether an id is, or comes after, one whose outcome is unknown.
    pub(super) fn waits_for_an_earlier(&self, id: u64) -> bool {
        self.ids.waits_for_an_earlier(id)
    }

    /// The highest id up to which all are settled.
    pub(super) fn floor(&self) -> u64 {
        self.ids.floor()
    }

    /// Starts the next call if none is in flight. `acked` is the last entry the peer has; it rides along.
    pub(super) fn start(&mut self, acked: u64, answers: &mut Vec<ServerMessage>) {
        while self.call.is_none() && !self.held {
            let Some(first) = self.waiting.pop_front() else {
                if self.handle.is_some() && self.handle_alone && self.room.is_open() {
                    self.handle_alone = false;
                    self.call = Some(self.append(Vec::new(), acked));
                }
                return;
            };
            self.bytes -= first.bytes();
            // What was held up by nothing when it came may be now.
            if let Some(id) = first.id().filter(|id| self.is_held_up(*id, &first)) {
                self.ids.refuse(id, first.target().clone());
                answers.push(unavailable(id));
                continue;
            }
            self.begin(first, acked, answers);
        }
    }

    /// Begins the call of one request, or does without.
    fn begin(&mut self, request: Request, acked: u64, answers: &mut Vec<ServerMessage>) {
        let straight = self.goes_straight(&request);
        match request {
            Request::Forward(item) if straight => self.forward_straight(&item, answers),
            Request::Forward(item) => {
                let batch = self.batch(item);
                self.call = Some(self.append(batch, acked));
            }
            Request::Drop { id } => self.keep_back(id, answers),
            Request::Update { id, name, metadata } => {
                let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
                self.change(id, Input::Update { peer, epoch, name, metadata });
            }
            Request::Command { id, command } => {
                let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
                self.change(id, Manage::member(peer, epoch, request::act(command)));
            }
            Request::Leave { id } => self.call = Some(calls::leave(&self.room, &self.peer, id)),
        }
    }

    /// Nothing is written: what was sent before it has been settled, and so is this.
    fn keep_back(&mut self, id: Option<u64>, answers: &mut Vec<ServerMessage>) {
        self.ids.settle(id);
        self.raise_floor();
        answers.extend(id.map(ServerMessage::ack));
    }

    /// The store is away: straight to the targets if all are here, else refused.
    fn forward_straight(&mut self, item: &Outgoing, answers: &mut Vec<ServerMessage>) {
        match (item.id, self.room.forward_straight(&self.peer, item)) {
            (Some(id), Some(Accepted::Written)) => {
                self.ids.went_straight(id);
                self.raise_floor();
                answers.push(ServerMessage::Ack { id, duplicate: false, durable: false });
            }
            (None, Some(Accepted::Written)) => {}
            (id, Some(refused)) => answers.extend(answers::of_message(id, refused)),
            (Some(id), None) => self.refuse_from(vec![(id, item.to.clone())], answers),
            (None, None) => {
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
            self.call = Some(self.append(Vec::new(), acked));
        }
    }

    /// A message and those that wait right behind it.
    fn batch(&mut self, first: Outgoing) -> Vec<Outgoing> {
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
        items
    }

    fn append(&mut self, items: Vec<Outgoing>, acked: u64) -> Call {
        // A confirmation that comes late must not take back what was told for it.
        let acked = acked.max(self.told);
        self.told = acked;
        self.peer.told(acked);
        let riding = Riding { acked, floor: self.floor(), handle: self.handle };
        calls::append(&self.room, &self.peer, riding, items)
    }

    fn change(&mut self, id: Option<u64>, input: Input) {
        let repeated = self.ids.is_settled(id);
        self.call = Some(match repeated {
            true => calls::repeat(id),
            false => calls::change(&self.room, &self.peer, id, input),
        });
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
                answers.extend(id.map(answers::repeated));
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
        items: Vec<Outgoing>,
        outcome: Result<Vec<Accepted>, AppendError>,
        answers: &mut Vec<ServerMessage>,
    ) -> Verdict {
        match outcome {
            Ok(results) => {
                self.handle = None;
                for (item, result) in items.iter().zip(results) {
                    if matches!(result, Accepted::Written | Accepted::Duplicate) {
                        self.ids.settle(item.id);
                    }
                    answers.extend(answers::of_message(item.id, result));
                }
                self.raise_floor();
                Verdict::GoOn
            }
            Err(AppendError::NotOwner) => {
                self.put_back(items);
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

    /// Nothing was written: they go first when the peer has been looked after.
    fn put_back(&mut self, items: Vec<Outgoing>) {
        for item in items.into_iter().rev() {
            self.bytes += item.body.len();
            self.waiting.push_front(Request::Forward(item));
        }
        self.held = true;
    }

    fn updated(
        &mut self,
        id: Option<u64>,
        outcome: Result<Outcome, Unavailable>,
        answers: &mut Vec<ServerMessage>,
    ) -> Verdict {
        match (outcome, id) {
            (Ok(Outcome::NotPermitted), id) => answers.push(answers::not_permitted(id)),
            (Ok(Outcome::MustNotRead), id) => answers.push(answers::must_not_read(id)),
            (Ok(Outcome::NoSuchPeer), id) => answers.push(answers::no_such_peer(id, "peer")),
            (Ok(Outcome::Done | Outcome::Removed(_)), id) => {
                self.ids.settle(id);
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

    fn raise_floor(&mut self) {
        self.ids.raise_floor(self.waiting.iter().filter_map(Request::id));
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
            self.ids.refuse(id, target);
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
