//! One local peer: its inbox, its outbox, and what its connection must be woken for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use actix_http::ws::OpCode;
use serde::Deserialize;
use signalbox_shared::{
    config::Limits,
    id::{NodeId, PeerId, Role},
    protocol::{CloseCode, ServerMessage},
};
use tokio::{net::TcpStream, sync::Notify, time::Instant};

use crate::standing::Standing;

use super::{
    inbox::Inbox,
    outbox::{Full, Outbox},
    untold::Untold,
};
use signalbox_rooms::{
    room::{Lineage, Member, Permission},
    store::{Delivery, Entry, EntryKind, Head, Item, Page, Reader},
};

/// A peer with its socket on this node. Any thread may deliver to it; its connection's task does the rest.
pub struct LocalPeer {
    /// The peer.
    pub id: PeerId,
    /// Since when it may have sent messages through this node alone: from its join on, or from its return.
    pub since: Instant,
    // A std mutex: held to order entries and to try one write that never blocks.
    lane: Mutex<Lane>,
    /// Wakes the connection's task.
    wake: Notify,
    // A std mutex: held to clone or swap the pointer.
    standing: Mutex<Arc<Standing>>,
    /// The epoch this node owns it in; 0 until it does.
    epoch: AtomicU64,
    /// The last entry that is in the socket, or further.
    written: AtomicU64,
    /// What it may do, as its client was last told. A std mutex: held to clone or swap the pointer.
    powers: Mutex<Option<Arc<Powers>>>,
    /// Whether it waits in the lobby: nothing goes out but what answers it.
    waits: AtomicBool,
}

/// What a peer is and may do now, whatever its token said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Powers {
    /// Its role.
    pub role: Role,
    /// What it may do.
    pub permissions: Arc<[Arc<str>]>,
}

struct Lane {
    inbox: Inbox,
    outbox: Outbox,
    untold: Untold,
    /// The highest id delivered of each sender: a message may come twice, straight and through the mailbox, or through two mailboxes.
    seen: HashMap<PeerId, u64>,
    /// Where the peer was last known to be a member.
    lineage: Lineage,
    /// When its client was last known to have all that the mailbox held.
    complete_at: Instant,
    /// Pings sent, and the number of the first one that was sent after the last entry outside the mailbox: its pong proves that the
    /// client has it.
    pings: u64,
    unproven: Option<u64>,
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
    /// The mailbox is being read from where the client left off.
    pub is_replaying: bool,
    /// The store should be told what the peer has, as far as this entry.
    pub should_tell: Option<u64>,
}

impl LocalPeer {
    /// A peer whose inbox only collects until [`LocalPeer::open`].
    pub fn new(id: PeerId, standing: Standing, socket: Arc<TcpStream>, limits: &Limits) -> Arc<Self> {
        let lane = Mutex::new(Lane {
            inbox: Inbox::default(),
            outbox: Outbox::new(socket, limits.outbox.0),
            untold: Untold::new(limits),
            seen: HashMap::new(),
            lineage: Lineage::default(),
            complete_at: Instant::now(),
            pings: 0,
            unproven: None,
            closing: None,
        });
        let (epoch, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let (powers, waits) = (Mutex::default(), AtomicBool::new(false));
        let standing = Mutex::new(Arc::new(standing));
        let (since, wake) = (Instant::now(), Notify::new());
        Arc::new(Self { id, since, lane, wake, epoch, written, standing, powers, waits })
    }

    /// What is judged of it.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is judged of it.
    pub fn set_standing(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }

    /// From now on its mailbox holds so many entries.
    pub fn set_backlog(&self, entries: u32) {
        self.lane().untold.set_most(entries);
        self.wake.notify_one();
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is and may do now; none before it is in.
    pub fn powers(&self) -> Option<Arc<Powers>> {
        self.powers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has a permission now.
    pub fn may(&self, permission: Permission) -> bool {
        let powers = self.powers.lock().unwrap_or_else(PoisonError::into_inner);
        let names = powers.as_ref().map(|powers| &powers.permissions[..]).unwrap_or_default();
        names.iter().any(|name| &**name == permission.as_str())
    }

    fn grant(&self, powers: Powers) {
        *self.powers.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(powers));
    }

    /// As [`LocalPeer::follow`], if nobody else has changed what it may do since `seen`. What it may do now.
    pub fn grant_after(&self, seen: Option<&Arc<Powers>>, powers: Powers) -> Option<Arc<Powers>> {
        let mut held = self.powers.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().map(Arc::as_ptr) == seen.map(Arc::as_ptr) {
            *held = Some(Arc::new(powers));
        }
        held.clone()
    }

    /// It is this member now, in the room or in its lobby.
    pub fn follow(&self, member: &Member) {
        self.grant(Powers { role: member.role.clone(), permissions: member.permissions.clone() });
        self.waits.store(member.waiting, Ordering::Relaxed);
    }

    /// Whether it waits in the lobby.
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// The epoch this node owns it in.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// This node owns it in a newer epoch.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// How the peer asks for its mailbox.
    pub fn reader(&self, node: &NodeId) -> Reader {
        let lineage = self.lane().lineage.clone();
        Reader { peer: self.id.clone(), node: node.clone(), epoch: self.epoch(), lineage }
    }

    /// Where the peer was last known to be a member.
    pub fn lineage(&self) -> Lineage {
        self.lane().lineage.clone()
    }

    /// The number of its mailbox, as its inbox knows it.
    pub fn mailbox(&self) -> u64 {
        self.lane().inbox.mailbox()
    }

    /// Writes a first frame, then every entry of the mailbox after `seq` that has come since, and asks for those before them.
    pub fn open(&self, first: &ServerMessage, lineage: &Lineage, mailbox: u64, seq: u64) {
        let mut lane = self.lane();
        let json = first.to_json();
        self.send_in(&mut lane, std::iter::once(json.as_bytes()));
        lane.lineage = lineage.clone();
        lane.untold.told(u64::MAX);
        self.written.store(seq, Ordering::Relaxed);
        let run = lane.inbox.open(mailbox, seq);
        self.send_entries(&mut lane, run);
    }

    /// The client misses what the mailbox holds beyond the `seq` it was opened with; `page` is the begin of it, where it is known.
    pub fn replay(&self, page: Option<Page>) {
        self.lane().inbox.replay(page.is_none());
        if let Some(page) = page {
            self.deliver_page(page, self.since);
        }
        self.wake.notify_one();
    }

    /// Where the peer is known to be a member.
    pub fn set_lineage(&self, lineage: &Lineage) {
        self.lane().lineage = lineage.clone();
    }

    /// Takes an entry from this node or another.
    pub fn deliver(&self, delivery: Delivery) {
        let mut lane = self.lane();
        let run = lane.inbox.take(delivery);
        if self.waits() {
            // Nothing is written for one who waits: it was let in.
            lane.inbox.doubt();
        }
        self.send_entries(&mut lane, run);
        if lane.inbox.needs_reading() || self.waits() {
            self.wake.notify_one();
        }
    }

    /// Takes a page that was read from the mailbox after `asked`.
    pub fn deliver_page(&self, page: Page, asked: Instant) {
        let mut lane = self.lane();
        lane.lineage = page.lineage;
        let run = lane.inbox.take_page(page.entries, page.head);
        if lane.inbox.delivered() >= page.head {
            lane.complete_at = asked;
        }
        self.send_entries(&mut lane, run);
    }

    /// Whether a message may come straight from its sender, outside the mailbox: not while an earlier one of that sender is known to
    /// lie in there, or may be because it came through another node. (One whose outcome is unknown holds its sender up by itself.)
    pub fn takes_straight(&self, sender: &Self) -> bool {
        let lane = self.lane();
        let is_ours_alone = sender.is_new() || lane.complete_at > sender.since;
        lane.closing.is_none() && lane.inbox.is_open() && !lane.inbox.lacks() && is_ours_alone
    }

    /// Whether it has sent nothing before this connection.
    fn is_new(&self) -> bool {
        self.epoch() == 1
    }

    /// Takes a message straight from its sender while the store is away.
    pub fn deliver_straight(&self, from: &PeerId, item: &Item) {
        let mut lane = self.lane();
        if item.id.is_none_or(|id| note_seen(&mut lane.seen, from, id)) {
            lane.unproven = Some(lane.pings + 1);
            self.send_in(&mut lane, std::iter::once(item.body.as_bytes()));
        }
    }

    /// Whether what came outside the mailbox may not have reached the client.
    pub fn has_unproven(&self) -> bool {
        self.lane().unproven.is_some()
    }

    /// The client answered a ping.
    pub fn ponged(&self, payload: &[u8]) {
        let Ok(number) = std::str::from_utf8(payload).unwrap_or_default().parse::<u64>() else { return };
        let mut lane = self.lane();
        lane.unproven = lane.unproven.filter(|first| number < *first || number > lane.pings);
    }

    /// Sends a ping whose pong is known again.
    pub fn ping(&self) {
        let mut lane = self.lane();
        lane.pings += 1;
        let payload = lane.pings.to_string();
        self.control_in(&mut lane, OpCode::Ping, payload.as_bytes());
    }

    /// Compares what the store said of the peer after `asked` with what is known here; what does not fit is looked after.
    pub fn compare(&self, node: &NodeId, head: &Head, asked: Instant) {
        let owned = head.owner.as_ref().is_some_and(|(owner, epoch)| owner == node && *epoch == self.epoch());
        let mut lane = self.lane();
        if owned && head.mailbox == lane.inbox.mailbox() && head.head <= lane.inbox.delivered() {
            lane.complete_at = asked;
        } else if lane.inbox.is_open() || self.waits() {
            lane.inbox.doubt();
        }
        // The store answers: what waited for that may be told now.
        self.wake.notify_one();
    }

    /// The mailbox is about to be read.
    pub fn begin_read(&self) {
        self.lane().inbox.begin_read();
    }

    /// Entries may have been missed, or the peer be gone: the mailbox must be read.
    pub fn doubt(&self) {
        self.lane().inbox.doubt();
        self.wake.notify_one();
    }

    /// The mailbox could not be read.
    pub fn fail_read(&self) {
        self.lane().inbox.fail_read();
        self.wake.notify_one();
    }

    /// A call of this node failed and may have written something: the mailbox should be read.
    pub fn suspect(&self) {
        self.lane().inbox.suspect();
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
        self.control_in(&mut self.lane(), op, payload);
    }

    fn control_in(&self, lane: &mut Lane, op: OpCode, payload: &[u8]) {
        if lane.closing.is_none() && lane.outbox.control(op, payload) == Err(Full) {
            self.give_up(lane);
        }
    }

    /// The node stops: tells a peer that has joined when to come back. Whether it had joined.
    pub fn announce_goodbye(&self, reconnect_in: u64) -> bool {
        let mut lane = self.lane();
        let has_joined = lane.inbox.is_open() || self.waits();
        if has_joined {
            let goaway = ServerMessage::Goaway { reconnect_in }.to_json();
            self.send_in(&mut lane, std::iter::once(goaway.as_bytes()));
        }
        has_joined
    }

    /// Asks the connection's task to end; the first reason stands. Whether this is the first.
    pub fn close(&self, code: CloseCode) -> bool {
        let mut lane = self.lane();
        let first = lane.closing.is_none();
        lane.closing.get_or_insert(code);
        drop(lane);
        self.wake.notify_one();
        first
    }

    /// Asks for the end with another reason than before.
    pub fn close_instead(&self, code: CloseCode) {
        self.lane().closing = Some(code);
    }

    /// Sends frames outside the mailbox to a peer that has had its first one.
    pub fn announce(&self, messages: &[ServerMessage]) {
        let mut lane = self.lane();
        if lane.inbox.is_open() {
            let texts: Vec<String> = messages.iter().map(ServerMessage::to_json).collect();
            self.send_in(&mut lane, texts.iter().map(String::as_bytes));
        }
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
            needs_reading: lane.closing.is_none()
                && (lane.inbox.needs_reading() || self.waits() && lane.inbox.is_doubted()),
            is_replaying: lane.inbox.is_replaying(),
            should_tell: lane.untold.is_due().then(|| lane.untold.middle()).flatten(),
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
        let frames: Vec<String> = run.iter().map(|entry| self.frame(lane, entry)).collect();
        self.send_in(lane, frames.iter().map(String::as_bytes));
        run.iter().for_each(|entry| lane.untold.push(entry.seq, entry.body.len()));
        // A replay is as long as it is, and its pace is the socket's.
        if !lane.inbox.is_replaying() && lane.untold.would_fill(lane.outbox.frames(), lane.outbox.len()) {
            self.give_up(lane);
        }
        self.note_written(lane);
        if lane.untold.is_due() {
            self.wake.notify_one();
        }
    }

    /// The entry as its reader sees it: `seq`, and for a peer entry `polite`, put in front of the stored body. What the reader has had
    /// already only counts.
    fn frame(&self, lane: &mut Lane, entry: &Entry) -> String {
        let (seq, rest) = (entry.seq, entry.body.strip_prefix('{').unwrap_or(&entry.body));
        match (entry.kind, entry.id) {
            (EntryKind::Forwarded, Some(id)) if !note_seen(&mut lane.seen, &entry.from, id) => {
                ServerMessage::Duplicate { seq, from: entry.from.clone(), id }.to_json()
            }
            (EntryKind::Forwarded | EntryKind::Presence, _) => {
                if entry.kind == EntryKind::Presence && entry.body.starts_with(r#"{"type":"peer-left""#) {
                    lane.seen.remove(&entry.from);
                }
                format!(r#"{{"seq":{seq},{rest}"#)
            }
            (EntryKind::Standing, _) => {
                if let Ok(powers) = serde_json::from_str(&entry.body) {
                    self.grant(powers);
                }
                format!(r#"{{"seq":{seq},{rest}"#)
            }
            (EntryKind::PeerEntry, _) => {
                format!(r#"{{"seq":{seq},"polite":{},{rest}"#, self.id.is_polite_toward(&entry.from))
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

/// Whether a sender's id is a new one; ids grow.
fn note_seen(seen: &mut HashMap<PeerId, u64>, from: &PeerId, id: u64) -> bool {
    match seen.get_mut(from) {
        Some(last) if id <= *last => false,
        Some(last) => {
            *last = id;
            true
        }
        None => {
            seen.insert(from.clone(), id);
            true
        }
    }
}
