//! One peer with a socket on this node: its entries in order, its frames, its close code.
//!
//! Owns: the delivery state, under one lock, that decides what goes into the socket and in which
//! order; the peer's epoch, replication id, permissions and access subject. Must not: wait, or know
//! other peers. Next: `inbox` orders entries, `outbox` holds frames that the socket has not taken.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use actix_http::ws::OpCode;
use signalbox_config::LimitSettings;
use signalbox_protocol::{
    CloseCode, ServerMessage,
    id::{IdMap, NodeId, PeerId},
};
use signalbox_rooms::{
    room::{Member, Permission, ReplicationId},
    store::{Delivery, Entry, EntryKind, MailboxHead, MailboxPage, MailboxReader, OutgoingEntry},
};
use smallvec::SmallVec;
use tokio::{net::TcpStream, time::Instant};

use super::{
    inbox::{EntryRun, PeerInbox, UnackedEntries},
    outbox::{FlushOutbox, Outbox, OutboxFull, plan_flush},
    task_wake::TaskWake,
};
use crate::{
    connection_subject::ConnectionSubject,
    peer_permissions::PeerPermissions,
    room_token::HandleToken,
    socket_budget::{BufferBytes, ConnectionBytes},
};

thread_local! {
    /// The text of a message before it goes into an outbox.
    static JSON_SCRATCH: RefCell<Vec<u8>> = RefCell::default();
}

/// A peer with a socket on this node. Any thread may deliver to it; the task of its connection does
/// the rest.
pub struct LocalPeer {
    /// The peer.
    pub id: PeerId,
    /// When the peer joined or resumed on this node. Since then it has sent its messages through
    /// this node only.
    pub connected_at: Instant,
    // A std mutex: held to order entries and for one write that never blocks.
    delivery: Mutex<DeliveryState>,
    /// The peer itself, for the plan of its flush.
    itself: Weak<Self>,
    /// What the connection counts in the budget of the node.
    counted_bytes: Arc<ConnectionBytes>,
    task_wake: TaskWake,
    // A std mutex: held to clone or swap the pointer.
    subject: Mutex<Arc<ConnectionSubject>>,
    /// The signed token of the peer, for its handles. A std mutex: held to clone or swap the
    /// pointer.
    handle_token: Mutex<Arc<HandleToken>>,
    /// The epoch in which this node owns the peer; 0 before that.
    epoch: AtomicU64,
    /// The last entry that the socket has taken.
    written_seq: AtomicU64,
    /// The permissions, as the client knows them. A std mutex: held to clone or swap the pointer.
    permissions: Mutex<Option<Arc<PeerPermissions>>>,
    /// Whether the peer waits in the lobby; then it receives answers only.
    is_in_lobby: AtomicBool,
}

struct DeliveryState {
    inbox: PeerInbox,
    outbox: Outbox,
    unacked: UnackedEntries,
    /// The highest message id delivered of each sender. A message may come twice: directly and
    /// through the mailbox, or through two mailboxes.
    last_ids: IdMap<PeerId, u64>,
    /// The replication id under which the store last knew the peer.
    replication_id: ReplicationId,
    /// The last time at which the client had every entry of the mailbox.
    last_complete_at: Instant,
    /// The number of pings sent.
    sent_pings: u64,
    /// The first ping after the last direct message: its pong proves that the client has that
    /// message.
    awaited_pong: Option<u64>,
    /// Whether a flush of the outbox is planned.
    is_flush_planned: bool,
    close_code: Option<CloseCode>,
}

/// The mailbox and the seq after which its entries follow a first frame.
#[derive(Debug, Clone, Copy)]
pub struct MailboxStart {
    /// The version of the mailbox.
    pub mailbox_version: u64,
    /// The last entry that the client has.
    pub seq: u64,
    /// The last entry that the store knows the peer to have.
    pub acked_seq: u64,
}

impl MailboxStart {
    /// The store knows that the client has everything up to `seq`.
    pub fn acknowledged_up_to(mailbox_version: u64, seq: u64) -> Self {
        Self { mailbox_version, seq, acked_seq: seq }
    }
}

/// The work that the task of a connection finds when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingWork {
    /// The connection must end.
    pub close_code: Option<CloseCode>,
    /// The bytes that the socket has refused so far.
    pub blocked_bytes: usize,
    /// The mailbox must be read.
    pub needs_mailbox_read: bool,
    /// The mailbox is being read from the last entry that the client has.
    pub is_replaying: bool,
    /// The store should learn now that the peer has all entries up to this one.
    pub ack_up_to: Option<u64>,
}

impl LocalPeer {
    /// A peer whose inbox only collects entries until [`LocalPeer::open_mailbox`].
    pub fn new(
        id: PeerId,
        subject: ConnectionSubject,
        handle_token: Arc<HandleToken>,
        socket: Arc<TcpStream>,
        limits: &LimitSettings,
        counted_bytes: Arc<ConnectionBytes>,
    ) -> Arc<Self> {
        let delivery = Mutex::new(DeliveryState {
            inbox: PeerInbox::default(),
            outbox: Outbox::new(socket, limits.outbox.0, counted_bytes.open_buffer()),
            unacked: UnackedEntries::new(limits),
            last_ids: IdMap::default(),
            replication_id: ReplicationId::default(),
            last_complete_at: Instant::now(),
            sent_pings: 0,
            awaited_pong: None,
            is_flush_planned: false,
            close_code: None,
        });
        Arc::new_cyclic(|itself| Self {
            id,
            connected_at: Instant::now(),
            delivery,
            itself: itself.clone(),
            counted_bytes,
            task_wake: TaskWake::default(),
            subject: Mutex::new(Arc::new(subject)),
            handle_token: Mutex::new(handle_token),
            epoch: AtomicU64::new(0),
            written_seq: AtomicU64::new(0),
            permissions: Mutex::default(),
            is_in_lobby: AtomicBool::new(false),
        })
    }

    /// Sets the number of entries that the mailbox may hold.
    pub fn set_backlog(&self, entries: u32) {
        self.lock_delivery().unacked.set_max_entries(entries);
        self.task_wake.wake();
    }

    /// The bytes that the connection holds, and whether it is about to end and release them.
    pub fn held_bytes(&self) -> (usize, bool) {
        (self.counted_bytes.held_bytes(), self.lock_delivery().close_code.is_some())
    }

    /// A buffer of the connection besides its outbox.
    pub fn open_buffer(&self) -> BufferBytes {
        self.counted_bytes.open_buffer()
    }

    fn lock_delivery(&self) -> MutexGuard<'_, DeliveryState> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch in which this node owns the peer.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Sets the epoch in which this node owns the peer.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// The proof of ownership with which the mailbox is read.
    pub fn mailbox_reader(&self, node: &NodeId) -> MailboxReader {
        let replication_id = self.lock_delivery().replication_id.clone();
        MailboxReader { peer: self.id.clone(), node: node.clone(), epoch: self.epoch(), replication_id }
    }

    /// The replication id under which the store last knew the peer.
    pub fn replication_id(&self) -> ReplicationId {
        self.lock_delivery().replication_id.clone()
    }

    /// The mailbox version that the inbox knows.
    pub fn mailbox_version(&self) -> u64 {
        self.lock_delivery().inbox.mailbox_version()
    }

    /// Sets the replication id under which the store knows the peer.
    pub fn set_replication_id(&self, replication_id: &ReplicationId) {
        self.lock_delivery().replication_id = replication_id.clone();
    }

    /// The work that waits for the task.
    pub fn pending_work(&self) -> PendingWork {
        let state = self.lock_delivery();
        PendingWork {
            close_code: state.close_code,
            blocked_bytes: state.outbox.blocked_bytes(),
            needs_mailbox_read: state.close_code.is_none()
                && (state.inbox.needs_read() || self.is_in_lobby() && state.inbox.may_have_missed()),
            is_replaying: state.inbox.is_replaying(),
            ack_up_to: state.unacked.is_ack_due().then(|| state.unacked.middle_seq()).flatten(),
        }
    }

    /// Ready when there may be work. Only the task of the connection polls it.
    pub fn poll_work(&self, context: &mut Context<'_>) -> Poll<()> {
        self.task_wake.poll(context)
    }

    /// The last entry that was given to the outbox.
    pub fn delivered_seq(&self) -> u64 {
        self.lock_delivery().inbox.delivered_seq()
    }

    /// The last entry that the socket has taken.
    pub fn written_seq(&self) -> u64 {
        self.written_seq.load(Ordering::Relaxed)
    }

    /// The store learns now that the peer has all entries up to `seq`.
    pub fn mark_acknowledged(&self, seq: u64) {
        self.lock_delivery().unacked.acknowledge_up_to(seq);
    }

    /// The access subject of the connection.
    pub fn access_subject(&self) -> Arc<ConnectionSubject> {
        self.subject.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the access subject of the connection.
    pub fn set_access_subject(&self, subject: ConnectionSubject) {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(subject);
    }

    /// The signed token of the peer.
    pub fn handle_token(&self) -> Arc<HandleToken> {
        self.handle_token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the signed token of the peer. Returns the token before it.
    pub fn replace_handle_token(&self, token: Arc<HandleToken>) -> Arc<HandleToken> {
        std::mem::replace(&mut *self.handle_token.lock().unwrap_or_else(PoisonError::into_inner), token)
    }

    /// The permissions of the peer; none before its join was committed.
    pub fn permissions(&self) -> Option<Arc<PeerPermissions>> {
        self.permissions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the peer has a permission now.
    pub fn has_permission(&self, permission: Permission) -> bool {
        let current = self.permissions.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|permissions| permissions.has_permission(permission))
    }

    fn set_permissions(&self, permissions: PeerPermissions) {
        *self.permissions.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(permissions));
    }

    /// Sets the permissions if they are still those of `expected`. Returns the permissions in force.
    pub fn set_permissions_if_unchanged(
        &self,
        expected: Option<&Arc<PeerPermissions>>,
        permissions: PeerPermissions,
    ) -> Option<Arc<PeerPermissions>> {
        let mut current = self.permissions.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().map(Arc::as_ptr) == expected.map(Arc::as_ptr) {
            *current = Some(Arc::new(permissions));
        }
        current.clone()
    }

    /// Applies the record of the member, which is in the room or in the lobby.
    pub fn apply_member(&self, member: &Member) {
        self.set_permissions(PeerPermissions {
            role: member.role.clone(),
            permissions: member.permissions.clone(),
        });
        self.is_in_lobby.store(member.waiting, Ordering::Relaxed);
    }

    /// Whether the peer waits in the lobby.
    pub fn is_in_lobby(&self) -> bool {
        self.is_in_lobby.load(Ordering::Relaxed)
    }

    /// Sends the first frame, then the entries after `start.seq` that have come already.
    pub fn open_mailbox(&self, first: &ServerMessage, replication_id: &ReplicationId, start: MailboxStart) {
        let mut state = self.lock_delivery();
        self.push_message(&mut state, first);
        self.plan_flush(&mut state);
        state.replication_id = replication_id.clone();
        state.unacked.restart(start.seq, start.acked_seq);
        self.written_seq.store(start.seq, Ordering::Relaxed);
        let run = state.inbox.open_mailbox(start.mailbox_version, start.seq);
        self.send_entries(&mut state, &run);
    }

    /// Starts to deliver the entries that the client has missed. `page` holds the first of them, if
    /// it was read already.
    pub fn start_replay(&self, page: Option<MailboxPage>) {
        self.lock_delivery().inbox.start_replay(page.is_none());
        if let Some(page) = page {
            self.deliver_page(page, self.connected_at);
        }
        self.task_wake.wake();
    }

    /// Delivers an entry that this node or another one wrote.
    pub fn deliver_entry(&self, delivery: Delivery) {
        let mut state = self.lock_delivery();
        let run = state.inbox.accept_delivery(delivery);
        if self.is_in_lobby() {
            // A peer in the lobby has no mailbox entries, so a moderator has admitted it.
            state.inbox.mark_stale();
        }
        self.send_entries(&mut state, &run);
        if state.inbox.needs_read() || self.is_in_lobby() {
            self.task_wake.wake();
        }
    }

    /// Delivers a page of the mailbox; the read began at `asked_at`.
    pub fn deliver_page(&self, page: MailboxPage, asked_at: Instant) {
        let mut state = self.lock_delivery();
        state.replication_id = page.replication_id;
        state.unacked.count_after(page.acked_seq);
        if state.unacked.is_ack_due() {
            self.task_wake.wake();
        }
        let run = state.inbox.accept_page(page.entries, page.last_seq);
        if state.inbox.delivered_seq() >= page.last_seq {
            state.last_complete_at = asked_at;
        }
        self.send_entries(&mut state, &run);
    }

    /// Whether a message of this sender may be delivered directly: no earlier message of the sender
    /// may be undelivered in the mailbox. A message with an unknown outcome blocks its sender
    /// already.
    pub fn accepts_direct_from(&self, sender: &Self) -> bool {
        let state = self.lock_delivery();
        let is_caught_up = sender.is_first_epoch() || state.last_complete_at > sender.connected_at;
        state.close_code.is_none() && state.inbox.is_open() && !state.inbox.has_gap() && is_caught_up
    }

    /// Whether the peer has sent nothing before this connection.
    fn is_first_epoch(&self) -> bool {
        self.epoch() == 1
    }

    /// Delivers a message directly, while the store is unavailable.
    pub fn deliver_direct(&self, from: &PeerId, entry: &OutgoingEntry) {
        let mut state = self.lock_delivery();
        if entry.id.is_none_or(|id| record_message_id(&mut state.last_ids, from, id)) {
            state.awaited_pong = Some(state.sent_pings + 1);
            self.push_text(&mut state, entry.body.as_bytes(), &[]);
            self.plan_flush(&mut state);
        }
    }

    /// Compares the head of the mailbox, read after `asked_at`, with the inbox. A difference marks
    /// the inbox as stale.
    pub fn compare_head(&self, node: &NodeId, head: &MailboxHead, asked_at: Instant) {
        let owned = head.owner.as_ref().is_some_and(|(owner, epoch)| owner == node && *epoch == self.epoch());
        let mut state = self.lock_delivery();
        if owned
            && head.mailbox_version == state.inbox.mailbox_version()
            && head.last_seq <= state.inbox.delivered_seq()
        {
            state.last_complete_at = asked_at;
        } else if state.inbox.is_open() || self.is_in_lobby() {
            state.inbox.mark_stale();
        }
        // The store answers, so a pending ack may be written now.
        self.task_wake.wake();
    }

    /// A read of the mailbox begins.
    pub fn start_read(&self) {
        self.lock_delivery().inbox.start_read();
    }

    /// Entries may have been missed, or the peer may be gone: the mailbox must be read.
    pub fn mark_stale(&self) {
        self.lock_delivery().inbox.mark_stale();
        self.task_wake.wake();
    }

    /// The read of the mailbox failed.
    pub fn fail_read(&self) {
        self.lock_delivery().inbox.fail_read();
        self.task_wake.wake();
    }

    /// A failed call of this node may have written entries: the mailbox should be read.
    pub fn mark_uncertain(&self) {
        self.lock_delivery().inbox.mark_uncertain();
        self.task_wake.wake();
    }

    fn send_entries(&self, state: &mut DeliveryState, run: &EntryRun) {
        if run.iter().next().is_none() {
            return;
        }
        for entry in run.iter() {
            self.push_entry(state, entry);
            state.unacked.push_entry(entry.seq, entry.body.len());
        }
        // A replay may be long, and the socket sets its pace.
        if !state.inbox.is_replaying() && self.is_nearly_full(state) {
            self.close_slow_consumer(state);
        }
        self.plan_flush(state);
        if state.unacked.is_ack_due() {
            self.task_wake.wake();
        }
    }

    /// Whether the outbox shows a slow consumer, also after a flush.
    fn is_nearly_full(&self, state: &mut DeliveryState) -> bool {
        let is_nearly_full = |state: &DeliveryState| {
            state.unacked.is_nearly_full(state.outbox.pending_frames(), state.outbox.pending_bytes())
        };
        if is_nearly_full(state) && state.outbox.needs_flush() {
            self.flush_locked(state);
        }
        is_nearly_full(state)
    }

    /// Adds the frame of an entry to the outbox: `seq`, and for a peer event `polite`, in front of
    /// the stored body. A message that the client has already becomes `duplicate`.
    fn push_entry(&self, state: &mut DeliveryState, entry: &Entry) {
        let (seq, rest) = (entry.seq, entry.body.strip_prefix('{').unwrap_or(&entry.body));
        let mut start: SmallVec<[u8; 48]> = SmallVec::from_slice(br#"{"seq":"#);
        start.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        start.push(b',');
        match (entry.kind, entry.id) {
            (EntryKind::Forwarded, Some(id)) if !record_message_id(&mut state.last_ids, &entry.from, id) => {
                let duplicate = ServerMessage::Duplicate { seq, from: entry.from.clone(), id };
                return self.push_message(state, &duplicate);
            }
            (EntryKind::Superseded, _) => {
                return self.push_message(state, &ServerMessage::Superseded { seq });
            }
            (EntryKind::PeerLeft, _) => {
                state.last_ids.remove(&entry.from);
            }
            (EntryKind::PermissionsChanged, _) => {
                if let Ok(permissions) = serde_json::from_str(&entry.body) {
                    self.set_permissions(permissions);
                }
            }
            (EntryKind::PeerEvent, _) => {
                let is_polite = self.id.is_polite_toward(&entry.from);
                start.extend_from_slice(if is_polite { br#""polite":true,"# } else { br#""polite":false,"# });
            }
            (EntryKind::Forwarded | EntryKind::RoomEvent, _) => {}
        }
        self.push_text(state, &start, rest.as_bytes());
    }

    /// Sends frames outside the mailbox.
    pub fn send_messages(&self, messages: &[ServerMessage]) {
        let mut state = self.lock_delivery();
        self.send_messages_locked(&mut state, messages);
    }

    /// Sends frames outside the mailbox, if the first frame has been sent.
    pub fn send_if_open(&self, messages: &[ServerMessage]) {
        let mut state = self.lock_delivery();
        if state.inbox.is_open() {
            self.send_messages_locked(&mut state, messages);
        }
    }

    /// The node drains: tells a peer that has joined when to reconnect. Returns whether it has
    /// joined.
    pub fn announce_drain(&self, reconnect_in: u64) -> bool {
        let mut state = self.lock_delivery();
        let has_joined = state.inbox.is_open() || self.is_in_lobby();
        if has_joined {
            self.send_messages_locked(&mut state, &[ServerMessage::Goaway { reconnect_in }]);
        }
        has_joined
    }

    fn send_messages_locked(&self, state: &mut DeliveryState, messages: &[ServerMessage]) {
        messages.iter().for_each(|message| self.push_message(state, message));
        self.plan_flush(state);
    }

    fn push_message(&self, state: &mut DeliveryState, message: &ServerMessage) {
        JSON_SCRATCH.with_borrow_mut(|json| {
            json.clear();
            message.write_json(json);
            self.push_text(state, json, &[]);
        });
    }

    /// Adds a text frame to the outbox. The caller plans the flush.
    fn push_text(&self, state: &mut DeliveryState, start: &[u8], rest: &[u8]) {
        if state.close_code.is_none() && state.outbox.push_text(start, rest) == Err(OutboxFull) {
            self.close_slow_consumer(state);
        }
    }

    /// Has the outbox flushed: by the flush task of this thread, or now if the thread has none.
    fn plan_flush(&self, state: &mut DeliveryState) {
        if state.outbox.is_blocked() {
            // The task of the connection waits until the socket is writable.
            self.task_wake.wake();
        } else if state.outbox.needs_flush() && !state.is_flush_planned {
            state.is_flush_planned = plan_flush(|| self.itself.upgrade().map(|peer| peer as _));
            if !state.is_flush_planned {
                self.flush_locked(state);
            }
        }
    }

    fn flush_locked(&self, state: &mut DeliveryState) {
        state.outbox.flush();
        state.is_flush_planned = false;
        self.record_written(state);
        if state.outbox.is_blocked() {
            self.task_wake.wake();
        }
    }

    /// Sends a WebSocket ping or pong.
    pub fn send_control(&self, op: OpCode, payload: &[u8]) {
        self.send_control_locked(&mut self.lock_delivery(), op, payload);
    }

    fn send_control_locked(&self, state: &mut DeliveryState, op: OpCode, payload: &[u8]) {
        if state.close_code.is_none() && state.outbox.push_control(op, payload) == Err(OutboxFull) {
            self.close_slow_consumer(state);
        }
        self.plan_flush(state);
    }

    /// Sends a ping with its number as payload.
    pub fn send_ping(&self) {
        let mut state = self.lock_delivery();
        state.sent_pings += 1;
        let payload = state.sent_pings.to_string();
        self.send_control_locked(&mut state, OpCode::Ping, payload.as_bytes());
    }

    /// The client answered a ping.
    pub fn record_pong(&self, payload: &[u8]) {
        let Ok(number) = std::str::from_utf8(payload).unwrap_or_default().parse::<u64>() else { return };
        let mut state = self.lock_delivery();
        state.awaited_pong = state.awaited_pong.filter(|first| number < *first || number > state.sent_pings);
    }

    /// Whether a direct message may not have reached the client.
    pub fn has_unconfirmed_direct(&self) -> bool {
        self.lock_delivery().awaited_pong.is_some()
    }

    /// Asks the task of the connection to end; the first code stays. Returns whether this is the
    /// first.
    pub fn request_close(&self, code: CloseCode) -> bool {
        let mut state = self.lock_delivery();
        let first = state.close_code.is_none();
        state.close_code.get_or_insert(code);
        drop(state);
        self.task_wake.wake();
        first
    }

    /// Sends the close frame. Nothing is sent after it. The task knows why the connection ends, so
    /// its code replaces one that was requested meanwhile.
    pub fn write_close(&self, code: CloseCode) {
        let mut state = self.lock_delivery();
        state.close_code = Some(code);
        state.outbox.send_close(code);
    }

    /// Answers the close frame of the client (RFC 6455, section 5.5.1). Nothing is sent after it.
    pub fn echo_close(&self, code: u16) {
        let mut state = self.lock_delivery();
        state.close_code.get_or_insert(CloseCode::Left);
        state.outbox.send_close_frame(code, String::new());
    }

    /// Writes the outbox as far as the socket takes it.
    pub fn flush_outbox(&self) {
        self.flush_locked(&mut self.lock_delivery());
    }

    fn close_slow_consumer(&self, state: &mut DeliveryState) {
        state.close_code.get_or_insert(CloseCode::SlowConsumer);
        self.task_wake.wake();
    }

    fn record_written(&self, state: &DeliveryState) {
        if state.close_code.is_none() {
            // Each entry is one frame, so the outbox holds at most as many entries as frames.
            let waiting = state.outbox.pending_frames() as u64;
            self.written_seq
                .fetch_max(state.inbox.delivered_seq().saturating_sub(waiting), Ordering::Relaxed);
        }
    }
}

impl FlushOutbox for LocalPeer {
    fn flush_outbox(&self) {
        self.flush_locked(&mut self.lock_delivery());
    }
}

/// Records the message id of a sender. Returns whether it is new; ids grow.
fn record_message_id(last_ids: &mut IdMap<PeerId, u64>, from: &PeerId, id: u64) -> bool {
    match last_ids.get_mut(from) {
        Some(last) if id <= *last => false,
        Some(last) => {
            *last = id;
            true
        }
        None => {
            last_ids.insert(from.clone(), id);
            true
        }
    }
}
