//! Entries that a peer was handed and the store does not know of: they count against the mailbox's bounds until it is told.

use std::collections::VecDeque;

use signalbox_config::Limits;

/// The entries of one peer that the store still counts as waiting, with their bytes.
pub(super) struct Untold {
    entries: VecDeque<(u64, usize)>,
    bytes: usize,
    most_entries: usize,
    most_bytes: usize,
}

impl Untold {
    /// None yet; the bounds are the mailbox's.
    pub(super) fn new(limits: &Limits) -> Self {
        let (most_entries, most_bytes) = (limits.backlog as usize, limits.backlog_bytes.0);
        Self { entries: VecDeque::new(), bytes: 0, most_entries, most_bytes }
    }

    /// From now on the mailbox holds so many entries.
    pub(super) fn set_most(&mut self, entries: u32) {
        self.most_entries = entries as usize;
    }

    /// The peer was handed an entry of so many bytes.
    pub(super) fn push(&mut self, seq: u64, bytes: usize) {
        self.entries.push_back((seq, bytes));
        self.bytes += bytes;
    }

    /// The store knows that the peer has all up to `seq`.
    pub(super) fn told(&mut self, seq: u64) {
        while let Some((_, bytes)) = self.entries.front().copied().filter(|(first, _)| *first <= seq) {
            self.entries.pop_front();
            self.bytes -= bytes;
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// Whether the store should be told without a message to ride on: half of a bound is reached.
    pub(super) fn is_due(&self) -> bool {
        2 * self.entries.len() >= self.most_entries || 2 * self.bytes >= self.most_bytes
    }

    /// The entry in the middle: so far the store may be told for a client that does not confirm. The newer half stays in the mailbox,
    /// should the client lose its socket and with it what the network still held.
    pub(super) fn middle(&self) -> Option<u64> {
        self.entries.get(self.entries.len() / 2).map(|(seq, _)| *seq)
    }

    /// Whether so much waiting for the socket would soon have the mailbox refuse what others send: a slow consumer, which must not
    /// silence its room.
    pub(super) fn would_fill(&self, frames: usize, bytes: usize) -> bool {
        4 * frames >= 3 * self.most_entries || 4 * bytes >= 3 * self.most_bytes
    }
}

#[cfg(test)]
mod tests {
    use signalbox_config::units::Size;

    use super::*;

    #[test]
    fn half_of_either_bound_is_due_until_it_was_told() {
        let limits = Limits { backlog: 8, backlog_bytes: Size(1_000), ..Limits::default() };
        let mut untold = Untold::new(&limits);
        (1..=3).for_each(|seq| untold.push(seq, 1));
        assert!(!untold.is_due());
        untold.push(4, 1);
        assert!(untold.is_due());
        untold.told(2);
        assert!(!untold.is_due());
        untold.push(5, 500);
        assert!(untold.is_due());
        untold.told(5);
        assert!(!untold.is_due() && untold.bytes == 0);
    }
}
