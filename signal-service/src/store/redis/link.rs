//! The connection for commands: one, multiplexed, watched, with a deadline on every call and no retries.
//!
//! It lives on a thread of its own, so that neither a busy worker nor a stopping one holds up Redis.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, Script, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use signalbox_shared::{clock, config::Redis as Settings};
use tokio::sync::Notify;

use super::{Unavailable, evalsha};

/// How long a start may wait for Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at a quiet connection.
const LOOK: Duration = Duration::from_secs(1);

/// Why a start failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The URL is not one.
    #[error("the Redis URL is not valid; write it like redis://user:password@host:6379/0")]
    Url,
    /// Nobody answers.
    #[error("Redis did not answer within 10 s ({0}); is it running, and are the URL and password right?")]
    NoAnswer(&'static str),
    /// Too old for sharded pub/sub and script flags.
    #[error("Redis is version {0}; 7.0 or newer is needed")]
    TooOld(String),
    /// It would drop keys under memory pressure.
    #[error("Redis has maxmemory-policy {0}, which drops keys when memory is short; set it to noeviction")]
    Evicts(String),
    /// The thread could not be started.
    #[error("cannot start the store's thread: {0}")]
    Thread(std::io::Error),
}

/// The scripts.
#[derive(Clone, Copy)]
pub(super) enum ScriptId {
    Append,
    /// An append without messages: allowed when Redis is full.
    Acknowledge,
    Commit,
    /// A commit that nobody new comes in by: allowed when Redis is full.
    Shrink,
    Load,
    Read,
    Renew,
    Heads,
    Shatter,
    Due,
    Trim,
    Lease,
    Unlist,
}

impl ScriptId {
    const ALL: [Self; 13] = [
        Self::Append,
        Self::Acknowledge,
        Self::Commit,
        Self::Shrink,
        Self::Load,
        Self::Read,
        Self::Renew,
        Self::Heads,
        Self::Shatter,
        Self::Due,
        Self::Trim,
        Self::Lease,
        Self::Unlist,
    ];

    /// The script: what it shares with others, and its own text.
    fn text(self) -> String {
        const ROOM: &str = include_str!("lua/mailbox.lua");
        const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";
        let (flags, shared, own) = match self {
            Self::Append => ("", ROOM, include_str!("lua/append.lua")),
            Self::Acknowledge => (ALLOW_OOM, ROOM, include_str!("lua/append.lua")),
            Self::Commit => ("", ROOM, include_str!("lua/commit.lua")),
            Self::Shrink => (ALLOW_OOM, ROOM, include_str!("lua/commit.lua")),
            Self::Load => (ALLOW_OOM, ROOM, include_str!("lua/load.lua")),
            Self::Read => (ALLOW_OOM, ROOM, include_str!("lua/read.lua")),
            Self::Renew => (ALLOW_OOM, ROOM, include_str!("lua/renew.lua")),
            Self::Heads => (ALLOW_OOM, ROOM, include_str!("lua/heads.lua")),
            Self::Shatter => (ALLOW_OOM, ROOM, include_str!("lua/shatter.lua")),
            Self::Due => (ALLOW_OOM, "", include_str!("lua/due.lua")),
            Self::Trim => (ALLOW_OOM, ROOM, include_str!("lua/trim.lua")),
            Self::Lease => (ALLOW_OOM, "", include_str!("lua/lease.lua")),
            Self::Unlist => (ALLOW_OOM, ROOM, include_str!("lua/unlist.lua")),
        };
        format!("{flags}{shared}\n{own}")
    }
}

struct Scripts(Vec<Script>);

impl Scripts {
    fn new() -> Self {
        Self(ScriptId::ALL.iter().map(|id| Script::new(&id.text())).collect())
    }

    fn get(&self, id: ScriptId) -> &Script {
        &self.0[id as usize]
    }
}

pub(super) struct Link {
    pub(super) client: Client,
    pub(super) deadline: Duration,
    pub(super) pause: Duration,
    // A std mutex: held only to clone or replace the handle.
    current: Mutex<Option<MultiplexedConnection>>,
    broken: Notify,
    disturbed: Mutex<std::time::Instant>,
    clock_offset: AtomicI64,
    scripts: Scripts,
    runtime: tokio::runtime::Handle,
    // Dropping it ends the thread.
    _alive: tokio::sync::oneshot::Sender<()>,
}

impl Link {
    pub(super) fn connect(url: &str, settings: &Settings) -> Result<Arc<Self>, StartError> {
        let client = Client::open(url).map_err(|_| StartError::Url)?;
        let (runtime, alive) = own_thread()?;
        let link = Arc::new(Self {
            client,
            deadline: settings.deadline.0,
            pause: settings.reconnect.0,
            current: Mutex::new(None),
            broken: Notify::new(),
            disturbed: Mutex::new(std::time::Instant::now()),
            clock_offset: AtomicI64::new(0),
            scripts: Scripts::new(),
            runtime,
            _alive: alive,
        });
        let first = link.clone();
        link.run_and_wait(async move { first.first_connection().await })?;
        let weak = Arc::downgrade(&link);
        link.spawn(async move {
            while let Some(link) = weak.upgrade() {
                link.watch().await;
            }
        });
        Ok(link)
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a future on the store's thread and blocks this one until it is done. Only at start.
    pub(super) fn run_and_wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, StartError>> + Send + 'static,
    ) -> Result<T, StartError> {
        let (tx, rx) = mpsc::channel();
        self.spawn(async move {
            // The receiver waits below; it cannot be gone.
            let _ = tx.send(task.await);
        });
        rx.recv().unwrap_or(Err(StartError::NoAnswer("the store's thread has stopped")))
    }

    async fn first_connection(&self) -> Result<(), StartError> {
        let mut last = "no connection";
        let attempts = async {
            loop {
                match self.open().await {
                    Ok(connection) => return connection,
                    Err(error) => last = describe(&error),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let attempt = tokio::time::timeout(PATIENCE, attempts).await;
        let Ok(mut connection) = attempt else { return Err(StartError::NoAnswer(last)) };
        check_server(&mut connection).await?;
        self.set(Some(connection));
        Ok(())
    }

    /// Watches the connection; when it breaks, opens another.
    async fn watch(&self) {
        // A call that failed wakes this early; it may have been on a connection that has been replaced since, so the present one
        // is asked either way.
        let _ = tokio::time::timeout(LOOK, self.broken.notified()).await;
        if self.call(0, &redis::cmd("PING")).await.is_ok() {
            return;
        }
        self.set(None);
        tracing::warn!(event = "redis_lost", "Redis does not answer; trying to reconnect");
        loop {
            match self.open().await {
                Ok(connection) => {
                    *self.disturbed.lock().unwrap_or_else(PoisonError::into_inner) =
                        std::time::Instant::now();
                    self.set(Some(connection));
                    tracing::info!(event = "redis_back", "Redis answers again");
                    return;
                }
                Err(error) => tracing::debug!(event = "redis_away", reason = describe(&error)),
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// A connection with the scripts loaded and the clock compared.
    async fn open(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        for id in ScriptId::ALL {
            self.scripts.get(id).load_async(&mut connection).await?;
        }
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
        let offset = seconds * 1_000 + micros / 1_000 - clock::now_ms() as i64;
        self.clock_offset.store(offset, Ordering::Relaxed);
        Ok(connection)
    }

    fn set(&self, connection: Option<MultiplexedConnection>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    fn get(&self) -> Option<MultiplexedConnection> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn is_open(&self, _partition: usize) -> bool {
        self.is_ready()
    }

    pub(super) fn undisturbed_for(&self) -> Duration {
        self.disturbed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Milliseconds since 1970 by the server's clock, as it was compared when the connection was opened.
    pub(super) fn now_ms(&self) -> u64 {
        clock::now_ms().saturating_add_signed(self.clock_offset.load(Ordering::Relaxed))
    }

    /// One command, one answer, within the deadline.
    pub(super) async fn call(&self, _partition: usize, cmd: &Cmd) -> Result<Value, Unavailable> {
        self.try_call(cmd).await.map_err(|_| Unavailable)
    }

    async fn try_call(&self, cmd: &Cmd) -> Result<Value, Option<RedisError>> {
        let mut connection = self.get().ok_or(None)?;
        let outcome = connection.send_packed_command(cmd).await.and_then(Value::extract_error);
        outcome.map_err(|error| {
            if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
                self.broken.notify_one();
            } else {
                tracing::debug!(event = "redis_refused", reason = describe(&error));
            }
            Some(error)
        })
    }

    /// One script call. A server that has forgotten the script (`SCRIPT FLUSH`) has not run it: it is loaded and called again,
    /// which cannot reorder because the caller has nothing else in flight.
    pub(super) async fn script(
        &self,
        partition: usize,
        id: ScriptId,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, Unavailable> {
        let script = self.scripts.get(id);
        let cmd = evalsha(script.get_hash(), &keys, &args);
        match self.try_call(&cmd).await {
            Ok(value) => Ok(value),
            Err(Some(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut connection = self.get().ok_or(Unavailable)?;
                script.load_async(&mut connection).await.map_err(|_| Unavailable)?;
                self.call(partition, &cmd).await
            }
            Err(_) => Err(Unavailable),
        }
    }
}

/// A thread with a runtime that lives until the returned sender is dropped.
fn own_thread() -> Result<(tokio::runtime::Handle, tokio::sync::oneshot::Sender<()>), StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let handle = runtime.handle().clone();
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            // An error means the sender was dropped, which is the signal.
            let _ = runtime.block_on(ended);
        })
        .map_err(StartError::Thread)?;
    Ok((handle, alive))
}

/// What went wrong, without anything that was sent.
fn describe(error: &RedisError) -> &'static str {
    match error.kind() {
        _ if error.is_timeout() => "it did not answer in time",
        _ if error.is_io_error() => "the connection failed",
        ErrorKind::AuthenticationFailed => "user or password is wrong",
        ErrorKind::Server(ServerErrorKind::NoPerm) => "the ACL user lacks a permission",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "it is still loading",
        _ => match error.code() {
            Some("OOM") => "it is out of memory",
            Some("NOAUTH" | "WRONGPASS") => "user or password is wrong",
            _ => "it refused a command",
        },
    }
}

async fn check_server(connection: &mut MultiplexedConnection) -> Result<(), StartError> {
    let info: String = redis::cmd("INFO")
        .query_async(connection)
        .await
        .map_err(|_| StartError::NoAnswer("INFO was refused; the ACL user needs +info"))?;
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let version = field("redis_version:");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    if major < 7 {
        return Err(StartError::TooOld(version));
    }
    let policy = field("maxmemory_policy:");
    if policy != "noeviction" {
        return Err(StartError::Evicts(policy));
    }
    Ok(())
}
