//! Which server is the master of which slot, kept up to date.
//!
//! Owns: the present [`ShardMap`], and asking anew: when somebody was redirected or has lost a server, and now and then because nobody is told of a
//! failover that leaves the old master's connections open. Must not: hold up whoever reads it. Next: `find` for how it is found out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
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
    shard_map::ShardMap,
};

/// Between two looks that nobody asked for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// Between two looks at least.
const MIN_REFRESH_WAIT: Duration = Duration::from_millis(100);

/// How long the word of the server itself (MOVED) counts more than what the others have heard so far.
const MOVED_SLOT_PRIORITY: Duration = Duration::from_secs(1);

/// How long a start may wait for Redis.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
pub struct RedisTopology {
    target: RedisTarget,
    finder: MasterFinder,
    mode: RedisMode,
    map: watch::Sender<Arc<ShardMap>>,
    refresh_requested: Notify,
    // A std mutex: held for one map operation. Slots that a server has said to have given away, and when.
    moved_slots: Mutex<HashMap<u16, (RedisAddress, Instant)>>,
}

impl RedisTopology {
    /// Finds out what answers at the URL and keeps an eye on it as long as the topology is in use. Inside a runtime.
    ///
    /// # Errors
    /// [`RedisStartError`]: at once what waiting does not mend, the rest after 10 s.
    pub async fn discover(target: &RedisTarget) -> Result<Arc<Self>, RedisStartError> {
        let start = Instant::now();
        loop {
            match Self::try_discover(target).await {
                Err(error) if !error.needs_operator() && start.elapsed() < START_TIMEOUT => {
                    sleep(MIN_REFRESH_WAIT).await
                }
                outcome => return outcome,
            }
        }
    }

    /// The same, and does not wait for what is not there yet.
    ///
    /// # Errors
    /// [`RedisStartError`].
    pub async fn try_discover(target: &RedisTarget) -> Result<Arc<Self>, RedisStartError> {
        let topology = Arc::new(Self::load_topology(target).await?);
        if topology.mode != RedisMode::Standalone {
            tokio::spawn(run_refresh(Arc::downgrade(&topology)));
        }
        Ok(topology)
    }

    async fn load_topology(target: &RedisTarget) -> Result<Self, RedisStartError> {
        let finder = MasterFinder::new(target.clone());
        let mode = finder.detect_mode().await?;
        let map = finder.load_map(mode, &[]).await?;
        if !map.is_complete() {
            return Err(RedisStartError::NoAnswer("no server has some of the cluster's slots".to_owned()));
        }
        let (map, _) = watch::channel(Arc::new(map));
        Ok(Self {
            target: target.clone(),
            finder,
            mode,
            map,
            refresh_requested: Notify::new(),
            moved_slots: Mutex::default(),
        })
    }

    /// Where Redis is.
    pub fn target(&self) -> &RedisTarget {
        &self.target
    }

    /// The present state.
    pub fn current_map(&self) -> Arc<ShardMap> {
        self.map.borrow().clone()
    }

    /// Every state from the present one on.
    pub fn watch_map(&self) -> watch::Receiver<Arc<ShardMap>> {
        self.map.subscribe()
    }

    /// Asks for a look, soon: a server was lost, or said that it is not the one.
    pub fn request_refresh(&self) {
        self.refresh_requested.notify_one();
    }

    /// A server has said who has this slot now.
    pub fn record_moved_slot(&self, slot: u16, master: &RedisAddress) {
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

    /// A server that was asked has said, in an error of the driver, who has the slot now. Whether that could be read.
    pub fn record_redirect(&self, asked: &RedisAddress, error: &redis::RedisError) -> bool {
        let Some((to, slot)) = error.redirect_node() else { return false };
        let Some(master) = RedisAddress::parse_redirected(to, asked) else { return false };
        self.record_moved_slot(slot, &master);
        true
    }

    async fn refresh_map(&self) {
        let known = self.current_map().known_nodes().to_vec();
        match self.finder.load_map(self.mode, &known).await {
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

/// Looks when asked to, and now and then.
async fn run_refresh(topology: Weak<RedisTopology>) {
    loop {
        let Some(strong) = topology.upgrade() else { return };
        // Nobody asked: an error only says so.
        let _ = timeout(with_jitter(REFRESH_INTERVAL), strong.refresh_requested.notified()).await;
        strong.refresh_map().await;
        drop(strong);
        sleep(MIN_REFRESH_WAIT).await;
    }
}
