//! Decides what the server does with one incoming WebSocket frame.
//!
//! Owns: what a peer may currently send, by its permissions and the rules of its role
//! ([`SenderPolicy`]). Must not: queue a request, answer a message or call the store. Only WebSocket
//! pings and pongs are handled here; for all else [`MessageDispatcher::dispatch`] returns an action
//! to the loop of the connection (`task.rs`). Next: `task.rs` for the actions, `payload_filter.rs`
//! for the rules.

use std::{borrow::Cow, cell::RefCell, sync::Arc};

use actix_http::ws::OpCode;
use signalbox_config::LimitSettings;
use signalbox_policy::RolePolicy;
use signalbox_protocol::{
    ClientMessage, CloseCode, ErrorCode, ForwardKind, ForwardMessage, MessageError, MessageLimits,
    PairOutcome, PairStep, RoomCommand, id::PeerId,
};
use signalbox_rooms::{room::Permission, store::MessageTarget};

use super::{
    frame_reader::{IncomingFrame, ReadEnd},
    pair_activity::{PairActivity, TimedSteps},
    request_queue::PeerRequest,
};
use crate::{
    node::SignalNode,
    payload_filter::{FilteredPayload, MessageRefusal, build_sender_rules, filter_payload},
    peer_permissions::PeerPermissions,
    peer_rate::RateDecision,
    registry::{LocalPeer, OutgoingMessage, PayloadRange},
};

thread_local! {
    /// The text in which a frame is built before it is stored.
    static FRAME_SCRATCH: RefCell<String> = RefCell::default();
}

/// What the task does with a frame.
pub(super) enum DispatchAction {
    /// Nothing.
    Ignore,
    /// Queue this request.
    Queue(PeerRequest),
    /// Verify a newer token.
    StartRefresh {
        /// The message id.
        id: Option<u64>,
        /// The token.
        token: String,
    },
    /// Record that the page of the client closes.
    RecordGoing,
    /// Record that the client has all entries up to this one.
    RecordReceived(u64),
    /// Record how an attempt to connect to another peer ended.
    RecordOutcome(PairOutcome, TimedSteps),
    /// Answer a `ping`.
    AnswerPing {
        /// The message id.
        id: Option<u64>,
    },
    /// Answer with an error.
    AnswerError(ErrorAnswer),
    /// Answer that the client sends too fast.
    AnswerRateLimited {
        /// The message id.
        id: Option<u64>,
    },
}

/// The content of an error answer: from a parse error, a rule of the role or a missing permission.
pub(super) struct ErrorAnswer {
    pub(super) id: Option<u64>,
    pub(super) code: ErrorCode,
    pub(super) field: Option<&'static str>,
    pub(super) text: Cow<'static, str>,
}

impl From<MessageError> for DispatchAction {
    fn from(error: MessageError) -> Self {
        error_action(error.id, error.code, error.field, error.message)
    }
}

fn error_action(
    id: Option<u64>,
    code: ErrorCode,
    field: Option<&'static str>,
    text: impl Into<Cow<'static, str>>,
) -> DispatchAction {
    DispatchAction::AnswerError(ErrorAnswer { id, code, field, text: text.into() })
}

/// Turns the frames of one connection into actions.
pub(super) struct MessageDispatcher<'a> {
    node: &'a SignalNode,
    peer: &'a LocalPeer,
    sender_policy: SenderPolicy,
    pair_activity: PairActivity,
    /// The sizes that the first frame named.
    limits: MessageLimits,
}

impl<'a> MessageDispatcher<'a> {
    pub(super) fn new(node: &'a SignalNode, peer: &'a LocalPeer, pair_activity: PairActivity) -> Self {
        let limits = node.settings.read(|settings| message_limits(&settings.limits));
        Self { node, peer, sender_policy: SenderPolicy::default(), pair_activity, limits }
    }

    /// The action for one frame. `rate` is the decision of the peer's bucket for this frame. Pings,
    /// pongs and fragments count too, so a flood of them closes the connection.
    ///
    /// # Errors
    /// [`ReadEnd`] if the connection must end.
    pub(super) fn dispatch(
        &mut self,
        frame: IncomingFrame<'_>,
        rate: RateDecision,
    ) -> Result<DispatchAction, ReadEnd> {
        let must_close = rate == RateDecision::Close;
        match frame {
            IncomingFrame::Close(code) => return Err(ReadEnd::ClientClose(code)),
            IncomingFrame::Text(bytes) => {
                let text = simdutf8::basic::from_utf8(bytes).map_err(|_| CloseCode::ProtocolError)?;
                if !must_close {
                    return Ok(self.dispatch_text(text, rate));
                }
            }
            IncomingFrame::Ping(payload) if !must_close => self.peer.send_control(OpCode::Pong, payload),
            IncomingFrame::Pong(payload) => self.peer.record_pong(payload),
            IncomingFrame::Ping(_) | IncomingFrame::Fragment => {}
        }
        if must_close { Err(CloseCode::RateLimited.into()) } else { Ok(DispatchAction::Ignore) }
    }

    fn dispatch_text(&mut self, text: &str, rate: RateDecision) -> DispatchAction {
        let parsed = ClientMessage::parse(text, &self.limits);
        // A refused message is parsed only to find the id for the answer.
        if rate == RateDecision::Refuse {
            let id = parsed.map_or_else(|error| error.id, |message| message.message_id());
            return DispatchAction::AnswerRateLimited { id };
        }
        match parsed {
            Ok(message) => self.dispatch_message(message),
            Err(error) => error.into(),
        }
    }

    fn dispatch_message(&mut self, message: ClientMessage<'_>) -> DispatchAction {
        if self.peer.is_in_lobby() && !message.is_allowed_in_lobby() {
            let text = "this peer waits in the lobby; send only leave, going, ping, received or refresh until a moderator admits it";
            return error_action(message.message_id(), ErrorCode::NotPermitted, None, text);
        }
        match message {
            ClientMessage::Forward(message) => self.dispatch_forward(message),
            ClientMessage::Update { id, name, metadata } => {
                let metadata = metadata.map(|json| json.to_owned().into());
                DispatchAction::Queue(PeerRequest::Update { id, name: name.map(Into::into), metadata })
            }
            ClientMessage::Leave { id } => DispatchAction::Queue(PeerRequest::Leave { id }),
            ClientMessage::Going { .. } => DispatchAction::RecordGoing,
            ClientMessage::Refresh { id, token } => {
                DispatchAction::StartRefresh { id, token: token.into_owned() }
            }
            ClientMessage::Command { id, command } => self.dispatch_command(id, command),
            ClientMessage::Ping { id } => DispatchAction::AnswerPing { id },
            ClientMessage::Received { seq } => DispatchAction::RecordReceived(seq),
            ClientMessage::Outcome(outcome) if outcome.peer == self.peer.id => {
                error_action(None, ErrorCode::BadMessage, Some("peer"), "must be another peer")
            }
            ClientMessage::Outcome(outcome) => {
                let steps = self.pair_activity.take_steps(&outcome);
                DispatchAction::RecordOutcome(outcome, steps)
            }
        }
    }

    fn dispatch_forward(&mut self, mut message: ForwardMessage<'_>) -> DispatchAction {
        if message.kind == ForwardKind::Message && !self.peer.has_permission(Permission::Message) {
            let text = "the role lacks the permission `message`";
            return error_action(message.id, ErrorCode::NotPermitted, None, text);
        }
        if message.to.as_ref() == Some(&self.peer.id) {
            let text = "must be another peer";
            return error_action(message.id, ErrorCode::BadMessage, Some("to"), text);
        }
        let redact_for_target = match self.sender_policy.filter_message(self.node, self.peer, &mut message) {
            Ok(SenderOutcome::Forward { redact_for_target }) => redact_for_target,
            // The queue sends the acks in the order of the messages.
            Ok(SenderOutcome::Drop) => {
                return DispatchAction::Queue(PeerRequest::AckDropped { id: message.id });
            }
            Err(refused) => {
                return error_action(message.id, refused.code, Some(refused.field), refused.reason);
            }
        };
        let body = FRAME_SCRATCH.with_borrow_mut(|frame| {
            frame.clear();
            message.write_frame(&self.peer.id, frame);
            Arc::from(&**frame)
        });
        let range = message.payload_range(&body).filter(|_| redact_for_target);
        if let Some(to) = &message.to
            && self.pair_activity.record_message(to, message.kind)
        {
            self.node.registry.context().metrics.pair_attempts.inc();
        }
        let redactable = range.map(|range| PayloadRange { kind: message.kind, range });
        let target = message.to.map_or(MessageTarget::Room, MessageTarget::Peer);
        let message = OutgoingMessage { id: message.id, target, body, redactable };
        DispatchAction::Queue(PeerRequest::Forward(message))
    }

    /// The attempts for which the client has reported no outcome, when the connection ends.
    pub(super) fn take_open_attempts(&mut self, end: PairStep) -> Vec<(PeerId, TimedSteps)> {
        self.pair_activity.take_open_attempts(end)
    }

    /// Checks the permission for an early answer. The commit checks the permission again, because the
    /// room may change before the commit.
    fn dispatch_command(&self, id: Option<u64>, command: RoomCommand) -> DispatchAction {
        let has = |permission| self.peer.has_permission(permission);
        let (is_permitted, text) = match command {
            RoomCommand::Admit(_) => (has(Permission::Admit), "the role lacks the permission `admit`"),
            RoomCommand::End { .. } => (has(Permission::End), "the role lacks the permission `end`"),
            // `admit` includes `kick`: a peer that may admit may also remove.
            RoomCommand::Kick(_) => (
                has(Permission::Moderate) || has(Permission::Admit),
                "the role lacks the permission `moderate` or `admit`",
            ),
            RoomCommand::Lobby(_) => (
                has(Permission::Moderate) && has(Permission::Admit),
                "the role lacks the permission `moderate` or `admit`",
            ),
            RoomCommand::Mute { .. } | RoomCommand::Lock(_) => {
                (has(Permission::Moderate), "the role lacks the permission `moderate`")
            }
        };
        if is_permitted {
            DispatchAction::Queue(PeerRequest::Command { id, command })
        } else {
            error_action(id, ErrorCode::NotPermitted, None, text)
        }
    }
}

/// The decision about one message of a sender.
enum SenderOutcome {
    /// Forward the message. If `redact_for_target` is set, the commit removes candidates from it for
    /// those targets whose role may receive relay candidates only.
    Forward { redact_for_target: bool },
    /// Drop the message; the sender gets an ack.
    Drop,
}

/// The rules for what one peer sends, built again when the permissions of the peer change.
#[derive(Default)]
struct SenderPolicy {
    /// The permissions for which the rules were built; `None` before the first message.
    permissions: Option<Arc<PeerPermissions>>,
    /// `None` for a role without rules.
    rules: Option<RolePolicy>,
    /// Whether the role of the peer has the ICE policy `relay`. The rules leave only relay candidates
    /// in the messages of such a peer, so no target needs a redacted copy.
    has_relay_only_role: bool,
}

impl SenderPolicy {
    /// Decides about a message, and removes the candidates that the role may not send.
    fn filter_message(
        &mut self,
        node: &SignalNode,
        peer: &LocalPeer,
        message: &mut ForwardMessage<'_>,
    ) -> Result<SenderOutcome, MessageRefusal> {
        if !message.kind.carries_sdp_or_candidate() {
            return Ok(SenderOutcome::Forward { redact_for_target: false });
        }
        self.update_rules(node, peer);
        let relay_only_roles = node.registry.context().relay_only_roles.as_ref();
        let redact_for_target = relay_only_roles.is_some() && !self.has_relay_only_role;
        let (Some(rules), Some(json)) = (&self.rules, message.payload()) else {
            return Ok(SenderOutcome::Forward { redact_for_target });
        };
        match filter_payload(rules, message.kind, json)? {
            FilteredPayload::Drop => return Ok(SenderOutcome::Drop),
            FilteredPayload::Forward(Cow::Owned(json)) => message.replace_payload(json),
            FilteredPayload::Forward(Cow::Borrowed(_)) => {}
        }
        Ok(SenderOutcome::Forward { redact_for_target })
    }

    /// Builds the rules again if the permissions have changed: every change makes a new `Arc`.
    fn update_rules(&mut self, node: &SignalNode, peer: &LocalPeer) {
        let permissions = peer.permissions();
        if self.permissions.as_ref().map(Arc::as_ptr) == permissions.as_ref().map(Arc::as_ptr) {
            return;
        }
        let current = permissions.as_deref();
        let relay_only_roles = node.registry.context().relay_only_roles.as_ref();
        self.rules = current.and_then(|current| {
            let settings = node.settings.load();
            build_sender_rules(&settings, &current.role, &current.permissions)
        });
        self.has_relay_only_role = relay_only_roles
            .zip(current)
            .is_some_and(|(relay_only_roles, current)| relay_only_roles.contains_role(&current.role));
        self.permissions = permissions;
    }
}

fn message_limits(limits: &LimitSettings) -> MessageLimits {
    MessageLimits {
        sdp: limits.sdp.0,
        candidate: limits.candidate.0,
        data: limits.data.0,
        metadata: limits.metadata.0,
    }
}
