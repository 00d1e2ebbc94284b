//! The usage of this node for `/api/usage`: joins and connected time, by caller and room.
//!
//! Owns: the counters of this node, and the times at which they are written to the store. Must not:
//! touch the message path, or scan peers. A peer costs two map operations: when its connection
//! starts and when it ends. Each counter knows its number of open connections.
//!
//! A node that is killed loses the usage that it has not written: at most [`FLUSH_INTERVAL`] of
//! joins and ended connections, and at most [`REPORT_INTERVAL`] of open connections.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use signalbox_protocol::{clock, id::RoomId};
use signalbox_rooms::store::StoreUnavailable;
use signalbox_rooms::usage::{DAY_MS, OTHER_ROOMS, UsageAmount, UsageKey, UtcDay};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep},
};

use crate::registry::RoomRegistry;

/// How often counters with a join or an ended connection are written.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// How often all counters are written, with the time of open connections. That costs one call of
/// Redis for each `PAIRS_PER_CALL` pairs.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The number of pairs of caller and room in one call at most.
const PAIRS_PER_CALL: usize = 500;

/// The counters of one node.
pub struct UsageMeter {
    // A std mutex: held to change or take counters.
    counters: Mutex<HashMap<UsageKey, UsageCounter>>,
    /// The number of pairs that have their own counter. Further rooms share one counter per caller.
    max_pairs: usize,
    /// The amounts that were taken from the counters and may not be written yet, in order. An async
    /// mutex, so that one task writes at a time: the numbers of the batches must grow.
    unwritten: AsyncMutex<UnwrittenUsage>,
}

/// The number of a batch, the day of its usage, and its amounts.
type UsageBatch = (u64, UtcDay, Vec<(UsageKey, UsageAmount)>);

#[derive(Default)]
struct UnwrittenUsage {
    last_batch_number: u64,
    batches: VecDeque<UsageBatch>,
    /// When amounts were last taken, milliseconds since 1970; 0 before the first time.
    last_taken_ms: u64,
}

struct UsageCounter {
    open_connections: u32,
    joins: u64,
    connected_time: Duration,
    updated_at: Instant,
    has_changed: bool,
}

impl UsageCounter {
    fn add_elapsed(&mut self, now: Instant) {
        self.connected_time += now.saturating_duration_since(self.updated_at) * self.open_connections;
        self.updated_at = now;
    }
}

/// The timer of one connected peer. A drop ends the connected time.
pub struct ConnectionTimer {
    meter: Arc<UsageMeter>,
    pair: UsageKey,
}

impl Drop for ConnectionTimer {
    fn drop(&mut self) {
        self.meter.update_counter(&self.pair, |counter| {
            counter.open_connections = counter.open_connections.saturating_sub(1)
        });
    }
}

impl UsageMeter {
    /// A meter with separate counters for at most `max_pairs` pairs of caller and room.
    pub fn new(max_pairs: usize) -> Arc<Self> {
        Arc::new(Self { counters: Mutex::default(), max_pairs, unwritten: AsyncMutex::default() })
    }

    fn lock_counters(&self) -> MutexGuard<'_, HashMap<UsageKey, UsageCounter>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_counter(&self, pair: &UsageKey, change: impl FnOnce(&mut UsageCounter)) {
        let now = Instant::now();
        let mut counters = self.lock_counters();
        let fresh = || UsageCounter {
            open_connections: 0,
            joins: 0,
            connected_time: Duration::ZERO,
            updated_at: now,
            has_changed: true,
        };
        let counter = counters.entry(pair.clone()).or_insert_with(fresh);
        counter.add_elapsed(now);
        counter.has_changed = true;
        change(counter);
    }

    /// Starts the connected time of a peer. `has_joined` is false for a peer that resumes or
    /// replaces its older peer, because that join is counted already.
    pub fn start_timer(self: &Arc<Self>, pair: UsageKey, has_joined: bool) -> ConnectionTimer {
        let pair = self.fold_pair(pair);
        self.update_counter(&pair, |counter| {
            counter.open_connections += 1;
            counter.joins += u64::from(has_joined);
        });
        ConnectionTimer { meter: self.clone(), pair }
    }

    /// The pair itself, or the pair for all other rooms if there are too many counters.
    fn fold_pair(&self, pair: UsageKey) -> UsageKey {
        let counters = self.lock_counters();
        if counters.len() < self.max_pairs || counters.contains_key(&pair) {
            return pair;
        }
        RoomId::parse(OTHER_ROOMS).map_or(pair.clone(), |other| (pair.0, other))
    }

    /// Takes the amounts since the last call: of all pairs, or only of those whose connections have
    /// changed. A fraction of a millisecond stays in the counter.
    fn take_amounts(&self, all: bool, now: Instant) -> Vec<(UsageKey, UsageAmount)> {
        let mut counters = self.lock_counters();
        let mut taken = Vec::new();
        for (pair, counter) in counters.iter_mut() {
            if !all && !counter.has_changed {
                continue;
            }
            counter.add_elapsed(now);
            let amount =
                UsageAmount { joins: counter.joins, connected_ms: counter.connected_time.as_millis() as u64 };
            counter.joins = 0;
            counter.connected_time -= Duration::from_millis(amount.connected_ms);
            counter.has_changed = false;
            if amount != UsageAmount::default() {
                taken.push((pair.clone(), amount));
            }
        }
        counters.retain(|_, counter| counter.open_connections > 0);
        let remaining = counters.len();
        counters.shrink_to(2 * remaining);
        taken
    }

    /// Writes the usage to the store: of all pairs, or only of the changed ones. Amounts that could
    /// not be written stay for the next call.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn flush_usage(&self, registry: &RoomRegistry, all: bool) -> Result<(), StoreUnavailable> {
        let mut unwritten = self.unwritten.lock().await;
        // While the store is unavailable, new usage stays in the counters, which are bounded.
        unwritten.write_batches(registry).await?;
        let now_ms = clock::now_ms();
        // All usage since the last call belongs to the day of that call, because a call is made
        // right at midnight.
        let day =
            UtcDay::from_ms(if unwritten.last_taken_ms == 0 { now_ms } else { unwritten.last_taken_ms });
        let taken = self.take_amounts(all || day != UtcDay::from_ms(now_ms), Instant::now());
        unwritten.last_taken_ms = now_ms;
        for batch in taken.chunks(PAIRS_PER_CALL) {
            unwritten.last_batch_number += 1;
            let number = unwritten.last_batch_number;
            unwritten.batches.push_back((number, day, batch.to_vec()));
        }
        unwritten.write_batches(registry).await
    }
}

impl UnwrittenUsage {
    async fn write_batches(&mut self, registry: &RoomRegistry) -> Result<(), StoreUnavailable> {
        let context = registry.context();
        while let Some((number, day, batch)) = self.batches.front() {
            context.store.add_usage(&context.node_id, *number, *day, batch).await?;
            self.batches.pop_front();
        }
        Ok(())
    }
}

/// Starts the task that writes the usage; it ends with the registry.
pub(crate) fn start_usage_flush(meter: &Arc<UsageMeter>, registry: &Arc<RoomRegistry>) {
    let (meter, weak) = (meter.clone(), Arc::downgrade(registry));
    registry.context().runtime.spawn(run_usage_flush(meter, weak));
}

async fn run_usage_flush(meter: Arc<UsageMeter>, registry: Weak<RoomRegistry>) {
    let mut reported_at = Instant::now();
    loop {
        let to_midnight = Duration::from_millis(DAY_MS - clock::now_ms() % DAY_MS);
        // Nodes that were started together should not write together.
        let pause = FLUSH_INTERVAL.mul_f64(0.9 + 0.1 * f64::from(clock::now_ms() as u32 % 1_000) / 1_000.0);
        sleep(pause.min(to_midnight)).await;
        let Some(registry) = registry.upgrade() else { return };
        let all = reported_at.elapsed() >= REPORT_INTERVAL;
        if all {
            reported_at = Instant::now();
        }
        if meter.flush_usage(&registry, all).await.is_err() {
            tracing::debug!(event = "usage_not_written");
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::id::CallerId;

    use super::*;

    fn sample_pair(room: &str) -> UsageKey {
        (CallerId::parse("shop").unwrap(), RoomId::parse(room).unwrap())
    }

    async fn advance_ms(ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    fn take_sorted_amounts(meter: &UsageMeter, all: bool) -> Vec<(String, u64, u64)> {
        let mut taken: Vec<_> = meter
            .take_amounts(all, Instant::now())
            .into_iter()
            .map(|((_, room), amount)| (room.to_string(), amount.joins, amount.connected_ms))
            .collect();
        taken.sort();
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn connected_time_adds_up_to_the_millisecond() {
        let meter = UsageMeter::new(10);
        let alice = meter.start_timer(sample_pair("a"), true);
        advance_ms(1_500).await;
        let bob = meter.start_timer(sample_pair("a"), true);
        let other = meter.start_timer(sample_pair("b"), true);
        assert_eq!(take_sorted_amounts(&meter, false), [("a".into(), 2, 1_500), ("b".into(), 1, 0)]);
        advance_ms(2_000).await;
        assert_eq!(take_sorted_amounts(&meter, false), [], "no connection has started or ended");
        advance_ms(1_000).await;
        drop(alice);
        assert_eq!(take_sorted_amounts(&meter, false), [("a".into(), 0, 6_000)]);
        assert_eq!(take_sorted_amounts(&meter, true), [("b".into(), 0, 3_000)]);
        advance_ms(500).await;
        drop((bob, other));
        assert_eq!(take_sorted_amounts(&meter, false), [("a".into(), 0, 500), ("b".into(), 0, 500)]);
        advance_ms(5_000).await;
        assert_eq!(take_sorted_amounts(&meter, true), []);
        assert!(meter.lock_counters().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_resume_is_not_a_join_and_detached_time_does_not_count() {
        let meter = UsageMeter::new(10);
        let first = meter.start_timer(sample_pair("a"), true);
        advance_ms(1_000).await;
        drop(first);
        advance_ms(10_000).await;
        let second = meter.start_timer(sample_pair("a"), false);
        advance_ms(1_000).await;
        drop(second);
        assert_eq!(take_sorted_amounts(&meter, false), [("a".into(), 1, 2_000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_beyond_the_limit_share_one_counter() {
        let meter = UsageMeter::new(2);
        let all: Vec<_> =
            ["a", "b", "c", "d", "a"].map(|room| meter.start_timer(sample_pair(room), true)).into();
        advance_ms(1_000).await;
        let expected = [("a".into(), 2, 2_000), ("b".into(), 1, 1_000), ("~other".into(), 2, 2_000)];
        assert_eq!(take_sorted_amounts(&meter, false), expected);
        drop(all);
    }
}
