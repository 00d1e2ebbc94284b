//! The connection for commands to one master: one, multiplexed, watched, opened again when it is lost.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use redis::{RedisError, Script, aio::MultiplexedConnection};
use signalbox_protocol::clock;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    jitter::with_jitter,
    redis_address::RedisAddress,
    redis_client::RedisClient,
    redis_error::RedisStartError,
    redis_target::RedisTarget,
    server_info::{self, ServerInfo},
};

/// Between two looks at a quiet connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a look may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it may take where a call has waited in vain already.
const SHORT_CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two questions who is the master now, while a server is away.
const TOPOLOGY_REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// The first wait before another attempt to connect; doubled up to `redis.reconnect`.
const FIRST_RECONNECT_WAIT: Duration = Duration::from_millis(50);

#[derive(Clone)]
enum ConnectionState {
    /// Never open yet; a call may wait for it.
    Opening,
    Connected(MultiplexedConnection),
    /// Known lost: calls fail at once.
    Lost,
}

/// A connection with the scripts loaded, and what the server said.
struct OpenedConnection {
    connection: MultiplexedConnection,
    server: ServerInfo,
    /// The server's clock less ours, milliseconds.
    clock_offset: i64,
}

pub(crate) struct RedisShard {
    pub(crate) address: RedisAddress,
    state: watch::Sender<ConnectionState>,
    check_requested: Notify,
    retired: AtomicBool,
    // A std mutex: held to compare and replace.
    replication_id: Mutex<String>,
}

impl RedisShard {
    pub(crate) fn new(address: RedisAddress) -> Self {
        Self {
            address,
            state: watch::Sender::new(ConnectionState::Opening),
            check_requested: Notify::new(),
            retired: AtomicBool::new(false),
            replication_id: Mutex::default(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), ConnectionState::Connected(_))
    }

    /// The connection; waits only for a first one. None: lost, or not there in time.
    pub(crate) async fn wait_for_connection(&self, end: Instant) -> Option<MultiplexedConnection> {
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

    /// A call has failed: the connection is looked at now.
    pub(crate) fn request_check(&self) {
        self.check_requested.notify_one();
    }

    /// Nobody needs it any more.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.check_requested.notify_one();
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The first connection, to a server that must be fit.
    pub(crate) async fn open_first_connection(&self, link: &RedisClient) -> Result<(), RedisStartError> {
        let mut opened = self.open_connection(link.target(), link.scripts()).await?;
        opened.server.check_supported()?;
        server_info::warn_unbounded_topics(&self.address, &mut opened.connection).await;
        self.install_connection(link, opened);
        Ok(())
    }

    /// A connection with the scripts loaded and the clock compared, to a master.
    async fn open_connection(
        &self,
        target: &RedisTarget,
        scripts: &[Script],
    ) -> Result<OpenedConnection, RedisStartError> {
        let explain = |error: RedisError| RedisStartError::from_driver_error(&self.address, &error);
        let mut connection = target.open_for_commands(&self.address).await.map_err(explain)?;
        let server = ServerInfo::load_info(&mut connection).await.map_err(explain)?;
        if !server.is_master() {
            return Err(RedisStartError::NoAnswer(format!("{} is a replica", self.address)));
        }
        let loading = scripts.iter().map(|script| {
            let mut connection = connection.clone();
            async move { script.load_async(&mut connection).await }
        });
        try_join_all(loading).await.map_err(explain)?;
        // A permission that lacks is better found out now than by the first call: this script does not exist.
        let nothing = redis::cmd("EVALSHA").arg("0".repeat(40)).arg(0).exec_async(&mut connection).await;
        if let Err(error) = nothing
            && error.code() != Some("NOSCRIPT")
        {
            return Err(explain(error));
        }
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query_async(&mut connection).await.map_err(explain)?;
        let clock_offset = seconds * 1_000 + micros / 1_000 - clock::now_ms() as i64;
        Ok(OpenedConnection { connection, server, clock_offset })
    }

    fn install_connection(&self, link: &RedisClient, opened: OpenedConnection) {
        self.update_replication_id(&opened.server.text);
        link.set_clock_offset(self, opened.clock_offset);
        self.state.send_replace(ConnectionState::Connected(opened.connection));
    }

    /// Whether the history of writes is the one that was seen last; remembers it.
    fn update_replication_id(&self, info: &str) -> bool {
        let now = server_info::replication_id(info);
        let mut last = self.replication_id.lock().unwrap_or_else(PoisonError::into_inner);
        let same = *last == now;
        if !same {
            now.clone_into(&mut last);
        }
        same
    }

    /// Looks at the connection until it is lost or not needed.
    async fn watch_connection(&self, link: &Weak<RedisClient>) {
        let state = self.state.borrow().clone();
        let ConnectionState::Connected(mut connection) = state else { return };
        loop {
            let doubted = timeout(CHECK_INTERVAL, self.check_requested.notified()).await.is_ok();
            let Some(link) = link.upgrade() else { return };
            if self.is_retired() {
                return;
            }
            let patience = if doubted { SHORT_CHECK_TIMEOUT } else { CHECK_TIMEOUT };
            // Not a PING: a master that was made a replica answers that too.
            let question = server_info::replication_command();
            let answer = timeout(patience, question.query_async::<String>(&mut connection)).await;
            match answer {
                Ok(Ok(info)) if server_info::is_master(&info) => {
                    if !self.update_replication_id(&info) {
                        tracing::warn!(event = "redis_lineage_changed", redis = %self.address);
                        link.notify_shard_interruption(self);
                    }
                }
                outcome => {
                    let reason = match outcome {
                        Err(_) => "it does not answer",
                        Ok(Ok(_)) => "it has become a replica",
                        Ok(Err(_)) => "the connection is broken",
                    };
                    self.state.send_replace(ConnectionState::Lost);
                    tracing::warn!(event = "redis_lost", redis = %self.address, reason, "trying to reconnect");
                    link.report_lost_shard(self);
                    return;
                }
            }
        }
    }

    /// Connects until it has worked, or is not needed.
    async fn reconnect_until_open(&self, link: &Weak<RedisClient>) {
        let mut wait = FIRST_RECONNECT_WAIT;
        while let Some(strong) = link.upgrade() {
            let start = Instant::now();
            let (target, longest) = (strong.target(), strong.target().max_reconnect_wait);
            // A server that accepts and does not answer must not be waited for longer than one that refuses.
            let patience = target.deadline.min(longest.max(CHECK_TIMEOUT));
            let outcome = timeout(patience, self.open_connection(target, strong.scripts())).await;
            if self.is_retired() {
                return;
            }
            match outcome {
                Ok(Ok(opened)) => {
                    // It was fit at the start; one that is not is better than none, if somebody hears of it.
                    if let Err(error) = opened.server.check_supported() {
                        tracing::error!(event = "redis_unfit", redis = %self.address, %error);
                    }
                    tracing::info!(event = "redis_back", redis = %self.address, "Redis answers");
                    // Noted before anybody can use it, so that nothing from before is taken for what it says.
                    strong.record_interruption();
                    self.install_connection(&strong, opened);
                    strong.notify_shard_interruption(self);
                    return;
                }
                Ok(Err(error)) => tracing::debug!(event = "redis_away", redis = %self.address, %error),
                Err(_) => tracing::debug!(event = "redis_away", redis = %self.address, "no answer"),
            }
            self.state.send_if_modified(|state| {
                let first = matches!(state, ConnectionState::Opening);
                if first {
                    *state = ConnectionState::Lost;
                }
                first
            });
            drop(strong);
            self.wait_before_retry(link, start + with_jitter(wait)).await;
            wait = (wait * 2).min(longest);
        }
    }

    /// Waits for the next attempt. Meanwhile somebody else may have been put in the server's place.
    async fn wait_before_retry(&self, link: &Weak<RedisClient>, until: Instant) {
        loop {
            if let Some(link) = link.upgrade() {
                link.report_lost_shard(self);
            }
            let next = until.min(Instant::now() + TOPOLOGY_REFRESH_INTERVAL);
            sleep_until(next).await;
            if next == until || self.is_retired() {
                return;
            }
        }
    }
}

/// Keeps a shard connected as long as somebody needs it.
pub(crate) async fn run_shard(shard: Arc<RedisShard>, link: Weak<RedisClient>) {
    while link.strong_count() > 0 && !shard.is_retired() {
        if shard.is_connected() {
            shard.watch_connection(&link).await;
        } else {
            shard.reconnect_until_open(&link).await;
        }
    }
}
