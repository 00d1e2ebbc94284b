//! What a peer hears through its mailbox, or straight from its sender while the store is away.
//!
//! Owns: entries into the inbox, in order out of it, each as its reader sees it, and when the mailbox must be read. Next: `inbox` is the
//! order, `socket` writes.

use std::{collections::HashMap, sync::atomic::Ordering};

use signalbox_protocol::{
    ServerMessage,
    id::{NodeId, PeerId},
};
use tokio::time::Instant;

use super::{DeliveryState, LocalPeer};
use signalbox_rooms::{
    room::ReplicationId,
    store::{Delivery, Entry, EntryKind, MailboxHead, MailboxPage, OutgoingEntry},
};

impl LocalPeer {
    /// Writes a first frame, then every entry of the mailbox after `seq` that has come since, and asks for those before them.
    pub fn open_mailbox(&self, first: &ServerMessage, lineage: &ReplicationId, mailbox: u64, seq: u64) {
        let mut lane = self.lock_delivery();
        let json = first.to_json();
        self.send_locked(&mut lane, std::iter::once(json.as_bytes()));
        lane.replication_id = lineage.clone();
        lane.unacked.acknowledge_up_to(u64::MAX);
        self.written_seq.store(seq, Ordering::Relaxed);
        let run = lane.inbox.open_mailbox(mailbox, seq);
        self.send_entries(&mut lane, run);
    }

    /// The client misses what the mailbox holds beyond the `seq` it was opened with; `page` is the begin of it, where it is known.
    pub fn start_replay(&self, page: Option<MailboxPage>) {
        self.lock_delivery().inbox.start_replay(page.is_none());
        if let Some(page) = page {
            self.deliver_page(page, self.connected_at);
        }
        self.task_wake.notify_one();
    }

    /// Takes an entry from this node or another.
    pub fn deliver_entry(&self, delivery: Delivery) {
        let mut lane = self.lock_delivery();
        let run = lane.inbox.accept_delivery(delivery);
        if self.is_in_lobby() {
            // Nothing is written for one who waits: it was let in.
            lane.inbox.mark_stale();
        }
        self.send_entries(&mut lane, run);
        if lane.inbox.needs_read() || self.is_in_lobby() {
            self.task_wake.notify_one();
        }
    }

    /// Takes a page that was read from the mailbox after `asked`.
    pub fn deliver_page(&self, page: MailboxPage, asked: Instant) {
        let mut lane = self.lock_delivery();
        lane.replication_id = page.replication_id;
        let run = lane.inbox.accept_page(page.entries, page.last_seq);
        if lane.inbox.delivered_seq() >= page.last_seq {
            lane.last_complete_at = asked;
        }
        self.send_entries(&mut lane, run);
    }

    /// Whether a message may come straight from its sender, outside the mailbox: not while an earlier one of that sender is known to
    /// lie in there, or may be because it came through another node. (One whose outcome is unknown holds its sender up by itself.)
    pub fn accepts_direct_from(&self, sender: &Self) -> bool {
        let lane = self.lock_delivery();
        let is_ours_alone = sender.is_first_epoch() || lane.last_complete_at > sender.connected_at;
        lane.close_code.is_none() && lane.inbox.is_open() && !lane.inbox.has_gap() && is_ours_alone
    }

    /// Whether it has sent nothing before this connection.
    pub(super) fn is_first_epoch(&self) -> bool {
        self.epoch() == 1
    }

    /// Takes a message straight from its sender while the store is away.
    pub fn deliver_direct(&self, from: &PeerId, item: &OutgoingEntry) {
        let mut lane = self.lock_delivery();
        if item.id.is_none_or(|id| record_message_id(&mut lane.last_ids, from, id)) {
            lane.awaited_pong = Some(lane.sent_pings + 1);
            self.send_locked(&mut lane, std::iter::once(item.body.as_bytes()));
        }
    }

    /// Compares what the store said of the peer after `asked` with what is known here; what does not fit is looked after.
    pub fn compare_head(&self, node: &NodeId, head: &MailboxHead, asked: Instant) {
        let owned = head.owner.as_ref().is_some_and(|(owner, epoch)| owner == node && *epoch == self.epoch());
        let mut lane = self.lock_delivery();
        if owned
            && head.mailbox_version == lane.inbox.mailbox_version()
            && head.last_seq <= lane.inbox.delivered_seq()
        {
            lane.last_complete_at = asked;
        } else if lane.inbox.is_open() || self.is_in_lobby() {
            lane.inbox.mark_stale();
        }
        // The store answers: what waited for that may be told now.
        self.task_wake.notify_one();
    }

    /// The mailbox is about to be read.
    pub fn start_read(&self) {
        self.lock_delivery().inbox.start_read();
    }

    /// Entries may have been missed, or the peer be gone: the mailbox must be read.
    pub fn mark_stale(&self) {
        self.lock_delivery().inbox.mark_stale();
        self.task_wake.notify_one();
    }

    /// The mailbox could not be read.
    pub fn fail_read(&self) {
        self.lock_delivery().inbox.fail_read();
        self.task_wake.notify_one();
    }

    /// A call of this node failed and may have written something: the mailbox should be read.
    pub fn mark_uncertain(&self) {
        self.lock_delivery().inbox.mark_uncertain();
        self.task_wake.notify_one();
    }

    pub(super) fn send_entries(&self, lane: &mut DeliveryState, run: Vec<Entry>) {
        if run.is_empty() {
            return;
        }
        let frames: Vec<String> = run.iter().map(|entry| self.render_entry(lane, entry)).collect();
        self.send_locked(lane, frames.iter().map(String::as_bytes));
        run.iter().for_each(|entry| lane.unacked.push_entry(entry.seq, entry.body.len()));
        // A replay is as long as it is, and its pace is the socket's.
        if !lane.inbox.is_replaying()
            && lane.unacked.is_nearly_full(lane.outbox.pending_frames(), lane.outbox.pending_bytes())
        {
            self.close_slow_consumer(lane);
        }
        self.record_written(lane);
        if lane.unacked.is_ack_due() {
            self.task_wake.notify_one();
        }
    }

    /// The entry as its reader sees it: `seq`, and for a peer entry `polite`, put in front of the stored body. What the reader has had
    /// already only counts.
    pub(super) fn render_entry(&self, lane: &mut DeliveryState, entry: &Entry) -> String {
        let (seq, rest) = (entry.seq, entry.body.strip_prefix('{').unwrap_or(&entry.body));
        match (entry.kind, entry.id) {
            (EntryKind::Forwarded, Some(id)) if !record_message_id(&mut lane.last_ids, &entry.from, id) => {
                ServerMessage::Duplicate { seq, from: entry.from.clone(), id }.to_json()
            }
            (EntryKind::Forwarded | EntryKind::RoomEvent | EntryKind::PeerLeft, _) => {
                if entry.kind == EntryKind::PeerLeft {
                    lane.last_ids.remove(&entry.from);
                }
                format!(r#"{{"seq":{seq},{rest}"#)
            }
            (EntryKind::PermissionsChanged, _) => {
                if let Ok(powers) = serde_json::from_str(&entry.body) {
                    self.set_permissions(powers);
                }
                format!(r#"{{"seq":{seq},{rest}"#)
            }
            (EntryKind::PeerEvent, _) => {
                format!(r#"{{"seq":{seq},"polite":{},{rest}"#, self.id.is_polite_toward(&entry.from))
            }
        }
    }
}

/// Whether a sender's id is a new one; ids grow.
fn record_message_id(seen: &mut HashMap<PeerId, u64>, from: &PeerId, id: u64) -> bool {
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
