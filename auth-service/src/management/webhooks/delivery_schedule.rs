//! The schedule of deliveries: pure. It gets the time and the outcomes, and returns the attempts to
//! start.
//!
//! Owns: the order of events, the pauses between attempts, and the last attempt. Must not: know a
//! clock, a socket or a store. Next: `delivery_worker.rs` executes it.
//!
//! A *lane* is one room for one endpoint. Its events are delivered one after the other, so a
//! failing event delays its own lane only.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::event::{
    AbandonedEvent, DeadLetterCause, DeliveryFailure, DeliveryOutcome, EndpointTarget, StreamEntryId,
    WebhookEvent,
};

/// Half of the longest first pause after a failure, milliseconds. Each failure doubles the pause.
const FIRST_BACKOFF_MS: u64 = 1_000;
/// The longest pause of the schedule, milliseconds.
const MAX_BACKOFF_MS: u64 = 5 * 60_000;
/// The longest pause that an endpoint may ask for, milliseconds.
const MAX_RETRY_AFTER_MS: u64 = 60 * 60_000;

/// The limits of the schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryLimits {
    /// The age at which a failed event becomes a dead letter, milliseconds.
    pub(super) give_up_ms: u64,
    /// The most attempts for one event at one endpoint.
    pub(super) max_attempts: u32,
    /// The most attempts at one endpoint at a time.
    pub(super) max_parallel: usize,
    /// The most waiting events of one partition.
    pub(super) max_backlog: usize,
}

/// An attempt to deliver one event to one endpoint.
#[derive(Debug, Clone)]
pub(super) struct DeliveryAttempt {
    pub(super) endpoint: usize,
    pub(super) event: Arc<WebhookEvent>,
    /// The number of the partition's assignment. An outcome of an older one does not count.
    assignment: u64,
}

/// The changes of a partition that must be written to the store.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Events that every endpoint has finished.
    pub(super) finished_entries: Vec<StreamEntryId>,
    /// The attempts for an event at an endpoint; `None` if the endpoint has finished it.
    pub(super) progress: BTreeMap<(StreamEntryId, String), Option<u32>>,
    pub(super) dead_letters: Vec<AbandonedEvent>,
}

impl PendingWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.finished_entries.is_empty() && self.progress.is_empty() && self.dead_letters.is_empty()
    }

    /// Puts earlier changes, which could not be written, in front of these.
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
    /// The attempts for the first event.
    attempts: u32,
    last_failure: Option<DeliveryFailure>,
    /// Whether an attempt for the first event is running.
    in_flight: bool,
    due_ms: u64,
}

type LaneKey = (usize, Arc<str>);

/// The events by root, or room without a root, and then by room.
type EventsByShare = HashMap<Arc<str>, HashMap<Arc<str>, BTreeSet<StreamEntryId>>>;

struct PendingEvent {
    event: Arc<WebhookEvent>,
    /// The endpoints that have not finished the event.
    pending_endpoints: BTreeSet<usize>,
}

/// See the module.
pub(super) struct DeliverySchedule {
    limits: DeliveryLimits,
    pub(super) endpoints: Vec<EndpointTarget>,
    lanes: HashMap<LaneKey, DeliveryLane>,
    /// The lanes without a running attempt, by the time of the next one.
    due: BTreeSet<(u64, LaneKey)>,
    in_flight: Vec<usize>,
    events: BTreeMap<(usize, StreamEntryId), PendingEvent>,
    /// The number of events of each partition.
    counts: HashMap<usize, usize>,
    /// The events of each partition.
    rooms: HashMap<usize, EventsByShare>,
    assignments: HashMap<usize, u64>,
    writes: BTreeMap<usize, PendingWrites>,
}

impl DeliverySchedule {
    pub(super) fn new(endpoints: Vec<EndpointTarget>, limits: DeliveryLimits) -> Self {
        let in_flight = vec![0; endpoints.len()];
        let (lanes, due, events, counts, rooms, assignments, writes) = Default::default();
        Self { limits, endpoints, lanes, due, in_flight, events, counts, rooms, assignments, writes }
    }

    /// The number of events, of all partitions.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The events of a partition, in order.
    pub(super) fn events_of(&self, partition: usize) -> impl DoubleEndedIterator<Item = &Arc<WebhookEvent>> {
        let range = (partition, StreamEntryId(0, 0))..=(partition, StreamEntryId(u64::MAX, u64::MAX));
        self.events.range(range).map(|(_, pending)| &pending.event)
    }

    /// The number of events of a partition.
    pub(super) fn count_of(&self, partition: usize) -> usize {
        self.counts.get(&partition).copied().unwrap_or(0)
    }

    pub(super) fn has_event(&self, partition: usize, entry: StreamEntryId) -> bool {
        self.events.contains_key(&(partition, entry))
    }

    /// Whether attempts are running.
    pub(super) fn has_attempts_in_flight(&self) -> bool {
        self.in_flight.iter().any(|count| *count > 0)
    }

    /// Adds a recorded event. The events of one partition must come in order. `earlier_attempts`
    /// gives the attempts of an endpoint until now; `None` if the endpoint has finished the event.
    pub(super) fn add_event(
        &mut self,
        event: WebhookEvent,
        now_ms: u64,
        earlier_attempts: impl Fn(&str) -> Option<u32>,
    ) {
        let (partition, entry, event) = (event.partition, event.entry_id, Arc::new(event));
        // A finished event whose outcome is not written yet must not be added again.
        let is_done = |writes: &PendingWrites| writes.finished_entries.contains(&entry);
        if self.has_event(partition, entry) || self.writes.get(&partition).is_some_and(is_done) {
            return;
        }
        let mut pending = BTreeSet::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let Some(attempts) = earlier_attempts(&endpoint.id).filter(|_| endpoint.wants(&event)) else {
                continue;
            };
            pending.insert(index);
            let key = (index, event.room.clone());
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
        let rooms = self.rooms.entry(partition).or_default().entry(event.share.clone()).or_default();
        rooms.entry(event.room.clone()).or_default().insert(entry);
        self.events.insert((partition, entry), PendingEvent { event, pending_endpoints: pending });
        *self.counts.entry(partition).or_default() += 1;
        self.enforce_backlog(partition);
    }

    /// The events beyond the backlog: each is, of the root that has most, the oldest of its room that
    /// has most. So neither a tenant nor a room pushes out the events of another.
    fn events_beyond_backlog(&self, partition: usize) -> Vec<StreamEntryId> {
        let excess = self.count_of(partition).saturating_sub(self.limits.max_backlog);
        let Some(shares) = self.rooms.get(&partition).filter(|_| excess > 0) else { return vec![] };
        // A share, the events of one of its rooms, and how many of them are chosen.
        let rooms = shares.iter().flat_map(|(share, rooms)| rooms.values().map(move |of| (share, of, 0)));
        let mut rooms: Vec<(&Arc<str>, &BTreeSet<StreamEntryId>, usize)> = rooms.collect();
        let next_of_largest = |_| {
            let mut of_share: HashMap<&str, usize> = HashMap::new();
            for (share, entries, chosen) in &rooms {
                *of_share.entry(share).or_default() += entries.len() - chosen;
            }
            let (_, entries, chosen) = rooms.iter_mut().max_by_key(|(share, entries, chosen)| {
                (of_share[&***share], entries.len() - *chosen, Reverse(entries.iter().nth(*chosen)))
            })?;
            *chosen += 1;
            entries.iter().nth(*chosen - 1).copied()
        };
        (0..excess).filter_map(next_of_largest).collect()
    }

    /// Turns the events beyond the backlog into dead letters, except for running attempts.
    fn enforce_backlog(&mut self, partition: usize) {
        for entry in self.events_beyond_backlog(partition) {
            let Some(pending) = self.events.get(&(partition, entry)) else { continue };
            let event = pending.event.clone();
            let pending: Vec<usize> = pending.pending_endpoints.iter().copied().collect();
            for endpoint in pending {
                let key = (endpoint, event.room.clone());
                let Some(lane) = self.lanes.get_mut(&key) else { continue };
                let Some(position) =
                    lane.waiting.iter().position(|waiting| waiting.entry_id == event.entry_id)
                else {
                    continue;
                };
                if position == 0 && lane.in_flight {
                    continue;
                }
                let (attempts, last) =
                    if position == 0 { (lane.attempts, lane.last_failure) } else { (0, None) };
                self.abandon_event(endpoint, &event, DeadLetterCause::BacklogFull, attempts, last);
                self.remove_from_lane(&key, position, event.entry_id.0);
                self.finish_endpoint(endpoint, &event);
            }
        }
    }

    /// The attempts to start now. Each must end with [`DeliverySchedule::finish_attempt`] or
    /// [`DeliverySchedule::postpone`].
    pub(super) fn start_due_attempts(&mut self, now_ms: u64) -> Vec<DeliveryAttempt> {
        let (mut attempts, mut delayed) = (Vec::new(), Vec::new());
        while let Some((due, key)) = self.due.pop_first() {
            if due > now_ms {
                self.due.insert((due, key));
                break;
            }
            if self.in_flight[key.0] >= self.limits.max_parallel {
                delayed.push((due, key));
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(event) = lane.waiting.front().cloned() else { continue };
            lane.in_flight = true;
            self.in_flight[key.0] += 1;
            let assignment = self.assignments.get(&event.partition).copied().unwrap_or(0);
            attempts.push(DeliveryAttempt { endpoint: key.0, event, assignment });
        }
        self.due.extend(delayed);
        attempts
    }

    /// Cancels an attempt that was not started, and schedules it for `until_ms`.
    pub(super) fn postpone(&mut self, attempt: &DeliveryAttempt, until_ms: u64) {
        self.in_flight[attempt.endpoint] = self.in_flight[attempt.endpoint].saturating_sub(1);
        let key = (attempt.endpoint, attempt.event.room.clone());
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.in_flight, lane.due_ms) = (false, until_ms);
            self.due.insert((until_ms, key));
        }
    }

    /// The time of the next attempt, among the endpoints below their limit of parallel attempts.
    pub(super) fn next_due(&self) -> Option<u64> {
        let has_capacity = |key: &LaneKey| self.in_flight[key.0] < self.limits.max_parallel;
        self.due.iter().find(|(_, key)| has_capacity(key)).map(|(due, _)| *due)
    }

    /// Records the outcome of an attempt. `jitter` is from 0 to 1.
    pub(super) fn finish_attempt(
        &mut self,
        attempt: &DeliveryAttempt,
        outcome: DeliveryOutcome,
        now_ms: u64,
        jitter: f64,
    ) {
        self.in_flight[attempt.endpoint] = self.in_flight[attempt.endpoint].saturating_sub(1);
        let event = &attempt.event;
        if self.assignments.get(&event.partition).copied().unwrap_or(0) != attempt.assignment {
            return;
        }
        let key = (attempt.endpoint, event.room.clone());
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.in_flight = false;
        let cause = match outcome {
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
                    let progress = (event.entry_id, self.endpoints[attempt.endpoint].id.clone());
                    let writes = self.writes.entry(event.partition).or_default();
                    writes.progress.insert(progress, Some(attempts));
                    return;
                }
            }
        };
        let (attempts, last) = (lane.attempts, lane.last_failure);
        if let Some(cause) = cause {
            self.abandon_event(attempt.endpoint, event, cause, attempts, last);
        }
        self.remove_from_lane(&key, 0, now_ms);
        self.finish_endpoint(attempt.endpoint, event);
    }

    fn abandon_event(
        &mut self,
        endpoint: usize,
        event: &WebhookEvent,
        cause: DeadLetterCause,
        attempts: u32,
        last: Option<DeliveryFailure>,
    ) {
        let last_failure = last.map(|last| last.to_string()).unwrap_or_default();
        let endpoint_id = self.endpoints[endpoint].id.clone();
        let dead = AbandonedEvent { endpoint_id, cause, attempts, last_failure, line: event.line.clone() };
        self.writes.entry(event.partition).or_default().dead_letters.push(dead);
    }

    /// Removes an event from its lane. If it was the first event, the next one is due now.
    fn remove_from_lane(&mut self, key: &LaneKey, position: usize, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.waiting.remove(position);
        if position > 0 {
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

    /// Records that an endpoint has finished an event.
    fn finish_endpoint(&mut self, endpoint: usize, event: &WebhookEvent) {
        let key = (event.partition, event.entry_id);
        let Some(pending) = self.events.get_mut(&key) else { return };
        pending.pending_endpoints.remove(&endpoint);
        let is_finished = pending.pending_endpoints.is_empty();
        let writes = self.writes.entry(event.partition).or_default();
        if is_finished {
            self.events.remove(&key);
            self.counts.entry(event.partition).and_modify(|count| *count -= 1);
            writes.finished_entries.push(event.entry_id);
            let shares = self.rooms.entry(event.partition).or_default();
            let rooms = shares.entry(event.share.clone()).or_default();
            if let Some(entries) = rooms.get_mut(&event.room) {
                entries.remove(&event.entry_id);
                if entries.is_empty() {
                    rooms.remove(&event.room);
                }
            }
            if rooms.is_empty() {
                shares.remove(&event.share);
            }
        } else {
            writes.progress.insert((event.entry_id, self.endpoints[endpoint].id.clone()), None);
        }
    }

    /// Finishes an entry that is no event.
    pub(super) fn skip_entry(&mut self, partition: usize, entry: StreamEntryId) {
        self.writes.entry(partition).or_default().finished_entries.push(entry);
    }

    /// The number of entries of a partition that this process knows: waiting, or finished and not
    /// yet written.
    pub(super) fn count_known_entries(&self, partition: usize) -> usize {
        self.count_of(partition)
            + self.writes.get(&partition).map_or(0, |writes| writes.finished_entries.len())
    }

    /// Takes the changes to write, by partition.
    pub(super) fn take_pending_writes(&mut self) -> BTreeMap<usize, PendingWrites> {
        std::mem::take(&mut self.writes)
    }

    /// Keeps changes that could not be written for the next write.
    pub(super) fn restore_writes(&mut self, partition: usize, writes: PendingWrites) {
        self.writes.entry(partition).or_default().prepend(writes);
    }

    /// Drops the events of a partition and returns them, because another process delivers them now.
    pub(super) fn drop_partition(&mut self, partition: usize) -> Vec<Arc<WebhookEvent>> {
        *self.assignments.entry(partition).or_default() += 1;
        let events: Vec<Arc<WebhookEvent>> = self.events_of(partition).cloned().collect();
        for event in &events {
            self.events.remove(&(partition, event.entry_id));
        }
        self.counts.remove(&partition);
        self.rooms.remove(&partition);
        // All events of a room are in one partition.
        let rooms: BTreeSet<&Arc<str>> = events.iter().map(|event| &event.room).collect();
        self.lanes.retain(|(_, room), _| !rooms.contains(room));
        self.due.retain(|(_, (_, room))| !rooms.contains(room));
        self.writes.remove(&partition);
        events
    }
}

/// The pause before the next attempt, milliseconds: it doubles with each attempt, and jitter takes
/// up to half of it away. A longer pause that the endpoint asked for wins.
fn retry_delay_ms(attempts: u32, requested: Option<Duration>, jitter: f64) -> u64 {
    let doubled = FIRST_BACKOFF_MS.saturating_mul(1 << attempts.clamp(1, 20)).min(MAX_BACKOFF_MS);
    let own = doubled / 2 + (doubled as f64 / 2.0 * jitter) as u64;
    let requested = requested.map_or(0, |pause| pause.as_millis().min(u128::from(MAX_RETRY_AFTER_MS)) as u64);
    own.max(requested)
}

#[cfg(test)]
mod tests;
