//! One master of a deployment, with its connections.
//!
//! Owns: one shared connection, which is checked and opened again when it is lost, and one pool. Must
//! not: send a request of a caller; see `redis_client/redis_request.rs`. Next: `client_state` for what
//! all masters of a client share.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{RedisError, Value, aio::MultiplexedConnection};
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
    permission_check::find_missing_permissions,
    redis_address::RedisAddress,
    redis_error::{RedisStartError, RedisUnavailable, RequestFailure},
    redis_script::{RedisScript, load_scripts},
    refusal_log::Refusal,
    server_info,
};

/// Between two checks of a connection without requests.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two full checks of a server, on a new connection. While a server refuses requests, there
/// is one with each check of its connection.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A script that could write and does not: a server that refuses writes refuses it.
static PROBE_WRITES: RedisScript = RedisScript::new("return 1").with_flags("");

/// Between two looks at the memory and the replication id of a server. A few clients can fill a
/// quarter of a small server in a second; docs/decisions/0017 says what depends on the id.
const STATE_INTERVAL: Duration = Duration::from_millis(100);

/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a check may take after a request that got no answer.
const SHORT_CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two refreshes of the topology while a server is lost.
const TOPOLOGY_REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// The first wait before another attempt to connect. It doubles up to `redis.reconnect`.
const FIRST_RECONNECT_WAIT: Duration = Duration::from_millis(50);

#[derive(Clone)]
enum ConnectionState {
    /// Never connected. A request may wait for the first connection.
    Opening,
    Connected(SharedConnection),
    /// Known to be lost. Requests fail at once.
    Lost,
}

/// The shared connection. A server that restarts ends it, so the id changes only with a promotion of
/// the server.
#[derive(Clone)]
pub(crate) struct SharedConnection {
    connection: MultiplexedConnection,
    /// The id of the server's history of writes, as the server gave it last on this connection.
    replication_id: Arc<str>,
}

/// A new connection to a master, with the scripts loaded.
struct OpenedConnection {
    connection: MultiplexedConnection,
    /// The reply to `INFO`.
    info: String,
    /// The server's clock minus the clock of this machine, in milliseconds.
    clock_offset_ms: i64,
    scripts: usize,
    /// Whether the server refuses no request that was tried.
    accepts_requests: bool,
}

/// What a full check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FullCheck {
    /// The server of the shared connection.
    SameServer,
    /// A master with another history of writes.
    OtherServer,
    /// No server could be asked.
    Unknown,
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
    Shared(SharedConnection),
    Pooled(deadpool_redis::Connection),
}

impl ShardConnection {
    /// The replication id of the server at the end of this connection; empty if it was not asked.
    pub(crate) fn replication_id(&self) -> &str {
        match self {
            Self::Shared(shared) => &shared.replication_id,
            Self::Pooled(_) => "",
        }
    }
}

impl Deref for ShardConnection {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        match self {
            Self::Shared(shared) => &shared.connection,
            Self::Pooled(connection) => connection,
        }
    }
}

impl DerefMut for ShardConnection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        match self {
            Self::Shared(shared) => &mut shared.connection,
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
}

impl RedisShard {
    pub(crate) fn new(client: Arc<ClientState>, address: RedisAddress, runtime: &Handle) -> Self {
        Self {
            pool: ConnectionPool::new(&client, &address, runtime),
            address,
            client,
            state: watch::Sender::new(ConnectionState::Opening),
            check_requested: Notify::new(),
            retired: AtomicBool::new(false),
            loaded_scripts: AtomicUsize::new(0),
            memory_level: AtomicU8::new(MemoryLevel::Normal.number()),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), ConnectionState::Connected(_))
    }

    pub(crate) fn memory_level(&self) -> MemoryLevel {
        MemoryLevel::from_number(self.memory_level.load(Ordering::Relaxed))
    }

    pub(crate) fn has_all_scripts(&self) -> bool {
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

    async fn shared_connection(&self, end: Instant) -> Option<SharedConnection> {
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

    /// Opens new pooled connections before the next requests.
    pub(crate) fn replace_pooled_connections(&self) {
        if let Ok(pool) = &self.pool {
            pool.replace_connections();
        }
    }

    /// Ends the task of this master and closes its connections.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.check_requested.notify_one();
        if let Ok(pool) = &self.pool {
            pool.close();
        }
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Explains an error of the driver, and records it if the server refuses requests.
    pub(crate) fn explain_error(&self, error: &RedisError) -> RedisStartError {
        self.client.explain_error(&self.address, error)
    }

    pub(crate) fn has_history(&self, replication_id: &str) -> bool {
        match &*self.state.borrow() {
            ConnectionState::Connected(shared) => *shared.replication_id == *replication_id,
            _ => false,
        }
    }

    /// Opens a connection to a master, loads the scripts, tries the commands and compares the clocks.
    async fn open_connection(&self) -> Result<OpenedConnection, RedisStartError> {
        let explain = |error: RedisError| self.explain_error(&error);
        let mut connection = self.client.target().open_for_commands(&self.address).await.map_err(explain)?;
        let info = server_info::load_info(&mut connection).await.map_err(explain)?;
        if !server_info::is_master(&info) {
            self.client.refusals.record(&self.address, Refusal::by_replica());
            return Err(RedisStartError::NoAnswer(format!("{} is a replica", self.address)));
        }
        let scripts = self.client.scripts.scripts_after(0);
        load_scripts(&connection, &scripts).await.map_err(explain)?;
        // Finds a missing permission now and not at the first call. This script does not exist.
        for command in ["EVALSHA", "EVALSHA_RO"] {
            let unknown = redis::cmd(command).arg("0".repeat(40)).arg(0).exec_async(&mut connection).await;
            if let Err(error) = unknown
                && error.code() != Some("NOSCRIPT")
            {
                return Err(explain(error));
            }
        }
        if self.client.topology.current_map().is_cluster() {
            // Sent while a slot moves. It changes only the next command, which this is for.
            redis::cmd("ASKING").exec_async(&mut connection).await.map_err(explain)?;
        }
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query_async(&mut connection).await.map_err(explain)?;
        let clock_offset_ms = seconds * 1_000 + micros / 1_000 - clock::now_ms() as i64;
        let may_run = self.check_permissions(&connection).await?;
        let accepts_requests = self.accepts_writes(&connection).await && may_run;
        Ok(OpenedConnection { connection, info, clock_offset_ms, scripts: scripts.len(), accepts_requests })
    }

    /// Whether the user may run every command in use. Before the first start a missing permission is
    /// an error; after it, it is recorded, and the other commands still work.
    async fn check_permissions(&self, connection: &MultiplexedConnection) -> Result<bool, RedisStartError> {
        let (names, commands) = (self.client.names(), self.client.scripts.commands());
        let missing = find_missing_permissions(connection, names, &commands).await;
        let missing = missing.map_err(|error| self.explain_error(&error))?.join(", ");
        if missing.is_empty() {
            return Ok(true);
        }
        self.client.refusals.record(&self.address, Refusal::missing_permission(missing.clone()));
        if self.client.has_started() {
            return Ok(false);
        }
        Err(RedisStartError::MissingPermission { address: self.address.clone(), missing })
    }

    /// Whether the server accepts a script that could write. A refusal is recorded.
    async fn accepts_writes(&self, connection: &MultiplexedConnection) -> bool {
        let outcome: Result<Value, RedisError> =
            PROBE_WRITES.driver().prepare_invoke().invoke_async(&mut connection.clone()).await;
        outcome.map_err(|error| self.explain_error(&error)).is_ok()
    }

    /// Opens a second connection as at the start, and closes it. So a check finds what the shared
    /// connection does not show: a login that is refused now, a permission that is missing, or
    /// another master to which the address leads.
    async fn check_fully(&self) -> FullCheck {
        let Ok(opened) = self.try_connect().await else { return FullCheck::Unknown };
        if opened.accepts_requests {
            self.client.refusals.end_after_check(&self.address);
        }
        if self.has_history(server_info::replication_id(&opened.info)) {
            FullCheck::SameServer
        } else {
            FullCheck::OtherServer
        }
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
        self.replace_pooled_connections();
        // Recorded before the first use, so that no earlier state is taken for the current one.
        self.client.record_interruption();
        self.update_memory_level(&opened.info);
        self.client.set_clock_offset(&self.address, opened.clock_offset_ms);
        self.loaded_scripts.store(opened.scripts, Ordering::Release);
        let replication_id = server_info::replication_id(&opened.info).into();
        let shared = SharedConnection { connection: opened.connection, replication_id };
        self.state.send_replace(ConnectionState::Connected(shared));
        // Before the start is complete no message can be missing.
        if self.client.has_started() {
            self.client.notify_shard_interruption(&self.address);
        }
        self.client.announce_change();
    }

    /// Keeps the id of the server's history of writes. All later calls name the new one.
    fn update_replication_id(&self, info: &str) {
        let now = server_info::replication_id(info);
        let has_changed = self.state.send_if_modified(|state| match state {
            ConnectionState::Connected(shared) if *shared.replication_id != *now => {
                shared.replication_id = now.into();
                true
            }
            _ => false,
        });
        if has_changed {
            tracing::warn!(event = "redis_replication_id_changed", redis = %self.address);
            self.client.notify_shard_interruption(&self.address);
        }
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

    /// Reads the memory and the replication id of the server as long as it is connected.
    async fn watch_state(&self) {
        let state = self.state.borrow().clone();
        let ConnectionState::Connected(SharedConnection { mut connection, .. }) = state else { return };
        loop {
            sleep(STATE_INTERVAL).await;
            let question = server_info::state_command();
            // `watch_connection` finds a connection that is lost.
            let Ok(Ok(info)) = timeout(CHECK_TIMEOUT, question.query_async::<String>(&mut connection)).await
            else {
                continue;
            };
            self.update_memory_level(&info);
            if server_info::is_master(&info) {
                self.update_replication_id(&info);
            } else {
                self.request_check();
            }
        }
    }

    /// Loads the scripts that were announced after the connection was opened, and tries their
    /// commands.
    async fn prepare_new_scripts(&self, connection: &MultiplexedConnection) {
        let loaded = self.loaded_scripts.load(Ordering::Relaxed);
        let missing = self.client.scripts.scripts_after(loaded);
        if missing.is_empty() {
            return;
        }
        let preparing = async {
            load_scripts(connection, &missing).await.map_err(|error| self.explain_error(&error))?;
            self.check_permissions(connection).await
        };
        match preparing.await {
            Ok(_) => {
                self.loaded_scripts.store(loaded + missing.len(), Ordering::Release);
                self.client.announce_change();
            }
            Err(error) => self.client.report_problem(error),
        }
    }

    /// Checks the connection until it is lost or not needed.
    async fn watch_connection(&self) {
        let state = self.state.borrow().clone();
        let ConnectionState::Connected(SharedConnection { connection, .. }) = state else { return };
        let mut next_full_check = Instant::now() + with_jitter(FULL_CHECK_INTERVAL);
        loop {
            self.prepare_new_scripts(&connection).await;
            let was_requested = timeout(CHECK_INTERVAL, self.check_requested.notified()).await.is_ok();
            if self.is_retired() {
                return;
            }
            let limit = if was_requested { SHORT_CHECK_TIMEOUT } else { CHECK_TIMEOUT };
            let mut problem = self.check_connection(&connection, limit).await.err();
            let is_due = Instant::now() >= next_full_check;
            if problem.is_none() && (is_due || self.client.refusals.has_current(&self.address)) {
                next_full_check = Instant::now() + with_jitter(FULL_CHECK_INTERVAL);
                problem = match self.check_fully().await {
                    FullCheck::OtherServer if !self.is_retired() => {
                        Some("the address leads to another server")
                    }
                    _ => None,
                };
            }
            let Some(reason) = problem else { continue };
            self.state.send_replace(ConnectionState::Lost);
            tracing::warn!(event = "redis_lost", redis = %self.address, reason, "trying to reconnect");
            // Another server may be the master now.
            self.client.topology.request_refresh();
            return;
        }
    }

    /// Checks that a master answers on the connection, and whether it accepts writes.
    ///
    /// # Errors
    /// Why the connection is not used any more.
    async fn check_connection(
        &self,
        connection: &MultiplexedConnection,
        limit: Duration,
    ) -> Result<(), &'static str> {
        // Not a PING: a master that has become a replica answers it too.
        let question = server_info::replication_command();
        let mut asked = connection.clone();
        let asking = async {
            let info = question.query_async::<String>(&mut asked).await;
            if info.is_ok() {
                self.accepts_writes(connection).await;
            }
            info
        };
        match timeout(limit, asking).await {
            Ok(Ok(info)) if server_info::is_master(&info) => {
                self.update_replication_id(&info);
                Ok(())
            }
            Err(_) => Err("it does not answer"),
            Ok(Ok(_)) => Err("it has become a replica"),
            Ok(Err(error)) => {
                self.explain_error(&error);
                Err("the connection is broken")
            }
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
                    if opened.accepts_requests {
                        self.client.refusals.end_after_check(&self.address);
                    }
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
pub(crate) async fn run_shard(shard: Arc<RedisShard>) {
    while !shard.is_retired() {
        if shard.is_connected() {
            tokio::select! {
                () = shard.watch_connection() => {}
                () = shard.watch_state() => {}
            }
        } else {
            shard.reconnect_until_open().await;
        }
    }
}
