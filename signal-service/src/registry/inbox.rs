//! The order of the entries of one peer, and the entries that the peer has not acknowledged.
//!
//! Owns: [`PeerInbox`], which delivers the next entry, holds an entry that is ahead, and drops an
//! entry that was delivered before; and [`UnackedEntries`]. Must not: write to a socket or read the
//! store. Next: `local_peer` renders and sends the entries.
//!
//! Entries of one mailbox arrive in two ways: from the store calls of this node, and from the
//! topics of other nodes. So one entry may overtake another; its `seq` shows that. A newer mailbox
//! version shows that entries were lost.

use std::collections::{BTreeMap, VecDeque};

use signalbox_config::LimitSettings;
use signalbox_rooms::store::{Delivery, Entry};

/// The number of entries that may wait for a missing one; further entries are read from the mailbox
/// later.
const MAX_HELD_ENTRIES: usize = 256;

/// The number of entries whose memory is kept when all are acknowledged.
const MAX_SPARE_ENTRIES: usize = 16;

/// The order of one mailbox.
#[derive(Debug, Default)]
pub(super) struct PeerInbox {
    /// The version of the mailbox; 0 before the first frame, when nothing may be delivered.
    mailbox_version: u64,
    /// The last entry that was delivered.
    delivered_seq: u64,
    held_entries: BTreeMap<u64, Entry>,
    /// The entries that came before the first frame.
    early_deliveries: Vec<Delivery>,
    /// Entries may have been missed.
    is_stale: bool,
    /// A failed call of this node may have written entries. Its sender has got an error.
    is_uncertain: bool,
    /// The mailbox is being read because it was stale.
    is_reading: bool,
    /// The mailbox is being read from the last entry that the client has, and its end is not
    /// reached.
    is_replaying: bool,
}

impl PeerInbox {
    /// Opens the inbox for this mailbox version, after `seq`. Returns the entries that came before.
    pub(super) fn open_mailbox(&mut self, mailbox_version: u64, seq: u64) -> EntryRun {
        self.mailbox_version = mailbox_version;
        self.delivered_seq = seq;
        self.held_entries = BTreeMap::new();
        let mut run = EntryRun::default();
        for delivery in std::mem::take(&mut self.early_deliveries) {
            self.sort_delivery(delivery, &mut run);
        }
        run
    }

    /// Starts a replay; `is_stale` if no entry of it has been read yet.
    pub(super) fn start_replay(&mut self, is_stale: bool) {
        self.is_stale |= is_stale;
        self.is_replaying = true;
    }

    /// Whether the mailbox is still being read for the first time.
    pub(super) fn is_replaying(&self) -> bool {
        self.is_replaying
    }

    /// Accepts one entry. Returns the entries that may be delivered now, in order.
    pub(super) fn accept_delivery(&mut self, delivery: Delivery) -> EntryRun {
        let mut run = EntryRun::default();
        self.sort_delivery(delivery, &mut run);
        run
    }

    fn sort_delivery(&mut self, delivery: Delivery, run: &mut EntryRun) {
        if self.mailbox_version == 0 {
            if self.early_deliveries.len() < MAX_HELD_ENTRIES {
                self.early_deliveries.push(delivery);
            } else {
                self.is_stale = true;
            }
        } else if delivery.mailbox_version == self.mailbox_version {
            self.sort_entry(delivery.entry, run);
        } else {
            // An entry of an older mailbox is obsolete. A newer mailbox replaces this one.
            self.is_stale |= delivery.mailbox_version > self.mailbox_version;
        }
    }

    fn sort_entry(&mut self, entry: Entry, run: &mut EntryRun) {
        if entry.seq <= self.delivered_seq {
            return;
        }
        if entry.seq == self.delivered_seq + 1 {
            self.delivered_seq = entry.seq;
            run.push(entry);
        } else if self.held_entries.len() < MAX_HELD_ENTRIES {
            self.held_entries.insert(entry.seq, entry);
        } else {
            self.is_stale = true;
        }
        while let Some(entry) = self.held_entries.remove(&(self.delivered_seq + 1)) {
            self.delivered_seq = entry.seq;
            run.push(entry);
        }
    }

    /// Accepts a page of the mailbox, whose last entry was `last_seq`. The page continues after the
    /// last delivered entry, so an event that is missing before an entry of the page was dropped.
    /// Returns the entries that may be delivered now.
    pub(super) fn accept_page(&mut self, page: Vec<Entry>, last_seq: u64) -> EntryRun {
        let mut run = EntryRun::default();
        for entry in page {
            while self.delivered_seq + 1 < entry.seq {
                let next = self.delivered_seq + 1;
                let held = self.held_entries.remove(&next);
                self.sort_entry(held.unwrap_or_else(|| Entry::superseded(next)), &mut run);
            }
            self.sort_entry(entry, &mut run);
        }
        self.is_reading = false;
        if self.delivered_seq < last_seq {
            self.is_stale = true;
        } else {
            self.is_replaying = false;
        }
        run
    }

    /// A read of the mailbox begins. A mark that is set during the read stays.
    pub(super) fn start_read(&mut self) {
        self.is_reading |= std::mem::take(&mut self.is_stale);
        self.is_uncertain = false;
    }

    /// The read failed.
    pub(super) fn fail_read(&mut self) {
        self.is_stale |= std::mem::take(&mut self.is_reading);
        self.is_uncertain = true;
    }

    /// A failed call may have written entries. Its sender has got an error.
    pub(super) fn mark_uncertain(&mut self) {
        self.is_uncertain = true;
    }

    /// Whether an entry that a sender on this node knows to be written may not have been delivered
    /// yet.
    pub(super) fn has_gap(&self) -> bool {
        self.is_stale || self.is_reading || self.is_replaying || !self.held_entries.is_empty()
    }

    /// Entries may have been missed.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Whether entries may have been missed; also before the inbox is open.
    pub(super) fn may_have_missed(&self) -> bool {
        self.is_stale || self.is_uncertain
    }

    /// Whether the first frame has been sent.
    pub(super) fn is_open(&self) -> bool {
        self.mailbox_version != 0
    }

    /// The version of the mailbox.
    pub(super) fn mailbox_version(&self) -> u64 {
        self.mailbox_version
    }

    /// Whether the mailbox must be read, because an entry is or may be missing.
    pub(super) fn needs_read(&self) -> bool {
        self.is_open() && (self.is_stale || self.is_uncertain || !self.held_entries.is_empty())
    }

    /// The last entry that was delivered.
    pub(super) fn delivered_seq(&self) -> u64 {
        self.delivered_seq
    }
}

/// Entries that may be delivered now, in order. Nearly always one, which needs no allocation.
#[derive(Debug, Default)]
pub(super) struct EntryRun {
    first: Option<Entry>,
    rest: Vec<Entry>,
}

impl EntryRun {
    fn push(&mut self, entry: Entry) {
        match &self.first {
            None => self.first = Some(entry),
            Some(_) => self.rest.push(entry),
        }
    }

    /// The entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.first.iter().chain(&self.rest)
    }
}

/// The entries of one peer that were delivered and that the store still counts as waiting, with
/// their sizes.
pub(super) struct UnackedEntries {
    /// The entries that were sent on this connection. Those that an ack has removed do not return if
    /// it was lost; then they count as entries before `first_seq`.
    entries: VecDeque<(u64, usize)>,
    bytes: usize,
    /// The last entry that the client had before them.
    first_seq: u64,
    /// The last entry that the store knows the peer to have.
    acked_seq: u64,
    max_entries: usize,
    max_bytes: usize,
}

impl UnackedEntries {
    /// No entries; the bounds are those of the mailbox.
    pub(super) fn new(limits: &LimitSettings) -> Self {
        let (max_entries, max_bytes) = (limits.backlog as usize, limits.backlog_bytes.0);
        Self { entries: VecDeque::new(), bytes: 0, first_seq: 0, acked_seq: 0, max_entries, max_bytes }
    }

    /// Begins after `seq`. The store knows the peer to have the entries up to `acked_seq`, and still
    /// counts those between the two.
    pub(super) fn restart(&mut self, seq: u64, acked_seq: u64) {
        (self.entries, self.bytes, self.first_seq, self.acked_seq) = (VecDeque::new(), 0, seq, acked_seq);
    }

    /// Sets the number of entries that the mailbox may hold.
    pub(super) fn set_max_entries(&mut self, entries: u32) {
        self.max_entries = entries as usize;
    }

    /// Records a delivered entry of so many bytes.
    pub(super) fn push_entry(&mut self, seq: u64, bytes: usize) {
        self.entries.push_back((seq, bytes));
        self.bytes += bytes;
    }

    /// The store knows that the peer has all entries up to `seq`.
    pub(super) fn acknowledge_up_to(&mut self, seq: u64) {
        while let Some((_, bytes)) = self.entries.front().copied().filter(|(first, _)| *first <= seq) {
            self.entries.pop_front();
            self.bytes -= bytes;
        }
        if self.entries.is_empty() && self.entries.capacity() > MAX_SPARE_ENTRIES {
            self.entries = VecDeque::new();
        }
        self.acked_seq = self.acked_seq.max(seq);
    }

    /// The store knows the peer to have the entries up to `seq` only: an ack was lost. The entries
    /// after it count again.
    pub(super) fn count_after(&mut self, seq: u64) {
        if seq < self.acked_seq {
            self.first_seq = self.first_seq.max(self.acked_seq);
            self.acked_seq = seq;
        }
    }

    /// The number of entries that the client had before those in `entries`.
    fn earlier_entries(&self) -> usize {
        self.first_seq.saturating_sub(self.acked_seq) as usize
    }

    /// Whether an ack should be written without waiting for a message: half of a bound is reached.
    pub(super) fn is_ack_due(&self) -> bool {
        2 * (self.earlier_entries() + self.entries.len()) >= self.max_entries
            || 2 * self.bytes >= self.max_bytes
    }

    /// The entry in the middle: an ack may go up to it for a client that sends no `received`. The
    /// newer half stays in the mailbox, because the client may lose its socket, and with it the
    /// frames that the network still holds.
    pub(super) fn middle_seq(&self) -> Option<u64> {
        let earlier = self.earlier_entries();
        let middle = (earlier + self.entries.len()) / 2;
        match middle.checked_sub(earlier) {
            None => Some(self.acked_seq + middle as u64 + 1),
            Some(index) => self.entries.get(index).map(|(seq, _)| *seq),
        }
    }

    /// Whether the outbox shows a slow consumer: its mailbox would soon refuse the messages of
    /// other peers.
    pub(super) fn is_nearly_full(&self, frames: usize, bytes: usize) -> bool {
        4 * frames >= 3 * self.max_entries || 4 * bytes >= 3 * self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use signalbox_config::units::ByteSize;
    use signalbox_protocol::id::PeerId;

    use super::*;
    use signalbox_rooms::store::{EntryContent, EntryKind};

    fn entry(seq: u64) -> Entry {
        let from = PeerId::from_bits(1);
        let content = EntryContent { from, id: None, kind: EntryKind::Forwarded, body: "{}".into() };
        Entry { seq, content: content.into() }
    }

    fn delivery(mailbox: u64, seq: u64) -> Delivery {
        Delivery { peer: PeerId::from_bits(2), mailbox_version: mailbox, entry: entry(seq) }
    }

    fn open_inbox() -> PeerInbox {
        let mut inbox = PeerInbox::default();
        inbox.open_mailbox(7, 0);
        inbox
    }

    fn seqs(run: &EntryRun) -> Vec<u64> {
        run.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn an_inbox_delivers_only_after_it_is_opened_and_only_its_own_mailbox() {
        let mut inbox = PeerInbox::default();
        for early in [delivery(7, 2), delivery(6, 1), delivery(7, 1)] {
            assert!(seqs(&inbox.accept_delivery(early)).is_empty());
        }
        assert_eq!(seqs(&inbox.open_mailbox(7, 0)), [1, 2]);
        assert!(!inbox.needs_read());
    }

    #[test]
    fn an_entry_of_a_newer_mailbox_requests_a_read_and_an_older_one_is_dropped() {
        let mut inbox = open_inbox();
        assert!(seqs(&inbox.accept_delivery(delivery(6, 1))).is_empty() && !inbox.needs_read());
        assert!(seqs(&inbox.accept_delivery(delivery(8, 1))).is_empty() && inbox.needs_read());
    }

    #[test]
    fn an_entry_that_is_ahead_waits_and_requests_a_read() {
        let mut inbox = open_inbox();
        assert!(seqs(&inbox.accept_delivery(delivery(7, 2))).is_empty() && inbox.needs_read());
        assert_eq!(seqs(&inbox.accept_page(vec![entry(1), entry(2), entry(3)], 3)), [1, 2, 3]);
        assert!(!inbox.needs_read());
    }

    #[test]
    fn a_page_that_ends_before_the_head_requests_the_next() {
        let mut inbox = open_inbox();
        inbox.start_replay(true);
        inbox.start_read();
        inbox.accept_page(vec![entry(1)], 2);
        assert!(inbox.needs_read() && inbox.is_replaying());
        inbox.start_read();
        inbox.accept_page(vec![entry(2)], 2);
        assert!(!inbox.needs_read() && !inbox.is_replaying());
    }

    #[test]
    fn a_dropped_event_is_superseded_unless_it_has_come() {
        let mut inbox = open_inbox();
        inbox.accept_delivery(delivery(7, 3));
        let run = inbox.accept_page(vec![entry(2), entry(5)], 5);
        assert_eq!(seqs(&run), [1, 2, 3, 4, 5]);
        let superseded = run.iter().filter(|entry| entry.kind == EntryKind::Superseded);
        assert_eq!(superseded.map(|entry| entry.seq).collect::<Vec<_>>(), [1, 4]);
        assert!(!inbox.needs_read());
    }

    #[test]
    fn entries_beyond_the_limit_are_read_from_the_mailbox_later() {
        let mut inbox = open_inbox();
        for seq in 2..400 {
            assert!(seqs(&inbox.accept_delivery(delivery(7, seq))).is_empty());
        }
        let run = inbox.accept_delivery(delivery(7, 1));
        assert_eq!(seqs(&run).len(), 257);
        assert!(inbox.needs_read(), "the entries that did not fit are still missing");
    }

    #[test]
    fn an_ack_is_due_from_half_of_either_limit() {
        let limits = LimitSettings { backlog: 8, backlog_bytes: ByteSize(1_000), ..LimitSettings::default() };
        let mut unacked = UnackedEntries::new(&limits);
        (1..=3).for_each(|seq| unacked.push_entry(seq, 1));
        assert!(!unacked.is_ack_due());
        unacked.push_entry(4, 1);
        assert!(unacked.is_ack_due());
        unacked.acknowledge_up_to(2);
        assert!(!unacked.is_ack_due());
        unacked.push_entry(5, 500);
        assert!(unacked.is_ack_due());
        unacked.acknowledge_up_to(5);
        assert!(!unacked.is_ack_due() && unacked.bytes == 0);
    }

    #[test]
    fn entries_that_the_client_had_before_a_resume_count_until_they_are_acknowledged() {
        let limits = LimitSettings { backlog: 8, ..LimitSettings::default() };
        let mut unacked = UnackedEntries::new(&limits);
        unacked.restart(10, 7);
        assert!(!unacked.is_ack_due());
        unacked.push_entry(11, 1);
        assert_eq!((unacked.is_ack_due(), unacked.middle_seq()), (true, Some(10)));
        unacked.acknowledge_up_to(10);
        assert!(!unacked.is_ack_due());
        unacked.restart(15, 10);
        assert_eq!((unacked.is_ack_due(), unacked.middle_seq()), (true, Some(13)));
        unacked.acknowledge_up_to(13);
        assert!(!unacked.is_ack_due());
        (16..=20).for_each(|seq| unacked.push_entry(seq, 1));
        assert_eq!(unacked.middle_seq(), Some(17));
    }

    #[test]
    fn entries_whose_ack_was_lost_count_again() {
        let limits = LimitSettings { backlog: 8, ..LimitSettings::default() };
        let mut unacked = UnackedEntries::new(&limits);
        (1..=4).for_each(|seq| unacked.push_entry(seq, 1));
        unacked.acknowledge_up_to(3);
        unacked.count_after(3);
        assert!(!unacked.is_ack_due());
        unacked.count_after(0);
        assert_eq!((unacked.is_ack_due(), unacked.middle_seq()), (true, Some(3)));
        // The next ack arrives in part: the store has deleted the first entries.
        unacked.acknowledge_up_to(3);
        unacked.count_after(1);
        assert!(!unacked.is_ack_due());
        unacked.push_entry(5, 1);
        assert_eq!((unacked.is_ack_due(), unacked.middle_seq()), (true, Some(4)));
        // Entries of an earlier connection are among them.
        unacked.restart(10, 7);
        unacked.push_entry(11, 1);
        unacked.acknowledge_up_to(10);
        unacked.count_after(7);
        assert_eq!((unacked.is_ack_due(), unacked.middle_seq()), (true, Some(10)));
    }

    proptest! {
        #[test]
        fn each_entry_is_delivered_once_and_in_order(
            order in prop::collection::vec(1..40_u64, 0..200)
        ) {
            let mut inbox = open_inbox();
            let mut out: Vec<u64> = order.iter().flat_map(|seq| seqs(&inbox.accept_delivery(delivery(7, *seq)))).collect();
            out.extend(seqs(&inbox.accept_page((1..40).map(entry).collect(), 39)));
            prop_assert_eq!(out, (1..40).collect::<Vec<_>>());
        }
    }
}
