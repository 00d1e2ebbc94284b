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
    error::StartError,
    jittered,
    link::Link,
    server::{self, Server},
    target::{Address, Target},
};

/// Between two looks at a quiet connection.
const LOOK: Duration = Duration::from_secs(1);

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take where a call has waited in vain already.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// Between two questions who is the master now, while a server is away.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The first wait before another attempt to connect; doubled up to `redis.reconnect`.
const FIRST_WAIT: Duration = Duration::from_millis(50);

#[derive(Clone)]
enum State {
    /// Never open yet; a call may wait for it.
    Opening,
    Open(MultiplexedConnection),
    /// Known lost: calls fail at once.
    Lost,
}

/// A connection with the scripts loaded, and what the server said.
struct Opened {
    connection: MultiplexedConnection,
    server: Server,
    /// The server's clock less ours, milliseconds.
    clock_offset: i64,
}

pub(crate) struct Shard {
    pub(crate) address: Address,
    state: watch::Sender<State>,
    doubt: Notify,
    retired: AtomicBool,
    // A std mutex: held to compare and replace.
    lineage: Mutex<String>,
}

impl Shard {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            state: watch::Sender::new(State::Opening),
            doubt: Notify::new(),
            retired: AtomicBool::new(false),
            lineage: Mutex::default(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.state.borrow(), State::Open(_))
    }

    /// The connection; waits only for a first one. None: lost, or not there in time.
    pub(crate) async fn connection(&self, end: Instant) -> Option<MultiplexedConnection> {
        if let State::Open(connection) = &*self.state.borrow() {
            return Some(connection.clone());
        }
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, State::Opening));
        match timeout_at(end, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Open(connection) => Some(connection.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// A call has failed: the connection is looked at now.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Nobody needs it any more.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.doubt.notify_one();
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The first connection, to a server that must be fit.
    pub(crate) async fn open_first(&self, link: &Link) -> Result<(), StartError> {
        let mut opened = self.open(link.target(), link.scripts()).await?;
        opened.server.judge()?;
        server::hint(&self.address, &mut opened.connection).await;
        self.take(link, opened);
        Ok(())
    }

    /// A connection with the scripts loaded and the clock compared, to a master.
    async fn open(&self, target: &Target, scripts: &[Script]) -> Result<Opened, StartError> {
        let explain = |error: RedisError| StartError::explain(&self.address, &error);
        let mut connection = target.open(&self.address).await.map_err(explain)?;
        let server = Server::ask(&mut connection).await.map_err(explain)?;
        if !server.is_master() {
            return Err(StartError::NoAnswer(format!("{} is a replica", self.address)));
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
        Ok(Opened { connection, server, clock_offset })
    }

    fn take(&self, link: &Link, opened: Opened) {
        self.is_of_the_same_lineage(&opened.server.info);
        link.compared_clocks(self, opened.clock_offset);
        self.state.send_replace(State::Open(opened.connection));
    }

    /// Whether the history of writes is the one that was seen last; remembers it.
    fn is_of_the_same_lineage(&self, info: &str) -> bool {
        let now = server::lineage(info);
        let mut last = self.lineage.lock().unwrap_or_else(PoisonError::into_inner);
        let same = *last == now;
        if !same {
            now.clone_into(&mut last);
        }
        same
    }

    /// Looks at the connection until it is lost or not needed.
    async fn watch(&self, link: &Weak<Link>) {
        let state = self.state.borrow().clone();
        let State::Open(mut connection) = state else { return };
        loop {
            let doubted = timeout(LOOK, self.doubt.notified()).await.is_ok();
            let Some(link) = link.upgrade() else { return };
            if self.is_retired() {
                return;
            }
            let patience = if doubted { SHORT_PATIENCE } else { PATIENCE };
            // Not a PING: a master that was made a replica answers that too.
            let question = server::replication();
            let answer = timeout(patience, question.query_async::<String>(&mut connection)).await;
            match answer {
                Ok(Ok(info)) if server::is_master(&info) => {
                    if !self.is_of_the_same_lineage(&info) {
                        tracing::warn!(event = "redis_lineage_changed", redis = %self.address);
                        link.disturbed_at(self);
                    }
                }
                outcome => {
                    let reason = match outcome {
                        Err(_) => "it does not answer",
                        Ok(Ok(_)) => "it has become a replica",
                        Ok(Err(_)) => "the connection is broken",
                    };
                    self.state.send_replace(State::Lost);
                    tracing::warn!(event = "redis_lost", redis = %self.address, reason, "trying to reconnect");
                    link.lost(self);
                    return;
                }
            }
        }
    }

    /// Connects until it has worked, or is not needed.
    async fn reconnect(&self, link: &Weak<Link>) {
        let mut wait = FIRST_WAIT;
        while let Some(strong) = link.upgrade() {
            let start = Instant::now();
            let (target, longest) = (strong.target(), strong.target().reconnect);
            // A server that accepts and does not answer must not be waited for longer than one that refuses.
            let patience = target.deadline.min(longest.max(PATIENCE));
            let outcome = timeout(patience, self.open(target, strong.scripts())).await;
            if self.is_retired() {
                return;
            }
            match outcome {
                Ok(Ok(opened)) => {
                    // It was fit at the start; one that is not is better than none, if somebody hears of it.
                    if let Err(error) = opened.server.judge() {
                        tracing::error!(event = "redis_unfit", redis = %self.address, %error);
                    }
                    tracing::info!(event = "redis_back", redis = %self.address, "Redis answers");
                    // Noted before anybody can use it, so that nothing from before is taken for what it says.
                    strong.note_disturbance();
                    self.take(&strong, opened);
                    strong.disturbed_at(self);
                    return;
                }
                Ok(Err(error)) => tracing::debug!(event = "redis_away", redis = %self.address, %error),
                Err(_) => tracing::debug!(event = "redis_away", redis = %self.address, "no answer"),
            }
            self.state.send_if_modified(|state| {
                let first = matches!(state, State::Opening);
                if first {
                    *state = State::Lost;
                }
                first
            });
            drop(strong);
            self.rest(link, start + jittered(wait)).await;
            wait = (wait * 2).min(longest);
        }
    }

    /// Waits for the next attempt. Meanwhile somebody else may have been put in the server's place.
    async fn rest(&self, link: &Weak<Link>, until: Instant) {
        loop {
            if let Some(link) = link.upgrade() {
                link.lost(self);
            }
            let next = until.min(Instant::now() + ASK_AGAIN);
            sleep_until(next).await;
            if next == until || self.is_retired() {
                return;
            }
        }
    }
}

/// Keeps a shard connected as long as somebody needs it.
pub(crate) async fn keep(shard: Arc<Shard>, link: Weak<Link>) {
    while link.strong_count() > 0 && !shard.is_retired() {
        if shard.is_open() {
            shard.watch(&link).await;
        } else {
            shard.reconnect(&link).await;
        }
    }
}
