//! Entries that a peer was handed and the store does not know of: they count against the mailbox's bounds until it is told.

use std::collections::VecDeque;

use signalbox_config::LimitSettings;

/// The entries of one peer that the store still counts as waiting, with their bytes.
pub(super) struct UnackedEntries {
    entries: VecDeque<(u64, usize)>,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
}

impl UnackedEntries {
    /// None yet; the bounds are the mailbox's.
    pub(super) fn new(limits: &LimitSettings) -> Self {
        let (max_entries, max_bytes) = (limits.backlog as usize, limits.backlog_bytes.0);
        Self { entries: VecDeque::new(), bytes: 0, max_entries, max_bytes }
    }

    /// From now on the mailbox holds so many entries.
    pub(super) fn set_max_entries(&mut self, entries: u32) {
        self.max_entries = entries as usize;
    }

    /// The peer was handed an entry of so many bytes.
    pub(super) fn push_entry(&mut self, seq: u64, bytes: usize) {
        self.entries.push_back((seq, bytes));
        self.bytes += bytes;
    }

    /// The store knows that the peer has all up to `seq`.
    pub(super) fn acknowledge_up_to(&mut self, seq: u64) {
        while let Some((_, bytes)) = self.entries.front().copied().filter(|(first, _)| *first <= seq) {
            self.entries.pop_front();
            self.bytes -= bytes;
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// Whether the store should be told without a message to ride on: half of a bound is reached.
    pub(super) fn is_ack_due(&self) -> bool {
        2 * self.entries.len() >= self.max_entries || 2 * self.bytes >= self.max_bytes
    }

    /// The entry in the middle: so far the store may be told for a client that does not confirm. The newer half stays in the mailbox,
    /// should the client lose its socket and with it what the network still held.
    pub(super) fn middle_seq(&self) -> Option<u64> {
        self.entries.get(self.entries.len() / 2).map(|(seq, _)| *seq)
    }

    /// Whether so much waiting for the socket would soon have the mailbox refuse what others send: a slow consumer, which must not
    /// silence its room.
    pub(super) fn is_nearly_full(&self, frames: usize, bytes: usize) -> bool {
        4 * frames >= 3 * self.max_entries || 4 * bytes >= 3 * self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use signalbox_config::units::ByteSize;

    use super::*;

    #[test]
    fn an_ack_is_due_from_half_of_either_limit() {
        let limits = LimitSettings { backlog: 8, backlog_bytes: ByteSize(1_000), ..LimitSettings::default() };
        let mut untold = UnackedEntries::new(&limits);
        (1..=3).for_each(|seq| untold.push_entry(seq, 1));
        assert!(!untold.is_ack_due());
        untold.push_entry(4, 1);
        assert!(untold.is_ack_due());
        untold.acknowledge_up_to(2);
        assert!(!untold.is_ack_due());
        untold.push_entry(5, 500);
        assert!(untold.is_ack_due());
        untold.acknowledge_up_to(5);
        assert!(!untold.is_ack_due() && untold.bytes == 0);
    }
}
