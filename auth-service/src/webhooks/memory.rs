//! Events and dead letters of a process without Redis: the same rules, lost with it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::clock;
use signalbox_redis::keys;

use super::{
    event::{EntryId, Head},
    schedule::Effects,
    store::{Asked, Found, Letter, Polled, Recorded},
};

/// See the module.
pub(super) struct MemoryStore {
    // A std mutex: held for one operation on the maps.
    inner: Mutex<Inner>,
    /// Events of one partition that are kept.
    most: usize,
    dead: usize,
    dead_ms: u64,
}

#[derive(Default)]
struct Inner {
    number: u64,
    streams: HashMap<usize, BTreeMap<EntryId, Recorded>>,
    lost: HashMap<usize, u64>,
    dead: HashMap<usize, VecDeque<Letter>>,
}

impl Inner {
    fn next(&mut self) -> EntryId {
        self.number += 1;
        EntryId(clock::now_ms(), self.number)
    }
}

impl MemoryStore {
    pub(super) fn new(most: usize, dead: usize, dead_ms: u64) -> Self {
        Self { inner: Mutex::default(), most, dead, dead_ms }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line of the feed; its partition.
    pub(super) fn record(&self, line: &Arc<str>) -> Option<usize> {
        let head: Head = serde_json::from_str(line).ok()?;
        let partition = keys::partition(&signalbox_protocol::id::RoomId::parse(&head.room).ok()?);
        self.put(partition, line.clone(), None);
        Some(partition)
    }

    fn put(&self, partition: usize, line: Arc<str>, only: Option<String>) {
        let mut inner = self.inner();
        let entry = inner.next();
        let stream = inner.streams.entry(partition).or_default();
        stream.insert(entry, Recorded { entry, line, only });
        if stream.len() > self.most {
            stream.pop_first();
            *inner.lost.entry(partition).or_default() += 1;
        }
    }

    pub(super) fn poll(&self, asked: &[Asked]) -> Polled {
        let mut inner = self.inner();
        let mut found = |asked: &Asked| {
            let lost = inner.lost.remove(&asked.partition).unwrap_or(0);
            let Some(stream) = inner.streams.get(&asked.partition) else {
                return Found { lost, ..Found::default() };
            };
            let from = asked.after.map_or(EntryId(0, 0), |after| EntryId(after.0, after.1 + 1));
            let entries = stream.range(from..).map(|(_, recorded)| recorded.clone()).collect();
            Found { count: stream.len(), was_free: false, lost, entries, progress: vec![] }
        };
        let lineage: Arc<str> = "memory".into();
        asked.iter().map(|asked| (*asked, lineage.clone(), Some(found(asked)))).collect()
    }

    pub(super) fn finish(&self, partition: usize, effects: &Effects) -> u64 {
        let mut inner = self.inner();
        for entry in &effects.finished {
            inner.streams.entry(partition).or_default().remove(entry);
        }
        let letters: Vec<Letter> = effects
            .dead
            .iter()
            .map(|dead| Letter { partition, entry: inner.next(), dead: dead.clone().into() })
            .collect();
        let kept = inner.dead.entry(partition).or_default();
        kept.extend(letters);
        let excess = kept.len().saturating_sub(self.dead);
        kept.drain(..excess);
        excess as u64
    }

    pub(super) fn dead(&self, partition: usize, after: Option<EntryId>, most: usize) -> Vec<Letter> {
        let oldest = clock::now_ms().saturating_sub(self.dead_ms);
        let mut inner = self.inner();
        let Some(kept) = inner.dead.get_mut(&partition) else { return vec![] };
        kept.retain(|letter| letter.entry.0 >= oldest);
        let later = kept.iter().filter(|letter| after.is_none_or(|after| letter.entry > after));
        later.take(most).cloned().collect()
    }

    pub(super) fn replay(&self, partition: usize, letters: &[Letter]) -> usize {
        let mut count = 0;
        for letter in letters {
            let is_there = {
                let mut inner = self.inner();
                let kept = inner.dead.entry(partition).or_default();
                let before = kept.len();
                kept.retain(|other| other.entry != letter.entry);
                kept.len() < before
            };
            if is_there {
                self.put(partition, letter.dead.line.clone(), Some(letter.dead.endpoint.clone()));
                count += 1;
            }
        }
        count
    }
}
