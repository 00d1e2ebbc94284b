//! The map of the masters, kept current.
//!
//! Owns: the current [`ShardMap`]. It is empty until Redis first answers. A new map is loaded after
//! a redirection, after the loss of a server, and at intervals: a failover may leave the
//! connections to the old master open, and then no error shows it. Must not: let a reader of the
//! map wait. Next: `master_finder` asks the servers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    jitter::with_jitter,
    master_finder::{MasterFinder, RedisMode},
    redis_address::RedisAddress,
    redis_error::RedisStartError,
    redis_target::RedisTarget,
    refusal_log::RefusalLog,
    shard_map::ShardMap,
};

/// Between two refreshes that nothing has requested.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// The shortest wait between two refreshes, and between two attempts to find the masters.
const MIN_REFRESH_WAIT: Duration = Duration::from_millis(100);

/// For how long a redirection from the server itself counts more than the maps of other servers.
const MOVED_SLOT_PRIORITY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct RedisTopology {
    target: RedisTarget,
    finder: MasterFinder,
    /// Known when Redis first answered.
    mode: OnceLock<RedisMode>,
    map: watch::Sender<Arc<ShardMap>>,
    refresh_requested: Notify,
    // A std mutex: held for one map operation. Slots that a server has moved, with the time.
    moved_slots: Mutex<HashMap<u16, (RedisAddress, Instant)>>,
}

impl RedisTopology {
    /// A topology without masters. Connects to no server; [`RedisTopology::run_updates`] does.
    pub(crate) fn new(target: RedisTarget, refusals: Arc<RefusalLog>) -> Self {
        Self {
            finder: MasterFinder::new(target.clone(), refusals),
            target,
            mode: OnceLock::new(),
            map: watch::Sender::new(Arc::new(ShardMap::without_masters())),
            refresh_requested: Notify::new(),
            moved_slots: Mutex::default(),
        }
    }

    /// Finds the masters, then keeps the map current. `report_problem` gets the reason of each
    /// failed attempt to find them.
    pub(crate) async fn run_updates(&self, report_problem: impl Fn(RedisStartError)) {
        while let Err(error) = self.find_masters().await {
            let wait = if error.needs_operator() { self.target.max_reconnect_wait } else { MIN_REFRESH_WAIT };
            report_problem(error);
            sleep(wait).await;
        }
        // The map of one server does not change.
        while self.mode.get() != Some(&RedisMode::Standalone) {
            // The timeout is an error without meaning: no refresh was requested.
            let _ = timeout(with_jitter(REFRESH_INTERVAL), self.refresh_requested.notified()).await;
            self.refresh_map().await;
            sleep(MIN_REFRESH_WAIT).await;
        }
    }

    async fn find_masters(&self) -> Result<(), RedisStartError> {
        let mode = self.finder.detect_mode().await?;
        let map = self.finder.load_map(mode, &[]).await?;
        if !map.is_complete() {
            return Err(RedisStartError::NoAnswer("some slots of the cluster have no server".to_owned()));
        }
        if mode == RedisMode::Standalone {
            // There is no further question.
            self.finder.close_connections();
        }
        self.mode.get_or_init(|| mode);
        self.map.send_replace(Arc::new(map));
        Ok(())
    }

    pub(crate) fn target(&self) -> &RedisTarget {
        &self.target
    }

    pub(crate) fn current_map(&self) -> Arc<ShardMap> {
        self.map.borrow().clone()
    }

    pub(crate) fn watch_map(&self) -> watch::Receiver<Arc<ShardMap>> {
        self.map.subscribe()
    }

    /// Asks for a refresh soon: a server was lost, or it redirects to another one.
    pub(crate) fn request_refresh(&self) {
        self.refresh_requested.notify_one();
    }

    /// A server has redirected a request: the slot has another master now.
    pub(crate) fn record_moved_slot(&self, slot: u16, master: &RedisAddress) {
        self.moved_slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(slot, (master.clone(), Instant::now()));
        self.map.send_if_modified(|map| {
            if map.master_of_slot(slot) == Some(master) {
                return false;
            }
            let mut fresh = ShardMap::clone(map);
            fresh.assign_slots(slot..=slot, master);
            *map = Arc::new(fresh);
            true
        });
        self.request_refresh();
    }

    async fn refresh_map(&self) {
        let Some(mode) = self.mode.get() else { return };
        let known = self.current_map().known_nodes().to_vec();
        match self.finder.load_map(*mode, &known).await {
            Ok(found) => self.publish_map(found),
            Err(error) => tracing::debug!(event = "redis_topology_unknown", %error),
        }
    }

    fn publish_map(&self, mut found: ShardMap) {
        {
            let mut moved = self.moved_slots.lock().unwrap_or_else(PoisonError::into_inner);
            moved.retain(|_, (_, at)| at.elapsed() < MOVED_SLOT_PRIORITY);
            for (slot, (master, _)) in moved.iter() {
                found.assign_slots(*slot..=*slot, master);
            }
        }
        self.map.send_if_modified(|map| {
            let changed = found.changed_partitions(map);
            if found == **map {
                return false;
            }
            if !changed.is_empty() {
                tracing::info!(event = "redis_topology_changed", partitions = changed.len());
            }
            *map = Arc::new(found);
            true
        });
    }
}
