//! The rules a client keeps to (docs/PROTOCOL.md, sections 3 and 8), without sockets and clocks: what it does with a frame, what it
//! may send, how it comes back.
//!
//! Owns: numbers, acknowledgements, the view of the room. Must not: connect, wait, or choose what to say; [`crate::swarm`] does.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};

/// Time since the run began.
pub type At = Duration;

/// So many entries are confirmed at once.
const CONFIRM_EVERY: u64 = 64;
/// Or so long after the first of them.
const CONFIRM_AFTER: Duration = Duration::from_secs(5);
/// Unanswered messages on the wire.
const IN_FLIGHT: usize = 32;
/// So much of what was said about peers is kept.
const RECENT: usize = 40;
/// Where an `unavailable` does not say it.
const RETRY: Duration = Duration::from_millis(500);

/// Another member of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its user.
    pub user: String,
    /// Whether its socket is lost.
    pub detached: bool,
}

/// How to open the next connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBack {
    /// With a token.
    Join,
    /// As the same peer.
    Resume {
        /// The handle.
        handle: String,
        /// The last `seq` seen.
        since: u64,
    },
}

/// What a frame meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Occurred {
    /// A new peer in the room.
    Joined,
    /// The same peer, on a new connection (`asked`) or on this one.
    Resumed {
        /// Whether nothing is missing.
        recovered: bool,
        /// Whether this connection began with it.
        asked: bool,
    },
    /// A message was acknowledged.
    Accepted {
        /// What the sender calls it.
        n: u64,
        /// Whether it was written to the mailbox.
        durable: bool,
        /// Whether it had been accepted before.
        duplicate: bool,
    },
    /// Nobody knows what became of a message: it is kept.
    Unavailable {
        /// What the sender calls it.
        n: u64,
    },
    /// A message was refused for good.
    Refused {
        /// What the sender calls it.
        n: u64,
        /// Why.
        code: String,
    },
    /// A message from another peer, for the first time.
    Heard {
        /// The sender's peerId.
        from: String,
        /// What it says.
        data: Value,
    },
    /// A message that had been heard before.
    Dropped,
    /// The node stops: come back after so long.
    GoAway(Duration),
    /// The frame breaks a promise of the protocol.
    Fault(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    OnTheWire,
    Unavailable,
}

#[derive(Debug, Clone)]
struct Pending {
    id: u64,
    n: u64,
    to: Option<String>,
    text: String,
    stage: Stage,
    sent: bool,
}

impl Pending {
    /// Whether one of them may not overtake the other.
    fn meets(&self, other: &Self) -> bool {
        self.to.is_none() || other.to.is_none() || self.to == other.to
    }
}

/// A frame to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The text.
    pub text: String,
    /// The message in it, if it is one.
    pub message: Option<Said>,
}

/// A message that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What the sender calls it.
    pub n: u64,
    /// The peerId of its target; none for the room.
    pub to: Option<String>,
    /// Whether it was sent before.
    pub again: bool,
}

/// A client's state.
#[derive(Debug, Default)]
pub struct Client {
    /// Its peerId, once it has one.
    pub peer: Option<String>,
    /// The others, by peerId.
    pub roster: BTreeMap<String, Member>,
    handle: Option<String>,
    seq: u64,
    confirmed: u64,
    confirm_at: Option<At>,
    confirm_every: u64,
    next_id: u64,
    pending: VecDeque<Pending>,
    hold: Option<At>,
    seen: HashMap<String, HashSet<u64>>,
    /// Whether the view came with a `resumed`: it is as of then, and entries that follow may say what it has already.
    ahead: bool,
    /// What was last said about peers, for the story of a fault.
    recent: VecDeque<String>,
    live: bool,
    expects_resumed: bool,
}

fn text<'a>(frame: &'a Value, name: &str) -> &'a str {
    frame[name].as_str().unwrap_or("")
}

impl Client {
    /// How to open the next connection.
    pub fn way_back(&self) -> WayBack {
        match &self.handle {
            Some(handle) => WayBack::Resume { handle: handle.clone(), since: self.seq },
            None => WayBack::Join,
        }
    }

    /// Whether the connection has its first frame.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Messages without an answer.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The last `seq` seen.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// A connection was opened the way that [`Self::way_back`] said.
    pub fn opened(&mut self) {
        self.live = false;
        self.expects_resumed = self.handle.is_some();
    }

    /// The connection is lost.
    pub fn lost(&mut self) {
        self.live = false;
        if self.handle.is_none() {
            // Nothing to come back with.
            self.forget_peer();
        }
    }

    /// The peer has left: what was not answered never will be. What was seen stays seen.
    pub fn forget_peer(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        *self = Self { seen, ..Self::default() };
    }

    /// Takes a message to send, to a peer or to the room.
    pub fn say(&mut self, n: u64, to: Option<&str>, data: &Value) {
        self.next_id += 1;
        let id = self.next_id;
        let mut frame = json!({"type": "message", "id": id, "data": data});
        if let Some(to) = to {
            frame["to"] = to.into();
        }
        let (to, text) = (to.map(str::to_owned), frame.to_string());
        self.pending.push_back(Pending { id, n, to, text, stage: Stage::Waiting, sent: false });
    }

    /// What may be sent now, in order.
    pub fn flush(&mut self, now: At) -> Vec<Outgoing> {
        if !self.live {
            return Vec::new();
        }
        let mut out = Vec::new();
        if self.confirm_at.is_some_and(|at| at <= now) {
            self.confirm_at = None;
            self.confirmed = self.seq;
            let text = json!({"type": "received", "seq": self.seq}).to_string();
            out.push(Outgoing { text, message: None });
        }
        if self.hold.is_some_and(|until| until <= now) {
            self.hold = None;
            self.again(|pending| pending.stage == Stage::Unavailable);
        }
        self.flush_messages(&mut out);
        out
    }

    fn flush_messages(&mut self, out: &mut Vec<Outgoing>) {
        let mut flying = self.pending.iter().filter(|pending| pending.stage == Stage::OnTheWire).count();
        for at in 0..self.pending.len() {
            let one = &self.pending[at];
            let overtakes = |earlier: &Pending| earlier.stage != Stage::OnTheWire && earlier.meets(one);
            if one.stage != Stage::Waiting || self.pending.iter().take(at).any(overtakes) {
                continue;
            }
            if flying == IN_FLIGHT {
                break;
            }
            flying += 1;
            let one = &mut self.pending[at];
            one.stage = Stage::OnTheWire;
            let again = std::mem::replace(&mut one.sent, true);
            let message = Some(Said { n: one.n, to: one.to.clone(), again });
            out.push(Outgoing { text: one.text.clone(), message });
        }
    }

    fn again(&mut self, which: impl Fn(&Pending) -> bool) {
        self.pending.iter_mut().filter(|one| which(one)).for_each(|one| one.stage = Stage::Waiting);
    }

    /// When [`Self::flush`] has something to send, at the latest.
    pub fn deadline(&self) -> Option<At> {
        let deadlines = [self.confirm_at, self.hold];
        if self.live { deadlines.into_iter().flatten().min() } else { None }
    }

    /// Takes a frame.
    pub fn frame(&mut self, now: At, frame: &Value) -> Vec<Occurred> {
        match text(frame, "type") {
            "joined" => self.joined(frame),
            "resumed" => self.resumed(now, frame),
            // Why there will be no first frame; the close that follows says what to do.
            "error" if !self.live => Vec::new(),
            _ if !self.live => vec![Occurred::Fault(format!("the first frame is a {}", text(frame, "type")))],
            "ack" => self.ack(frame),
            "error" => self.error(now, frame),
            "goaway" => {
                let wait = frame["reconnectIn"].as_u64();
                vec![wait.map_or_else(
                    || Occurred::Fault(format!("a goaway without a time: {frame}")),
                    |wait| Occurred::GoAway(Duration::from_millis(wait)),
                )]
            }
            "pong" => Vec::new(),
            _ => self.entry(now, frame),
        }
    }

    fn joined(&mut self, frame: &Value) -> Vec<Occurred> {
        if self.live || self.expects_resumed {
            return vec![Occurred::Fault("a joined that nobody asked for".to_owned())];
        }
        self.begin(frame);
        vec![Occurred::Joined]
    }

    fn begin(&mut self, frame: &Value) {
        self.live = true;
        self.expects_resumed = false;
        self.peer = Some(text(frame, "peerId").to_owned());
        self.handle = frame["resume"].as_str().map(str::to_owned);
        self.seq = frame["seq"].as_u64().unwrap_or(0);
        self.confirmed = self.seq;
        self.confirm_at = None;
        let backlog = frame["limits"]["backlog"].as_u64().unwrap_or(4 * CONFIRM_EVERY);
        self.confirm_every = CONFIRM_EVERY.min(backlog / 4).max(1);
        self.roster = frame["peers"].as_array().into_iter().flatten().map(member).collect();
    }

    fn resumed(&mut self, now: At, frame: &Value) -> Vec<Occurred> {
        let asked = !self.live;
        let mut occurred = Vec::new();
        if asked && !self.expects_resumed {
            occurred.push(Occurred::Fault("a resumed instead of joined".to_owned()));
        }
        if self.peer.as_deref() != Some(text(frame, "peerId")) {
            occurred.push(Occurred::Fault(format!("resumed as another peer: {}", text(frame, "peerId"))));
        }
        let recovered = frame["recovered"] == true;
        let since = self.seq;
        let roster = self.roster.clone();
        self.begin(frame);
        self.ahead |= !recovered;
        if asked {
            // Its first word voids the handle before: what still lies in some socket must not bring back an older connection.
            self.confirm_at = Some(now);
        }
        if recovered {
            // What happened meanwhile follows as entries.
            self.roster = roster;
            if self.seq != since || !asked {
                occurred.push(Occurred::Fault(format!(
                    "recovered, asked {asked}, at {} and not {since}",
                    self.seq
                )));
            }
        }
        occurred.push(Occurred::Resumed { recovered, asked });
        occurred.extend(self.settle(frame["lastId"].as_u64().unwrap_or(0)));
        occurred
    }

    /// Everything up to `last_id` was accepted; the rest is to be sent again.
    fn settle(&mut self, last_id: u64) -> Vec<Occurred> {
        self.hold = None;
        self.again(|_| true);
        let later = self.pending.iter().position(|one| one.id > last_id).unwrap_or(self.pending.len());
        self.pending
            .drain(..later)
            .map(|one| Occurred::Accepted { n: one.n, durable: true, duplicate: true })
            .collect()
    }

    fn take(&mut self, frame: &Value) -> Option<Pending> {
        let id = frame["id"].as_u64()?;
        let at = self.pending.iter().position(|one| one.id == id)?;
        self.pending.remove(at)
    }

    fn ack(&mut self, frame: &Value) -> Vec<Occurred> {
        let durable = frame["durable"] != false;
        // After a `resumed` on a live connection an id may be answered twice.
        let duplicate = frame["duplicate"] == true;
        self.take(frame).map(|one| Occurred::Accepted { n: one.n, durable, duplicate }).into_iter().collect()
    }

    fn error(&mut self, now: At, frame: &Value) -> Vec<Occurred> {
        let code = text(frame, "code");
        // After a `resumed` on a live connection an id may be answered twice.
        if frame["id"].as_u64().is_some_and(|id| self.pending.front().is_none_or(|first| id < first.id)) {
            return Vec::new();
        }
        if code != "unavailable" {
            let refused = self.take(frame).map(|one| Occurred::Refused { n: one.n, code: code.to_owned() });
            return vec![refused.unwrap_or_else(|| {
                Occurred::Fault(format!(
                    "an error for nothing, confirmed {} of {}: {frame}",
                    self.confirmed, self.seq
                ))
            })];
        }
        if let Some(one) = self.pending.iter_mut().find(|one| frame["id"] == one.id) {
            one.stage = Stage::Unavailable;
            let wait = frame["retryMs"].as_u64().map_or(RETRY, Duration::from_millis);
            self.hold.get_or_insert(now + wait);
            return vec![Occurred::Unavailable { n: one.n }];
        }
        Vec::new()
    }

    /// A frame of the mailbox, or a message that went around it.
    fn entry(&mut self, now: At, frame: &Value) -> Vec<Occurred> {
        let mut occurred = Vec::new();
        if let Some(seq) = frame["seq"].as_u64() {
            if seq != self.seq + 1 {
                occurred.push(Occurred::Fault(format!("seq {seq} after {}: {frame}", self.seq)));
            }
            self.seq = seq;
            if seq >= self.confirmed + self.confirm_every {
                self.confirm_at = Some(now);
            }
            self.confirm_at.get_or_insert(now + CONFIRM_AFTER);
        } else if text(frame, "type").starts_with("peer-") {
            occurred.push(Occurred::Fault(format!("outside the mailbox: {frame}")));
        }
        occurred.extend(match text(frame, "type") {
            "message" | "duplicate" => self.message(frame),
            _ => self.presence(frame).err().map(Occurred::Fault),
        });
        occurred
    }

    fn message(&mut self, frame: &Value) -> Option<Occurred> {
        let from = text(frame, "from").to_owned();
        if let Some(id) = frame["id"].as_u64()
            && !self.seen.entry(from.clone()).or_default().insert(id)
        {
            return Some(Occurred::Dropped);
        }
        if frame["type"] == "duplicate" {
            return Some(Occurred::Fault(format!("a duplicate of what never came: {frame}")));
        }
        Some(Occurred::Heard { from, data: frame["data"].clone() })
    }

    fn presence(&mut self, frame: &Value) -> Result<(), String> {
        let peer = text(frame, "peerId");
        self.recent.push_back(format!("{} {} {peer}", frame["seq"], text(frame, "type")));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        let known = self.roster.get_mut(peer);
        match (text(frame, "type"), known) {
            // What it does not know a client ignores.
            (kind, _) if !kind.starts_with("peer-") => {}
            ("peer-joined", None) => {
                let (peer, member) = member(frame);
                self.roster.insert(peer, member);
            }
            ("peer-updated", Some(_)) => {}
            ("peer-detached", Some(member)) if !member.detached => member.detached = true,
            ("peer-attached", Some(member)) if member.detached => member.detached = false,
            ("peer-left", Some(_)) => drop(self.roster.remove(peer)),
            // Said again, of a view that was as of then and not as of `seq`.
            _ if self.ahead => {}
            (kind, known) => {
                let before: Vec<_> = self.recent.iter().filter(|said| said.ends_with(peer)).collect();
                return Err(format!(
                    "{kind} of {peer}, which was {known:?}; what was said of it: {before:?}"
                ));
            }
        }
        Ok(())
    }
}

fn member(frame: &Value) -> (String, Member) {
    let (user, detached) = (text(frame, "userId").to_owned(), frame["detached"] == true);
    (text(frame, "peerId").to_owned(), Member { user, detached })
}

#[cfg(test)]
mod tests;
