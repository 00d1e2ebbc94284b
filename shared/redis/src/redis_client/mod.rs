//! The connections of one process to Redis.
//!
//! A client lives on a thread of its own, so that neither a busy worker nor a stopping one holds up
//! Redis. It starts without Redis: until Redis first answers, each call is
//! [`RedisUnavailable`](crate::RedisUnavailable).
//!
//! Owns: the start, the thread, and the listener for interruptions. Must not: know a key or the
//! text of a script. Next: `redis_request` sends commands and scripts, `topic_subscriber`
//! subscribes.

mod redis_request;
mod topic_listener;
mod topic_subscriber;
mod topic_subscription;

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use signalbox_config as config;
use signalbox_protocol::clock;
use tokio::{runtime::Handle, time::timeout};

pub use redis_request::{ReplyReader, ScriptCall, value_text};
pub use topic_listener::{TopicListener, TopicProbe};
use topic_subscriber::TopicSubscriber;

use crate::{
    client_state::ClientState,
    interruption_clock::InterruptionClock,
    memory_level::MemoryLevel,
    redis_address::RedisAddress,
    redis_error::RedisStartError,
    redis_script::RedisScript,
    redis_shards::RedisShards,
    redis_target::RedisTarget,
    runtime_thread::{block_on_runtime, start_runtime_thread},
    shard_map::partition_slot,
};

/// How long a process that needs Redis waits for it at its start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
pub struct RedisClient {
    state: Arc<ClientState>,
    shards: Arc<RedisShards>,
    runtime: Handle,
    // The thread ends when this sender is dropped, and with the thread all tasks of the client.
    _thread_guard: tokio::sync::oneshot::Sender<()>,
}

impl RedisClient {
    /// Reads the URL and the certificates, and begins to connect. Does not wait for Redis.
    ///
    /// # Errors
    /// [`RedisStartError::Url`], [`RedisStartError::TlsFile`] or [`RedisStartError::Thread`].
    pub fn start(url: &str, settings: &config::RedisSettings) -> Result<Arc<Self>, RedisStartError> {
        let state = Arc::new(ClientState::new(RedisTarget::new(url, settings)?));
        let (runtime, thread_guard) = start_runtime_thread()?;
        let shards = Arc::new(RedisShards::new(state.clone(), runtime.clone()));
        let topology = state.clone();
        runtime.spawn(async move {
            topology.topology.run_updates(|error| topology.report_problem(error)).await;
        });
        runtime.spawn(follow_topology(state.clone(), shards.clone()));
        runtime.spawn(finish_start(state.clone(), shards.clone()));
        Ok(Arc::new(Self { state, shards, runtime, _thread_guard: thread_guard }))
    }

    /// Starts a client and blocks until Redis answers.
    ///
    /// # Errors
    /// As [`RedisClient::start`] and [`RedisClient::wait_until_ready`].
    pub fn connect(url: &str, settings: &config::RedisSettings) -> Result<Arc<Self>, RedisStartError> {
        let client = Self::start(url, settings)?;
        client.wait_until_ready()?;
        Ok(client)
    }

    /// Blocks until every master is connected and has the announced scripts.
    ///
    /// # Errors
    /// [`RedisStartError`]: at once if an operator must change something, otherwise after 10 s.
    pub fn wait_until_ready(self: &Arc<Self>) -> Result<(), RedisStartError> {
        let client = self.clone();
        self.run_blocking(async move { client.wait_for_servers(START_TIMEOUT).await })
    }

    /// Waits until every master is connected and has the announced scripts.
    ///
    /// # Errors
    /// [`RedisStartError`]: at once if an operator must change something, otherwise after `limit`.
    pub async fn wait_for_servers(&self, limit: Duration) -> Result<(), RedisStartError> {
        let mut changes = self.state.watch_changes();
        let ready = async {
            while !self.shards.are_prepared() {
                if let Some(problem) = self.state.last_problem().filter(RedisStartError::needs_operator) {
                    return Err(problem);
                }
                if changes.changed().await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        timeout(limit, ready).await.unwrap_or_else(|_| Err(self.current_problem()))
    }

    /// Whether every master is connected and refuses nothing.
    ///
    /// # Errors
    /// [`RedisStartError`]: why not.
    pub fn check_ready(&self) -> Result<(), RedisStartError> {
        let mut refusals = self.state.refusals.general_refusals().into_iter();
        if let Some((address, code, reason)) = refusals.find(|(address, ..)| self.shards.has_shard(address)) {
            return Err(RedisStartError::Refuses { address, code, reason });
        }
        if self.is_ready() { Ok(()) } else { Err(self.current_problem()) }
    }

    /// How many requests and checks the servers have refused, by Redis' own code.
    pub fn refusal_counts(&self) -> Vec<(&'static str, u64)> {
        self.state.refusals.totals()
    }

    fn current_problem(&self) -> RedisStartError {
        let no_answer = || RedisStartError::NoAnswer("no answer in time".to_owned());
        self.state.last_problem().unwrap_or_else(no_answer)
    }

    /// Announces scripts: each connection loads them before it is used. A connection that is open
    /// already loads them now.
    pub fn load_scripts(&self, scripts: &[&'static RedisScript]) {
        self.state.scripts.add_scripts(scripts);
        self.shards.request_checks();
    }

    /// Runs a task on the client's thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a future on the client's thread and blocks this thread until it is done. Only at the
    /// start of a process.
    ///
    /// # Errors
    /// Those of the future.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, RedisStartError>> + Send + 'static,
    ) -> Result<T, RedisStartError> {
        block_on_runtime(&self.runtime, task)
    }

    /// Subscribes to the topics of all partitions. Returns when each connection has proven that it
    /// receives messages. The subscription lasts as long as the listener is active.
    ///
    /// # Errors
    /// [`RedisStartError`]: at once if an operator must change something, otherwise after 10 s.
    pub async fn subscribe<L: TopicListener>(
        self: &Arc<Self>,
        listener: L,
        probe: TopicProbe,
        probe_interval: Duration,
    ) -> Result<(), RedisStartError> {
        let subscriber = TopicSubscriber::new(self, listener, probe, probe_interval);
        let stopped = |_| Err(RedisStartError::NoAnswer("the store's thread has stopped".to_owned()));
        self.runtime.spawn(subscriber.subscribe_all()).await.unwrap_or_else(stopped)
    }

    /// Whether a server with this id of its history of writes is the one at this address, as far as
    /// the client knows.
    fn has_history(&self, address: &RedisAddress, replication_id: &str) -> bool {
        self.shards.has_history(address, replication_id)
    }

    /// The longest wait between two attempts to connect to a lost server.
    pub fn max_reconnect_wait(&self) -> Duration {
        self.state.target().max_reconnect_wait
    }

    /// Whether Redis is a Cluster: the keys of a script must then be in one partition.
    pub fn is_cluster(&self) -> bool {
        self.state.topology.current_map().is_cluster()
    }

    /// Whether every partition has a master and every master is connected.
    pub fn is_ready(&self) -> bool {
        self.shards.are_connected()
    }

    /// Whether the master of a partition is connected. If it is not, calls fail at once.
    pub fn is_partition_connected(&self, partition: usize) -> bool {
        self.shards.is_slot_connected(partition_slot(partition))
    }

    /// How full the memory of the master of a partition is. Never waits.
    pub fn memory_level(&self, partition: usize) -> MemoryLevel {
        self.shards.memory_level_of_slot(partition_slot(partition))
    }

    /// How full the memory of the fullest master is. Never waits.
    pub fn highest_memory_level(&self) -> MemoryLevel {
        self.shards.highest_memory_level()
    }

    /// How long every server has been connected, with the same history and the same slots. Zero
    /// while a server is lost.
    pub fn stable_for(&self) -> Duration {
        if self.is_ready() { self.state.interruption_clock.elapsed() } else { Duration::ZERO }
    }

    /// When a connection to a server was last opened, or a server was last found to have another
    /// history of writes.
    pub fn interruption_clock(&self) -> InterruptionClock {
        self.state.interruption_clock.clone()
    }

    /// Milliseconds since 1970 by the clock of the master of partition 0. The difference between
    /// the clocks is measured when the connection is opened.
    pub fn now_ms(&self) -> u64 {
        clock::now_ms().saturating_add_signed(self.state.clock_offset.load(Ordering::Relaxed))
    }

    /// Sets the listener for partitions whose server was lost, has changed or has lost writes.
    /// The listener is called on the client's thread and must not block.
    pub fn on_interruption(&self, listener: impl Fn(&[usize]) + Send + Sync + 'static) {
        let mut current = self.state.interruption_listener.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(listener));
    }
}

/// Connects to the masters of each new map, and reports the partitions that have another master.
async fn follow_topology(state: Arc<ClientState>, shards: Arc<RedisShards>) {
    let mut maps = state.topology.watch_map();
    let mut before = maps.borrow_and_update().clone();
    shards.apply_map(&before);
    state.announce_change();
    while maps.changed().await.is_ok() {
        let now = maps.borrow_and_update().clone();
        shards.apply_map(&now);
        state.announce_change();
        let moved = now.changed_partitions(&before);
        let is_first = before.masters().next().is_none();
        if !moved.is_empty() && !is_first {
            state.notify_interruption(&moved);
        }
        before = now;
    }
}

/// Waits until every master is connected for the first time.
async fn finish_start(state: Arc<ClientState>, shards: Arc<RedisShards>) {
    let mut changes = state.watch_changes();
    while !shards.are_prepared() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    state.set_started();
}
