//! Events and dead letters of a process without Redis: the same rules, lost with it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::clock;
use signalbox_redis::redis_keys;

use super::{
    contract::{PartitionEvents, PartitionQuery, PollResults, RecordedEvent, StoredDeadLetter},
    delivery_schedule::PendingWrites,
    event::{EventHeader, StreamEntryId},
};

/// See the module.
pub(super) struct MemoryWebhookStore {
    // A std mutex: held for one operation on the maps.
    streams: Mutex<MemoryStreams>,
    /// Events of one partition that are kept.
    max_events: usize,
    max_dead_letters: usize,
    dead_letter_life_ms: u64,
}

#[derive(Default)]
struct MemoryStreams {
    last_number: u64,
    streams: HashMap<usize, BTreeMap<StreamEntryId, RecordedEvent>>,
    lost: HashMap<usize, u64>,
    dead_letters: HashMap<usize, VecDeque<StoredDeadLetter>>,
}

impl MemoryStreams {
    fn next_entry_id(&mut self) -> StreamEntryId {
        self.last_number += 1;
        StreamEntryId(clock::now_ms(), self.last_number)
    }
}

impl MemoryWebhookStore {
    pub(super) fn new(max_events: usize, max_dead_letters: usize, dead_letter_life_ms: u64) -> Self {
        Self { streams: Mutex::default(), max_events, max_dead_letters, dead_letter_life_ms }
    }

    fn lock_streams(&self) -> MutexGuard<'_, MemoryStreams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line of the feed; its partition.
    pub(super) fn record_line(&self, line: &Arc<str>) -> Option<usize> {
        let head: EventHeader = serde_json::from_str(line).ok()?;
        let partition =
            redis_keys::partition_of_room(&signalbox_protocol::id::RoomId::parse(&head.room).ok()?);
        self.append(partition, line.clone(), None);
        Some(partition)
    }

    fn append(&self, partition: usize, line: Arc<str>, only: Option<String>) {
        let mut inner = self.lock_streams();
        let entry = inner.next_entry_id();
        let stream = inner.streams.entry(partition).or_default();
        stream.insert(entry, RecordedEvent { entry, line, only_endpoint: only });
        if stream.len() > self.max_events {
            stream.pop_first();
            *inner.lost.entry(partition).or_default() += 1;
        }
    }

    pub(super) fn poll(&self, asked: &[PartitionQuery]) -> PollResults {
        let mut inner = self.lock_streams();
        let mut found = |asked: &PartitionQuery| {
            let lost = inner.lost.remove(&asked.partition).unwrap_or(0);
            let Some(stream) = inner.streams.get(&asked.partition) else {
                return PartitionEvents { lost, ..PartitionEvents::default() };
            };
            let from = asked.after.map_or(StreamEntryId(0, 0), |after| StreamEntryId(after.0, after.1 + 1));
            let entries = stream.range(from..).map(|(_, recorded)| recorded.clone()).collect();
            PartitionEvents { count: stream.len(), lease_was_free: false, lost, entries, progress: vec![] }
        };
        let lineage: Arc<str> = "memory".into();
        asked.iter().map(|asked| (*asked, lineage.clone(), Some(found(asked)))).collect()
    }

    pub(super) fn write_outcomes(&self, partition: usize, effects: &PendingWrites) -> u64 {
        let mut inner = self.lock_streams();
        for entry in &effects.finished_entries {
            inner.streams.entry(partition).or_default().remove(entry);
        }
        let letters: Vec<StoredDeadLetter> = effects
            .dead_letters
            .iter()
            .map(|dead| StoredDeadLetter {
                partition,
                entry_id: inner.next_entry_id(),
                letter: dead.clone().into(),
            })
            .collect();
        let kept = inner.dead_letters.entry(partition).or_default();
        kept.extend(letters);
        let excess = kept.len().saturating_sub(self.max_dead_letters);
        kept.drain(..excess);
        excess as u64
    }

    pub(super) fn list_dead_letters(
        &self,
        partition: usize,
        after: Option<StreamEntryId>,
        most: usize,
    ) -> Vec<StoredDeadLetter> {
        let oldest = clock::now_ms().saturating_sub(self.dead_letter_life_ms);
        let mut inner = self.lock_streams();
        let Some(kept) = inner.dead_letters.get_mut(&partition) else { return vec![] };
        kept.retain(|letter| letter.entry_id.0 >= oldest);
        let later = kept.iter().filter(|letter| after.is_none_or(|after| letter.entry_id > after));
        later.take(most).cloned().collect()
    }

    pub(super) fn replay_dead_letters(&self, partition: usize, letters: &[StoredDeadLetter]) -> usize {
        let mut count = 0;
        for letter in letters {
            let is_there = {
                let mut inner = self.lock_streams();
                let kept = inner.dead_letters.entry(partition).or_default();
                let before = kept.len();
                kept.retain(|other| other.entry_id != letter.entry_id);
                kept.len() < before
            };
            if is_there {
                self.append(partition, letter.letter.line.clone(), Some(letter.letter.endpoint_id.clone()));
                count += 1;
            }
        }
        count
    }
}
