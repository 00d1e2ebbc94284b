//! The masters of a deployment, each with its connections.
//!
//! Owns: for each master one shared connection, which is checked and opened again when it is lost,
//! and one pool; and the table from a slot to its master. Must not: send a request of a caller; see
//! `redis_client/redis_request.rs`. Next: `client_state` for what all masters of a client share.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{RedisError, aio::MultiplexedConnection};
use signalbox_protocol::clock;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use crate::{
    client_state::ClientState,
    connection_pool::ConnectionPool,
    jitter::with_jitter,
    memory_level::{MemoryLevel, used_percent},
    redis_address::RedisAddress,
    redis_error::{RedisStartError, RedisUnavailable, RequestFailure},
    redis_script::load_scripts,
    server_info,
    shard_map::ShardMap,
};

/// Between two checks of a connection without requests.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks at the memory of a server. A few clients can fill a quarter of a small server
/// in a second.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a check may take after a request that got no answer.
const SHORT_CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two refreshes of the topology while a server is lost.
const TOPOLOGY_REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// The first wait before another attempt to connect. It doubles up to `redis.reconnect`.
const FIRST_RECONNECT_WAIT: Duration = Duration::from_millis(50);

/// All masters of one client.
pub(crate) struct RedisShards {
    client: Arc<ClientState>,
    runtime: Handle,
    // A std mutex: held for one look-up or one replacement.
    table: Mutex<ShardTable>,
}

#[derive(Default)]
struct ShardTable {
    by_address: HashMap<RedisAddress, Arc<RedisShard>>,
    /// For each slot an index into `masters`, or a number beyond its end.
    slots: Vec<u16>,
    /// `None` for a master without a slot.
    masters: Vec<Option<Arc<RedisShard>>>,
    is_complete: bool,
}

impl ShardTable {
    fn shard_of_slot(&self, slot: u16) -> Option<&Arc<RedisShard>> {
        self.masters.get(usize::from(*self.slots.get(usize::from(slot))?))?.as_ref()
    }
}

impl RedisShards {
    pub(crate) fn new(client: Arc<ClientState>, runtime: Handle) -> Self {
        Self { client, runtime, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, ShardTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master of a slot. `None` until Redis first answered.
    pub(crate) fn shard_of_slot(&self, slot: u16) -> Option<Arc<RedisShard>> {
        self.table().shard_of_slot(slot).cloned()
    }

    /// The master at an address, which may be new: a server redirects to it.
    pub(crate) fn shard_at(&self, address: &RedisAddress) -> Arc<RedisShard> {
        self.shard_in(&mut self.table(), address)
    }

    fn shard_in(&self, table: &mut ShardTable, address: &RedisAddress) -> Arc<RedisShard> {
        if let Some(shard) = table.by_address.get(address) {
            return shard.clone();
        }
        let shard = Arc::new(RedisShard::new(self.client.clone(), address.clone(), &self.runtime));
        table.by_address.insert(address.clone(), shard.clone());
        self.runtime.spawn(run_shard(shard.clone()));
        shard
    }

    /// Connects to new masters, and closes the connections to those that are none now.
    pub(crate) fn apply_map(&self, map: &ShardMap) {
        let mut table = self.table();
        let masters: Vec<_> = map
            .indexed_masters()
            .map(|(address, has_slot)| has_slot.then(|| self.shard_in(&mut table, address)))
            .collect();
        table.by_address.retain(|_, shard| {
            let stays = masters.iter().flatten().any(|master| Arc::ptr_eq(master, shard));
            if !stays {
                shard.retire();
            }
            stays
        });
        table.slots = map.slots().to_vec();
        table.masters = masters;
        table.is_complete = map.is_complete();
    }

    /// Whether every partition has a master and every master is connected.
    pub(crate) fn are_connected(&self) -> bool {
        let table = self.table();
        table.is_complete && table.masters.iter().flatten().all(|shard| shard.is_connected())
    }

    /// Whether every master is connected and has all announced scripts.
    pub(crate) fn are_prepared(&self) -> bool {
        self.are_connected() && self.table().masters.iter().flatten().all(|shard| shard.has_all_scripts())
    }

    /// Whether the master of a slot is connected.
    pub(crate) fn is_slot_connected(&self, slot: u16) -> bool {
        self.table().shard_of_slot(slot).is_some_and(|shard| shard.is_connected())
    }

    /// How full the memory of the master of a slot is.
    pub(crate) fn memory_level_of_slot(&self, slot: u16) -> MemoryLevel {
        self.table().shard_of_slot(slot).map_or(MemoryLevel::Normal, |shard| shard.memory_level())
    }

    /// How full the memory of the fullest master is.
    pub(crate) fn highest_memory_level(&self) -> MemoryLevel {
        let table = self.table();
        let levels = table.masters.iter().flatten().map(|shard| shard.memory_level());
        levels.max().unwrap_or(MemoryLevel::Normal)
    }

    /// Checks all connections now, and loads the scripts that are missing.
    pub(crate) fn request_checks(&self) {
        self.table().by_address.values().for_each(|shard| shard.request_check());
    }
}

#[derive(Clone)]
enum ConnectionState {
    /// Never connected. A request may wait for the first connection.
    Opening,
    Connected(MultiplexedConnection),
    /// Known to be lost. Requests fail at once.
    Lost,
}

/// A new connection to a master, with the scripts loaded.
struct OpenedConnection {
    connection: MultiplexedConnection,
    /// The reply to `INFO`.
    info: String,
    /// The server's clock minus the clock of this machine, in milliseconds.
    clock_offset_ms: i64,
    scripts: usize,
}

/// Which connection a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionKind {
    /// The one connection that all requests share. Redis executes them in the order of the calls.
    Shared,
    /// A connection of the pool, for this request alone.
    Pooled,
}

/// A connection for one request.
pub(crate) enum ShardConnection {
    Shared(MultiplexedConnection),
    Pooled(deadpool_redis::Connection),
}

impl Deref for ShardConnection {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        match self {
            Self::Shared(connection) => connection,
            Self::Pooled(connection) => connection,
        }
    }
}

impl DerefMut for ShardConnection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        match self {
            Self::Shared(connection) => connection,
            Self::Pooled(connection) => connection,
        }
    }
}

/// One master.
pub(crate) struct RedisShard {
    pub(crate) address: RedisAddress,
    client: Arc<ClientState>,
    state: watch::Sender<ConnectionState>,
    pool: Result<ConnectionPool, RedisStartError>,
    check_requested: Notify,
    retired: AtomicBool,
    /// How many of the announced scripts the server has.
    loaded_scripts: AtomicUsize,
    /// The number of the [`MemoryLevel`].
    memory_level: AtomicU8,
    // A std mutex: held to compare and replace.
    replication_id: Mutex<String>,
}

impl RedisShard {
    fn new(client: Arc<ClientState>, address: RedisAddress, runtime: &Handle) -> Self {
        Self {
            pool: ConnectionPool::new(&client, &address, runtime),
            address,
            client,
            state: watch::Sender::new(ConnectionState::Opening),
            check_requested: Notify::new(),
            retired: AtomicBool::new(false),
            loaded_scripts: AtomicUsize::new(0),
            memory_level: AtomicU8::new(MemoryLevel::Normal.number()),
            replication_id: Mutex::default(),
        }
    }

    fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), ConnectionState::Connected(_))
    }

    fn memory_level(&self) -> MemoryLevel {
        MemoryLevel::from_number(self.memory_level.load(Ordering::Relaxed))
    }

    fn has_all_scripts(&self) -> bool {
        self.loaded_scripts.load(Ordering::Acquire) >= self.client.scripts.count()
    }

    /// A connection for one request. Waits only for the first connection to the server, and for a
    /// free connection of the pool.
    ///
    /// # Errors
    /// [`RequestFailure`]: the server is lost, or no connection is free in time.
    pub(crate) async fn connection(
        &self,
        kind: ConnectionKind,
        end: Instant,
    ) -> Result<ShardConnection, RequestFailure> {
        let shared = self.shared_connection(end).await.ok_or(RedisUnavailable)?;
        if kind == ConnectionKind::Shared {
            return Ok(ShardConnection::Shared(shared));
        }
        let pool = self.pool.as_ref().map_err(|error| RequestFailure::Refused(error.clone()))?;
        let taken = timeout_at(end, pool.take_connection(&self.address)).await;
        let taken = taken.map_err(|_| RedisUnavailable)?;
        taken.map(ShardConnection::Pooled).map_err(RequestFailure::Refused)
    }

    async fn shared_connection(&self, end: Instant) -> Option<MultiplexedConnection> {
        if let ConnectionState::Connected(connection) = &*self.state.borrow() {
            return Some(connection.clone());
        }
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, ConnectionState::Opening));
        match timeout_at(end, settled).await {
            Ok(Ok(state)) => match &*state {
                ConnectionState::Connected(connection) => Some(connection.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Checks the connection now, for example after a request without an answer.
    pub(crate) fn request_check(&self) {
        self.check_requested.notify_one();
    }

    /// Ends the task of this master and closes its connections.
    fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.check_requested.notify_one();
        if let Ok(pool) = &self.pool {
            pool.close();
        }
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Opens a connection to a master, loads the scripts and compares the clocks.
    async fn open_connection(&self) -> Result<OpenedConnection, RedisStartError> {
        let explain = |error: RedisError| RedisStartError::from_driver_error(&self.address, &error);
        let mut connection = self.client.target().open_for_commands(&self.address).await.map_err(explain)?;
        let info = server_info::load_info(&mut connection).await.map_err(explain)?;
        if !server_info::is_master(&info) {
            return Err(RedisStartError::NoAnswer(format!("{} is a replica", self.address)));
        }
        let scripts = self.client.scripts.scripts_after(0);
        load_scripts(&connection, &scripts).await.map_err(explain)?;
        // Finds a missing permission now and not at the first call. This script does not exist.
        let unknown = redis::cmd("EVALSHA").arg("0".repeat(40)).arg(0).exec_async(&mut connection).await;
        if let Err(error) = unknown
            && error.code() != Some("NOSCRIPT")
        {
            return Err(explain(error));
        }
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query_async(&mut connection).await.map_err(explain)?;
        let clock_offset_ms = seconds * 1_000 + micros / 1_000 - clock::now_ms() as i64;
        Ok(OpenedConnection { connection, info, clock_offset_ms, scripts: scripts.len() })
    }

    /// Before the first start a server that does not meet the requirements is refused. After it,
    /// such a server is used and logged: it is better than none.
    async fn check_server(&self, opened: &mut OpenedConnection) -> Result<(), RedisStartError> {
        match server_info::check_supported(&opened.info) {
            Err(error) if self.client.has_started() => {
                tracing::error!(event = "redis_unfit", redis = %self.address, %error);
                Ok(())
            }
            Ok(()) if !self.client.has_started() => {
                server_info::warn_unbounded_topics(&self.address, &mut opened.connection).await;
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn install_connection(&self, opened: OpenedConnection) {
        // Recorded before the first use, so that no earlier state is taken for the current one.
        self.client.record_interruption();
        self.update_replication_id(&opened.info);
        self.update_memory_level(&opened.info);
        self.client.set_clock_offset(&self.address, opened.clock_offset_ms);
        self.loaded_scripts.store(opened.scripts, Ordering::Release);
        self.state.send_replace(ConnectionState::Connected(opened.connection));
        // Before the start is complete no message can be missing.
        if self.client.has_started() {
            self.client.notify_shard_interruption(&self.address);
        }
        self.client.announce_change();
    }

    /// Keeps the id of the server's history of writes. Returns whether it is the same as before.
    fn update_replication_id(&self, info: &str) -> bool {
        let now = server_info::replication_id(info);
        let mut last = self.replication_id.lock().unwrap_or_else(PoisonError::into_inner);
        let same = *last == now;
        if !same {
            now.clone_into(&mut last);
        }
        same
    }

    /// Keeps the level of the server's memory, and logs each change.
    fn update_memory_level(&self, info: &str) {
        let (before, percent) = (self.memory_level(), used_percent(info));
        let level = before.next_level(percent, self.client.target().memory_percent);
        self.memory_level.store(level.number(), Ordering::Relaxed);
        if level > before {
            tracing::warn!(
                event = "redis_memory_high", redis = %self.address, percent, level = level.number(),
                "messages to peers that do not read are refused; at level 2, all messages"
            );
        } else if level < before {
            tracing::info!(event = "redis_memory_lower", redis = %self.address, percent, level = level.number());
        }
    }

    /// Reads the memory of the server as long as it is connected.
    async fn watch_memory(&self) {
        let state = self.state.borrow().clone();
        let ConnectionState::Connected(mut connection) = state else { return };
        loop {
            sleep(MEMORY_INTERVAL).await;
            let question = server_info::memory_command();
            // `watch_connection` finds a connection that is lost.
            if let Ok(Ok(info)) =
                timeout(CHECK_TIMEOUT, question.query_async::<String>(&mut connection)).await
            {
                self.update_memory_level(&info);
            }
        }
    }

    /// Loads the scripts that were announced after the connection was opened.
    async fn load_new_scripts(&self, connection: &MultiplexedConnection) {
        let loaded = self.loaded_scripts.load(Ordering::Relaxed);
        let missing = self.client.scripts.scripts_after(loaded);
        if missing.is_empty() {
            return;
        }
        match load_scripts(connection, &missing).await {
            Ok(()) => {
                self.loaded_scripts.store(loaded + missing.len(), Ordering::Release);
                self.client.announce_change();
            }
            Err(error) => {
                self.client.report_problem(RedisStartError::from_driver_error(&self.address, &error))
            }
        }
    }

    /// Checks the connection until it is lost or not needed.
    async fn watch_connection(&self) {
        let state = self.state.borrow().clone();
        let ConnectionState::Connected(mut connection) = state else { return };
        loop {
            self.load_new_scripts(&connection).await;
            let was_requested = timeout(CHECK_INTERVAL, self.check_requested.notified()).await.is_ok();
            if self.is_retired() {
                return;
            }
            let limit = if was_requested { SHORT_CHECK_TIMEOUT } else { CHECK_TIMEOUT };
            // Not a PING: a master that has become a replica answers it too.
            let question = server_info::replication_command();
            let reason = match timeout(limit, question.query_async::<String>(&mut connection)).await {
                Ok(Ok(info)) if server_info::is_master(&info) => {
                    if !self.update_replication_id(&info) {
                        tracing::warn!(event = "redis_replication_id_changed", redis = %self.address);
                        self.client.notify_shard_interruption(&self.address);
                    }
                    continue;
                }
                Err(_) => "it does not answer",
                Ok(Ok(_)) => "it has become a replica",
                Ok(Err(_)) => "the connection is broken",
            };
            self.state.send_replace(ConnectionState::Lost);
            tracing::warn!(event = "redis_lost", redis = %self.address, reason, "trying to reconnect");
            // Another server may be the master now.
            self.client.topology.request_refresh();
            return;
        }
    }

    async fn try_connect(&self) -> Result<OpenedConnection, RedisStartError> {
        let target = self.client.target();
        // A server that accepts and does not answer must not take longer than one that refuses.
        let limit = target.deadline.min(target.max_reconnect_wait.max(CHECK_TIMEOUT));
        let opening = async {
            let mut opened = self.open_connection().await?;
            self.check_server(&mut opened).await?;
            Ok(opened)
        };
        let no_answer = |_| Err(RedisStartError::NoAnswer(format!("{}: no answer in time", self.address)));
        timeout(limit, opening).await.unwrap_or_else(no_answer)
    }

    /// Tries to connect until it succeeds or the connection is not needed.
    async fn reconnect_until_open(&self) {
        let mut wait = FIRST_RECONNECT_WAIT;
        loop {
            let start = Instant::now();
            let outcome = self.try_connect().await;
            if self.is_retired() {
                return;
            }
            match outcome {
                Ok(opened) => {
                    if self.client.has_started() || self.client.last_problem().is_some() {
                        tracing::info!(event = "redis_back", redis = %self.address, "Redis answers");
                    }
                    return self.install_connection(opened);
                }
                Err(error) => {
                    tracing::debug!(event = "redis_unavailable", redis = %self.address, %error);
                    self.client.report_problem(error);
                }
            }
            self.state.send_if_modified(|state| {
                let is_first = matches!(state, ConnectionState::Opening);
                if is_first {
                    *state = ConnectionState::Lost;
                }
                is_first
            });
            self.wait_before_retry(start + with_jitter(wait)).await;
            wait = (wait * 2).min(self.client.target().max_reconnect_wait);
        }
    }

    /// Waits for the next attempt. In the meantime another server may become the master.
    async fn wait_before_retry(&self, until: Instant) {
        loop {
            self.client.topology.request_refresh();
            let next = until.min(Instant::now() + TOPOLOGY_REFRESH_INTERVAL);
            sleep_until(next).await;
            if next == until || self.is_retired() {
                return;
            }
        }
    }
}

/// Keeps a master connected as long as it is needed.
async fn run_shard(shard: Arc<RedisShard>) {
    while !shard.is_retired() {
        if shard.is_connected() {
            tokio::select! {
                () = shard.watch_connection() => {}
                () = shard.watch_memory() => {}
            }
        } else {
            shard.reconnect_until_open().await;
        }
    }
}
