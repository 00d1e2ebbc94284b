//! Commands and scripts: routed to the master of their slot, within one deadline, sent again only where they were not executed.
//!
//! It lives on a thread of its own, so that neither a busy worker nor a stopping one holds up Redis.
//!
//! Owns: the connections, and who is told when they change. Next: `request` for one request and its redirections.

mod redis_request;
mod topic_listener;
mod topic_subscriber;
mod topic_subscription;

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

use redis_request::RedisRequest;
pub use topic_listener::{TopicListener, TopicProbe};
pub use topic_subscriber::TopicSubscriber;

use crate::{
    redis_address::RedisAddress,
    redis_error::{RedisStartError, RedisUnavailable},
    redis_shard::{self, RedisShard},
    redis_target::RedisTarget,
    redis_topology::RedisTopology,
    runtime_thread::{block_on_runtime, start_runtime_thread},
    shard_map::{ShardMap, key_slot, partition_slot},
};

/// How long a start may wait for Redis.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What is told of partitions that may have missed something.
type InterruptionListener = Box<dyn Fn(&[usize]) + Send + Sync>;

/// See the module.
pub struct RedisClient {
    weak_self: Weak<Self>,
    topology: Arc<RedisTopology>,
    scripts: Vec<Script>,
    // Std mutexes: held for one map operation, or to read a time.
    shards: Mutex<HashMap<RedisAddress, Arc<RedisShard>>>,
    last_interruption: Mutex<Instant>,
    interruption_listener: Mutex<Option<Arc<InterruptionListener>>>,
    clock_offset: AtomicI64,
    runtime: tokio::runtime::Handle,
    // Dropping it ends the thread.
    _thread_guard: tokio::sync::oneshot::Sender<()>,
}

impl RedisClient {
    /// Connects to every master and loads the scripts there. Blocks until that is done.
    ///
    /// # Errors
    /// [`RedisStartError`]: at once what waiting does not mend, the rest after 10 s.
    pub fn connect(
        url: &str,
        settings: &config::RedisSettings,
        scripts: Vec<Script>,
    ) -> Result<Arc<Self>, RedisStartError> {
        let target = RedisTarget::new(url, settings)?;
        let (runtime, alive) = start_runtime_thread()?;
        let topology = block_on_runtime(&runtime, async move { RedisTopology::discover(&target).await })?;
        let link = Arc::new_cyclic(|me| Self {
            weak_self: me.clone(),
            topology,
            scripts,
            shards: Mutex::default(),
            last_interruption: Mutex::new(Instant::now()),
            interruption_listener: Mutex::default(),
            clock_offset: AtomicI64::new(0),
            runtime,
            _thread_guard: alive,
        });
        let first = link.clone();
        link.run_blocking(async move { first.open_first_shards().await })?;
        link.spawn(follow_topology(Arc::downgrade(&link)));
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
    pub fn run_blocking<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, RedisStartError>> + Send + 'static,
    ) -> Result<T, RedisStartError> {
        block_on_runtime(&self.runtime, task)
    }

    /// The longest wait between two attempts to connect to a server that is away.
    pub fn max_reconnect_wait(&self) -> Duration {
        self.target().max_reconnect_wait
    }

    /// Which server is the master of what.
    pub fn topology(&self) -> &Arc<RedisTopology> {
        &self.topology
    }

    pub(crate) fn target(&self) -> &RedisTarget {
        self.topology.target()
    }

    pub(crate) fn scripts(&self) -> &[Script] {
        &self.scripts
    }

    async fn open_first_shards(self: Arc<Self>) -> Result<(), RedisStartError> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            let shards: Vec<_> = self
                .topology
                .current_map()
                .masters()
                .map(|address| Arc::new(RedisShard::new(address.clone())))
                .collect();
            match try_join_all(shards.iter().map(|shard| shard.open_first_connection(&self))).await {
                Ok(_) => {
                    for shard in shards {
                        self.shards().insert(shard.address.clone(), shard.clone());
                        self.spawn(redis_shard::run_shard(shard, Arc::downgrade(&self)));
                    }
                    return Ok(());
                }
                Err(error) if error.needs_operator() || Instant::now() > end => return Err(error),
                Err(_) => {
                    self.topology.request_refresh();
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<RedisAddress, Arc<RedisShard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard at an address, made if it is new.
    fn shard_at(&self, address: &RedisAddress) -> Arc<RedisShard> {
        let mut shards = self.shards();
        if let Some(shard) = shards.get(address) {
            return shard.clone();
        }
        let shard = Arc::new(RedisShard::new(address.clone()));
        shards.insert(address.clone(), shard.clone());
        self.spawn(redis_shard::run_shard(shard.clone(), self.weak_self.clone()));
        shard
    }

    /// Whether every partition has a master and every master is connected.
    pub fn is_ready(&self) -> bool {
        let map = self.topology.current_map();
        let shards = self.shards();
        map.is_complete()
            && map.masters().all(|master| shards.get(master).is_some_and(|shard| shard.is_connected()))
    }

    /// Whether the master of a partition is connected. Where it is not, calls fail at once.
    pub fn is_partition_connected(&self, partition: usize) -> bool {
        let map = self.topology.current_map();
        let master = map.master_of_slot(partition_slot(partition));
        master.is_some_and(|master| self.shards().get(master).is_some_and(|shard| shard.is_connected()))
    }

    /// How long every server has been connected, with the same history and the same slots: the time since the last reconnect or
    /// failover, or since the start. Zero while one is away.
    pub fn stable_for(&self) -> Duration {
        if self.is_ready() { self.time_since_interruption() } else { Duration::ZERO }
    }

    /// Milliseconds since 1970 by the clock of partition 0's master, as it was compared when the connection was opened.
    pub fn now_ms(&self) -> u64 {
        clock::now_ms().saturating_add_signed(self.clock_offset.load(Ordering::Relaxed))
    }

    /// Who is told of partitions whose server was away, has changed or has lost writes. Called on the link's thread; must not block.
    pub fn on_interruption(&self, listener: impl Fn(&[usize]) + Send + Sync + 'static) {
        let listener: InterruptionListener = Box::new(listener);
        *self.interruption_listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
    }

    /// How long ago a server was last found again, or found to be another one; also while one is away.
    pub fn time_since_interruption(&self) -> Duration {
        self.last_interruption.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// What was heard before this moment may have been forgotten.
    pub(crate) fn record_interruption(&self) {
        *self.last_interruption.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn notify_interruption(&self, partitions: &[usize]) {
        self.record_interruption();
        let listener = self.interruption_listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener
            && !partitions.is_empty()
        {
            listener(partitions);
        }
    }

    /// The server is back, or its history is another one.
    pub(crate) fn notify_shard_interruption(&self, shard: &RedisShard) {
        self.notify_interruption(&self.topology.current_map().partitions_of(&shard.address));
    }

    /// The server does not answer: somebody else may be in its place.
    pub(crate) fn report_lost_shard(&self, _: &RedisShard) {
        self.topology.request_refresh();
    }

    pub(crate) fn set_clock_offset(&self, shard: &RedisShard, offset: i64) {
        if self.topology.current_map().master_of_slot(partition_slot(0)) == Some(&shard.address) {
            self.clock_offset.store(offset, Ordering::Relaxed);
        }
    }

    /// One command on keys of a partition, one answer, within the deadline.
    ///
    /// # Errors
    /// [`RedisUnavailable`]: it may or may not have been executed, or was refused.
    pub async fn run_command(&self, partition: usize, cmd: &Cmd) -> Result<Value, RedisUnavailable> {
        self.execute_request(partition_slot(partition), RedisRequest { cmd, script: None }).await
    }

    /// One command on a key that is in no partition.
    ///
    /// # Errors
    /// [`RedisUnavailable`].
    pub async fn run_key_command(&self, key: &str, cmd: &Cmd) -> Result<Value, RedisUnavailable> {
        self.execute_request(key_slot(key), RedisRequest { cmd, script: None }).await
    }

    /// One call of a script, by its place in the list that was loaded. Every key of the script is in `keys`, all of one partition.
    ///
    /// # Errors
    /// [`RedisUnavailable`]: it may or may not have been executed, or was refused.
    pub async fn run_script(
        &self,
        partition: usize,
        script: usize,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, RedisUnavailable> {
        self.run_slot_script(partition_slot(partition), script, keys, args).await
    }

    /// One call of a script on keys that are in no partition; the first says where.
    ///
    /// # Errors
    /// [`RedisUnavailable`].
    pub async fn run_key_script(
        &self,
        script: usize,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, RedisUnavailable> {
        let slot = keys.first().map_or(0, |key| key_slot(key));
        self.run_slot_script(slot, script, keys, args).await
    }

    async fn run_slot_script(
        &self,
        slot: u16,
        script: usize,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, RedisUnavailable> {
        let script = self.scripts.get(script).ok_or(RedisUnavailable)?;
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(keys.len()).arg(keys).arg(args);
        self.execute_request(slot, RedisRequest { cmd: &cmd, script: Some(script) }).await
    }
}

/// Follows the topology: shards come and go, and partitions that have another master are told of.
async fn follow_topology(link: Weak<RedisClient>) {
    let Some(strong) = link.upgrade() else { return };
    let mut maps = strong.topology.watch_map();
    let mut before: Arc<ShardMap> = maps.borrow_and_update().clone();
    drop(strong);
    while maps.changed().await.is_ok() {
        let now = maps.borrow_and_update().clone();
        let Some(link) = link.upgrade() else { return };
        let masters: HashSet<RedisAddress> = now.masters().cloned().collect();
        link.shards().retain(|address, shard| {
            let stays = masters.contains(address);
            if !stays {
                shard.retire();
            }
            stays
        });
        masters.iter().for_each(|master| drop(link.shard_at(master)));
        let moved = now.changed_partitions(&before);
        if !moved.is_empty() {
            link.notify_interruption(&moved);
        }
        before = now;
    }
}
