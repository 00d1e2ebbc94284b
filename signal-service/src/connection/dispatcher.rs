//! What one connection's frames become: requests, answers, signs of life.

use actix_http::ws::OpCode;
use signalbox_protocol::{
    ClientMessage, CloseCode, ErrorCode, ForwardKind, ForwardMessage, MessageError, RoomCommand,
    ServerMessage, problem::Problem,
};
use tokio::time::Instant;

use super::{
    connection_token::{ConnectionToken, RefreshOutcome},
    frame_reader::{IncomingFrame, ReadEnd},
    rate_limiter::{RateDecision, RateLimiter},
    request_queue::{NextStep, PeerRequest, RequestQueue},
    sender_policy::{FilteredMessage, SenderPolicy},
};
use crate::{
    node::SignalNode,
    registry::{LocalPeer, LocalRoom, OutgoingMessage, PayloadRange},
};
use signalbox_rooms::{room::Permission, store::MessageTarget};

/// Frames that a refresh costs beyond itself: a signature is checked.
const REFRESH_COST: u32 = 9;

/// What a connection's frames become: requests, answers, signs of life.
pub(super) struct MessageDispatcher<'a> {
    signal: &'a SignalNode,
    room: &'a LocalRoom,
    peer: &'a LocalPeer,
    /// The token in force.
    pub(super) token: ConnectionToken<'a>,
    /// What its role may not send.
    sender_policy: SenderPolicy,
    rate_limiter: RateLimiter,
    pub(super) requests: RequestQueue,
    pub(super) answers: Vec<ServerMessage>,
    /// The last entry that the client has confirmed, if it confirms at all.
    received_seq: Option<u64>,
    /// Whether the mailbox has become another one on this connection.
    mailbox_was_renewed: bool,
    /// The handle that the client was given; its first frame proves that it came.
    unconfirmed_handle: Option<u64>,
}

impl<'a> MessageDispatcher<'a> {
    pub(super) fn new(
        signal: &'a SignalNode,
        room: &'a LocalRoom,
        peer: &'a LocalPeer,
        token: ConnectionToken<'a>,
        requests: RequestQueue,
        unconfirmed_handle: Option<u64>,
    ) -> Self {
        let (burst, per_second) = signal.registry.context().limits.burst_and_rate();
        let rate_limiter = RateLimiter::new(burst, per_second, Instant::now());
        Self {
            signal,
            room,
            peer,
            token,
            sender_policy: SenderPolicy::default(),
            rate_limiter,
            requests,
            answers: Vec::new(),
            received_seq: None,
            mailbox_was_renewed: false,
            unconfirmed_handle,
        }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// [`ReadEnd`] when the connection must end.
    pub(super) fn handle_frame(&mut self, incoming: IncomingFrame) -> Result<(), ReadEnd> {
        match incoming {
            IncomingFrame::Text(bytes) => {
                self.handle_text(std::str::from_utf8(&bytes).map_err(|_| CloseCode::ProtocolError)?)
            }
            IncomingFrame::Ping(payload) => {
                // A flood of pings is paced like a flood of messages.
                if self.check_rate() == RateDecision::Close {
                    return Err(CloseCode::RateLimited.into());
                }
                self.peer.send_control(OpCode::Pong, &payload);
                Ok(())
            }
            IncomingFrame::Pong(payload) => {
                self.peer.record_pong(&payload);
                if self.check_rate() == RateDecision::Close {
                    return Err(CloseCode::RateLimited.into());
                }
                Ok(())
            }
            // Nor may fragments without end keep a worker busy.
            IncomingFrame::Fragment if self.check_rate() == RateDecision::Close => {
                Err(CloseCode::RateLimited.into())
            }
            IncomingFrame::Fragment => Ok(()),
            IncomingFrame::Close(code) => Err(ReadEnd::ClientClose(code)),
        }
    }

    fn check_rate(&mut self) -> RateDecision {
        let (burst, per_second) = self.signal.registry.context().limits.burst_and_rate();
        self.rate_limiter.set_rate(burst, per_second);
        self.rate_limiter.check_frame(Instant::now())
    }

    fn handle_text(&mut self, text: &str) -> Result<(), ReadEnd> {
        if let Some(handle) = self.unconfirmed_handle.take() {
            self.requests.confirm_handle(handle);
        }
        let pace = self.check_rate();
        if pace == RateDecision::Close {
            return Err(CloseCode::RateLimited.into());
        }
        match ClientMessage::parse(text, &self.signal.message_limits) {
            Err(broken) if pace == RateDecision::Pass => self.answer_invalid_message(&broken),
            Ok(message) if pace == RateDecision::Pass => self.dispatch_message(message),
            parsed => self
                .answer_rate_limited(parsed.map_or_else(|broken| broken.id, |message| message.message_id())),
        }
        Ok(())
    }

    fn dispatch_message(&mut self, message: ClientMessage<'_>) {
        if self.peer.is_in_lobby() && !message.is_allowed_in_lobby() {
            let text = "you wait to be let in; until then only leave, ping and refresh are taken";
            return self.answer_error(message.message_id(), ErrorCode::NotPermitted, None, text);
        }
        match message {
            ClientMessage::Forward(forward) => self.forward_message(forward),
            ClientMessage::Update { id, name, metadata } => {
                let metadata = metadata.map(|json| json.to_owned().into());
                if self.queue_request(PeerRequest::Update { id, name: name.map(Into::into), metadata }) {
                    self.charge_for_room_size();
                }
            }
            ClientMessage::Leave { id } => {
                self.queue_request(PeerRequest::Leave { id });
            }
            ClientMessage::Refresh { id, token } => self.start_refresh(id, &token),
            ClientMessage::Command { id, command } => self.queue_command(id, command),
            ClientMessage::Ping { id } => self.answers.push(ServerMessage::Pong { id }),
            // It may be about the mailbox before, and on its way when that broke.
            ClientMessage::Received { seq }
                if seq > self.peer.delivered_seq() && self.mailbox_was_renewed => {}
            ClientMessage::Received { seq } if seq > self.peer.delivered_seq() => {
                self.answer_error(None, ErrorCode::BadMessage, Some("seq"), "no such entry has been sent");
            }
            ClientMessage::Received { seq } => self.received_seq = self.received_seq.max(Some(seq)),
        }
    }

    fn forward_message(&mut self, mut forward: ForwardMessage<'_>) {
        if forward.kind == ForwardKind::Message && !self.peer.has_permission(Permission::Message) {
            return self.answer_error(
                forward.id,
                ErrorCode::NotPermitted,
                None,
                "the role lacks the permission `message`",
            );
        }
        if forward.to.as_ref() == Some(&self.peer.id) {
            return self.answer_error(forward.id, ErrorCode::BadMessage, Some("to"), "must be another peer");
        }
        let mind_target = match self.sender_policy.filter_message(self.signal, self.peer, &mut forward) {
            Ok(FilteredMessage::Forward { redact_for_target: mind_target }) => mind_target,
            Ok(FilteredMessage::Drop) => {
                self.queue_request(PeerRequest::Drop { id: forward.id });
                return;
            }
            Err(refused) => {
                return self.answer_error(forward.id, refused.code, Some(refused.field), &refused.reason);
            }
        };
        let body = forward.to_frame(&self.peer.id);
        let at = forward.payload_range(&body).filter(|_| mind_target);
        let addresses = at.map(|at| PayloadRange { kind: forward.kind, range: at });
        let to_room = forward.to.is_none();
        let to = forward.to.map_or(MessageTarget::Room, MessageTarget::Peer);
        if self.queue_request(PeerRequest::Forward(OutgoingMessage {
            id: forward.id,
            target: to,
            body: body.into(),
            redactable: addresses,
        })) {
            self.signal.registry.context().metrics.forwarded_messages.inc();
            if to_room {
                self.charge_for_room_size();
            }
        }
    }

    /// A newer token. Once it is found good it counts, and the room is told.
    fn start_refresh(&mut self, id: Option<u64>, token: &str) {
        self.rate_limiter.charge_extra(REFRESH_COST);
        if self.token.is_refreshing() {
            let text = "the refresh before is still on its way";
            return self.answer_error(id, ErrorCode::RateLimited, Some("token"), text);
        }
        if let Some(RefreshOutcome::Refused(id, problem)) = self.token.start_refresh(id, token.to_owned()) {
            self.answer_refused_token(id, &problem);
        }
    }

    /// Says what is wrong with a token, or that nobody can tell for now.
    pub(super) fn answer_refused_token(&mut self, id: Option<u64>, problem: &Problem) {
        let code = if problem.status == 503 { ErrorCode::Unavailable } else { ErrorCode::BadToken };
        self.answer_error(id, code, Some("token"), &problem.detail);
    }

    /// Whoever may not is told at once; the commit looks again, for what it may have changed meanwhile.
    fn queue_command(&mut self, id: Option<u64>, command: RoomCommand) {
        let (may, text) = match command {
            RoomCommand::Admit(_) => {
                (self.peer.has_permission(Permission::Admit), "the role lacks the permission `admit`")
            }
            RoomCommand::End { .. } => {
                (self.peer.has_permission(Permission::End), "the role lacks the permission `end`")
            }
            // Who may let somebody in may send it away, too.
            RoomCommand::Kick(_) => (
                self.peer.has_permission(Permission::Moderate) || self.peer.has_permission(Permission::Admit),
                "the role lacks the permission `moderate`",
            ),
            RoomCommand::Mute { .. } | RoomCommand::Lock(_) => {
                (self.peer.has_permission(Permission::Moderate), "the role lacks the permission `moderate`")
            }
        };
        if !may {
            return self.answer_error(id, ErrorCode::NotPermitted, None, text);
        }
        if self.queue_request(PeerRequest::Command { id, command }) {
            self.charge_for_room_size();
        }
    }

    /// What everybody hears costs more in a large room: one frame for every ten peers.
    fn charge_for_room_size(&mut self) {
        self.rate_limiter.charge_extra(self.room.member_count() as u32 / 10);
    }

    /// Queues a request; whether it was taken.
    fn queue_request(&mut self, request: PeerRequest) -> bool {
        let refusal = self.requests.push_request(request);
        if refusal.is_some() {
            self.signal.registry.context().metrics.count_refused_message(ErrorCode::Unavailable);
        }
        let taken = refusal.is_none();
        self.answers.extend(refusal);
        taken
    }

    fn answer_invalid_message(&mut self, broken: &MessageError) {
        self.answer_error(broken.id, broken.code, broken.field, broken.message);
    }

    fn answer_error(&mut self, id: Option<u64>, code: ErrorCode, field: Option<&str>, text: &str) {
        self.signal.registry.context().metrics.count_refused_message(code);
        self.answers.push(ServerMessage::error(id, code, field, text));
    }

    fn answer_rate_limited(&mut self, id: Option<u64>) {
        // An id whose outcome is unknown keeps its number, so `rate_limited`, which is final for an id, would be wrong.
        let (code, message) = if id.is_some_and(|id| self.requests.is_blocked_by_earlier(id)) {
            (
                ErrorCode::Unavailable,
                "too many frames; wait, then send this id again, and the later ones after it",
            )
        } else {
            (ErrorCode::RateLimited, "too many frames; wait, then send this again under a new id")
        };
        self.signal.registry.context().metrics.count_refused_message(code);
        let retry_ms = Some(self.rate_limiter.time_until_pass().as_millis().max(1) as u32);
        let message = message.to_owned();
        self.answers.push(ServerMessage::Error { id, code, message, field: None, retry_ms });
    }

    pub(super) fn send_answers(&mut self) {
        if !self.answers.is_empty() {
            self.peer.send_messages(&self.answers);
            self.answers.clear();
        }
    }

    /// Carries out what was sent before the client closed, as far as the peer is ours. Whether it has left.
    pub(super) async fn finish_requests(&mut self) -> bool {
        loop {
            self.start_next_call();
            if self.requests.is_idle() || self.requests.needs_resync() {
                return false;
            }
            match self.requests.wait_for_call(&mut self.answers).await {
                NextStep::Continue => {}
                NextStep::Left => return true,
                // Whoever has it now, if anybody, is not told by us that it is gone; and what is lost of it is.
                NextStep::Resync => return false,
            }
        }
    }

    /// Starts the next call.
    pub(super) fn start_next_call(&mut self) {
        self.requests.start_next_call(self.received_seq.unwrap_or(0), &mut self.answers);
    }

    /// Tells the store what the client has, as far as `due` where it has confirmed less: a client that does not confirm, or falls far
    /// behind, must not silence its room.
    pub(super) fn acknowledge_entries(&mut self, due: u64) {
        let due = due.min(self.peer.written_seq());
        self.requests.acknowledge_entries(self.received_seq.map_or(due, |received| received.max(due)));
    }

    /// The mailbox is another one from here on.
    pub(super) fn reset_mailbox(&mut self, seq: u64) {
        self.mailbox_was_renewed = true;
        self.received_seq = self.received_seq.map(|_| seq);
        self.requests.reset_mailbox(seq);
    }
}
