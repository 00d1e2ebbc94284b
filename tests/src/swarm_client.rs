//! One client of a [`crate::swarm`] and its connections, one after the other.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    history::{ClientEvent, ClientId},
    protocol_client::{ClientOutput, ConnectMode, Elapsed, SentMessage},
    rng::SeededRng,
    socket::{self, Socket, UpgradeError},
    swarm_plan::{Phase, SharedSlot, SwarmPlan},
    token::TokenBuilder,
};

/// How long an upgrade, a first frame or a write may take.
const STEP_LIMIT: Duration = Duration::from_secs(3);
/// A client with this number of unanswered messages sends no new one.
const MAX_PENDING: usize = 24;
/// The longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

pub(crate) struct SwarmClient {
    number: ClientId,
    plan: Arc<SwarmPlan>,
    slot: SharedSlot,
    rng: SeededRng,
    phase: watch::Receiver<Phase>,
    start: Instant,
    last_message: u64,
    next_message_at: Elapsed,
    final_message_sent: bool,
    node_index: usize,
    lost_at: Option<Elapsed>,
    last_frame_at: Elapsed,
}

/// How a connection ended.
struct ConnectionEnd {
    reason: String,
    code: u16,
}

impl ConnectionEnd {
    fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), code: 1006 }
    }
}

/// The deadlines of a connection.
struct ConnectionTimers {
    /// When the first frame or a `pong` must have come.
    reply_deadline: Option<Elapsed>,
    /// When the client reconnects because of a `goaway`.
    reconnect_at: Option<Elapsed>,
}

impl SwarmClient {
    pub(crate) fn new(
        number: ClientId,
        plan: Arc<SwarmPlan>,
        slot: SharedSlot,
        mut rng: SeededRng,
        phase: watch::Receiver<Phase>,
        start: Instant,
    ) -> Self {
        let node_index = rng.below(plan.addresses.len());
        let next_message_at = rng.between(Duration::ZERO, 2 * plan.message_interval);
        let (lost_at, last_frame_at) = (None, Elapsed::ZERO);
        Self {
            number,
            plan,
            slot,
            rng,
            phase,
            start,
            last_message: 0,
            next_message_at,
            final_message_sent: false,
            node_index,
            lost_at,
            last_frame_at,
        }
    }

    fn now(&self) -> Elapsed {
        self.start.elapsed()
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn record_event(&self, event: ClientEvent) {
        let now = self.now();
        self.slot.lock().history.events.push((now, event));
    }

    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        while self.phase() != Phase::End {
            let mode = self.slot.lock().client.connect_mode();
            let query = self.query(&mode);
            match socket::open(self.plan.addresses[self.node_index], &query, STEP_LIMIT).await {
                Ok(socket) => {
                    let end = self.serve_connection(socket).await;
                    let was_connected = self.slot.lock().client.is_connected();
                    failures = if was_connected { 0 } else { failures + 1 };
                    self.slot.lock().client.connection_lost();
                    self.connection_ended(&end);
                }
                Err(error) => {
                    failures += 1;
                    self.upgrade_failed(&error);
                }
            }
            self.pick_other_node();
            self.back_off(failures).await;
        }
    }

    fn query(&self, mode: &ConnectMode) -> String {
        match mode {
            ConnectMode::Resume { handle, since } => format!("resume={handle}&since={since}"),
            ConnectMode::Join => {
                let room = self.slot.lock().history.room.clone();
                let jti = format!("{}-{}", self.number, self.now().as_micros());
                let token = TokenBuilder::valid(&room, &format!("c{}", self.number)).claim("jti", jti);
                format!("token={}", token.sign(&self.plan.secret))
            }
        }
    }

    /// Picks another node, if there is one.
    fn pick_other_node(&mut self) {
        let nodes = self.plan.addresses.len();
        if nodes > 1 {
            self.node_index = (self.node_index + 1 + self.rng.below(nodes - 1)) % nodes;
        }
    }

    /// The first pause is short, later ones grow. Pauses are random, so that clients do not
    /// reconnect together.
    async fn back_off(&mut self, failures: u32) {
        let max_pause =
            Duration::from_millis(60).mul_f64(1.7_f64.powi(failures.min(12) as i32)).min(MAX_BACKOFF);
        let pause = self.rng.between(max_pause / 2, max_pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.phase.wait_for(|phase| *phase == Phase::End) => {}
        }
    }

    fn connection_ended(&mut self, end: &ConnectionEnd) {
        let now = self.now();
        self.lost_at.get_or_insert(now);
        self.record_event(ClientEvent::ConnectionLost(end.reason.clone()));
        match end.code {
            4004 | 4006 => self.peer_lost(&end.reason),
            1000..4500 => {}
            _ => {
                self.record_event(ClientEvent::ReconnectForbidden(end.reason.clone()));
                self.slot.lock().client.forget_peer();
            }
        }
    }

    fn upgrade_failed(&mut self, error: &UpgradeError) {
        let code = error.code();
        match code.as_str() {
            "resume_expired" | "token_expired" => self.peer_lost(&code),
            "resume_invalid" | "resume_replaced" => {
                self.record_event(ClientEvent::ReconnectForbidden(code));
                self.slot.lock().client.forget_peer();
            }
            // The node cannot or may not serve the client now: the client tries again later.
            "" | "unavailable" | "draining" | "overloaded" | "rate_limited" => {}
            other => self
                .record_event(ClientEvent::ProtocolViolation(format!("the upgrade was rejected: {other}"))),
        }
    }

    fn peer_lost(&mut self, reason: &str) {
        let silence = self.now().saturating_sub(self.last_frame_at);
        self.record_event(ClientEvent::PeerLost { reason: reason.to_owned(), silence });
        self.slot.lock().client.forget_peer();
    }

    /// Serves a connection until it ends.
    async fn serve_connection(&mut self, mut socket: Socket) -> ConnectionEnd {
        self.slot.lock().client.connection_opened();
        let mut timers =
            ConnectionTimers { reply_deadline: Some(self.now() + STEP_LIMIT), reconnect_at: None };
        let mut phase = self.phase.clone();
        loop {
            if let Err(end) = self.send_due(&mut socket, &mut timers).await {
                return end;
            }
            let wake_at = self.start + self.next_wake(&timers);
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(message)) => {
                        if let Err(end) = self.handle_message(message, &mut timers) {
                            return end;
                        }
                    }
                    Some(Err(error)) => return ConnectionEnd::lost(error.to_string()),
                    None => return ConnectionEnd::lost("the end of the stream"),
                },
                () = tokio::time::sleep_until(wake_at) => {}
                _ = phase.changed() => {}
            }
        }
    }

    /// Sends the frames that are due.
    async fn send_due(
        &mut self,
        socket: &mut Socket,
        timers: &mut ConnectionTimers,
    ) -> Result<(), ConnectionEnd> {
        let now = self.now();
        if self.phase() == Phase::End {
            return Err(ConnectionEnd::lost("the run is over"));
        }
        if timers.reconnect_at.is_some_and(|at| at <= now) {
            return Err(ConnectionEnd::lost("reconnected as goaway asked"));
        }
        if timers.reply_deadline.is_some_and(|at| at <= now) {
            return Err(ConnectionEnd::lost("no reply in time"));
        }
        self.enqueue_messages(now);
        let mut texts = self.due_frames(now);
        if timers.reply_deadline.is_none() && now >= self.last_frame_at + self.plan.ping_interval.mul_f64(1.5)
        {
            timers.reply_deadline = Some(now + self.plan.pong_limit);
            texts.push(json!({"type": "ping"}).to_string());
        }
        for text in texts {
            match tokio::time::timeout(STEP_LIMIT, socket.send(Message::text(text))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(ConnectionEnd::lost(error.to_string())),
                Err(_) => return Err(ConnectionEnd::lost("a write timed out")),
            }
        }
        Ok(())
    }

    fn due_frames(&self, now: Elapsed) -> Vec<String> {
        let mut slot = self.slot.lock();
        let out = slot.client.flush(now);
        let messages = out.iter().filter_map(|output| output.message.clone());
        let event = |message: SentMessage| match message.is_resend {
            false => ClientEvent::Sent { n: message.n, to: message.to },
            true => ClientEvent::Resent { n: message.n },
        };
        slot.history.events.extend(messages.map(|message| (now, event(message))));
        out.into_iter().map(|output| output.text).collect()
    }

    /// Queues a message when its time has come.
    fn enqueue_messages(&mut self, now: Elapsed) {
        let phase = self.phase();
        if phase == Phase::Active && now >= self.next_message_at {
            self.next_message_at =
                now + self.rng.between(self.plan.message_interval / 2, self.plan.message_interval * 3 / 2);
            let to_room = self.rng.percent(self.plan.room_percent);
            let mut slot = self.slot.lock();
            let others: Vec<_> = slot.client.roster.keys().cloned().collect();
            if slot.client.peer.is_some() && slot.client.pending() < MAX_PENDING && !others.is_empty() {
                self.last_message += 1;
                let to = if to_room { None } else { Some(self.rng.pick(&others).as_str()) };
                slot.client.enqueue(
                    self.last_message,
                    to,
                    &json!({"s": self.number, "n": self.last_message}),
                );
            }
        }
        let mut slot = self.slot.lock();
        if phase == Phase::FinalMessage && !self.final_message_sent && slot.client.is_connected() {
            self.final_message_sent = true;
            self.last_message += 1;
            slot.client.enqueue(
                self.last_message,
                None,
                &json!({"s": self.number, "n": self.last_message, "final": true}),
            );
        }
    }

    /// The time of the next action.
    fn next_wake(&self, timers: &ConnectionTimers) -> Elapsed {
        let (client, connected) = {
            let slot = self.slot.lock();
            (slot.client.deadline(), slot.client.is_connected())
        };
        let next_message = (connected && self.phase() == Phase::Active).then_some(self.next_message_at);
        let silence = timers
            .reply_deadline
            .is_none()
            .then(|| self.last_frame_at + self.plan.ping_interval.mul_f64(1.5));
        let all = [client, next_message, silence, timers.reply_deadline, timers.reconnect_at];
        all.into_iter().flatten().min().unwrap_or_else(|| self.now() + STEP_LIMIT)
    }

    fn handle_message(
        &mut self,
        message: Message,
        timers: &mut ConnectionTimers,
    ) -> Result<(), ConnectionEnd> {
        self.last_frame_at = self.now();
        let text = match message {
            Message::Text(text) => text,
            Message::Close(Some(frame)) => {
                let code = frame.code.into();
                return Err(ConnectionEnd { reason: format!("closed with {code} {}", frame.reason), code });
            }
            Message::Close(None) => return Err(ConnectionEnd::lost("closed without a code")),
            _ => {
                if self.slot.lock().client.is_connected() {
                    timers.reply_deadline = None;
                }
                return Ok(());
            }
        };
        let Ok(frame) = serde_json::from_str::<Value>(&text) else {
            self.record_event(ClientEvent::ProtocolViolation(format!("not JSON: {text}")));
            return Ok(());
        };
        timers.reply_deadline = None;
        let outputs = self.slot.lock().client.handle_frame(self.now(), &frame);
        for output in outputs {
            if let ClientOutput::GoAway(wait) = output {
                timers.reconnect_at = Some(self.now() + wait);
            }
            self.record_output(output);
        }
        Ok(())
    }

    fn record_output(&mut self, output: ClientOutput) {
        let event = match output {
            ClientOutput::GoAway(_) => return,
            ClientOutput::DuplicateDropped => {
                self.slot.lock().history.dropped += 1;
                return;
            }
            ClientOutput::Joined => {
                self.lost_at = None;
                ClientEvent::Joined { peer: self.slot.lock().client.peer.clone().unwrap_or_default() }
            }
            ClientOutput::Resumed { recovered, requested } => {
                let lost_at = if requested { self.lost_at.take() } else { None };
                ClientEvent::Resumed { recovered, downtime: lost_at.map(|at| self.now().saturating_sub(at)) }
            }
            ClientOutput::Accepted { n, durable, duplicate } => {
                ClientEvent::Accepted { n, durable, duplicate }
            }
            ClientOutput::Unavailable { n } => ClientEvent::Unavailable { n },
            ClientOutput::Rejected { n, code } => ClientEvent::Rejected { n, code },
            ClientOutput::Delivered { from, data } => self.delivered_event(from, &data),
            ClientOutput::ProtocolViolation(violation) => ClientEvent::ProtocolViolation(violation),
        };
        self.record_event(event);
    }

    fn delivered_event(&self, from: String, data: &Value) -> ClientEvent {
        let (Some(sender), Some(n)) = (data["s"].as_u64(), data["n"].as_u64()) else {
            return ClientEvent::ProtocolViolation(format!("a message that no client sent: {data}"));
        };
        let sender = sender as ClientId;
        if data["final"] == true {
            self.slot.lock().final_messages.insert(sender);
        }
        ClientEvent::Delivered { sender, from, n }
    }
}
