//! Which server is the master of which slot, kept up to date.
//!
//! Owns: the present [`Map`], and asking anew: when somebody was redirected or has lost a server, and now and then because nobody is told of a
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
    error::StartError,
    find::{Finder, Mode},
    jittered,
    map::Map,
    target::{Address, Target},
};

/// Between two looks that nobody asked for.
const LOOK: Duration = Duration::from_secs(2);

/// Between two looks at least.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the word of the server itself (MOVED) counts more than what the others have heard so far.
const FRESH: Duration = Duration::from_secs(1);

/// How long a start may wait for Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Topology {
    target: Target,
    finder: Finder,
    mode: Mode,
    map: watch::Sender<Arc<Map>>,
    wanted: Notify,
    // A std mutex: held for one map operation. Slots that a server has said to have given away, and when.
    moved: Mutex<HashMap<u16, (Address, Instant)>>,
}

impl Topology {
    /// Finds out what answers at the URL and keeps an eye on it as long as the topology is in use. Inside a runtime.
    ///
    /// # Errors
    /// [`StartError`]: at once what waiting does not mend, the rest after 10 s.
    pub async fn discover(target: &Target) -> Result<Arc<Self>, StartError> {
        let start = Instant::now();
        loop {
            match Self::try_discover(target).await {
                Err(error) if !error.is_final() && start.elapsed() < PATIENCE => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    /// The same, and does not wait for what is not there yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn try_discover(target: &Target) -> Result<Arc<Self>, StartError> {
        let topology = Arc::new(Self::find(target).await?);
        if topology.mode != Mode::Standalone {
            tokio::spawn(keep(Arc::downgrade(&topology)));
        }
        Ok(topology)
    }

    async fn find(target: &Target) -> Result<Self, StartError> {
        let finder = Finder::new(target.clone());
        let mode = finder.mode().await?;
        let map = finder.map(mode, &[]).await?;
        if !map.is_whole() {
            return Err(StartError::NoAnswer("no server has some of the cluster's slots".to_owned()));
        }
        let (map, _) = watch::channel(Arc::new(map));
        Ok(Self { target: target.clone(), finder, mode, map, wanted: Notify::new(), moved: Mutex::default() })
    }

    /// Where Redis is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The present state.
    pub fn map(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    /// Every state from the present one on.
    pub fn watch(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    /// Asks for a look, soon: a server was lost, or said that it is not the one.
    pub fn refresh(&self) {
        self.wanted.notify_one();
    }

    /// A server has said who has this slot now.
    pub fn moved(&self, slot: u16, master: &Address) {
        self.moved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(slot, (master.clone(), Instant::now()));
        self.map.send_if_modified(|map| {
            if map.master_of(slot) == Some(master) {
                return false;
            }
            let mut fresh = Map::clone(map);
            fresh.assign(slot..=slot, master);
            *map = Arc::new(fresh);
            true
        });
        self.refresh();
    }

    /// A server that was asked has said, in an error of the driver, who has the slot now. Whether that could be read.
    pub fn redirected(&self, asked: &Address, error: &redis::RedisError) -> bool {
        let Some((to, slot)) = error.redirect_node() else { return false };
        let Some(master) = Address::redirected(to, asked) else { return false };
        self.moved(slot, &master);
        true
    }

    async fn look(&self) {
        let known = self.map().nodes().to_vec();
        match self.finder.map(self.mode, &known).await {
            Ok(found) => self.publish(found),
            Err(error) => tracing::debug!(event = "redis_topology_unknown", %error),
        }
    }

    fn publish(&self, mut found: Map) {
        {
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            moved.retain(|_, (_, at)| at.elapsed() < FRESH);
            for (slot, (master, _)) in moved.iter() {
                found.assign(*slot..=*slot, master);
            }
        }
        self.map.send_if_modified(|map| {
            let changed = found.differs_in(map);
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
async fn keep(topology: Weak<Topology>) {
    loop {
        let Some(strong) = topology.upgrade() else { return };
        // Nobody asked: an error only says so.
        let _ = timeout(jittered(LOOK), strong.wanted.notified()).await;
        strong.look().await;
        drop(strong);
        sleep(PAUSE).await;
    }
}
