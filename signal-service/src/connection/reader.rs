//! What one connection's frames become: requests, answers, signs of life.

use actix_http::ws::OpCode;
use signalbox_protocol::{
    Broken, ClientMessage, CloseCode, Command, ErrorCode, Forward, ForwardKind, ServerMessage,
    problem::Problem,
};
use tokio::time::Instant;

use super::{
    frames::{Break, Incoming},
    policy::{Fate, Policy},
    rate::{Pace, Rate},
    refresh::{Badge, Refreshed},
    requests::{Request, Requests, Verdict},
};
use crate::{
    node::Signal,
    registry::{Addresses, LocalPeer, LocalRoom, Outgoing},
};
use signalbox_rooms::{room::Permission, store::Target};

/// Frames that a refresh costs beyond itself: a signature is checked.
const REFRESH_COST: u32 = 9;

/// What a connection's frames become: requests, answers, signs of life.
pub(super) struct Reader<'a> {
    signal: &'a Signal,
    room: &'a LocalRoom,
    peer: &'a LocalPeer,
    /// The token in force.
    pub(super) badge: Badge<'a>,
    /// What its role may not send.
    policy: Policy,
    rate: Rate,
    pub(super) requests: Requests,
    pub(super) answers: Vec<ServerMessage>,
    /// The last entry that the client has confirmed, if it confirms at all.
    received: Option<u64>,
    /// Whether the mailbox has become another one on this connection.
    renewed: bool,
    /// The handle that the client was given; its first frame proves that it came.
    given: Option<u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        signal: &'a Signal,
        room: &'a LocalRoom,
        peer: &'a LocalPeer,
        badge: Badge<'a>,
        requests: Requests,
        given: Option<u64>,
    ) -> Self {
        let (burst, per_second) = signal.registry.hub().limits.pace();
        let rate = Rate::new(burst, per_second, Instant::now());
        Self {
            signal,
            room,
            peer,
            badge,
            policy: Policy::default(),
            rate,
            requests,
            answers: Vec::new(),
            received: None,
            renewed: false,
            given,
        }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// [`Break`] when the connection must end.
    pub(super) fn take(&mut self, incoming: Incoming) -> Result<(), Break> {
        match incoming {
            Incoming::Text(bytes) => {
                self.text(std::str::from_utf8(&bytes).map_err(|_| CloseCode::ProtocolError)?)
            }
            Incoming::Ping(payload) => {
                // A flood of pings is paced like a flood of messages.
                if self.pace() == Pace::Close {
                    return Err(CloseCode::RateLimited.into());
                }
                self.peer.control(OpCode::Pong, &payload);
                Ok(())
            }
            Incoming::Pong(payload) => {
                self.peer.ponged(&payload);
                if self.pace() == Pace::Close {
                    return Err(CloseCode::RateLimited.into());
                }
                Ok(())
            }
            // Nor may fragments without end keep a worker busy.
            Incoming::Nothing if self.pace() == Pace::Close => Err(CloseCode::RateLimited.into()),
            Incoming::Nothing => Ok(()),
            Incoming::Close(code) => Err(Break::Closed(code)),
        }
    }

    fn pace(&mut self) -> Pace {
        let (burst, per_second) = self.signal.registry.hub().limits.pace();
        self.rate.change(burst, per_second);
        self.rate.frame(Instant::now())
    }

    fn text(&mut self, text: &str) -> Result<(), Break> {
        if let Some(handle) = self.given.take() {
            self.requests.confirm_handle(handle);
        }
        let pace = self.pace();
        if pace == Pace::Close {
            return Err(CloseCode::RateLimited.into());
        }
        match ClientMessage::parse(text, &self.signal.bounds) {
            Err(broken) if pace == Pace::Pass => self.refuse(&broken),
            Ok(message) if pace == Pace::Pass => self.message(message),
            parsed => self.slow_down(parsed.map_or_else(|broken| broken.id, |message| message.id())),
        }
        Ok(())
    }

    fn message(&mut self, message: ClientMessage<'_>) {
        if self.peer.waits() && !message.is_for_anybody() {
            let text = "you wait to be let in; until then only leave, ping and refresh are taken";
            return self.error(message.id(), ErrorCode::NotPermitted, None, text);
        }
        match message {
            ClientMessage::Forward(forward) => self.forward(forward),
            ClientMessage::Update { id, name, metadata } => {
                let metadata = metadata.map(|json| json.to_owned().into());
                if self.request(Request::Update { id, name: name.map(Into::into), metadata }) {
                    self.charge_for_the_room();
                }
            }
            ClientMessage::Leave { id } => {
                self.request(Request::Leave { id });
            }
            ClientMessage::Refresh { id, token } => self.refresh(id, &token),
            ClientMessage::Command { id, command } => self.command(id, command),
            ClientMessage::Ping { id } => self.answers.push(ServerMessage::Pong { id }),
            // It may be about the mailbox before, and on its way when that broke.
            ClientMessage::Received { seq } if seq > self.peer.delivered() && self.renewed => {}
            ClientMessage::Received { seq } if seq > self.peer.delivered() => {
                self.error(None, ErrorCode::BadMessage, Some("seq"), "no such entry has been sent");
            }
            ClientMessage::Received { seq } => self.received = self.received.max(Some(seq)),
        }
    }

    fn forward(&mut self, mut forward: Forward<'_>) {
        if forward.kind == ForwardKind::Message && !self.peer.may(Permission::Message) {
            return self.error(
                forward.id,
                ErrorCode::NotPermitted,
                None,
                "the role lacks the permission `message`",
            );
        }
        if forward.to.as_ref() == Some(&self.peer.id) {
            return self.error(forward.id, ErrorCode::BadMessage, Some("to"), "must be another peer");
        }
        let mind_target = match self.policy.judge(self.signal, self.peer, &mut forward) {
            Ok(Fate::Send { mind_target }) => mind_target,
            Ok(Fate::Drop) => {
                self.request(Request::Drop { id: forward.id });
                return;
            }
            Err(refused) => {
                return self.error(forward.id, refused.code, Some(refused.field), &refused.why);
            }
        };
        let body = forward.to_frame(&self.peer.id);
        let at = forward.payload_in(&body).filter(|_| mind_target);
        let addresses = at.map(|at| Addresses { kind: forward.kind, at });
        let to_room = forward.to.is_none();
        let to = forward.to.map_or(Target::Room, Target::Peer);
        if self.request(Request::Forward(Outgoing { id: forward.id, to, body: body.into(), addresses })) {
            self.signal.registry.hub().metrics.forwarded.inc();
            if to_room {
                self.charge_for_the_room();
            }
        }
    }

    /// A newer token. Once it is found good it counts, and the room is told.
    fn refresh(&mut self, id: Option<u64>, token: &str) {
        self.rate.charge(REFRESH_COST);
        if self.badge.is_busy() {
            let text = "the refresh before is still on its way";
            return self.error(id, ErrorCode::RateLimited, Some("token"), text);
        }
        if let Some(Refreshed::Refused(id, problem)) = self.badge.show(id, token.to_owned()) {
            self.refuse_token(id, &problem);
        }
    }

    /// Says what is wrong with a token, or that nobody can tell for now.
    pub(super) fn refuse_token(&mut self, id: Option<u64>, problem: &Problem) {
        let code = if problem.status == 503 { ErrorCode::Unavailable } else { ErrorCode::BadToken };
        self.error(id, code, Some("token"), &problem.detail);
    }

    /// Whoever may not is told at once; the commit looks again, for what it may have changed meanwhile.
    fn command(&mut self, id: Option<u64>, command: Command) {
        let (may, text) = match command {
            Command::Admit(_) => (self.peer.may(Permission::Admit), "the role lacks the permission `admit`"),
            Command::End { .. } => (self.peer.may(Permission::End), "the role lacks the permission `end`"),
            // Who may let somebody in may send it away, too.
            Command::Kick(_) => (
                self.peer.may(Permission::Moderate) || self.peer.may(Permission::Admit),
                "the role lacks the permission `moderate`",
            ),
            Command::Mute { .. } | Command::Lock(_) => {
                (self.peer.may(Permission::Moderate), "the role lacks the permission `moderate`")
            }
        };
        if !may {
            return self.error(id, ErrorCode::NotPermitted, None, text);
        }
        if self.request(Request::Command { id, command }) {
            self.charge_for_the_room();
        }
    }

    /// What everybody hears costs more in a large room: one frame for every ten peers.
    fn charge_for_the_room(&mut self) {
        self.rate.charge(self.room.size() as u32 / 10);
    }

    /// Queues a request; whether it was taken.
    fn request(&mut self, request: Request) -> bool {
        let refusal = self.requests.push(request);
        if refusal.is_some() {
            self.signal.registry.hub().metrics.refused_message(ErrorCode::Unavailable);
        }
        let taken = refusal.is_none();
        self.answers.extend(refusal);
        taken
    }

    fn refuse(&mut self, broken: &Broken) {
        self.error(broken.id, broken.code, broken.field, broken.message);
    }

    fn error(&mut self, id: Option<u64>, code: ErrorCode, field: Option<&str>, text: &str) {
        self.signal.registry.hub().metrics.refused_message(code);
        self.answers.push(ServerMessage::error(id, code, field, text));
    }

    fn slow_down(&mut self, id: Option<u64>) {
        // An id whose outcome is unknown keeps its number, so `rate_limited`, which is final for an id, would be wrong.
        let (code, message) = if id.is_some_and(|id| self.requests.waits_for_an_earlier(id)) {
            (
                ErrorCode::Unavailable,
                "too many frames; wait, then send this id again, and the later ones after it",
            )
        } else {
            (ErrorCode::RateLimited, "too many frames; wait, then send this again under a new id")
        };
        self.signal.registry.hub().metrics.refused_message(code);
        let retry_ms = Some(self.rate.wait().as_millis().max(1) as u32);
        let message = message.to_owned();
        self.answers.push(ServerMessage::Error { id, code, message, field: None, retry_ms });
    }

    pub(super) fn send_answers(&mut self) {
        if !self.answers.is_empty() {
            self.peer.send(&self.answers);
            self.answers.clear();
        }
    }

    /// Carries out what was sent before the client closed, as far as the peer is ours. Whether it has left.
    pub(super) async fn finish(&mut self) -> bool {
        loop {
            self.start();
            if self.requests.is_done() || self.requests.is_held() {
                return false;
            }
            match self.requests.finished(&mut self.answers).await {
                Verdict::GoOn => {}
                Verdict::Left => return true,
                // Whoever has it now, if anybody, is not told by us that it is gone; and what is lost of it is.
                Verdict::Look => return false,
            }
        }
    }

    /// Starts the next call.
    pub(super) fn start(&mut self) {
        self.requests.start(self.received.unwrap_or(0), &mut self.answers);
    }

    /// Tells the store what the client has, as far as `due` where it has confirmed less: a client that does not confirm, or falls far
    /// behind, must not silence its room.
    pub(super) fn acknowledge(&mut self, due: u64) {
        let due = due.min(self.peer.written());
        self.requests.acknowledge(self.received.map_or(due, |received| received.max(due)));
    }

    /// The mailbox is another one from here on.
    pub(super) fn begin_mailbox(&mut self, seq: u64) {
        self.renewed = true;
        self.received = self.received.map(|_| seq);
        self.requests.begin_mailbox(seq);
    }
}
