//! One peer's entries, put in order: the next one goes out, one that is ahead waits, a known one is dropped.
//!
//! Entries of one mailbox come on two ways, handed over by this node's own store calls and pushed by other nodes, so one may
//! overtake another. `seq` tells. A number of the mailbox that is not known yet tells that entries were lost.

use std::collections::BTreeMap;

use signalbox_rooms::store::{Delivery, Entry};

/// How many entries may wait for one that is missing; beyond it they are read from the mailbox instead.
const MOST_HELD: usize = 256;

/// The order of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The number of the mailbox; 0 while nothing goes out, because the first frame has not been written.
    mailbox: u64,
    /// The last entry that went out.
    delivered: u64,
    held: BTreeMap<u64, Entry>,
    /// What came before the number was known.
    early: Vec<Delivery>,
    /// Some entries may have been missed without a sign.
    doubted: bool,
    /// The mailbox should be read, and nothing of a sender on this node can be missing that it was not told of.
    suspected: bool,
    /// What was doubted is being read.
    reading: bool,
    /// The mailbox is being read from where the client left off, not yet to its end.
    replaying: bool,
}

impl Inbox {
    /// Lets entries of this mailbox after `seq` out; returns those that have come already.
    pub(super) fn open(&mut self, mailbox: u64, seq: u64) -> Vec<Entry> {
        self.mailbox = mailbox;
        self.delivered = seq;
        self.held = BTreeMap::new();
        std::mem::take(&mut self.early).into_iter().flat_map(|delivery| self.take(delivery)).collect()
    }

    /// The mailbox is being read from where the client left off; `doubted`: from the first entry on.
    pub(super) fn replay(&mut self, doubted: bool) {
        self.doubted |= doubted;
        self.replaying = true;
    }

    /// Whether the mailbox is still being read for the first time.
    pub(super) fn is_replaying(&self) -> bool {
        self.replaying
    }

    /// Takes one entry; returns what may go out now, in order.
    pub(super) fn take(&mut self, delivery: Delivery) -> Vec<Entry> {
        if self.mailbox == 0 {
            if self.early.len() < MOST_HELD {
                self.early.push(delivery);
            } else {
                self.doubted = true;
            }
            return Vec::new();
        }
        if delivery.mailbox != self.mailbox {
            // An older one is over; a newer one means that this one is.
            self.doubted |= delivery.mailbox > self.mailbox;
            return Vec::new();
        }
        self.take_entry(delivery.entry)
    }

    fn take_entry(&mut self, entry: Entry) -> Vec<Entry> {
        if entry.seq <= self.delivered {
            return Vec::new();
        }
        if self.held.is_empty() && entry.seq == self.delivered + 1 {
            self.delivered = entry.seq;
            return vec![entry];
        }
        if self.held.len() < MOST_HELD || entry.seq == self.delivered + 1 {
            self.held.insert(entry.seq, entry);
        } else {
            self.doubted = true;
        }
        self.run()
    }

    /// Takes a page read from the mailbox, whose last entry then was `head`; returns what may go out now.
    pub(super) fn take_page(&mut self, page: Vec<Entry>, head: u64) -> Vec<Entry> {
        let out: Vec<Entry> = page.into_iter().flat_map(|entry| self.take_entry(entry)).collect();
        self.reading = false;
        if self.delivered < head {
            self.doubted = true;
        } else {
            self.replaying = false;
        }
        out
    }

    /// The mailbox is about to be read: what is doubted from now on is not answered by that.
    pub(super) fn begin_read(&mut self) {
        self.reading |= std::mem::take(&mut self.doubted);
        self.suspected = false;
    }

    /// The read has brought nothing.
    pub(super) fn fail_read(&mut self) {
        self.doubted |= std::mem::take(&mut self.reading);
        self.suspected = true;
    }

    /// A call failed that may have written something. A sender whose own it was has been told.
    pub(super) fn suspect(&mut self) {
        self.suspected = true;
    }

    /// Whether something that a sender on this node knows to be written may not have gone out yet.
    pub(super) fn lacks(&self) -> bool {
        self.doubted || self.reading || self.replaying || !self.held.is_empty()
    }

    /// Something may have been missed.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Whether something may have been missed, though nothing goes out yet.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted || self.suspected
    }

    /// Whether the first frame has been written.
    pub(super) fn is_open(&self) -> bool {
        self.mailbox != 0
    }

    /// The number of the mailbox.
    pub(super) fn mailbox(&self) -> u64 {
        self.mailbox
    }

    /// Whether the mailbox must be read: an entry is missing, or may be.
    pub(super) fn needs_reading(&self) -> bool {
        self.is_open() && (self.doubted || self.suspected || !self.held.is_empty())
    }

    /// The last entry that went out.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    fn run(&mut self) -> Vec<Entry> {
        let mut run = Vec::new();
        while let Some(entry) = self.held.remove(&(self.delivered + 1)) {
            self.delivered = entry.seq;
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
        Delivery { peer: PeerId::from_bits(2), mailbox, entry: entry(seq) }
    }

    fn open() -> Inbox {
        let mut inbox = Inbox::default();
        inbox.open(7, 0);
        inbox
    }

    fn seqs(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn nothing_goes_out_before_the_inbox_is_opened_and_then_only_of_its_mailbox() {
        let mut inbox = Inbox::default();
        for early in [delivery(7, 2), delivery(6, 1), delivery(7, 1)] {
            assert!(inbox.take(early).is_empty());
        }
        assert_eq!(seqs(&inbox.open(7, 0)), [1, 2]);
        assert!(!inbox.needs_reading());
    }

    #[test]
    fn an_entry_of_a_newer_mailbox_asks_for_a_look_and_one_of_an_older_is_nothing() {
        let mut inbox = open();
        assert!(inbox.take(delivery(6, 1)).is_empty() && !inbox.needs_reading());
        assert!(inbox.take(delivery(8, 1)).is_empty() && inbox.needs_reading());
    }

    #[test]
    fn an_entry_that_is_ahead_waits_and_asks_for_a_read() {
        let mut inbox = open();
        assert!(inbox.take(delivery(7, 2)).is_empty() && inbox.needs_reading());
        assert_eq!(seqs(&inbox.take_page(vec![entry(1), entry(2), entry(3)], 3)), [1, 2, 3]);
        assert!(!inbox.needs_reading());
    }

    #[test]
    fn a_page_that_does_not_reach_the_head_asks_for_the_next() {
        let mut inbox = open();
        inbox.replay(true);
        inbox.begin_read();
        inbox.take_page(vec![entry(1)], 2);
        assert!(inbox.needs_reading() && inbox.is_replaying());
        inbox.begin_read();
        inbox.take_page(vec![entry(2)], 2);
        assert!(!inbox.needs_reading() && !inbox.is_replaying());
    }

    #[test]
    fn what_does_not_fit_is_read_from_the_mailbox_later() {
        let mut inbox = open();
        for seq in 2..400 {
            assert!(inbox.take(delivery(7, seq)).is_empty());
        }
        let out = inbox.take(delivery(7, 1));
        assert_eq!(out.len(), 257);
        assert!(inbox.needs_reading(), "the entries that did not fit are still missing");
    }

    proptest! {
        #[test]
        fn whatever_the_order_and_the_doubles_each_goes_out_once_in_order(
            order in prop::collection::vec(1..40_u64, 0..200)
        ) {
            let mut inbox = open();
            let mut out: Vec<u64> = order.iter().flat_map(|seq| seqs(&inbox.take(delivery(7, *seq)))).collect();
            out.extend(seqs(&inbox.take_page((1..40).map(entry).collect(), 39)));
            prop_assert_eq!(out, (1..40).collect::<Vec<_>>());
        }
    }
}
