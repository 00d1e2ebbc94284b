//! One local peer: its inbox, its outbox, and what its connection must be woken for.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use actix_http::ws::OpCode;
use signalbox_shared::{
    config::Limits,
    id::PeerId,
    protocol::{CloseCode, ServerMessage},
};
use tokio::{net::TcpStream, sync::Notify};

use super::{
    inbox::Inbox,
    outbox::{Full, Outbox},
    untold::Untold,
};
use crate::store::{Delivery, Entry, EntryKind};

/// A peer with its socket on this node. Any thread may deliver to it; its connection's task does the rest.
pub struct LocalPeer {
    /// The peer.
    pub id: PeerId,
    /// The epoch this node owns it in.
    pub epoch: u64,
    // A std mutex: held to order entries and to try one write that never blocks.
    lane: Mutex<Lane>,
    /// Wakes the connection's task.
    wake: Notify,
    /// The last entry that is in the socket, or further.
    written: AtomicU64,
}

struct Lane {
    inbox: Inbox,
    outbox: Outbox,
    untold: Untold,
    closing: Option<CloseCode>,
}

/// What the connection's task finds when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The connection must end.
    pub closing: Option<CloseCode>,
    /// Bytes that wait for the socket.
    pub waiting: usize,
    /// The mailbox must be read.
    pub needs_reading: bool,
    /// The store should be told what the peer has.
    pub should_tell: bool,
}

impl LocalPeer {
    /// A peer whose inbox only collects until [`LocalPeer::open`].
    pub fn new(id: PeerId, epoch: u64, socket: Arc<TcpStream>, limits: &Limits) -> Arc<Self> {
        let (outbox, untold) = (Outbox::new(socket, limits.outbox.0), Untold::new(limits));
        let lane = Mutex::new(Lane { inbox: Inbox::closed(), outbox, untold, closing: None });
        Arc::new(Self { id, epoch, lane, wake: Notify::new(), written: AtomicU64::new(0) })
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the first frame, then everything that has come since.
    pub fn open(&self, first: &ServerMessage, seq: u64) {
        let mut lane = self.lane();
        let json = first.to_json();
        self.send_in(&mut lane, std::iter::once(json.as_bytes()));
        let run = lane.inbox.open_after(seq);
        self.send_entries(&mut lane, run);
    }

    /// Takes an entry from this node or another.
    pub fn deliver(&self, delivery: Delivery) {
        if delivery.epoch != self.epoch {
            return;
        }
        let mut lane = self.lane();
        let run = lane.inbox.take(delivery.entry);
        self.send_entries(&mut lane, run);
        if lane.inbox.needs_reading() {
            self.wake.notify_one();
        }
    }

    /// Takes a page that was read from the mailbox.
    pub fn deliver_page(&self, page: Vec<Entry>) {
        let mut lane = self.lane();
        let run = lane.inbox.take_page(page);
        self.send_entries(&mut lane, run);
    }

    /// The mailbox is about to be read.
    pub fn begin_read(&self) {
        self.lane().inbox.begin_read();
    }

    /// Entries may have been missed: the mailbox must be read.
    pub fn doubt(&self) {
        self.lane().inbox.doubt();
        self.wake.notify_one();
    }

    /// Sends frames outside the mailbox, joined into one write.
    pub fn send(&self, messages: &[ServerMessage]) {
        let texts: Vec<String> = messages.iter().map(ServerMessage::to_json).collect();
        let mut lane = self.lane();
        self.send_in(&mut lane, texts.iter().map(String::as_bytes));
    }

    /// Sends a WebSocket ping or pong.
    pub fn control(&self, op: OpCode, payload: &[u8]) {
        let mut lane = self.lane();
        if lane.closing.is_none() && lane.outbox.control(op, payload) == Err(Full) {
            self.give_up(&mut lane);
        }
    }

    /// The node stops: tells a peer that has joined when to come back, and asks the connection's task to end.
    pub fn say_goodbye(&self, reconnect_in: u64) {
        let mut lane = self.lane();
        if lane.inbox.is_open() {
            let goaway = ServerMessage::Goaway { reconnect_in }.to_json();
            self.send_in(&mut lane, std::iter::once(goaway.as_bytes()));
        }
        drop(lane);
        self.close(CloseCode::GoingAway);
    }

    /// Asks the connection's task to end; the first reason stands.
    pub fn close(&self, code: CloseCode) {
        self.lane().closing.get_or_insert(code);
        self.wake.notify_one();
    }

    /// Writes the close frame. Nothing is sent after it.
    pub fn write_close(&self, code: CloseCode) {
        let mut lane = self.lane();
        let code = *lane.closing.get_or_insert(code);
        lane.outbox.close(code);
    }

    /// Answers the client's own close frame (RFC 6455, section 5.5.1). Nothing is sent after it.
    pub fn echo_close(&self, code: u16) {
        let mut lane = self.lane();
        lane.closing.get_or_insert(CloseCode::Left);
        lane.outbox.close_with(code, String::new());
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) {
        let mut lane = self.lane();
        lane.outbox.flush();
        self.note_written(&lane);
    }

    /// What there is to do.
    pub fn condition(&self) -> Condition {
        let lane = self.lane();
        Condition {
            closing: lane.closing,
            waiting: lane.outbox.len(),
            needs_reading: lane.inbox.needs_reading() && lane.closing.is_none(),
            should_tell: lane.untold.is_due(),
        }
    }

    /// Waits until there may be something to do.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The last entry that went into the outbox.
    pub fn delivered(&self) -> u64 {
        self.lane().inbox.delivered()
    }

    /// The last entry that went into the socket.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The store is being told that the peer has all up to `seq`.
    pub fn told(&self, seq: u64) {
        self.lane().untold.told(seq);
    }

    fn send_entries(&self, lane: &mut Lane, run: Vec<Entry>) {
        if run.is_empty() {
            return;
        }
        let frames: Vec<String> = run.iter().map(|entry| self.frame(entry)).collect();
        self.send_in(lane, frames.iter().map(String::as_bytes));
        run.iter().for_each(|entry| lane.untold.push(entry.seq, entry.body.len()));
        if lane.untold.would_fill(lane.outbox.frames(), lane.outbox.len()) {
            self.give_up(lane);
        }
        self.note_written(lane);
        if lane.untold.is_due() {
            self.wake.notify_one();
        }
    }

    /// The entry as its reader sees it: `seq`, and for a peer entry `polite`, put in front of the stored body.
    fn frame(&self, entry: &Entry) -> String {
        let rest = entry.body.strip_prefix('{').unwrap_or(&entry.body);
        match entry.kind {
            EntryKind::Plain => format!(r#"{{"seq":{},{rest}"#, entry.seq),
            EntryKind::PeerEntry => {
                format!(r#"{{"seq":{},"polite":{},{rest}"#, entry.seq, self.id.is_polite_toward(&entry.from))
            }
        }
    }

    fn send_in<'a>(&self, lane: &mut Lane, texts: impl Iterator<Item = &'a [u8]>) {
        if lane.closing.is_some() {
            return;
        }
        match lane.outbox.send(texts) {
            Err(Full) => self.give_up(lane),
            Ok(()) if lane.outbox.is_waiting() => self.wake.notify_one(),
            Ok(()) => {}
        }
    }

    fn give_up(&self, lane: &mut Lane) {
        lane.closing.get_or_insert(CloseCode::SlowConsumer);
        self.wake.notify_one();
    }

    fn note_written(&self, lane: &Lane) {
        if lane.closing.is_none() {
            // Each entry is one frame, so no more entries wait than frames.
            let waiting = lane.outbox.frames() as u64;
            self.written.fetch_max(lane.inbox.delivered().saturating_sub(waiting), Ordering::Relaxed);
        }
    }
}
