//! The rules of a client (docs/PROTOCOL.md, sections 3 and 8), without sockets and clocks: how the
//! client handles a frame, what it may send, and how it resumes.
//!
//! Owns: message ids, acknowledgements, the view of the room. Must not: connect, wait, or choose
//! messages; [`crate::swarm`] does.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};

/// Time since the start of the run.
pub type Elapsed = Duration;

/// How many entries are confirmed at once.
const CONFIRM_EVERY: u64 = 64;
/// After this time, fewer entries are confirmed too.
const CONFIRM_DELAY: Duration = Duration::from_secs(5);
/// How many messages may be sent without an answer.
const MAX_IN_FLIGHT: usize = 32;
/// How many presence events are kept for reports.
const MAX_RECENT: usize = 40;
/// The retry time if an `unavailable` names none.
const DEFAULT_RETRY: Duration = Duration::from_millis(500);

/// Another peer of the room, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The user of the peer.
    pub user: String,
    /// Whether the peer is detached.
    pub detached: bool,
}

/// How to open the next connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectMode {
    /// Join with a token.
    Join,
    /// Resume the same peer.
    Resume {
        /// The resume handle.
        handle: String,
        /// The last `seq` seen.
        since: u64,
    },
}

/// The result of a received frame.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientOutput {
    /// The client is a new peer in the room.
    Joined,
    /// The client is the same peer, on a new connection or on this one.
    Resumed {
        /// The `recovered` member of the frame.
        recovered: bool,
        /// Whether the client asked for it: the frame is the first one of the connection.
        requested: bool,
    },
    /// A message was acknowledged.
    Accepted {
        /// The number that the sender gave the message.
        n: u64,
        /// Whether the message was written to the mailbox.
        durable: bool,
        /// Whether the server had accepted the message before.
        duplicate: bool,
    },
    /// The outcome of a message is unknown; the client keeps the message.
    Unavailable {
        /// The number that the sender gave the message.
        n: u64,
    },
    /// A message was rejected.
    Rejected {
        /// The number that the sender gave the message.
        n: u64,
        /// The error code.
        code: String,
    },
    /// A message of another peer came for the first time.
    Delivered {
        /// The peerId of the sender.
        from: String,
        /// The content of the message.
        data: Value,
    },
    /// A message of another peer came again, and was dropped.
    DuplicateDropped,
    /// The node drains: the client must reconnect after this time.
    GoAway(Duration),
    /// The frame breaks a rule of the protocol.
    ProtocolViolation(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendStage {
    Queued,
    InFlight,
    Unavailable,
}

#[derive(Debug, Clone)]
struct PendingMessage {
    id: u64,
    n: u64,
    to: Option<String>,
    text: String,
    stage: SendStage,
    sent: bool,
}

impl PendingMessage {
    /// Whether the order of the two messages must be kept.
    fn shares_target(&self, other: &Self) -> bool {
        self.to.is_none() || other.to.is_none() || self.to == other.to
    }
}

/// A frame to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingFrame {
    /// The text of the frame.
    pub text: String,
    /// The message in the frame, if there is one.
    pub message: Option<SentMessage>,
}

/// A message that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// The number that the sender gave the message.
    pub n: u64,
    /// The peerId of the target; `None` for the room.
    pub to: Option<String>,
    /// Whether the message was sent before.
    pub is_resend: bool,
}

/// The state of a client.
#[derive(Debug, Default)]
pub struct ProtocolClient {
    /// The peerId, if the client is a peer.
    pub peer: Option<String>,
    /// The other peers, by peerId.
    pub roster: BTreeMap<String, PeerView>,
    handle: Option<String>,
    seq: u64,
    confirmed: u64,
    confirm_at: Option<Elapsed>,
    confirm_every: u64,
    next_id: u64,
    pending: VecDeque<PendingMessage>,
    retry_at: Option<Elapsed>,
    seen: HashMap<String, HashSet<u64>>,
    /// Whether the roster came with `recovered: false`. That roster may be newer than `seq`, so
    /// later entries may repeat what it shows.
    snapshot_is_newer: bool,
    /// The last presence events, for the report of a violation.
    recent_presence: VecDeque<String>,
    connected: bool,
    expects_resumed: bool,
}

fn string_member<'a>(frame: &'a Value, name: &str) -> &'a str {
    frame[name].as_str().unwrap_or("")
}

impl ProtocolClient {
    /// How to open the next connection.
    pub fn connect_mode(&self) -> ConnectMode {
        match &self.handle {
            Some(handle) => ConnectMode::Resume { handle: handle.clone(), since: self.seq },
            None => ConnectMode::Join,
        }
    }

    /// Whether the connection has received its first frame.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// How many messages have no answer.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The last `seq` seen.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// A connection was opened as [`Self::connect_mode`] said.
    pub fn connection_opened(&mut self) {
        self.connected = false;
        self.expects_resumed = self.handle.is_some();
    }

    /// The connection is lost.
    pub fn connection_lost(&mut self) {
        self.connected = false;
        if self.handle.is_none() {
            // Without a handle the client cannot resume.
            self.forget_peer();
        }
    }

    /// The peer has left, so its pending messages get no answer. The ids of received messages are
    /// kept.
    pub fn forget_peer(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        *self = Self { seen, ..Self::default() };
    }

    /// Queues a message to a peer or to the room.
    pub fn enqueue(&mut self, n: u64, to: Option<&str>, data: &Value) {
        self.next_id += 1;
        let id = self.next_id;
        let mut frame = json!({"type": "message", "id": id, "data": data});
        if let Some(to) = to {
            frame["to"] = to.into();
        }
        let (to, text) = (to.map(str::to_owned), frame.to_string());
        self.pending.push_back(PendingMessage { id, n, to, text, stage: SendStage::Queued, sent: false });
    }

    /// The frames that may be sent now, in order.
    pub fn flush(&mut self, now: Elapsed) -> Vec<OutgoingFrame> {
        if !self.connected {
            return Vec::new();
        }
        let mut out = Vec::new();
        if self.confirm_at.is_some_and(|at| at <= now) {
            self.confirm_at = None;
            self.confirmed = self.seq;
            let text = json!({"type": "received", "seq": self.seq}).to_string();
            out.push(OutgoingFrame { text, message: None });
        }
        if self.retry_at.is_some_and(|until| until <= now) {
            self.retry_at = None;
            self.requeue(|pending| pending.stage == SendStage::Unavailable);
        }
        self.flush_messages(&mut out);
        out
    }

    fn flush_messages(&mut self, out: &mut Vec<OutgoingFrame>) {
        let mut in_flight =
            self.pending.iter().filter(|pending| pending.stage == SendStage::InFlight).count();
        for at in 0..self.pending.len() {
            let message = &self.pending[at];
            let overtakes = |earlier: &PendingMessage| {
                earlier.stage != SendStage::InFlight && earlier.shares_target(message)
            };
            if message.stage != SendStage::Queued || self.pending.iter().take(at).any(overtakes) {
                continue;
            }
            if in_flight == MAX_IN_FLIGHT {
                break;
            }
            in_flight += 1;
            let message = &mut self.pending[at];
            message.stage = SendStage::InFlight;
            let is_resend = std::mem::replace(&mut message.sent, true);
            let sent = Some(SentMessage { n: message.n, to: message.to.clone(), is_resend });
            out.push(OutgoingFrame { text: message.text.clone(), message: sent });
        }
    }

    fn requeue(&mut self, selects: impl Fn(&PendingMessage) -> bool) {
        self.pending
            .iter_mut()
            .filter(|message| selects(message))
            .for_each(|message| message.stage = SendStage::Queued);
    }

    /// The time at which [`Self::flush`] must be called at the latest.
    pub fn deadline(&self) -> Option<Elapsed> {
        let deadlines = [self.confirm_at, self.retry_at];
        if self.connected { deadlines.into_iter().flatten().min() } else { None }
    }

    /// Handles a frame.
    pub fn handle_frame(&mut self, now: Elapsed, frame: &Value) -> Vec<ClientOutput> {
        match string_member(frame, "type") {
            "joined" => self.handle_joined(frame),
            "resumed" => self.handle_resumed(now, frame),
            // The reason why no first frame comes; the close code that follows decides.
            "error" if !self.connected => Vec::new(),
            _ if !self.connected => vec![ClientOutput::ProtocolViolation(format!(
                "the first frame is a {}",
                string_member(frame, "type")
            ))],
            "ack" => self.handle_ack(frame),
            "error" => self.handle_error(now, frame),
            "goaway" => {
                let wait = frame["reconnectIn"].as_u64();
                vec![wait.map_or_else(
                    || ClientOutput::ProtocolViolation(format!("a goaway without a time: {frame}")),
                    |wait| ClientOutput::GoAway(Duration::from_millis(wait)),
                )]
            }
            "pong" => Vec::new(),
            _ => self.handle_entry(now, frame),
        }
    }

    fn handle_joined(&mut self, frame: &Value) -> Vec<ClientOutput> {
        if self.connected || self.expects_resumed {
            return vec![ClientOutput::ProtocolViolation("a joined without a request".to_owned())];
        }
        self.start_connection(frame);
        vec![ClientOutput::Joined]
    }

    fn start_connection(&mut self, frame: &Value) {
        self.connected = true;
        self.expects_resumed = false;
        self.peer = Some(string_member(frame, "peerId").to_owned());
        self.handle = frame["resume"].as_str().map(str::to_owned);
        self.seq = frame["seq"].as_u64().unwrap_or(0);
        self.confirmed = self.seq;
        self.confirm_at = None;
        let backlog = frame["limits"]["backlog"].as_u64().unwrap_or(4 * CONFIRM_EVERY);
        self.confirm_every = CONFIRM_EVERY.min(backlog / 4).max(1);
        self.roster = frame["peers"].as_array().into_iter().flatten().map(parse_peer).collect();
    }

    fn handle_resumed(&mut self, now: Elapsed, frame: &Value) -> Vec<ClientOutput> {
        let requested = !self.connected;
        let mut outputs = Vec::new();
        if requested && !self.expects_resumed {
            outputs.push(ClientOutput::ProtocolViolation("a resumed instead of joined".to_owned()));
        }
        if self.peer.as_deref() != Some(string_member(frame, "peerId")) {
            outputs.push(ClientOutput::ProtocolViolation(format!(
                "resumed as another peer: {}",
                string_member(frame, "peerId")
            )));
        }
        let recovered = frame["recovered"] == true;
        let since = self.seq;
        let roster = self.roster.clone();
        self.start_connection(frame);
        self.snapshot_is_newer |= !recovered;
        if requested {
            // The first text frame makes the previous handle invalid. Without it, data that still
            // waits in an old socket could bring back an older connection.
            self.confirm_at = Some(now);
        }
        if recovered {
            // Events that the client missed follow as entries.
            self.roster = roster;
            if self.seq != since || !requested {
                outputs.push(ClientOutput::ProtocolViolation(format!(
                    "recovered: true (requested: {requested}) at {} instead of {since}",
                    self.seq
                )));
            }
        }
        outputs.push(ClientOutput::Resumed { recovered, requested });
        outputs.extend(self.reject_refused(frame));
        outputs.extend(self.settle_ids(frame["lastId"].as_u64().unwrap_or(0)));
        outputs
    }

    /// Handles `refused`: these messages were refused, and their answers may be lost.
    fn reject_refused(&mut self, frame: &Value) -> Vec<ClientOutput> {
        let refused = frame["refused"].as_array().into_iter().flatten();
        let rejected = refused.filter_map(|refused| {
            let message = self.take_pending(refused)?;
            Some(ClientOutput::Rejected { n: message.n, code: string_member(refused, "code").to_owned() })
        });
        rejected.collect()
    }

    /// Handles `lastId`: messages up to it were accepted, later ones must be sent again.
    fn settle_ids(&mut self, last_id: u64) -> Vec<ClientOutput> {
        self.retry_at = None;
        self.requeue(|_| true);
        let first_unsettled =
            self.pending.iter().position(|message| message.id > last_id).unwrap_or(self.pending.len());
        self.pending
            .drain(..first_unsettled)
            .map(|message| ClientOutput::Accepted { n: message.n, durable: true, duplicate: true })
            .collect()
    }

    fn take_pending(&mut self, frame: &Value) -> Option<PendingMessage> {
        let id = frame["id"].as_u64()?;
        let at = self.pending.iter().position(|message| message.id == id)?;
        self.pending.remove(at)
    }

    fn handle_ack(&mut self, frame: &Value) -> Vec<ClientOutput> {
        let durable = frame["durable"] != false;
        // After a `resumed` on an open connection an id may be answered twice.
        let duplicate = frame["duplicate"] == true;
        self.take_pending(frame)
            .map(|message| ClientOutput::Accepted { n: message.n, durable, duplicate })
            .into_iter()
            .collect()
    }

    fn handle_error(&mut self, now: Elapsed, frame: &Value) -> Vec<ClientOutput> {
        let code = string_member(frame, "code");
        // After a `resumed` on an open connection an id may be answered twice, here or in its list.
        if frame["id"].as_u64().is_some_and(|id| self.pending.front().is_none_or(|first| id < first.id)) {
            return Vec::new();
        }
        if code != "unavailable" {
            let rejected = self
                .take_pending(frame)
                .map(|message| ClientOutput::Rejected { n: message.n, code: code.to_owned() });
            return vec![rejected.unwrap_or_else(|| {
                ClientOutput::ProtocolViolation(format!(
                    "an error without a message, confirmed {} of {}: {frame}",
                    self.confirmed, self.seq
                ))
            })];
        }
        if let Some(message) = self.pending.iter_mut().find(|message| frame["id"] == message.id) {
            message.stage = SendStage::Unavailable;
            let wait = frame["retryMs"].as_u64().map_or(DEFAULT_RETRY, Duration::from_millis);
            self.retry_at.get_or_insert(now + wait);
            return vec![ClientOutput::Unavailable { n: message.n }];
        }
        Vec::new()
    }

    /// An entry of the mailbox, or a message by direct delivery.
    fn handle_entry(&mut self, now: Elapsed, frame: &Value) -> Vec<ClientOutput> {
        let mut outputs = Vec::new();
        if let Some(seq) = frame["seq"].as_u64() {
            if seq != self.seq + 1 {
                outputs
                    .push(ClientOutput::ProtocolViolation(format!("seq {seq} after {}: {frame}", self.seq)));
            }
            self.seq = seq;
            if seq >= self.confirmed + self.confirm_every {
                self.confirm_at = Some(now);
            }
            self.confirm_at.get_or_insert(now + CONFIRM_DELAY);
        } else if string_member(frame, "type").starts_with("peer-") {
            outputs.push(ClientOutput::ProtocolViolation(format!("an event outside the mailbox: {frame}")));
        }
        outputs.extend(match string_member(frame, "type") {
            "message" | "duplicate" => self.handle_message(frame),
            _ => self.handle_presence(frame).err().map(ClientOutput::ProtocolViolation),
        });
        outputs
    }

    fn handle_message(&mut self, frame: &Value) -> Option<ClientOutput> {
        let from = string_member(frame, "from").to_owned();
        if let Some(id) = frame["id"].as_u64()
            && !self.seen.entry(from.clone()).or_default().insert(id)
        {
            return Some(ClientOutput::DuplicateDropped);
        }
        if frame["type"] == "duplicate" {
            return Some(ClientOutput::ProtocolViolation(format!(
                "a duplicate of a message that never came: {frame}"
            )));
        }
        Some(ClientOutput::Delivered { from, data: frame["data"].clone() })
    }

    fn handle_presence(&mut self, frame: &Value) -> Result<(), String> {
        let peer = string_member(frame, "peerId");
        self.recent_presence.push_back(format!("{} {} {peer}", frame["seq"], string_member(frame, "type")));
        if self.recent_presence.len() > MAX_RECENT {
            self.recent_presence.pop_front();
        }
        let peer_before = self.roster.get_mut(peer);
        match (string_member(frame, "type"), peer_before) {
            // A client ignores types that it does not know.
            (kind, _) if !kind.starts_with("peer-") => {}
            ("peer-joined", None) => {
                let (peer, view) = parse_peer(frame);
                self.roster.insert(peer, view);
            }
            ("peer-updated", Some(_)) => {}
            ("peer-detached", Some(view)) if !view.detached => view.detached = true,
            ("peer-attached", Some(view)) if view.detached => view.detached = false,
            ("peer-left", Some(_)) => drop(self.roster.remove(peer)),
            // The newer roster already contains this change.
            _ if self.snapshot_is_newer => {}
            (kind, peer_before) => {
                let before: Vec<_> =
                    self.recent_presence.iter().filter(|event| event.ends_with(peer)).collect();
                return Err(format!(
                    "{kind} of {peer}, which was {peer_before:?}; its last events: {before:?}"
                ));
            }
        }
        Ok(())
    }
}

fn parse_peer(frame: &Value) -> (String, PeerView) {
    let (user, detached) = (string_member(frame, "userId").to_owned(), frame["detached"] == true);
    (string_member(frame, "peerId").to_owned(), PeerView { user, detached })
}

#[cfg(test)]
mod tests;
