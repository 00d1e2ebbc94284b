//! What is counted for `/api/usage`: who joined, and how long peers were connected, by API key and room.
//!
//! Owns: the counters of this node and when they go to the store. Must not: touch the message path (a peer costs two map operations, at its
//! begin and its end), or scan peers (each pair knows how many of its peers are connected). A killed node loses what it has not written:
//! at most [`FLUSH`] of joins and of ended connections, at most [`REPORT`] of running ones.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use signalbox_protocol::{clock, id::RoomId};
use signalbox_rooms::store::Unavailable;
use signalbox_rooms::usage::{Amount, DAY_MS, Day, OTHER_ROOMS, Pair};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep},
};

use crate::registry::Registry;

/// How often what has changed is written.
pub const FLUSH: Duration = Duration::from_secs(10);

/// How often the time of connections is written that only go on: it costs Redis a call for each [`BATCH`] pairs.
pub const REPORT: Duration = Duration::from_secs(60);

/// Pairs in one call.
const BATCH: usize = 500;

/// The counters of one node.
pub struct Meter {
    // A std mutex: held to change or take counters.
    counters: Mutex<HashMap<Pair, Counter>>,
    /// More are counted together.
    most: usize,
    /// What was taken and is not known to be written, in order. An async mutex, so that one task at a time writes: numbers must grow.
    unwritten: AsyncMutex<Unwritten>,
}

/// A numbered batch, and the day it was used on.
type Batch = (u64, Day, Vec<(Pair, Amount)>);

#[derive(Default)]
struct Unwritten {
    number: u64,
    batches: VecDeque<Batch>,
    /// When it was last taken, by the clock of the day.
    taken_ms: u64,
}

struct Counter {
    connected: u32,
    joins: u64,
    time: Duration,
    since: Instant,
    changed: bool,
}

impl Counter {
    fn advance(&mut self, now: Instant) {
        self.time += now.saturating_duration_since(self.since) * self.connected;
        self.since = now;
    }
}

/// A connected peer; its time counts until this is dropped.
pub struct Connected {
    meter: Arc<Meter>,
    pair: Pair,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.meter.change(&self.pair, |counter| counter.connected = counter.connected.saturating_sub(1));
    }
}

impl Meter {
    /// Counts so many pairs apart.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { counters: Mutex::default(), most, unwritten: AsyncMutex::default() })
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<Pair, Counter>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, pair: &Pair, change: impl FnOnce(&mut Counter)) {
        let now = Instant::now();
        let mut counters = self.counters();
        let fresh = || Counter { connected: 0, joins: 0, time: Duration::ZERO, since: now, changed: true };
        let counter = counters.entry(pair.clone()).or_insert_with(fresh);
        counter.advance(now);
        counter.changed = true;
        change(counter);
    }

    /// A peer is connected from now on. Whoever comes back, or takes the place of the peer it was, has not joined again.
    pub fn connected(self: &Arc<Self>, pair: Pair, has_joined: bool) -> Connected {
        let pair = self.folded(pair);
        self.change(&pair, |counter| {
            counter.connected += 1;
            counter.joins += u64::from(has_joined);
        });
        Connected { meter: self.clone(), pair }
    }

    /// The pair, or where there are too many that of all other rooms.
    fn folded(&self, pair: Pair) -> Pair {
        let counters = self.counters();
        if counters.len() < self.most || counters.contains_key(&pair) {
            return pair;
        }
        RoomId::parse(OTHER_ROOMS).map_or(pair.clone(), |other| (pair.0, other))
    }

    /// What was counted since it was last taken: of pairs in which somebody came or went, or of all. A rest below a millisecond stays.
    fn take(&self, all: bool, now: Instant) -> Vec<(Pair, Amount)> {
        let mut counters = self.counters();
        let mut taken = Vec::new();
        for (pair, counter) in counters.iter_mut() {
            if !all && !counter.changed {
                continue;
            }
            counter.advance(now);
            let amount = Amount { joins: counter.joins, ms: counter.time.as_millis() as u64 };
            counter.joins = 0;
            counter.time -= Duration::from_millis(amount.ms);
            counter.changed = false;
            if amount != Amount::default() {
                taken.push((pair.clone(), amount));
            }
        }
        counters.retain(|_, counter| counter.connected > 0);
        let left = counters.len();
        counters.shrink_to(2 * left);
        taken
    }

    /// Writes what was counted. What could not be written stays for the next time.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn flush(&self, registry: &Registry, all: bool) -> Result<(), Unavailable> {
        let mut unwritten = self.unwritten.lock().await;
        // While the store is away what is new stays in the counters, which are bounded.
        unwritten.write(registry).await?;
        let now_ms = clock::now_ms();
        // What was used since the last time was used on that day: there is always a last time right at midnight.
        let day = Day::of(if unwritten.taken_ms == 0 { now_ms } else { unwritten.taken_ms });
        let taken = self.take(all || day != Day::of(now_ms), Instant::now());
        unwritten.taken_ms = now_ms;
        for batch in taken.chunks(BATCH) {
            unwritten.number += 1;
            let number = unwritten.number;
            unwritten.batches.push_back((number, day, batch.to_vec()));
        }
        unwritten.write(registry).await
    }
}

impl Unwritten {
    async fn write(&mut self, registry: &Registry) -> Result<(), Unavailable> {
        let hub = registry.hub();
        while let Some((number, day, batch)) = self.batches.front() {
            hub.store.add_usage(&hub.node, *number, *day, batch).await?;
            self.batches.pop_front();
        }
        Ok(())
    }
}

/// Writes what is counted until the registry is gone.
pub(crate) fn start(meter: &Arc<Meter>, registry: &Arc<Registry>) {
    let (meter, weak) = (meter.clone(), Arc::downgrade(registry));
    registry.hub().runtime.spawn(keep(meter, weak));
}

async fn keep(meter: Arc<Meter>, registry: Weak<Registry>) {
    let mut reported = Instant::now();
    loop {
        let to_midnight = Duration::from_millis(DAY_MS - clock::now_ms() % DAY_MS);
        // Nodes that were started together do not write together.
        let pause = FLUSH.mul_f64(0.9 + 0.1 * f64::from(clock::now_ms() as u32 % 1_000) / 1_000.0);
        sleep(pause.min(to_midnight)).await;
        let Some(registry) = registry.upgrade() else { return };
        let all = reported.elapsed() >= REPORT;
        if all {
            reported = Instant::now();
        }
        if meter.flush(&registry, all).await.is_err() {
            tracing::debug!(event = "usage_not_written");
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::id::CallerId;

    use super::*;

    fn pair(room: &str) -> Pair {
        (CallerId::parse("shop").unwrap(), RoomId::parse(room).unwrap())
    }

    async fn pass(ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    fn taken(meter: &Meter, all: bool) -> Vec<(String, u64, u64)> {
        let mut taken: Vec<_> = meter
            .take(all, Instant::now())
            .into_iter()
            .map(|((_, room), amount)| (room.to_string(), amount.joins, amount.ms))
            .collect();
        taken.sort();
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn lifetimes_add_up_to_the_millisecond_whenever_they_are_taken() {
        let meter = Meter::new(10);
        let alice = meter.connected(pair("a"), true);
        pass(1_500).await;
        let bob = meter.connected(pair("a"), true);
        let other = meter.connected(pair("b"), true);
        assert_eq!(taken(&meter, false), [("a".into(), 2, 1_500), ("b".into(), 1, 0)]);
        pass(2_000).await;
        assert_eq!(taken(&meter, false), [], "nobody came or went");
        pass(1_000).await;
        drop(alice);
        assert_eq!(taken(&meter, false), [("a".into(), 0, 6_000)]);
        assert_eq!(taken(&meter, true), [("b".into(), 0, 3_000)]);
        pass(500).await;
        drop((bob, other));
        assert_eq!(taken(&meter, false), [("a".into(), 0, 500), ("b".into(), 0, 500)]);
        pass(5_000).await;
        assert_eq!(taken(&meter, true), []);
        assert!(meter.counters().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_has_not_joined_again_and_is_not_counted_while_away() {
        let meter = Meter::new(10);
        let first = meter.connected(pair("a"), true);
        pass(1_000).await;
        drop(first);
        pass(10_000).await;
        let second = meter.connected(pair("a"), false);
        pass(1_000).await;
        drop(second);
        assert_eq!(taken(&meter, false), [("a".into(), 1, 2_000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_beyond_the_bound_are_counted_together() {
        let meter = Meter::new(2);
        let all: Vec<_> = ["a", "b", "c", "d", "a"].map(|room| meter.connected(pair(room), true)).into();
        pass(1_000).await;
        let expected = [("a".into(), 2, 2_000), ("b".into(), 1, 1_000), ("~other".into(), 2, 2_000)];
        assert_eq!(taken(&meter, false), expected);
        drop(all);
    }
}
