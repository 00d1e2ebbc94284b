//! One peer's entries, put in order: the next one goes out, one that is ahead waits, a known one is dropped.
//!
//! Entries of one mailbox come on two ways, handed over by this node's own store calls and pushed by other nodes, so one may
//! overtake another. `seq` tells. A number of the mailbox that is not known yet tells that entries were lost.

use std::collections::BTreeMap;

use signalbox_rooms::store::{Delivery, Entry};

/// How many entries may wait for one that is missing; beyond it they are read from the mailbox instead.
const MAX_HELD_ENTRIES: usize = 256;

/// The order of one mailbox.
#[derive(Debug, Default)]
pub(super) struct PeerInbox {
    /// The number of the mailbox; 0 while nothing goes out, because the first frame has not been written.
    mailbox_version: u64,
    /// The last entry that went out.
    delivered_seq: u64,
    held_entries: BTreeMap<u64, Entry>,
    /// What came before the number was known.
    early_deliveries: Vec<Delivery>,
    /// Some entries may have been missed without a sign.
    is_stale: bool,
    /// The mailbox should be read, and nothing of a sender on this node can be missing that it was not told of.
    is_uncertain: bool,
    /// What was doubted is being read.
    is_reading: bool,
    /// The mailbox is being read from where the client left off, not yet to its end.
    is_replaying: bool,
}

impl PeerInbox {
    /// Lets entries of this mailbox after `seq` out; returns those that have come already.
    pub(super) fn open_mailbox(&mut self, mailbox: u64, seq: u64) -> Vec<Entry> {
        self.mailbox_version = mailbox;
        self.delivered_seq = seq;
        self.held_entries = BTreeMap::new();
        std::mem::take(&mut self.early_deliveries)
            .into_iter()
            .flat_map(|delivery| self.accept_delivery(delivery))
            .collect()
    }

    /// The mailbox is being read from where the client left off; `doubted`: from the first entry on.
    pub(super) fn start_replay(&mut self, doubted: bool) {
        self.is_stale |= doubted;
        self.is_replaying = true;
    }

    /// Whether the mailbox is still being read for the first time.
    pub(super) fn is_replaying(&self) -> bool {
        self.is_replaying
    }

    /// Takes one entry; returns what may go out now, in order.
    pub(super) fn accept_delivery(&mut self, delivery: Delivery) -> Vec<Entry> {
        if self.mailbox_version == 0 {
            if self.early_deliveries.len() < MAX_HELD_ENTRIES {
                self.early_deliveries.push(delivery);
            } else {
                self.is_stale = true;
            }
            return Vec::new();
        }
        if delivery.mailbox_version != self.mailbox_version {
            // An older one is over; a newer one means that this one is.
            self.is_stale |= delivery.mailbox_version > self.mailbox_version;
            return Vec::new();
        }
        self.accept_entry(delivery.entry)
    }

    fn accept_entry(&mut self, entry: Entry) -> Vec<Entry> {
        if entry.seq <= self.delivered_seq {
            return Vec::new();
        }
        if self.held_entries.is_empty() && entry.seq == self.delivered_seq + 1 {
            self.delivered_seq = entry.seq;
            return vec![entry];
        }
        if self.held_entries.len() < MAX_HELD_ENTRIES || entry.seq == self.delivered_seq + 1 {
            self.held_entries.insert(entry.seq, entry);
        } else {
            self.is_stale = true;
        }
        self.release_held()
    }

    /// Takes a page read from the mailbox, whose last entry then was `head`; returns what may go out now.
    pub(super) fn accept_page(&mut self, page: Vec<Entry>, head: u64) -> Vec<Entry> {
        let out: Vec<Entry> = page.into_iter().flat_map(|entry| self.accept_entry(entry)).collect();
        self.is_reading = false;
        if self.delivered_seq < head {
            self.is_stale = true;
        } else {
            self.is_replaying = false;
        }
        out
    }

    /// The mailbox is about to be read: what is doubted from now on is not answered by that.
    pub(super) fn start_read(&mut self) {
        self.is_reading |= std::mem::take(&mut self.is_stale);
        self.is_uncertain = false;
    }

    /// The read has brought nothing.
    pub(super) fn fail_read(&mut self) {
        self.is_stale |= std::mem::take(&mut self.is_reading);
        self.is_uncertain = true;
    }

    /// A call failed that may have written something. A sender whose own it was has been told.
    pub(super) fn mark_uncertain(&mut self) {
        self.is_uncertain = true;
    }

    /// Whether something that a sender on this node knows to be written may not have gone out yet.
    pub(super) fn has_gap(&self) -> bool {
        self.is_stale || self.is_reading || self.is_replaying || !self.held_entries.is_empty()
    }

    /// Something may have been missed.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Whether something may have been missed, though nothing goes out yet.
    pub(super) fn may_have_missed(&self) -> bool {
        self.is_stale || self.is_uncertain
    }

    /// Whether the first frame has been written.
    pub(super) fn is_open(&self) -> bool {
        self.mailbox_version != 0
    }

    /// The number of the mailbox.
    pub(super) fn mailbox_version(&self) -> u64 {
        self.mailbox_version
    }

    /// Whether the mailbox must be read: an entry is missing, or may be.
    pub(super) fn needs_read(&self) -> bool {
        self.is_open() && (self.is_stale || self.is_uncertain || !self.held_entries.is_empty())
    }

    /// The last entry that went out.
    pub(super) fn delivered_seq(&self) -> u64 {
        self.delivered_seq
    }

    fn release_held(&mut self) -> Vec<Entry> {
        let mut run = Vec::new();
        while let Some(entry) = self.held_entries.remove(&(self.delivered_seq + 1)) {
            self.delivered_seq = entry.seq;
            run.push(entry);
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use signalbox_protocol::id::PeerId;

    use super::*;
    use signalbox_rooms::store::EntryKind;

    fn entry(seq: u64) -> Entry {
        Entry { seq, from: PeerId::from_bits(1), id: None, kind: EntryKind::Forwarded, body: "{}".into() }
    }

    fn delivery(mailbox: u64, seq: u64) -> Delivery {
        Delivery { peer: PeerId::from_bits(2), mailbox_version: mailbox, entry: entry(seq) }
    }

    fn open_inbox() -> PeerInbox {
        let mut inbox = PeerInbox::default();
        inbox.open_mailbox(7, 0);
        inbox
    }

    fn seqs(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn an_inbox_delivers_only_after_it_is_opened_and_only_its_own_mailbox() {
        let mut inbox = PeerInbox::default();
        for early in [delivery(7, 2), delivery(6, 1), delivery(7, 1)] {
            assert!(inbox.accept_delivery(early).is_empty());
        }
        assert_eq!(seqs(&inbox.open_mailbox(7, 0)), [1, 2]);
        assert!(!inbox.needs_read());
    }

    #[test]
    fn an_entry_of_a_newer_mailbox_requests_a_read_and_an_older_one_is_dropped() {
        let mut inbox = open_inbox();
        assert!(inbox.accept_delivery(delivery(6, 1)).is_empty() && !inbox.needs_read());
        assert!(inbox.accept_delivery(delivery(8, 1)).is_empty() && inbox.needs_read());
    }

    #[test]
    fn an_entry_that_is_ahead_waits_and_requests_a_read() {
        let mut inbox = open_inbox();
        assert!(inbox.accept_delivery(delivery(7, 2)).is_empty() && inbox.needs_read());
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
    fn entries_beyond_the_limit_are_read_from_the_mailbox_later() {
        let mut inbox = open_inbox();
        for seq in 2..400 {
            assert!(inbox.accept_delivery(delivery(7, seq)).is_empty());
        }
        let out = inbox.accept_delivery(delivery(7, 1));
        assert_eq!(out.len(), 257);
        assert!(inbox.needs_read(), "the entries that did not fit are still missing");
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
