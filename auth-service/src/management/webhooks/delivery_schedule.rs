//! Who is told what, when: pure. It takes the time and what happened, and says what to do.
//!
//! Owns: the order per room and endpoint, backing off, giving up. Must not: know a clock, a socket or a store.
//! Next: `delivery_worker.rs` does what it says.
//!
//! A *lane* is one room for one endpoint: its events are told one after the other, and one that fails holds up its lane and no other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::event::{
    AbandonedEvent, DeadLetterCause, DeliveryFailure, DeliveryOutcome, EndpointTarget, StreamEntryId,
    WebhookEvent,
};

/// The first pause after a failure, milliseconds; it doubles.
const FIRST_BACKOFF_MS: u64 = 1_000;
/// The longest pause.
const MAX_BACKOFF_MS: u64 = 5 * 60_000;
/// The longest pause that an endpoint may ask for.
const MAX_RETRY_AFTER_MS: u64 = 60 * 60_000;

/// When an event is given up, and how much is done at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryLimits {
    pub(super) give_up_ms: u64,
    pub(super) max_attempts: u32,
    pub(super) max_parallel: usize,
    pub(super) max_backlog: usize,
}

/// An attempt to be made.
#[derive(Debug, Clone)]
pub(super) struct DeliveryAttempt {
    pub(super) endpoint: usize,
    pub(super) event: Arc<WebhookEvent>,
    /// Of an older life of the partition its outcome does not count.
    assignment: u64,
}

/// What must be written down for a partition.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Events with which everybody is done.
    pub(super) finished_entries: Vec<StreamEntryId>,
    /// How often an event has been tried at an endpoint; none: it was taken, or given up.
    pub(super) progress: BTreeMap<(StreamEntryId, String), Option<u32>>,
    /// Given up.
    pub(super) dead_letters: Vec<AbandonedEvent>,
}

impl PendingWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.finished_entries.is_empty() && self.progress.is_empty() && self.dead_letters.is_empty()
    }

    /// Puts what was not written before what came since.
    pub(super) fn prepend(&mut self, mut earlier: Self) {
        earlier.finished_entries.append(&mut self.finished_entries);
        earlier.progress.append(&mut self.progress);
        earlier.dead_letters.append(&mut self.dead_letters);
        *self = earlier;
    }
}

#[derive(Default)]
struct DeliveryLane {
    waiting: VecDeque<Arc<WebhookEvent>>,
    /// Of the first.
    attempts: u32,
    last_failure: Option<DeliveryFailure>,
    /// Whether the first is being tried.
    in_flight: bool,
    due_ms: u64,
}

type LaneKey = (usize, Arc<str>);

struct PendingEvent {
    event: Arc<WebhookEvent>,
    /// The endpoints that are not done with it.
    pending_endpoints: BTreeSet<usize>,
}

/// See the module.
pub(super) struct DeliverySchedule {
    limits: DeliveryLimits,
    pub(super) endpoints: Vec<EndpointTarget>,
    lanes: HashMap<LaneKey, DeliveryLane>,
    /// Lanes whose first event may be tried, by when.
    due: BTreeSet<(u64, LaneKey)>,
    in_flight: Vec<usize>,
    events: BTreeMap<(usize, StreamEntryId), PendingEvent>,
    /// How many are held of each partition.
    counts: HashMap<usize, usize>,
    assignments: HashMap<usize, u64>,
    writes: BTreeMap<usize, PendingWrites>,
}

impl DeliverySchedule {
    pub(super) fn new(endpoints: Vec<EndpointTarget>, limits: DeliveryLimits) -> Self {
        let in_flight = vec![0; endpoints.len()];
        let (lanes, due, events, counts, assignments, writes) = Default::default();
        Self { limits, endpoints, lanes, due, in_flight, events, counts, assignments, writes }
    }

    /// How many events are held, of all partitions.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The events held of a partition, in order.
    pub(super) fn events_of(&self, partition: usize) -> impl DoubleEndedIterator<Item = &Arc<WebhookEvent>> {
        let range = (partition, StreamEntryId(0, 0))..=(partition, StreamEntryId(u64::MAX, u64::MAX));
        self.events.range(range).map(|(_, held)| &held.event)
    }

    /// How many events are held of a partition.
    pub(super) fn count_of(&self, partition: usize) -> usize {
        self.counts.get(&partition).copied().unwrap_or(0)
    }

    pub(super) fn has_event(&self, partition: usize, entry: StreamEntryId) -> bool {
        self.events.contains_key(&(partition, entry))
    }

    /// Whether attempts are under way.
    pub(super) fn has_attempts_in_flight(&self) -> bool {
        self.in_flight.iter().any(|count| *count > 0)
    }

    /// Takes a recorded event; of one partition in order. `tried` says how often an endpoint has been tried before; none: it is done.
    pub(super) fn add_event(
        &mut self,
        event: WebhookEvent,
        now_ms: u64,
        tried: impl Fn(&str) -> Option<u32>,
    ) {
        let (partition, entry, event) = (event.partition, event.entry_id, Arc::new(event));
        // What is done with, and not yet written down so, is not taken again.
        let is_done = |effects: &PendingWrites| effects.finished_entries.contains(&entry);
        if self.has_event(partition, entry) || self.writes.get(&partition).is_some_and(is_done) {
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
            return self.writes.entry(partition).or_default().finished_entries.push(entry);
        }
        self.events.insert((partition, entry), PendingEvent { event, pending_endpoints: pending });
        *self.counts.entry(partition).or_default() += 1;
        self.enforce_backlog(partition);
    }

    /// More wait than may: the oldest that is not being tried is given up.
    fn enforce_backlog(&mut self, partition: usize) {
        let excess = self.count_of(partition).saturating_sub(self.limits.max_backlog);
        let oldest: Vec<Arc<WebhookEvent>> = self.events_of(partition).take(excess).cloned().collect();
        for event in oldest {
            let pending: Vec<usize> = match self.events.get(&(partition, event.entry_id)) {
                Some(held) => held.pending_endpoints.iter().copied().collect(),
                None => continue,
            };
            for endpoint in pending {
                let key = (endpoint, event.room.clone());
                let Some(lane) = self.lanes.get_mut(&key) else { continue };
                let Some(place) = lane.waiting.iter().position(|waiting| waiting.entry_id == event.entry_id)
                else {
                    continue;
                };
                if place == 0 && lane.in_flight {
                    continue;
                }
                let (attempts, last) =
                    if place == 0 { (lane.attempts, lane.last_failure) } else { (0, None) };
                self.abandon_event(endpoint, &event, DeadLetterCause::BacklogFull, attempts, last);
                self.remove_from_lane(&key, place, event.entry_id.0);
                self.finish_endpoint(endpoint, &event);
            }
        }
    }

    /// The attempts to be made now. Each must come back through [`DeliverySchedule::finish_attempt`].
    pub(super) fn start_due_attempts(&mut self, now_ms: u64) -> Vec<DeliveryAttempt> {
        let (mut jobs, mut put_off) = (Vec::new(), Vec::new());
        while let Some((due, key)) = self.due.pop_first() {
            if due > now_ms {
                self.due.insert((due, key));
                break;
            }
            if self.in_flight[key.0] >= self.limits.max_parallel {
                put_off.push((due, key));
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(event) = lane.waiting.front().cloned() else { continue };
            lane.in_flight = true;
            self.in_flight[key.0] += 1;
            let life = self.assignments.get(&event.partition).copied().unwrap_or(0);
            jobs.push(DeliveryAttempt { endpoint: key.0, event, assignment: life });
        }
        self.due.extend(put_off);
        jobs
    }

    /// An attempt is not made after all, not before this moment.
    pub(super) fn postpone(&mut self, job: &DeliveryAttempt, until_ms: u64) {
        self.in_flight[job.endpoint] = self.in_flight[job.endpoint].saturating_sub(1);
        let key = (job.endpoint, job.event.room.clone());
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.in_flight, lane.due_ms) = (false, until_ms);
            self.due.insert((until_ms, key));
        }
    }

    /// When something may be tried next, if not for want of a free place.
    pub(super) fn next_due(&self) -> Option<u64> {
        let free = |key: &LaneKey| self.in_flight[key.0] < self.limits.max_parallel;
        self.due.iter().find(|(_, key)| free(key)).map(|(due, _)| *due)
    }

    /// How an attempt went. `jitter` is from 0 to 1.
    pub(super) fn finish_attempt(
        &mut self,
        job: &DeliveryAttempt,
        verdict: DeliveryOutcome,
        now_ms: u64,
        jitter: f64,
    ) {
        self.in_flight[job.endpoint] = self.in_flight[job.endpoint].saturating_sub(1);
        let event = &job.event;
        if self.assignments.get(&event.partition).copied().unwrap_or(0) != job.assignment {
            return;
        }
        let key = (job.endpoint, event.room.clone());
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.in_flight = false;
        let cause = match verdict {
            DeliveryOutcome::Delivered => None,
            DeliveryOutcome::EndpointGone => {
                (lane.attempts, lane.last_failure) = (lane.attempts + 1, Some(DeliveryFailure::Status(410)));
                Some(DeadLetterCause::EndpointGone)
            }
            DeliveryOutcome::Retry { why, after } => {
                (lane.attempts, lane.last_failure) = (lane.attempts + 1, Some(why));
                if lane.attempts >= self.limits.max_attempts {
                    Some(DeadLetterCause::Attempts)
                } else if now_ms.saturating_sub(event.entry_id.0) >= self.limits.give_up_ms {
                    Some(DeadLetterCause::Age)
                } else {
                    let attempts = lane.attempts;
                    lane.due_ms = now_ms + retry_delay_ms(attempts, after, jitter);
                    self.due.insert((lane.due_ms, key));
                    let progress = (event.entry_id, self.endpoints[job.endpoint].id.clone());
                    let effects = self.writes.entry(event.partition).or_default();
                    effects.progress.insert(progress, Some(attempts));
                    return;
                }
            }
        };
        let (attempts, last) = (lane.attempts, lane.last_failure);
        if let Some(cause) = cause {
            self.abandon_event(job.endpoint, event, cause, attempts, last);
        }
        self.remove_from_lane(&key, 0, now_ms);
        self.finish_endpoint(job.endpoint, event);
    }

    fn abandon_event(
        &mut self,
        endpoint: usize,
        event: &WebhookEvent,
        cause: DeadLetterCause,
        attempts: u32,
        last: Option<DeliveryFailure>,
    ) {
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        let endpoint = self.endpoints[endpoint].id.clone();
        let dead = AbandonedEvent {
            endpoint_id: endpoint,
            cause,
            attempts,
            last_failure: last,
            line: event.line.clone(),
        };
        self.writes.entry(event.partition).or_default().dead_letters.push(dead);
    }

    /// An event leaves its lane; if it was the first, the next one may be tried.
    fn remove_from_lane(&mut self, key: &LaneKey, place: usize, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.waiting.remove(place);
        if place > 0 {
            return;
        }
        self.due.remove(&(lane.due_ms, key.clone()));
        (lane.attempts, lane.last_failure, lane.due_ms) = (0, None, now_ms);
        if lane.waiting.is_empty() {
            self.lanes.remove(key);
        } else {
            self.due.insert((now_ms, key.clone()));
        }
    }

    /// An endpoint is done with an event.
    fn finish_endpoint(&mut self, endpoint: usize, event: &WebhookEvent) {
        let key = (event.partition, event.entry_id);
        let Some(held) = self.events.get_mut(&key) else { return };
        held.pending_endpoints.remove(&endpoint);
        let is_finished = held.pending_endpoints.is_empty();
        let effects = self.writes.entry(event.partition).or_default();
        if is_finished {
            self.events.remove(&key);
            self.counts.entry(event.partition).and_modify(|count| *count -= 1);
            effects.finished_entries.push(event.entry_id);
        } else {
            effects.progress.insert((event.entry_id, self.endpoints[endpoint].id.clone()), None);
        }
    }

    /// An entry that is no event is done with.
    pub(super) fn skip_entry(&mut self, partition: usize, entry: StreamEntryId) {
        self.writes.entry(partition).or_default().finished_entries.push(entry);
    }

    /// How many entries of a partition are known to this process: held, or done with and not yet written down so.
    pub(super) fn count_known_entries(&self, partition: usize) -> usize {
        self.count_of(partition)
            + self.writes.get(&partition).map_or(0, |effects| effects.finished_entries.len())
    }

    /// What must be written down, by partition.
    pub(super) fn take_pending_writes(&mut self) -> BTreeMap<usize, PendingWrites> {
        std::mem::take(&mut self.writes)
    }

    /// What could not be written down stays.
    pub(super) fn restore_writes(&mut self, partition: usize, effects: PendingWrites) {
        self.writes.entry(partition).or_default().prepend(effects);
    }

    /// Another process tells this partition's events from now on.
    pub(super) fn drop_partition(&mut self, partition: usize) -> Vec<Arc<WebhookEvent>> {
        *self.assignments.entry(partition).or_default() += 1;
        let events: Vec<Arc<WebhookEvent>> = self.events_of(partition).cloned().collect();
        for event in &events {
            self.events.remove(&(partition, event.entry_id));
        }
        self.counts.remove(&partition);
        // A room is in one partition.
        let gone: BTreeSet<&Arc<str>> = events.iter().map(|event| &event.room).collect();
        self.lanes.retain(|(_, room), _| !gone.contains(room));
        self.due.retain(|(_, (_, room))| !gone.contains(room));
        self.writes.remove(&partition);
        events
    }
}

/// How long until the next attempt: doubling, with jitter between half and all of it, or longer where the endpoint asks for that.
fn retry_delay_ms(attempts: u32, asked: Option<Duration>, jitter: f64) -> u64 {
    let doubled = FIRST_BACKOFF_MS.saturating_mul(1 << attempts.clamp(1, 20)).min(MAX_BACKOFF_MS);
    let own = doubled / 2 + (doubled as f64 / 2.0 * jitter) as u64;
    let asked = asked.map_or(0, |asked| asked.as_millis().min(u128::from(MAX_RETRY_AFTER_MS)) as u64);
    own.max(asked)
}

#[cfg(test)]
mod tests;
