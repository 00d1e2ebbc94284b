//! The mailbox of one peer.
//!
//! Owns: the entries in order, until they are acknowledged or too old, and the counts. Must not:
//! decide whether a message is refused; `memory_room` does.

use std::{collections::VecDeque, sync::Arc};

use signalbox_protocol::id::PeerId;

use crate::store::{Entry, EntryKind, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, StoreLimits};

#[derive(Default)]
pub(super) struct MemoryMailbox {
    pub(super) last_seq: u64,
    pub(super) acked_seq: u64,
    pub(super) last_id: u64,
    pub(super) bytes: usize,
    pub(super) entries: VecDeque<(u64, Entry)>,
}

impl MemoryMailbox {
    pub(super) fn append_entry(
        &mut self,
        now: u64,
        limits: &StoreLimits,
        from: &PeerId,
        id: Option<u64>,
        kind: EntryKind,
        body: &Arc<str>,
    ) -> Entry {
        self.last_seq += 1;
        let entry = Entry { seq: self.last_seq, from: from.clone(), id, kind, body: body.clone() };
        self.bytes += body.len();
        self.entries.push_back((now, entry.clone()));
        self.drop_expired(now, limits);
        let max_entries = 2 * limits.backlog as usize;
        self.drop_while(|_, _, count| count > max_entries);
        entry
    }

    pub(super) fn drop_expired(&mut self, now: u64, limits: &StoreLimits) {
        let oldest = now.saturating_sub(limits.entry_life_ms);
        self.drop_while(|at, _, _| at < oldest);
    }

    pub(super) fn acknowledge(&mut self, seq: u64) {
        self.acked_seq = self.acked_seq.max(seq);
        self.drop_while(|_, entry, _| entry.seq <= seq);
    }

    fn drop_while(&mut self, drop: impl Fn(u64, &Entry, usize) -> bool) {
        while self.entries.front().is_some_and(|(at, entry)| drop(*at, entry, self.entries.len())) {
            if let Some((_, entry)) = self.entries.pop_front() {
                self.bytes -= entry.body.len();
            }
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    pub(super) fn read_page(&self, seq: u64) -> Vec<Entry> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_within_page = bytes < MAX_PAGE_BYTES;
            bytes += entry.body.len();
            is_within_page
        };
        let after = self.entries.iter().map(|(_, entry)| entry).filter(|entry| entry.seq > seq);
        after.take(MAX_PAGE_ENTRIES).take_while(fits).cloned().collect()
    }

    pub(super) fn is_full(&self, limits: &StoreLimits) -> bool {
        self.entries.len() as u64 >= limits.backlog || self.bytes as u64 >= limits.backlog_bytes
    }
}
