//! Events and dead letters of a process without Redis, by the same rules. They are lost when the
//! process ends.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
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
    /// The most events of one partition.
    max_events: usize,
    max_dead_letters: usize,
    dead_letter_life_ms: u64,
}

#[derive(Default)]
struct MemoryStreams {
    last_number: u64,
    by_partition: HashMap<usize, BTreeMap<StreamEntryId, RecordedEvent>>,
    lost: HashMap<usize, u64>,
    dead_letters: HashMap<usize, VecDeque<StoredDeadLetter>>,
}

impl MemoryStreams {
    fn next_entry_id(&mut self) -> StreamEntryId {
        self.last_number += 1;
        StreamEntryId(clock::now_ms(), self.last_number)
    }
}

/// Of the root that has most letters, the oldest of its room that has most.
fn letters_beyond_bound(stored: &VecDeque<StoredDeadLetter>, excess: usize) -> HashSet<StreamEntryId> {
    let (mut of_room, mut of_root) = (HashMap::<_, usize>::new(), HashMap::<_, usize>::new());
    // The rank of a letter: how many letters of its room are as new.
    let ranks = stored.iter().rev().map(|letter| {
        let header = letter.header();
        let share = header.as_ref().map(|header| header.share().to_owned());
        let count = of_room.entry(header.map(|header| header.room)).or_default();
        *count += 1;
        (*count, Reverse(letter.entry_id), share)
    });
    let mut ranks: Vec<_> = ranks.collect();
    ranks.sort_unstable();
    // Then its place among all letters of its root, by that rank.
    let places = ranks.into_iter().map(|(_, Reverse(entry_id), share)| {
        let count = of_root.entry(share).or_default();
        *count += 1;
        (Reverse(*count), entry_id)
    });
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    places.into_iter().take(excess).map(|(_, entry)| entry).collect()
}

impl MemoryWebhookStore {
    pub(super) fn new(max_events: usize, max_dead_letters: usize, dead_letter_life_ms: u64) -> Self {
        Self { streams: Mutex::default(), max_events, max_dead_letters, dead_letter_life_ms }
    }

    fn lock_streams(&self) -> MutexGuard<'_, MemoryStreams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a line of the feed and returns its partition.
    pub(super) fn record_line(&self, line: &Arc<str>) -> Option<usize> {
        let header: EventHeader = serde_json::from_str(line).ok()?;
        let partition =
            redis_keys::partition_of_room(&signalbox_protocol::id::RoomId::parse(&header.room).ok()?);
        self.append(partition, line.clone(), None);
        Some(partition)
    }

    fn append(&self, partition: usize, line: Arc<str>, only: Option<String>) {
        let mut streams = self.lock_streams();
        let entry = streams.next_entry_id();
        let stream = streams.by_partition.entry(partition).or_default();
        stream.insert(entry, RecordedEvent { entry, line, only_endpoint: only });
        if stream.len() > self.max_events {
            stream.pop_first();
            *streams.lost.entry(partition).or_default() += 1;
        }
    }

    pub(super) fn poll(&self, queries: &[PartitionQuery]) -> PollResults {
        let mut streams = self.lock_streams();
        let mut find_events = |query: &PartitionQuery| {
            let lost = streams.lost.remove(&query.partition).unwrap_or(0);
            let Some(stream) = streams.by_partition.get(&query.partition) else {
                return PartitionEvents { lost, ..PartitionEvents::default() };
            };
            let from = query.after.map_or(StreamEntryId(0, 0), |after| StreamEntryId(after.0, after.1 + 1));
            let entries = stream.range(from..).map(|(_, recorded)| recorded.clone()).collect();
            PartitionEvents { count: stream.len(), lease_was_free: false, lost, entries, progress: vec![] }
        };
        let replication_id: Arc<str> = "memory".into();
        queries.iter().map(|query| (*query, replication_id.clone(), Some(find_events(query)))).collect()
    }

    pub(super) fn write_outcomes(&self, partition: usize, writes: &PendingWrites) -> u64 {
        let mut streams = self.lock_streams();
        for entry in &writes.finished_entries {
            streams.by_partition.entry(partition).or_default().remove(entry);
        }
        let letters: Vec<StoredDeadLetter> = writes
            .dead_letters
            .iter()
            .map(|dead| StoredDeadLetter {
                partition,
                entry_id: streams.next_entry_id(),
                letter: dead.clone().into(),
            })
            .collect();
        let stored = streams.dead_letters.entry(partition).or_default();
        stored.extend(letters);
        let excess = stored.len().saturating_sub(self.max_dead_letters);
        if excess > 0 {
            let dropped = letters_beyond_bound(stored, excess);
            stored.retain(|letter| !dropped.contains(&letter.entry_id));
        }
        excess as u64
    }

    pub(super) fn list_dead_letters(
        &self,
        partition: usize,
        after: Option<StreamEntryId>,
        limit: usize,
    ) -> Vec<StoredDeadLetter> {
        let oldest = clock::now_ms().saturating_sub(self.dead_letter_life_ms);
        let mut streams = self.lock_streams();
        let Some(stored) = streams.dead_letters.get_mut(&partition) else { return vec![] };
        stored.retain(|letter| letter.entry_id.0 >= oldest);
        let later = stored.iter().filter(|letter| after.is_none_or(|after| letter.entry_id > after));
        later.take(limit).cloned().collect()
    }

    pub(super) fn replay_dead_letters(&self, partition: usize, letters: &[StoredDeadLetter]) -> usize {
        let mut count = 0;
        for letter in letters {
            let was_removed = {
                let mut streams = self.lock_streams();
                let stored = streams.dead_letters.entry(partition).or_default();
                let before = stored.len();
                stored.retain(|other| other.entry_id != letter.entry_id);
                stored.len() < before
            };
            if was_removed {
                self.append(partition, letter.letter.line.clone(), Some(letter.letter.endpoint_id.clone()));
                count += 1;
            }
        }
        count
    }
}
