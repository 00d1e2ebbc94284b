//! The mailbox of one peer.
//!
//! Owns: the entries in order, until they are acknowledged or too old, and the counts. Must not:
//! decide whether a message is refused; `memory_room` does.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use signalbox_protocol::id::TokenId;

use crate::store::{
    AppendResult, Entry, EntryContent, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, RefusedIds, StateKind, StoreLimits,
};

/// An empty mailbox keeps the memory of so many entries: most entries are read at once, and each
/// would need an allocation.
const MAX_SPARE_ENTRIES: usize = 4;

#[derive(Default)]
pub(super) struct MemoryMailbox {
    pub(super) last_seq: u64,
    pub(super) acked_seq: u64,
    /// The last event that was dropped although no later event replaces it.
    pub(super) dropped_seq: u64,
    pub(super) last_id: u64,
    /// The ids below `last_id` that were refused. Most peers have none.
    refused: Option<Box<RefusedIds>>,
    /// The messages that wait, and their bytes. Events do not count for the backlog.
    messages: usize,
    pub(super) bytes: usize,
    pub(super) entries: VecDeque<StoredEntry>,
    /// Of the bytes that wait, those that were written while the peer did not read, by grant.
    charged_bytes: BTreeMap<Arc<str>, usize>,
}

/// An entry that waits.
pub(super) struct StoredEntry {
    at: u64,
    /// The state that an event tells; none for a message.
    state: Option<StateKind>,
    pub(super) entry: Entry,
    charged_grant: Option<Arc<str>>,
}

impl MemoryMailbox {
    /// Appends an entry, which gets its seq here.
    pub(super) fn append_entry(
        &mut self,
        now: u64,
        limits: &StoreLimits,
        content: Arc<EntryContent>,
        state: Option<StateKind>,
        charged_token: Option<&TokenId>,
    ) -> Entry {
        self.last_seq += 1;
        let entry = Entry { seq: self.last_seq, content };
        if state.is_none() {
            self.messages += 1;
            self.bytes += entry.body.len();
        }
        let charged_grant: Option<Arc<str>> = charged_token.map(|token| token.grant().into());
        if let Some(grant) = &charged_grant {
            *self.charged_bytes.entry(grant.clone()).or_default() += entry.body.len();
        }
        if self.entries.capacity() == 0 {
            // Most mailboxes hold one entry at a time.
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(StoredEntry { at: now, state, entry: entry.clone(), charged_grant });
        self.drop_expired(now, limits);
        let max_entries = 2 * limits.backlog as usize;
        if self.entries.len() - self.messages > max_entries / 4 {
            self.thin_out(max_entries / 8);
        }
        // Only messages of the application, which are never refused, can fill the mailbox so far.
        self.drop_while(|_, count| count > max_entries);
        entry
    }

    /// Drops the events that a later event replaces, then the oldest events beyond `max_events`. A
    /// peer stays announced before its messages.
    fn thin_out(&mut self, max_events: usize) {
        let (mut later, mut senders) = (HashSet::new(), HashSet::new());
        let (mut events, mut kept) = (0, VecDeque::new());
        for stored in std::mem::take(&mut self.entries).into_iter().rev() {
            let about = stored.entry.from.clone();
            let Some(state) = stored.state else {
                senders.insert(about);
                kept.push_front(stored);
                continue;
            };
            let announces_sender = state == StateKind::Joined && senders.contains(&about);
            let is_replaced =
                state.replacements().iter().any(|other| later.contains(&(about.clone(), *other)));
            if announces_sender || !is_replaced {
                events += 1;
                if events <= max_events {
                    kept.push_front(stored);
                } else {
                    self.dropped_seq = self.dropped_seq.max(stored.entry.seq);
                }
            }
            later.insert((about, state));
        }
        self.entries = kept;
    }

    /// Accepts an id, if it is higher than all before, and keeps the refused ids that it passes.
    pub(super) fn accept_id(&mut self, id: u64, refused: &RefusedIds) {
        if id > self.last_id {
            if !refused.is_empty() {
                self.keep_refused(&refused.above(self.last_id).below(id));
            }
            self.last_id = id;
        }
    }

    pub(super) fn keep_refused(&mut self, refused: &RefusedIds) {
        if !refused.is_empty() {
            self.refused.get_or_insert_default().extend(refused);
        }
    }

    pub(super) fn refused_ids(&self) -> RefusedIds {
        self.refused.as_deref().cloned().unwrap_or_default()
    }

    /// The result for an id that is not higher than `last_id`.
    pub(super) fn result_of_settled_id(&self, id: u64) -> AppendResult {
        let code = self.refused.as_ref().and_then(|refused| refused.code_of(id));
        code.map_or(AppendResult::Duplicate, AppendResult::RefusedBefore)
    }

    pub(super) fn drop_expired(&mut self, now: u64, limits: &StoreLimits) {
        let oldest = now.saturating_sub(limits.entry_life_ms);
        self.drop_while(|first, _| first.at < oldest);
    }

    pub(super) fn acknowledge(&mut self, seq: u64) {
        self.acked_seq = self.acked_seq.max(seq);
        self.drop_while(|first, _| first.entry.seq <= seq);
    }

    fn drop_while(&mut self, drop: impl Fn(&StoredEntry, usize) -> bool) {
        let mut has_released = false;
        while self.entries.front().is_some_and(|first| drop(first, self.entries.len())) {
            if let Some(StoredEntry { entry, state, charged_grant, .. }) = self.entries.pop_front() {
                self.acked_seq = self.acked_seq.max(entry.seq);
                if state.is_none() {
                    self.messages -= 1;
                    self.bytes -= entry.body.len();
                }
                if let Some(charged) = charged_grant.and_then(|grant| self.charged_bytes.get_mut(&grant)) {
                    *charged -= entry.body.len();
                    has_released = true;
                }
            }
        }
        if has_released {
            self.charged_bytes.retain(|_, bytes| *bytes > 0);
        }
        if self.entries.is_empty() && self.entries.capacity() > MAX_SPARE_ENTRIES {
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
        let after = self.entries.iter().map(|stored| &stored.entry).filter(|entry| entry.seq > seq);
        after.take(MAX_PAGE_ENTRIES).take_while(fits).cloned().collect()
    }

    /// The bytes of a grant that wait here and were written while the peer did not read.
    pub(super) fn charged_bytes(&self, grant: &str) -> usize {
        self.charged_bytes.get(grant).copied().unwrap_or(0)
    }

    pub(super) fn is_full(&self, limits: &StoreLimits) -> bool {
        self.messages as u64 >= limits.backlog || self.bytes as u64 >= limits.backlog_bytes
    }
}
