//! Who is told what, when: pure. It takes the time and what happened, and says what to do.
//!
//! Owns: the order per room and endpoint, backing off, giving up. Must not: know a clock, a socket or a store.
//! Next: `worker.rs` does what it says.
//!
//! A *lane* is one room for one endpoint: its events are told one after the other, and one that fails holds up its lane and no other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::event::{Cause, Dead, Endpoint, EntryId, Event, Failure, Verdict};

/// The first pause after a failure, milliseconds; it doubles.
const FIRST_PAUSE_MS: u64 = 1_000;
/// The longest pause.
const LONGEST_PAUSE_MS: u64 = 5 * 60_000;
/// The longest pause that an endpoint may ask for.
const LONGEST_ASKED_MS: u64 = 60 * 60_000;

/// When an event is given up, and how much is done at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) give_up_ms: u64,
    pub(super) attempts: u32,
    pub(super) parallel: usize,
    pub(super) backlog: usize,
}

/// An attempt to be made.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) endpoint: usize,
    pub(super) event: Arc<Event>,
    /// Of an older life of the partition its outcome does not count.
    life: u64,
}

/// What must be written down for a partition.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Events with which everybody is done.
    pub(super) finished: Vec<EntryId>,
    /// How often an event has been tried at an endpoint; none: it was taken, or given up.
    pub(super) progress: BTreeMap<(EntryId, String), Option<u32>>,
    /// Given up.
    pub(super) dead: Vec<Dead>,
}

impl Effects {
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.progress.is_empty() && self.dead.is_empty()
    }

    /// Puts what was not written before what came since.
    pub(super) fn prepend(&mut self, mut earlier: Self) {
        earlier.finished.append(&mut self.finished);
        earlier.progress.append(&mut self.progress);
        earlier.dead.append(&mut self.dead);
        *self = earlier;
    }
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Arc<Event>>,
    /// Of the first.
    attempts: u32,
    last: Option<Failure>,
    /// Whether the first is being tried.
    under_way: bool,
    due_ms: u64,
}

type LaneKey = (usize, Arc<str>);

struct Held {
    event: Arc<Event>,
    /// The endpoints that are not done with it.
    pending: BTreeSet<usize>,
}

/// See the module.
pub(super) struct Schedule {
    bounds: Bounds,
    pub(super) endpoints: Vec<Endpoint>,
    lanes: HashMap<LaneKey, Lane>,
    /// Lanes whose first event may be tried, by when.
    due: BTreeSet<(u64, LaneKey)>,
    busy: Vec<usize>,
    held: BTreeMap<(usize, EntryId), Held>,
    /// How many are held of each partition.
    counts: HashMap<usize, usize>,
    lives: HashMap<usize, u64>,
    effects: BTreeMap<usize, Effects>,
}

impl Schedule {
    pub(super) fn new(endpoints: Vec<Endpoint>, bounds: Bounds) -> Self {
        let busy = vec![0; endpoints.len()];
        let (lanes, due, held, counts, lives, effects) = Default::default();
        Self { bounds, endpoints, lanes, due, busy, held, counts, lives, effects }
    }

    /// How many events are held, of all partitions.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The events held of a partition, in order.
    pub(super) fn of(&self, partition: usize) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let range = (partition, EntryId(0, 0))..=(partition, EntryId(u64::MAX, u64::MAX));
        self.held.range(range).map(|(_, held)| &held.event)
    }

    /// How many events are held of a partition.
    pub(super) fn count(&self, partition: usize) -> usize {
        self.counts.get(&partition).copied().unwrap_or(0)
    }

    pub(super) fn holds(&self, partition: usize, entry: EntryId) -> bool {
        self.held.contains_key(&(partition, entry))
    }

    /// Whether attempts are under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.iter().any(|count| *count > 0)
    }

    /// Takes a recorded event; of one partition in order. `tried` says how often an endpoint has been tried before; none: it is done.
    pub(super) fn take(&mut self, event: Event, now_ms: u64, tried: impl Fn(&str) -> Option<u32>) {
        let (partition, entry, event) = (event.partition, event.entry, Arc::new(event));
        // What is done with, and not yet written down so, is not taken again.
        let is_done = |effects: &Effects| effects.finished.contains(&entry);
        if self.holds(partition, entry) || self.effects.get(&partition).is_some_and(is_done) {
            return;
        }
        let mut pending = BTreeSet::new();
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            let Some(attempts) = tried(&endpoint.id).filter(|_| endpoint.wants(&event)) else { continue };
            pending.insert(place);
            let key = (place, event.room.clone());
            let lane = self.lanes.entry(key.clone()).or_default();
            lane.waiting.push_back(event.clone());
            if lane.waiting.len() == 1 {
                (lane.attempts, lane.due_ms) = (attempts, now_ms);
                self.due.insert((now_ms, key));
            }
        }
        if pending.is_empty() {
            return self.effects.entry(partition).or_default().finished.push(entry);
        }
        self.held.insert((partition, entry), Held { event, pending });
        *self.counts.entry(partition).or_default() += 1;
        self.shed(partition);
    }

    /// More wait than may: the oldest that is not being tried is given up.
    fn shed(&mut self, partition: usize) {
        let excess = self.count(partition).saturating_sub(self.bounds.backlog);
        let oldest: Vec<Arc<Event>> = self.of(partition).take(excess).cloned().collect();
        for event in oldest {
            let pending: Vec<usize> = match self.held.get(&(partition, event.entry)) {
                Some(held) => held.pending.iter().copied().collect(),
                None => continue,
            };
            for endpoint in pending {
                let key = (endpoint, event.room.clone());
                let Some(lane) = self.lanes.get_mut(&key) else { continue };
                let Some(place) = lane.waiting.iter().position(|waiting| waiting.entry == event.entry) else {
                    continue;
                };
                if place == 0 && lane.under_way {
                    continue;
                }
                let (attempts, last) = if place == 0 { (lane.attempts, lane.last) } else { (0, None) };
                self.bury(endpoint, &event, Cause::Backlog, attempts, last);
                self.remove(&key, place, event.entry.0);
                self.settle(endpoint, &event);
            }
        }
    }

    /// The attempts to be made now. Each must come back through [`Schedule::done`].
    pub(super) fn start(&mut self, now_ms: u64) -> Vec<Job> {
        let (mut jobs, mut put_off) = (Vec::new(), Vec::new());
        while let Some((due, key)) = self.due.pop_first() {
            if due > now_ms {
                self.due.insert((due, key));
                break;
            }
            if self.busy[key.0] >= self.bounds.parallel {
                put_off.push((due, key));
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(event) = lane.waiting.front().cloned() else { continue };
            lane.under_way = true;
            self.busy[key.0] += 1;
            let life = self.lives.get(&event.partition).copied().unwrap_or(0);
            jobs.push(Job { endpoint: key.0, event, life });
        }
        self.due.extend(put_off);
        jobs
    }

    /// An attempt is not made after all, not before this moment.
    pub(super) fn put_off(&mut self, job: &Job, until_ms: u64) {
        self.busy[job.endpoint] = self.busy[job.endpoint].saturating_sub(1);
        let key = (job.endpoint, job.event.room.clone());
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.under_way, lane.due_ms) = (false, until_ms);
            self.due.insert((until_ms, key));
        }
    }

    /// When something may be tried next, if not for want of a free place.
    pub(super) fn next_due(&self) -> Option<u64> {
        let free = |key: &LaneKey| self.busy[key.0] < self.bounds.parallel;
        self.due.iter().find(|(_, key)| free(key)).map(|(due, _)| *due)
    }

    /// How an attempt went. `jitter` is from 0 to 1.
    pub(super) fn done(&mut self, job: &Job, verdict: Verdict, now_ms: u64, jitter: f64) {
        self.busy[job.endpoint] = self.busy[job.endpoint].saturating_sub(1);
        let event = &job.event;
        if self.lives.get(&event.partition).copied().unwrap_or(0) != job.life {
            return;
        }
        let key = (job.endpoint, event.room.clone());
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.under_way = false;
        let cause = match verdict {
            Verdict::Taken => None,
            Verdict::Gone => {
                (lane.attempts, lane.last) = (lane.attempts + 1, Some(Failure::Status(410)));
                Some(Cause::Gone)
            }
            Verdict::Later { why, after } => {
                (lane.attempts, lane.last) = (lane.attempts + 1, Some(why));
                if lane.attempts >= self.bounds.attempts {
                    Some(Cause::Attempts)
                } else if now_ms.saturating_sub(event.entry.0) >= self.bounds.give_up_ms {
                    Some(Cause::Age)
                } else {
                    let attempts = lane.attempts;
                    lane.due_ms = now_ms + pause(attempts, after, jitter);
                    self.due.insert((lane.due_ms, key));
                    let progress = (event.entry, self.endpoints[job.endpoint].id.clone());
                    let effects = self.effects.entry(event.partition).or_default();
                    effects.progress.insert(progress, Some(attempts));
                    return;
                }
            }
        };
        let (attempts, last) = (lane.attempts, lane.last);
        if let Some(cause) = cause {
            self.bury(job.endpoint, event, cause, attempts, last);
        }
        self.remove(&key, 0, now_ms);
        self.settle(job.endpoint, event);
    }

    fn bury(&mut self, endpoint: usize, event: &Event, cause: Cause, attempts: u32, last: Option<Failure>) {
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        let endpoint = self.endpoints[endpoint].id.clone();
        let dead = Dead { endpoint, cause, attempts, last, line: event.line.clone() };
        self.effects.entry(event.partition).or_default().dead.push(dead);
    }

    /// An event leaves its lane; if it was the first, the next one may be tried.
    fn remove(&mut self, key: &LaneKey, place: usize, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.waiting.remove(place);
        if place > 0 {
            return;
        }
        self.due.remove(&(lane.due_ms, key.clone()));
        (lane.attempts, lane.last, lane.due_ms) = (0, None, now_ms);
        if lane.waiting.is_empty() {
            self.lanes.remove(key);
        } else {
            self.due.insert((now_ms, key.clone()));
        }
    }

    /// An endpoint is done with an event.
    fn settle(&mut self, endpoint: usize, event: &Event) {
        let key = (event.partition, event.entry);
        let Some(held) = self.held.get_mut(&key) else { return };
        held.pending.remove(&endpoint);
        let is_finished = held.pending.is_empty();
        let effects = self.effects.entry(event.partition).or_default();
        if is_finished {
            self.held.remove(&key);
            self.counts.entry(event.partition).and_modify(|count| *count -= 1);
            effects.finished.push(event.entry);
        } else {
            effects.progress.insert((event.entry, self.endpoints[endpoint].id.clone()), None);
        }
    }

    /// An entry that is no event is done with.
    pub(super) fn skip(&mut self, partition: usize, entry: EntryId) {
        self.effects.entry(partition).or_default().finished.push(entry);
    }

    /// How many entries of a partition are known to this process: held, or done with and not yet written down so.
    pub(super) fn known(&self, partition: usize) -> usize {
        self.count(partition) + self.effects.get(&partition).map_or(0, |effects| effects.finished.len())
    }

    /// What must be written down, by partition.
    pub(super) fn effects(&mut self) -> BTreeMap<usize, Effects> {
        std::mem::take(&mut self.effects)
    }

    /// What could not be written down stays.
    pub(super) fn put_back(&mut self, partition: usize, effects: Effects) {
        self.effects.entry(partition).or_default().prepend(effects);
    }

    /// Another process tells this partition's events from now on.
    pub(super) fn forget(&mut self, partition: usize) -> Vec<Arc<Event>> {
        *self.lives.entry(partition).or_default() += 1;
        let events: Vec<Arc<Event>> = self.of(partition).cloned().collect();
        for event in &events {
            self.held.remove(&(partition, event.entry));
        }
        self.counts.remove(&partition);
        // A room is in one partition.
        let gone: BTreeSet<&Arc<str>> = events.iter().map(|event| &event.room).collect();
        self.lanes.retain(|(_, room), _| !gone.contains(room));
        self.due.retain(|(_, (_, room))| !gone.contains(room));
        self.effects.remove(&partition);
        events
    }
}

/// How long until the next attempt: doubling, with jitter between half and all of it, or longer where the endpoint asks for that.
fn pause(attempts: u32, asked: Option<Duration>, jitter: f64) -> u64 {
    let doubled = FIRST_PAUSE_MS.saturating_mul(1 << attempts.clamp(1, 20)).min(LONGEST_PAUSE_MS);
    let own = doubled / 2 + (doubled as f64 / 2.0 * jitter) as u64;
    let asked = asked.map_or(0, |asked| asked.as_millis().min(u128::from(LONGEST_ASKED_MS)) as u64);
    own.max(asked)
}

#[cfg(test)]
mod tests;
