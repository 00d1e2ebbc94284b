//! One peer's entries, put in order: the next one goes out, one that is ahead waits, a known one is dropped.
//!
//! Entries of one mailbox come on two ways, handed over by this node's own store calls and pushed by other nodes, so one may
//! overtake another. `seq` tells.

use std::collections::BTreeMap;

use crate::store::Entry;

/// How many entries may wait for one that is missing; beyond it they are read from the mailbox instead.
const MOST_HELD: usize = 256;

/// The order of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The last entry that went out.
    delivered: u64,
    held: BTreeMap<u64, Entry>,
    /// Nothing goes out yet: the first frame has not been written.
    closed: bool,
    /// Some entries may have been missed without a sign.
    doubted: bool,
}

impl Inbox {
    /// An inbox that only collects, until it is opened.
    pub(super) fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }

    /// Lets entries after `seq` out; returns those that have come already.
    pub(super) fn open_after(&mut self, seq: u64) -> Vec<Entry> {
        self.closed = false;
        self.delivered = seq;
        self.held.retain(|held, _| *held > seq);
        self.run()
    }

    /// Takes one entry; returns what may go out now, in order.
    pub(super) fn take(&mut self, entry: Entry) -> Vec<Entry> {
        if entry.seq <= self.delivered {
            return Vec::new();
        }
        if !self.closed && self.held.is_empty() && entry.seq == self.delivered + 1 {
            self.delivered = entry.seq;
            return vec![entry];
        }
        if self.held.len() < MOST_HELD || entry.seq == self.delivered + 1 {
            self.held.insert(entry.seq, entry);
        } else {
            self.doubted = true;
        }
        if self.closed { Vec::new() } else { self.run() }
    }

    /// Takes a page read from the mailbox; returns what may go out now.
    pub(super) fn take_page(&mut self, page: Vec<Entry>) -> Vec<Entry> {
        page.into_iter().flat_map(|entry| self.take(entry)).collect()
    }

    /// The mailbox is about to be read: what is doubted from now on is not answered by that.
    pub(super) fn begin_read(&mut self) {
        self.doubted = false;
    }

    /// Something may have been missed.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Whether the first frame has been written.
    pub(super) fn is_open(&self) -> bool {
        !self.closed
    }

    /// Whether the mailbox must be read: an entry is missing, or may be.
    pub(super) fn needs_reading(&self) -> bool {
        !self.closed && (self.doubted || !self.held.is_empty())
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
    use signalbox_shared::id::PeerId;

    use super::*;
    use crate::store::EntryKind;

    fn entry(seq: u64) -> Entry {
        Entry { seq, from: PeerId::from_bits(1), id: None, kind: EntryKind::Plain, body: "{}".into() }
    }

    fn seqs(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn nothing_goes_out_before_the_inbox_is_opened() {
        let mut inbox = Inbox::closed();
        assert!(inbox.take(entry(2)).is_empty() && inbox.take(entry(1)).is_empty());
        assert_eq!(seqs(&inbox.open_after(0)), [1, 2]);
    }

    #[test]
    fn an_entry_that_is_ahead_waits_and_asks_for_a_read() {
        let mut inbox = Inbox::default();
        assert!(inbox.take(entry(2)).is_empty() && inbox.needs_reading());
        assert_eq!(seqs(&inbox.take_page(vec![entry(1), entry(2), entry(3)])), [1, 2, 3]);
        assert!(!inbox.needs_reading());
    }

    #[test]
    fn what_does_not_fit_is_read_from_the_mailbox_later() {
        let mut inbox = Inbox::default();
        for seq in 2..400 {
            assert!(inbox.take(entry(seq)).is_empty());
        }
        let out = inbox.take(entry(1));
        assert_eq!(out.len(), 257);
        assert!(inbox.needs_reading(), "the entries that did not fit are still missing");
    }

    proptest! {
        #[test]
        fn whatever_the_order_and_the_doubles_each_goes_out_once_in_order(
            order in prop::collection::vec(1..40_u64, 0..200)
        ) {
            let mut inbox = Inbox::default();
            let mut out: Vec<u64> = order.iter().flat_map(|seq| seqs(&inbox.take(entry(*seq)))).collect();
            out.extend(seqs(&inbox.take_page((1..40).map(entry).collect())));
            prop_assert_eq!(out, (1..40).collect::<Vec<_>>());
        }
    }
}
