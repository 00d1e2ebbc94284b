//! The order of one peer's requests: at most one store call in flight, what comes meanwhile goes into the next one.
//!
//! Owns: the queue (`start` begins the next call, `finished` takes what became of it) and what rides on calls. While the store is away,
//! messages whose targets are all on this node go straight to them. Must not: decide what a peer may send (`reader`, `policy`).
//! Next: `request` is one request, `calls` what it becomes, `ids` which ids must come again before others, `answers` what the client hears.

mod answers;
mod message_ids;
mod peer_request;
mod pending_call;

use std::{collections::VecDeque, sync::Arc};

use signalbox_protocol::ServerMessage;

use self::{
    answers::{unavailable_answer, unavailable_without_id},
    message_ids::MessageIds,
    pending_call::{CallResult, PendingCall},
};
use crate::registry::{ForwardResult, LocalPeer, LocalRoom, OutgoingMessage, SenderProgress};
use signalbox_rooms::{
    room::{InputOutcome, ManageRoom, RoomInput},
    store::{AppendError, MessageTarget, StoreUnavailable},
};

pub(super) use peer_request::PeerRequest;

/// Most messages in one call.
const MAX_MESSAGES_PER_CALL: usize = 64;

/// Bytes that may wait for their call; beyond it nothing more is read from the socket.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// What a finished call means for the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// It goes on.
    Continue,
    /// The peer has left as it asked.
    Left,
    /// This node does not own the peer, or it is gone: somebody must look before the next call.
    Resync,
}

/// The requests of one peer, in order.
pub(super) struct RequestQueue {
    room: Arc<LocalRoom>,
    peer: Arc<LocalPeer>,
    queue: VecDeque<PeerRequest>,
    queued_bytes: usize,
    call: Option<PendingCall>,
    /// Whether the peer must be looked after before the next call.
    needs_resync: bool,
    ids: MessageIds,
    /// The last entry that the store was told of.
    acked_seq: u64,
    /// The handle that the client is known to have, until the store knows too.
    confirmed_handle: Option<u64>,
    /// Whether it may be told without a message to ride on: once, and again when the store has answered something else.
    may_confirm_alone: bool,
}

impl RequestQueue {
    /// No requests yet; ids up to `floor` were accepted before.
    pub(super) fn new(room: Arc<LocalRoom>, peer: Arc<LocalPeer>, floor: u64, acked_seq: u64) -> Self {
        Self {
            room,
            peer,
            queue: VecDeque::new(),
            queued_bytes: 0,
            call: None,
            needs_resync: false,
            ids: MessageIds::new(floor),
            acked_seq,
            confirmed_handle: None,
            may_confirm_alone: true,
        }
    }

    /// Whether the socket should not be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.queued_bytes >= MAX_QUEUED_BYTES || self.queue.len() >= 4 * MAX_MESSAGES_PER_CALL
    }

    /// Whether nothing waits and nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.call.is_none() && self.queue.is_empty()
    }

    /// Takes a request, or answers it at once.
    pub(super) fn push_request(&mut self, request: PeerRequest) -> Option<ServerMessage> {
        if let Some(id) = request.message_id() {
            if self.is_blocked(id, &request) {
                self.ids.record_refused(id, request.message_target().clone());
                return Some(unavailable_answer(id));
            }
            self.ids.clear_refused(id);
        }
        self.queued_bytes += request.byte_len();
        self.queue.push_back(request);
        None
    }

    /// Whether an earlier id must come again before this one.
    fn is_blocked(&self, id: u64, request: &PeerRequest) -> bool {
        self.ids.is_blocked(id, self.goes_direct(request).then(|| request.message_target()))
    }

    fn goes_direct(&self, request: &PeerRequest) -> bool {
        matches!(request, PeerRequest::Forward(_)) && !self.room.is_store_available()
    }

    /// Whether an id is, or comes after, one whose outcome is unknown.
    pub(super) fn is_blocked_by_earlier(&self, id: u64) -> bool {
        self.ids.is_blocked_by_earlier(id)
    }

    /// The highest id up to which all are settled.
    pub(super) fn settled_id(&self) -> u64 {
        self.ids.settled_id()
    }

    /// Starts the next call if none is in flight. `acked` is the last entry the peer has; it rides along.
    pub(super) fn start_next_call(&mut self, acked: u64, answers: &mut Vec<ServerMessage>) {
        while self.call.is_none() && !self.needs_resync {
            let Some(first) = self.queue.pop_front() else {
                if self.confirmed_handle.is_some() && self.may_confirm_alone && self.room.is_store_available()
                {
                    self.may_confirm_alone = false;
                    self.call = Some(self.start_append(Vec::new(), acked));
                }
                return;
            };
            self.queued_bytes -= first.byte_len();
            // What was held up by nothing when it came may be now.
            if let Some(id) = first.message_id().filter(|id| self.is_blocked(*id, &first)) {
                self.ids.record_refused(id, first.message_target().clone());
                answers.push(unavailable_answer(id));
                continue;
            }
            self.start_request(first, acked, answers);
        }
    }

    /// Begins the call of one request, or does without.
    fn start_request(&mut self, request: PeerRequest, acked: u64, answers: &mut Vec<ServerMessage>) {
        let straight = self.goes_direct(&request);
        match request {
            PeerRequest::Forward(item) if straight => self.forward_direct(&item, answers),
            PeerRequest::Forward(item) => {
                let batch = self.take_batch(item);
                self.call = Some(self.start_append(batch, acked));
            }
            PeerRequest::Drop { id } => self.settle_dropped(id, answers),
            PeerRequest::Update { id, name, metadata } => {
                let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
                self.start_change(id, RoomInput::UpdateRecord { peer, epoch, name, metadata });
            }
            PeerRequest::Command { id, command } => {
                let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
                self.start_change(
                    id,
                    ManageRoom::from_member(peer, epoch, peer_request::room_action(command)),
                );
            }
            PeerRequest::Leave { id } => {
                self.call = Some(pending_call::leave_room(&self.room, &self.peer, id))
            }
        }
    }

    /// Nothing is written: what was sent before it has been settled, and so is this.
    fn settle_dropped(&mut self, id: Option<u64>, answers: &mut Vec<ServerMessage>) {
        self.ids.settle_id(id);
        self.raise_settled_id();
        answers.extend(id.map(ServerMessage::ack));
    }

    /// The store is away: straight to the targets if all are here, else refused.
    fn forward_direct(&mut self, item: &OutgoingMessage, answers: &mut Vec<ServerMessage>) {
        match (item.id, self.room.forward_direct(&self.peer, item)) {
            (Some(id), Some(ForwardResult::Written)) => {
                self.ids.record_direct(id);
                self.raise_settled_id();
                answers.push(ServerMessage::Ack { id, duplicate: false, durable: false });
            }
            (None, Some(ForwardResult::Written)) => {}
            (id, Some(refused)) => answers.extend(answers::forward_answer(id, refused)),
            (Some(id), None) => self.refuse_ids(vec![(id, item.target.clone())], answers),
            (None, None) => answers
                .push(unavailable_without_id("the store does not answer and the target is not on this node")),
        }
    }

    /// The client has sent something, so it has the handle it was last given.
    pub(super) fn confirm_handle(&mut self, handle: u64) {
        self.confirmed_handle = Some(handle);
        self.may_confirm_alone = true;
    }

    /// Whether the peer must be looked after first.
    pub(super) fn needs_resync(&self) -> bool {
        self.needs_resync
    }

    /// The peer is ours.
    pub(super) fn mark_resynced(&mut self) {
        self.needs_resync = false;
        self.may_confirm_alone = true;
    }

    /// Its mailbox is another one: nothing of it has been told.
    pub(super) fn reset_mailbox(&mut self, seq: u64) {
        self.acked_seq = seq;
    }

    /// Tells the store what the peer has, if that is not told by a message anyway.
    pub(super) fn acknowledge_entries(&mut self, acked: u64) {
        if self.call.is_none()
            && !self.needs_resync
            && acked > self.acked_seq
            && self.room.is_store_available()
        {
            self.call = Some(self.start_append(Vec::new(), acked));
        }
    }

    /// A message and those that wait right behind it.
    fn take_batch(&mut self, first: OutgoingMessage) -> Vec<OutgoingMessage> {
        let mut items = vec![first];
        while items.len() < MAX_MESSAGES_PER_CALL {
            match self.queue.pop_front() {
                Some(PeerRequest::Forward(item)) => {
                    self.queued_bytes -= item.body.len();
                    items.push(item);
                }
                Some(other) => {
                    self.queue.push_front(other);
                    break;
                }
                None => break,
            }
        }
        items
    }

    fn start_append(&mut self, items: Vec<OutgoingMessage>, acked: u64) -> PendingCall {
        // A confirmation that comes late must not take back what was told for it.
        let acked = acked.max(self.acked_seq);
        self.acked_seq = acked;
        self.peer.mark_acknowledged(acked);
        let riding = SenderProgress {
            acked_seq: acked,
            last_id: self.settled_id(),
            handle_generation: self.confirmed_handle,
        };
        pending_call::append_messages(&self.room, &self.peer, riding, items)
    }

    fn start_change(&mut self, id: Option<u64>, input: RoomInput) {
        let repeated = self.ids.is_settled(id);
        self.call = Some(match repeated {
            true => pending_call::answer_duplicate(id),
            false => pending_call::change_room(&self.room, &self.peer, id, input),
        });
    }

    /// Waits for the call in flight; for ever if there is none. Pushes the answers.
    pub(super) async fn wait_for_call(&mut self, answers: &mut Vec<ServerMessage>) -> NextStep {
        let done = match &mut self.call {
            Some(call) => call.await,
            None => std::future::pending().await,
        };
        self.call = None;
        match done {
            CallResult::MessagesAppended(items, outcome) => {
                self.handle_append_result(items, outcome, answers)
            }
            CallResult::RoomChanged(id, outcome) => self.handle_change_result(id, outcome, answers),
            CallResult::DuplicateRequest(id) => {
                answers.extend(id.map(answers::duplicate_ack));
                NextStep::Continue
            }
            CallResult::PeerLeft(id) => {
                answers.extend(id.map(ServerMessage::ack));
                NextStep::Left
            }
        }
    }

    fn handle_append_result(
        &mut self,
        items: Vec<OutgoingMessage>,
        outcome: Result<Vec<ForwardResult>, AppendError>,
        answers: &mut Vec<ServerMessage>,
    ) -> NextStep {
        match outcome {
            Ok(results) => {
                self.confirmed_handle = None;
                for (item, result) in items.iter().zip(results) {
                    if matches!(result, ForwardResult::Written | ForwardResult::Duplicate) {
                        self.ids.settle_id(item.id);
                    }
                    answers.extend(answers::forward_answer(item.id, result));
                }
                self.raise_settled_id();
                NextStep::Continue
            }
            Err(AppendError::NotOwner) => {
                self.requeue_messages(items);
                NextStep::Resync
            }
            Err(AppendError::Unavailable(_)) => {
                if items.iter().any(|item| item.id.is_none()) {
                    answers.push(unavailable_without_id(
                        "the store did not answer; what had no id may not have been sent",
                    ));
                }
                let refused = items.into_iter().filter_map(|item| Some((item.id?, item.target))).collect();
                self.refuse_ids(refused, answers);
                NextStep::Continue
            }
        }
    }

    /// Nothing was written: they go first when the peer has been looked after.
    fn requeue_messages(&mut self, items: Vec<OutgoingMessage>) {
        for item in items.into_iter().rev() {
            self.queued_bytes += item.body.len();
            self.queue.push_front(PeerRequest::Forward(item));
        }
        self.needs_resync = true;
    }

    fn handle_change_result(
        &mut self,
        id: Option<u64>,
        outcome: Result<InputOutcome, StoreUnavailable>,
        answers: &mut Vec<ServerMessage>,
    ) -> NextStep {
        match (outcome.map(InputOutcome::refusal), id) {
            (Ok(None), id) => {
                self.ids.settle_id(id);
                self.raise_settled_id();
                answers.extend(id.map(ServerMessage::ack));
            }
            (Ok(Some(refusal)), id) => match refusal.to_error_message(id) {
                Some(error) => answers.push(error),
                None => {
                    // The peer may be a member again after a resync.
                    self.needs_resync = true;
                    self.refuse_ids(id.map(|id| (id, MessageTarget::Room)).into_iter().collect(), answers);
                    return NextStep::Resync;
                }
            },
            (Err(StoreUnavailable), Some(id)) => self.refuse_ids(vec![(id, MessageTarget::Room)], answers),
            (Err(StoreUnavailable), None) => {
                answers.push(unavailable_without_id(
                    "the store did not answer; the update may not have been made",
                ));
            }
        }
        NextStep::Continue
    }

    fn raise_settled_id(&mut self) {
        self.ids.raise_settled_id(self.queue.iter().filter_map(PeerRequest::message_id));
    }

    /// The outcome of these ids is unknown; they and what must not overtake them must come again.
    fn refuse_ids(&mut self, mut refused: Vec<(u64, MessageTarget)>, answers: &mut Vec<ServerMessage>) {
        // While the store is away, what goes straight to others need not wait; the rest finds out by itself.
        if self.room.is_store_available() {
            for request in std::mem::take(&mut self.queue) {
                match request.message_id() {
                    Some(id) => refused.push((id, request.message_target().clone())),
                    // What has no id has no promise, except a leave, which must happen.
                    None if matches!(request, PeerRequest::Leave { .. }) => self.queue.push_back(request),
                    None => {}
                }
            }
            self.queued_bytes = 0;
        }
        for (id, target) in refused {
            self.ids.record_refused(id, target);
            answers.push(unavailable_answer(id));
        }
    }
}

impl Drop for RequestQueue {
    fn drop(&mut self) {
        if self.call.is_some() {
            // What it wrote for peers of this node stands in its answer only, which nobody reads any more.
            self.room.local_peers().iter().for_each(|peer| peer.mark_stale());
        }
    }
}
