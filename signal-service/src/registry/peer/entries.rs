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

use super::{Lane, LocalPeer};
use signalbox_rooms::{
    room::Lineage,
    store::{Delivery, Entry, EntryKind, Head, Item, Page},
};

impl LocalPeer {
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
    pub(super) fn is_new(&self) -> bool {
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

    pub(super) fn send_entries(&self, lane: &mut Lane, run: Vec<Entry>) {
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
    pub(super) fn frame(&self, lane: &mut Lane, entry: &Entry) -> String {
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
