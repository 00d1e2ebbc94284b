//! The requests of one peer, in order: one store call at a time; the messages that come meanwhile
//! go into the next call.
//!
//! Owns: the queue, the call in flight, and the progress that
//! each call reports to the store: the last entry that the peer has, its settled id, its confirmed
//! handle. While the store is unavailable it delivers messages directly. Must not: decide whether a
//! peer may send a message (`dispatcher`). Next: `registry::append_messages`; `request_answers` for
//! the answers.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use serde_json::value::RawValue;
use signalbox_protocol::{ErrorCode, LeaveReason, RoomCommand, ServerMessage};
use signalbox_rooms::{
    room::{InputOutcome, ManageRoom, PeerSelector, RoomAction, RoomInput},
    store::{AppendError, MessageTarget, RefusedIds, RequestId, StoreUnavailable},
};

use super::{
    message_ids::MessageIds,
    request_answers::{
        duplicate_ack, forward_answer, refused_again, unavailable_answer, unavailable_without_id,
    },
};
use crate::{
    registry::{
        ForwardResult, LocalPeer, LocalRoom, MailboxStart, OutgoingMessage, SenderProgress, append_at_once,
        append_messages, forward_direct,
    },
    socket_budget::BufferBytes,
};

/// The number of messages in one call at most.
const MAX_MESSAGES_PER_CALL: usize = 64;

/// The bytes that may wait for their call. Beyond it the socket is not read.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// One request of a peer.
#[derive(Debug)]
pub(super) enum PeerRequest {
    /// A message to forward.
    Forward(OutgoingMessage),
    /// Acknowledge a message that the rules of the sender's role drop. It is not forwarded.
    AckDropped {
        /// The message id.
        id: Option<u64>,
    },
    /// The peer changes its public record.
    Update {
        /// The message id.
        id: Option<u64>,
        /// The new name.
        name: Option<Arc<str>>,
        /// The new metadata.
        metadata: Option<Arc<RawValue>>,
    },
    /// The peer leaves.
    Leave {
        /// The message id.
        id: Option<u64>,
    },
    /// A command about the room or another peer.
    Command {
        /// The message id.
        id: Option<u64>,
        /// The command.
        command: RoomCommand,
    },
}

impl PeerRequest {
    fn message_id(&self) -> Option<u64> {
        match self {
            Self::Forward(message) => message.id,
            Self::AckDropped { id }
            | Self::Update { id, .. }
            | Self::Leave { id }
            | Self::Command { id, .. } => *id,
        }
    }

    /// The peers that the request reaches; a change of a record reaches the room.
    fn message_target(&self) -> &MessageTarget {
        match self {
            Self::Forward(message) => &message.target,
            Self::AckDropped { .. } | Self::Update { .. } | Self::Leave { .. } | Self::Command { .. } => {
                &MessageTarget::Room
            }
        }
    }

    fn byte_len(&self) -> usize {
        match self {
            Self::Forward(message) => message.body.len(),
            Self::Update { metadata, .. } => metadata.as_ref().map_or(0, |json| json.get().len()),
            Self::AckDropped { .. } | Self::Leave { .. } | Self::Command { .. } => 0,
        }
    }

    /// Whether each member of the room receives a frame for it, so that it costs more in a large
    /// room.
    pub(super) fn is_sent_to_room(&self) -> bool {
        match self {
            Self::Forward(message) => message.target == MessageTarget::Room,
            Self::Update { .. } | Self::Command { .. } => true,
            Self::AckDropped { .. } | Self::Leave { .. } => false,
        }
    }
}

/// What the connection does after a finished call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Continue.
    Continue,
    /// Close: the peer has left as it asked.
    Left,
    /// Resync before the next call: this node does not own the peer, or the peer is gone.
    Resync,
}

/// The result of a call.
enum CallResult {
    MessagesAppended(Vec<OutgoingMessage>, Result<Vec<ForwardResult>, AppendError>),
    RoomChanged(Option<u64>, Result<InputOutcome, StoreUnavailable>),
    PeerLeft(Option<u64>),
}

/// A call in flight. It holds all it needs, so that it runs beside the loop of the connection.
type PendingCall = Pin<Box<dyn Future<Output = CallResult>>>;

/// The requests of one peer, in order.
pub(super) struct RequestQueue {
    room: Arc<LocalRoom>,
    peer: Arc<LocalPeer>,
    queue: VecDeque<PeerRequest>,
    queued_bytes: usize,
    /// What the queue counts in the budget of the node.
    counted_bytes: BufferBytes,
    call: Option<PendingCall>,
    /// What follows from a call that was ready at once.
    finished_call: Option<NextStep>,
    /// Whether the peer must be resynced before the next call.
    needs_resync: bool,
    /// Whether the call in flight is the leave of the peer.
    is_leaving: bool,
    ids: MessageIds,
    /// The last entry that the client has confirmed, if it confirms at all.
    received_seq: Option<u64>,
    /// The last entry up to which the store knows that the peer has it.
    acked_seq: u64,
    /// Whether the mailbox was replaced on this connection.
    mailbox_was_renewed: bool,
    /// The handle generation that the client has, until the store knows it.
    confirmed_handle: Option<u64>,
    /// Whether the handle may be reported without a message: once, and again after a resync.
    may_confirm_alone: bool,
}

impl RequestQueue {
    /// An empty queue; all ids up to `settled_id` were accepted before, except the `refused` ids.
    pub(super) fn new(
        room: Arc<LocalRoom>,
        peer: Arc<LocalPeer>,
        (settled_id, refused): (u64, RefusedIds),
        acked_seq: u64,
    ) -> Self {
        Self {
            room,
            counted_bytes: peer.open_buffer(),
            peer,
            queue: VecDeque::new(),
            queued_bytes: 0,
            call: None,
            finished_call: None,
            needs_resync: false,
            is_leaving: false,
            ids: MessageIds::new(settled_id, refused),
            received_seq: None,
            acked_seq,
            mailbox_was_renewed: false,
            confirmed_handle: None,
            may_confirm_alone: true,
        }
    }

    /// Whether the socket should not be read now.
    pub(super) fn is_full(&self) -> bool {
        self.queued_bytes >= MAX_QUEUED_BYTES || self.queue.len() >= 4 * MAX_MESSAGES_PER_CALL
    }

    /// Queues a request. Returns false, with an answer, if the client must send an earlier id again
    /// first.
    pub(super) fn push_request(&mut self, request: PeerRequest, answers: &mut Vec<ServerMessage>) -> bool {
        if let Some(id) = request.message_id() {
            if self.is_blocked(id, &request) {
                self.ids.record_unknown(id, request.message_target().clone());
                answers.push(unavailable_answer(id));
                return false;
            }
            self.ids.clear_unknown(id);
        }
        self.queued_bytes += request.byte_len();
        self.queue.push_back(request);
        true
    }

    /// Whether an earlier id must come again before this one.
    fn is_blocked(&self, id: u64, request: &PeerRequest) -> bool {
        self.ids.is_blocked(id, self.goes_direct(request).then(|| request.message_target()))
    }

    fn goes_direct(&self, request: &PeerRequest) -> bool {
        matches!(request, PeerRequest::Forward(_)) && !self.room.is_store_available()
    }

    /// Whether the outcome of an id, or of an earlier one, is unknown.
    pub(super) fn is_blocked_by_earlier(&self, id: u64) -> bool {
        self.ids.is_unknown_up_to(id)
    }

    /// Whether the leave of the peer is in flight. Its answer ends the connection.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// The id up to which all ids are settled.
    pub(super) fn settled_id(&self) -> u64 {
        self.ids.settled_id()
    }

    /// The ids that were refused.
    pub(super) fn refused_ids(&self) -> &RefusedIds {
        self.ids.refused_ids()
    }

    /// The answer to this id is a final error.
    pub(super) fn record_refused(&mut self, id: Option<u64>, code: ErrorCode) {
        if let Some(id) = id {
            self.ids.record_refused(id, code);
        }
    }

    /// Starts the next call if none is in flight.
    pub(super) fn start_next_call(&mut self, answers: &mut Vec<ServerMessage>) {
        self.start_calls(answers);
        self.counted_bytes.set(self.queued_bytes);
    }

    fn start_calls(&mut self, answers: &mut Vec<ServerMessage>) {
        while self.call.is_none() && !self.needs_resync {
            let Some(request) = self.queue.pop_front() else {
                if self.confirmed_handle.is_some() && self.may_confirm_alone && self.room.is_store_available()
                {
                    self.may_confirm_alone = false;
                    self.start_append(Vec::new(), self.received_seq.unwrap_or(0), answers);
                }
                return;
            };
            self.queued_bytes -= request.byte_len();
            // A call that failed meanwhile may block it now.
            if let Some(id) = request.message_id().filter(|id| self.is_blocked(*id, &request)) {
                self.ids.record_unknown(id, request.message_target().clone());
                answers.push(unavailable_answer(id));
                continue;
            }
            self.start_request(request, answers);
        }
    }

    /// Starts the call of one request, or settles it without a call.
    fn start_request(&mut self, request: PeerRequest, answers: &mut Vec<ServerMessage>) {
        let goes_direct = self.goes_direct(&request);
        let refused_before = request.message_id().and_then(|id| Some((id, self.ids.refused_before(id)?)));
        let (peer, epoch) = (&self.peer.id, self.peer.epoch());
        match request {
            // The store decides about a message. A leave must happen.
            PeerRequest::Forward(message) if !goes_direct => {
                let messages = self.take_batch(message);
                self.start_append(messages, self.received_seq.unwrap_or(0), answers);
            }
            PeerRequest::Leave { id } => self.start_leave(id),
            _ if refused_before.is_some() => {
                answers.extend(refused_before.map(|(id, code)| refused_again(id, code)));
            }
            PeerRequest::Forward(message) => self.forward_direct(&message, answers),
            // Every earlier request is settled, so the ack is in order.
            PeerRequest::AckDropped { id } => self.acknowledge_id(id, answers),
            PeerRequest::Update { id, name, metadata } => {
                let input = RoomInput::UpdateRecord { peer: peer.clone(), epoch, name, metadata };
                self.start_change(id, input, answers);
            }
            PeerRequest::Command { id, command } => {
                let input = ManageRoom::from_member(peer.clone(), epoch, room_action(command));
                self.start_change(id, input, answers);
            }
        }
    }

    /// Delivers a message directly if all targets are on this node; refuses it if not.
    fn forward_direct(&mut self, message: &OutgoingMessage, answers: &mut Vec<ServerMessage>) {
        match (message.id, forward_direct(&self.room, &self.peer, message)) {
            (Some(id), Some(ForwardResult::Written)) => {
                self.ids.record_direct(id);
                self.raise_settled_id();
                answers.push(ServerMessage::Ack { id, duplicate: false, durable: false });
            }
            (None, Some(ForwardResult::Written)) => {}
            (id, Some(refused)) => self.answer_forward(id, refused, answers),
            (Some(id), None) => self.refuse_ids(vec![(id, message.target.clone())], answers),
            (None, None) => answers.push(unavailable_without_id(
                "the store does not answer, and a target is on another node; send the message again later",
            )),
        }
    }

    /// The client has sent a frame, so it has the handle that it was given last.
    pub(super) fn confirm_handle(&mut self, handle_generation: u64) {
        self.confirmed_handle = Some(handle_generation);
        self.may_confirm_alone = true;
    }

    /// This node owns the peer: calls may start again. The store knows the peer to have the entries
    /// up to `acked_seq`; an ack beyond it may have been lost, and is written again.
    pub(super) fn mark_resynced(&mut self, acked_seq: u64) {
        self.needs_resync = false;
        self.may_confirm_alone = true;
        self.acked_seq = acked_seq;
    }

    /// The client got a new first frame: it has the entries up to `start.seq`.
    pub(super) fn reset_mailbox(&mut self, start: MailboxStart) {
        self.mailbox_was_renewed = true;
        self.received_seq = self.received_seq.map(|_| start.seq);
        self.acked_seq = start.acked_seq;
    }

    /// Records that the client has all entries up to `seq`. Returns false if no such entry was
    /// sent.
    pub(super) fn record_received(&mut self, seq: u64) -> bool {
        if seq > self.peer.delivered_seq() {
            // The client may have sent it before it knew of the new mailbox.
            return self.mailbox_was_renewed;
        }
        self.received_seq = self.received_seq.max(Some(seq));
        true
    }

    /// Starts an ack without a message. It goes up to `due_seq` even if the client has confirmed
    /// less: a client that confirms late, or never, must not fill its mailbox and so block its
    /// room.
    pub(super) fn acknowledge_entries(&mut self, due_seq: u64) {
        let due_seq = due_seq.min(self.peer.written_seq());
        let acked_seq = self.received_seq.map_or(due_seq, |received| received.max(due_seq));
        let is_free = self.call.is_none() && !self.needs_resync;
        if is_free && acked_seq > self.acked_seq && self.room.is_store_available() {
            // Without messages there is nothing to answer.
            self.start_append(Vec::new(), acked_seq, &mut Vec::new());
        }
    }

    /// A message and the messages right behind it.
    fn take_batch(&mut self, first: OutgoingMessage) -> Vec<OutgoingMessage> {
        let mut messages = vec![first];
        while messages.len() < MAX_MESSAGES_PER_CALL {
            match self.queue.pop_front() {
                Some(PeerRequest::Forward(message)) => {
                    self.queued_bytes -= message.body.len();
                    messages.push(message);
                }
                Some(other) => {
                    self.queue.push_front(other);
                    break;
                }
                None => break,
            }
        }
        messages
    }

    /// Starts an append; one without messages only reports the progress of the peer.
    fn start_append(
        &mut self,
        messages: Vec<OutgoingMessage>,
        acked_seq: u64,
        answers: &mut Vec<ServerMessage>,
    ) {
        // An ack never goes back.
        self.acked_seq = self.acked_seq.max(acked_seq);
        self.peer.mark_acknowledged(self.acked_seq);
        let mut progress = SenderProgress {
            acked_seq: self.acked_seq,
            last_id: self.ids.settled_id(),
            refused: self.ids.unreported_ids(),
            handle_generation: self.confirmed_handle,
        };
        if let Some(result) = append_at_once(&self.room, &self.peer, &mut progress, &messages) {
            let next_step = self.handle_append_result(messages, result, answers);
            self.finished_call = Some(next_step).filter(|step| *step != NextStep::Continue);
            return;
        }
        let (room, peer) = (self.room.clone(), self.peer.clone());
        self.call = Some(Box::pin(async move {
            let result = append_messages(&room, &peer, progress, &messages).await;
            CallResult::MessagesAppended(messages, result)
        }));
    }

    fn start_change(&mut self, id: Option<u64>, input: RoomInput, answers: &mut Vec<ServerMessage>) {
        if id.is_some_and(|id| id <= self.ids.settled_id()) {
            answers.extend(id.map(duplicate_ack));
            return;
        }
        let refused = self.ids.unreported_ids();
        let accepted_id = id.map(|id| RequestId { peer: self.peer.id.clone(), id, refused });
        let room = self.room.clone();
        self.call = Some(Box::pin(async move {
            let result = room.submit_input(input, accepted_id).await;
            CallResult::RoomChanged(id, result.map(|(outcome, _)| outcome))
        }));
    }

    fn start_leave(&mut self, id: Option<u64>) {
        let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
        let (room, input) = (self.room.clone(), RoomInput::Leave { peer, epoch, reason: LeaveReason::Left });
        self.is_leaving = true;
        self.call = Some(Box::pin(async move {
            // If the store is unavailable, the leave stays queued and the connection may end.
            let _ = room.submit_input(input, None).await;
            CallResult::PeerLeft(id)
        }));
    }

    /// Polls the call in flight and adds its answers; never ready if there is none.
    pub(super) fn poll_call(
        &mut self,
        context: &mut Context<'_>,
        answers: &mut Vec<ServerMessage>,
    ) -> Poll<NextStep> {
        if let Some(next_step) = self.finished_call.take() {
            return Poll::Ready(next_step);
        }
        let Some(call) = &mut self.call else { return Poll::Pending };
        let result = ready!(call.as_mut().poll(context));
        self.call = None;
        Poll::Ready(match result {
            CallResult::MessagesAppended(messages, result) => {
                self.handle_append_result(messages, result, answers)
            }
            CallResult::RoomChanged(id, result) => self.handle_change_result(id, result, answers),
            CallResult::PeerLeft(id) => {
                answers.extend(id.map(ServerMessage::ack));
                NextStep::Left
            }
        })
    }

    /// Carries out the queued requests after the client has closed. Returns whether the peer has
    /// left.
    pub(super) async fn finish(&mut self, answers: &mut Vec<ServerMessage>) -> bool {
        loop {
            self.start_next_call(answers);
            if self.call.is_none() {
                return false;
            }
            match poll_fn(|context| self.poll_call(context, answers)).await {
                NextStep::Continue => {}
                NextStep::Left => return true,
                // Another node may own the peer now, so this node must not announce that the peer
                // left.
                NextStep::Resync => return false,
            }
        }
    }

    fn handle_append_result(
        &mut self,
        messages: Vec<OutgoingMessage>,
        result: Result<Vec<ForwardResult>, AppendError>,
        answers: &mut Vec<ServerMessage>,
    ) -> NextStep {
        match result {
            Ok(results) => {
                self.confirmed_handle = None;
                for (message, result) in messages.iter().zip(results) {
                    if matches!(result, ForwardResult::Written | ForwardResult::Duplicate) {
                        self.ids.settle_id(message.id);
                    }
                    self.answer_forward(message.id, result, answers);
                }
                self.ids.mark_reported();
                self.raise_settled_id();
                NextStep::Continue
            }
            Err(AppendError::NotOwner) => {
                self.requeue_messages(messages);
                NextStep::Resync
            }
            Err(AppendError::Unavailable(_)) => {
                if messages.iter().any(|message| message.id.is_none()) {
                    answers.push(unavailable_without_id(
                        "the store did not answer, so messages without an id may not have been sent",
                    ));
                }
                let refused = messages.into_iter().filter_map(|message| Some((message.id?, message.target)));
                self.refuse_ids(refused.collect(), answers);
                NextStep::Continue
            }
        }
    }

    /// Answers a message, and records a refusal.
    fn answer_forward(&mut self, id: Option<u64>, result: ForwardResult, answers: &mut Vec<ServerMessage>) {
        if let Some(code) = result.refusal_code() {
            self.record_refused(id, code);
        }
        answers.extend(forward_answer(id, result));
    }

    /// The store wrote nothing: these messages go first after the resync.
    fn requeue_messages(&mut self, messages: Vec<OutgoingMessage>) {
        for message in messages.into_iter().rev() {
            self.queued_bytes += message.body.len();
            self.queue.push_front(PeerRequest::Forward(message));
        }
        self.needs_resync = true;
    }

    fn handle_change_result(
        &mut self,
        id: Option<u64>,
        result: Result<InputOutcome, StoreUnavailable>,
        answers: &mut Vec<ServerMessage>,
    ) -> NextStep {
        match (result.map(InputOutcome::refusal), id) {
            (Ok(None), id) => self.acknowledge_id(id, answers),
            (Ok(Some(refusal)), id) => match refusal.to_error_message(id) {
                Some(error) => {
                    if let Some((code, _)) = refusal.error {
                        self.record_refused(id, code);
                    }
                    answers.push(error);
                }
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
                    "the store did not answer, so the change may not have been made",
                ));
            }
        }
        NextStep::Continue
    }

    fn acknowledge_id(&mut self, id: Option<u64>, answers: &mut Vec<ServerMessage>) {
        self.ids.settle_id(id);
        self.raise_settled_id();
        answers.extend(id.map(ServerMessage::ack));
    }

    fn raise_settled_id(&mut self) {
        self.ids.raise_settled_id(self.queue.iter().filter_map(PeerRequest::message_id));
    }

    /// The outcome of these ids is unknown: they, and the ids that must not overtake them, must
    /// come again.
    fn refuse_ids(&mut self, mut refused: Vec<(u64, MessageTarget)>, answers: &mut Vec<ServerMessage>) {
        // While the store is unavailable, direct messages to other targets need not wait. The rest
        // is refused later.
        if self.room.is_store_available() {
            for request in std::mem::take(&mut self.queue) {
                match request.message_id() {
                    Some(id) => refused.push((id, request.message_target().clone())),
                    // A request without an id has no promise, except a leave, which must happen.
                    None if matches!(request, PeerRequest::Leave { .. }) => self.queue.push_back(request),
                    None => {}
                }
            }
            self.queued_bytes = 0;
        }
        for (id, target) in refused {
            self.ids.record_unknown(id, target);
            answers.push(unavailable_answer(id));
        }
    }
}

impl Drop for RequestQueue {
    fn drop(&mut self) {
        if self.call.is_some() {
            // The answer of the call holds entries for local peers, and nothing reads it any more.
            self.room.local_peers().iter().for_each(|peer| peer.mark_stale());
        }
    }
}

/// The action of a command.
fn room_action(command: RoomCommand) -> RoomAction {
    match command {
        RoomCommand::Kick(peer) => {
            RoomAction::Remove { selector: PeerSelector::Peer(peer), reason: LeaveReason::Removed }
        }
        RoomCommand::Mute { peer, muted } => RoomAction::Mute { peer, muted },
        RoomCommand::Lock(locked) => RoomAction::Lock(locked),
        RoomCommand::Lobby(lobby) => RoomAction::Lobby(lobby),
        RoomCommand::Admit(peer) => RoomAction::Admit(peer),
        RoomCommand::End { lock } => RoomAction::End { lock_room: lock },
    }
}
