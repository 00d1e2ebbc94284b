//! Commands and scripts: routed to the master of their slot, within one deadline, sent again only where they were not executed.
//!
//! It lives on a thread of its own, so that neither a busy worker nor a stopping one holds up Redis.
//!
//! Owns: the connections, and who is told when they change. Next: `request` for one request and its redirections.

mod request;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use redis::{Cmd, Script, Value};
use signalbox_config as config;
use signalbox_protocol::clock;
use tokio::time::{Instant, sleep};

pub(crate) use request::Failure;
use request::Request;

use crate::{
    error::{StartError, Unavailable},
    map::{Map, key_slot, slot_of},
    shard::{self, Shard},
    target::{Address, Target},
    thread::{own_thread, wait_on},
    topology::Topology,
};

/// How long a start may wait for Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is told of partitions that may have missed something.
type Listener = Box<dyn Fn(&[usize]) + Send + Sync>;

/// See the module.
pub struct Link {
    me: Weak<Self>,
    topology: Arc<Topology>,
    scripts: Vec<Script>,
    // Std mutexes: held for one map operation, or to read a time.
    shards: Mutex<HashMap<Address, Arc<Shard>>>,
    disturbed: Mutex<Instant>,
    listener: Mutex<Option<Arc<Listener>>>,
    clock_offset: AtomicI64,
    runtime: tokio::runtime::Handle,
    // Dropping it ends the thread.
    _alive: tokio::sync::oneshot::Sender<()>,
}

impl Link {
    /// Connects to every master and loads the scripts there. Blocks until that is done.
    ///
    /// # Errors
    /// [`StartError`]: at once what waiting does not mend, the rest after 10 s.
    pub fn connect(
        url: &str,
        settings: &config::Redis,
        scripts: Vec<Script>,
    ) -> Result<Arc<Self>, StartError> {
        let target = Target::new(url, settings)?;
        let (runtime, alive) = own_thread()?;
        let topology = wait_on(&runtime, async move { Topology::discover(&target).await })?;
        let link = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            topology,
            scripts,
            shards: Mutex::default(),
            disturbed: Mutex::new(Instant::now()),
            listener: Mutex::default(),
            clock_offset: AtomicI64::new(0),
            runtime,
            _alive: alive,
        });
        let first = link.clone();
        link.run_and_wait(async move { first.first_shards().await })?;
        link.spawn(follow(Arc::downgrade(&link)));
        Ok(link)
    }

    /// Runs a task on the link's thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a future on the link's thread and blocks this one until it is done. Only at start.
    ///
    /// # Errors
    /// Those of the future.
    pub fn run_and_wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, StartError>> + Send + 'static,
    ) -> Result<T, StartError> {
        wait_on(&self.runtime, task)
    }

    /// The longest wait between two attempts to connect to a server that is away.
    pub fn longest_wait(&self) -> Duration {
        self.target().reconnect
    }

    /// Which server is the master of what.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    pub(crate) fn target(&self) -> &Target {
        self.topology.target()
    }

    pub(crate) fn scripts(&self) -> &[Script] {
        &self.scripts
    }

    async fn first_shards(self: Arc<Self>) -> Result<(), StartError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let shards: Vec<_> =
                self.topology.map().masters().map(|address| Arc::new(Shard::new(address.clone()))).collect();
            match try_join_all(shards.iter().map(|shard| shard.open_first(&self))).await {
                Ok(_) => {
                    for shard in shards {
                        self.shards().insert(shard.address.clone(), shard.clone());
                        self.spawn(shard::keep(shard, Arc::downgrade(&self)));
                    }
                    return Ok(());
                }
                Err(error) if error.is_final() || Instant::now() > end => return Err(error),
                Err(_) => {
                    self.topology.refresh();
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<Address, Arc<Shard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard at an address, made if it is new.
    fn shard(&self, address: &Address) -> Arc<Shard> {
        let mut shards = self.shards();
        if let Some(shard) = shards.get(address) {
            return shard.clone();
        }
        let shard = Arc::new(Shard::new(address.clone()));
        shards.insert(address.clone(), shard.clone());
        self.spawn(shard::keep(shard.clone(), self.me.clone()));
        shard
    }

    /// Whether every partition has a master and every master is connected.
    pub fn is_ready(&self) -> bool {
        let map = self.topology.map();
        let shards = self.shards();
        map.is_whole() && map.masters().all(|master| shards.get(master).is_some_and(|shard| shard.is_open()))
    }

    /// Whether the master of a partition is connected. Where it is not, calls fail at once.
    pub fn is_open(&self, partition: usize) -> bool {
        let map = self.topology.map();
        let master = map.master_of(slot_of(partition));
        master.is_some_and(|master| self.shards().get(master).is_some_and(|shard| shard.is_open()))
    }

    /// How long every server has been connected, with the same history and the same slots: the time since the last reconnect or
    /// failover, or since the start. Zero while one is away.
    pub fn undisturbed_for(&self) -> Duration {
        if self.is_ready() { self.since_disturbance() } else { Duration::ZERO }
    }

    /// Milliseconds since 1970 by the clock of partition 0's master, as it was compared when the connection was opened.
    pub fn now_ms(&self) -> u64 {
        clock::now_ms().saturating_add_signed(self.clock_offset.load(Ordering::Relaxed))
    }

    /// Who is told of partitions whose server was away, has changed or has lost writes. Called on the link's thread; must not block.
    pub fn on_disturbance(&self, listener: impl Fn(&[usize]) + Send + Sync + 'static) {
        let listener: Listener = Box::new(listener);
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
    }

    /// How long ago a server was last found again, or found to be another one; also while one is away.
    pub fn since_disturbance(&self) -> Duration {
        self.disturbed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// What was heard before this moment may have been forgotten.
    pub(crate) fn note_disturbance(&self) {
        *self.disturbed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn disturbed(&self, partitions: &[usize]) {
        self.note_disturbance();
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener
            && !partitions.is_empty()
        {
            listener(partitions);
        }
    }

    /// The server is back, or its history is another one.
    pub(crate) fn disturbed_at(&self, shard: &Shard) {
        self.disturbed(&self.topology.map().partitions_of(&shard.address));
    }

    /// The server does not answer: somebody else may be in its place.
    pub(crate) fn lost(&self, _: &Shard) {
        self.topology.refresh();
    }

    pub(crate) fn compared_clocks(&self, shard: &Shard, offset: i64) {
        if self.topology.map().master_of(slot_of(0)) == Some(&shard.address) {
            self.clock_offset.store(offset, Ordering::Relaxed);
        }
    }

    /// One command on keys of a partition, one answer, within the deadline.
    ///
    /// # Errors
    /// [`Unavailable`]: it may or may not have been executed, or was refused.
    pub async fn call(&self, partition: usize, cmd: &Cmd) -> Result<Value, Unavailable> {
        self.answer(slot_of(partition), Request { cmd, script: None }).await
    }

    /// One command on a key that is in no partition.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn call_key(&self, key: &str, cmd: &Cmd) -> Result<Value, Unavailable> {
        self.answer(key_slot(key), Request { cmd, script: None }).await
    }

    /// One call of a script, by its place in the list that was loaded. Every key of the script is in `keys`, all of one partition.
    ///
    /// # Errors
    /// [`Unavailable`]: it may or may not have been executed, or was refused.
    pub async fn script(
        &self,
        partition: usize,
        script: usize,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, Unavailable> {
        self.script_at(slot_of(partition), script, keys, args).await
    }

    /// One call of a script on keys that are in no partition; the first says where.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn script_key(
        &self,
        script: usize,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, Unavailable> {
        let slot = keys.first().map_or(0, |key| key_slot(key));
        self.script_at(slot, script, keys, args).await
    }

    async fn script_at(
        &self,
        slot: u16,
        script: usize,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, Unavailable> {
        let script = self.scripts.get(script).ok_or(Unavailable)?;
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(keys.len()).arg(keys).arg(args);
        self.answer(slot, Request { cmd: &cmd, script: Some(script) }).await
    }
}

/// Follows the topology: shards come and go, and partitions that have another master are told of.
async fn follow(link: Weak<Link>) {
    let Some(strong) = link.upgrade() else { return };
    let mut maps = strong.topology.watch();
    let mut before: Arc<Map> = maps.borrow_and_update().clone();
    drop(strong);
    while maps.changed().await.is_ok() {
        let now = maps.borrow_and_update().clone();
        let Some(link) = link.upgrade() else { return };
        let masters: HashSet<Address> = now.masters().cloned().collect();
        link.shards().retain(|address, shard| {
            let stays = masters.contains(address);
            if !stays {
                shard.retire();
            }
            stays
        });
        masters.iter().for_each(|master| drop(link.shard(master)));
        let moved = now.differs_in(&before);
        if !moved.is_empty() {
            link.disturbed(&moved);
        }
        before = now;
    }
}
