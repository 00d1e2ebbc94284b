//! One `redis-server` process, of whatever kind.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

use crate::{net::eventually, process::signal, redis_guard::Guard};

/// How long it may take to answer: the driver's half a second is short for a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module. Ended by its own id when dropped.
pub struct RedisNode {
    /// Where it listens.
    pub address: SocketAddr,
    guard: Guard,
    child: Option<Child>,
    args: Vec<String>,
    _dir: TempDir,
}

/// Host and port apart.
pub(crate) fn host_port(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

impl RedisNode {
    /// Starts a server that keeps nothing and never evicts, with further arguments.
    pub async fn start(address: SocketAddr, guard: &Guard, more: &[&str]) -> Self {
        let dir = TempDir::with_prefix("signalbox-redis-").expect("a temporary folder");
        let mut args = guard.server_args(address.port(), dir.path());
        let common =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"];
        args.extend(common.iter().chain(more).map(|arg| (*arg).to_owned()));
        args.extend(["--dir".to_owned(), dir.path().display().to_string()]);
        args.extend(
            ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"].map(str::to_owned),
        );
        let mut node = Self { address, guard: guard.clone(), child: None, args, _dir: dir };
        node.go_on().await;
        node
    }

    /// Starts a Sentinel with this configuration.
    pub(crate) async fn sentinel(address: SocketAddr, guard: &Guard, config: &str) -> Self {
        let dir = TempDir::with_prefix("signalbox-sentinel-").expect("a temporary folder");
        let path = dir.path().join("sentinel.conf");
        // A Sentinel has no users here, so that the product must not tell it its own.
        let open = guard.without_users();
        let mut args = vec![path.display().to_string(), "--sentinel".to_owned()];
        args.extend(open.server_args(address.port(), dir.path()));
        std::fs::write(&path, format!("bind 127.0.0.1\ndir {}\n{config}", dir.path().display()))
            .expect("a file");
        let mut node = Self { address, guard: open, child: None, args, _dir: dir };
        node.go_on().await;
        node
    }

    /// Starts it, again if it was stopped, and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub async fn go_on(&mut self) {
        let child = Command::new("redis-server")
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        eventually("redis-server answers", async || {
            let mut connection = self.try_connect().await?;
            redis::cmd("PING").query_async::<String>(&mut connection).await.ok()
        })
        .await;
    }

    /// Kills it; what it held is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether it was not killed.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The id of its process.
    ///
    /// # Panics
    /// If it is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running redis-server").id()
    }

    /// Its process does nothing any more and keeps its connections.
    ///
    /// # Panics
    /// If it is not running.
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    /// It goes on where it was.
    ///
    /// # Panics
    /// If it is not running.
    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    /// A connection that may do everything, if the server answers.
    pub async fn try_connect(&self) -> Option<MultiplexedConnection> {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.guard.client(self.address).get_multiplexed_async_connection_with_config(&patient).await.ok()
    }

    /// A connection that may do everything.
    ///
    /// # Panics
    /// If there is none.
    pub async fn connect(&self) -> MultiplexedConnection {
        self.try_connect().await.expect("a Redis connection")
    }

    /// One command, by the administrator.
    ///
    /// # Panics
    /// If it fails.
    pub async fn run<T: FromRedisValue>(&self, cmd: &Cmd) -> T {
        cmd.query_async(&mut self.connect().await).await.expect("an answer")
    }

    /// One command, by the administrator, if it succeeds.
    pub async fn try_run<T: FromRedisValue>(&self, cmd: &Cmd) -> Option<T> {
        cmd.query_async(&mut self.try_connect().await?).await.ok()
    }

    /// One command in words, if it succeeds.
    pub async fn try_ask<T: FromRedisValue>(&self, words: &str) -> Option<T> {
        words_cmd(words).query_async(&mut self.try_connect().await?).await.ok()
    }

    /// One command in words.
    ///
    /// # Panics
    /// If it fails.
    pub async fn ask<T: FromRedisValue>(&self, words: &str) -> T {
        match words_cmd(words).query_async(&mut self.connect().await).await {
            Ok(answer) => answer,
            Err(error) => panic!("{words}: {error}"),
        }
    }

    /// Makes it unable to follow its master from now on: what the master writes is not replicated and is lost with it.
    pub async fn forget_master_password(&self) {
        self.ask::<()>("CONFIG SET masterauth nobody-knows").await;
    }

    /// Undoes [`RedisNode::forget_master_password`].
    pub async fn remember_master_password(&self) {
        let mut cmd = words_cmd("CONFIG SET masterauth");
        cmd.arg(self.guard.admin().unwrap_or_default());
        self.run::<()>(&cmd).await;
    }

    /// A line of `INFO replication`.
    pub async fn replication(&self, name: &str) -> Option<String> {
        let info: String = self.try_ask("INFO replication").await?;
        info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }
}

/// A command whose arguments hold no white space.
pub(crate) fn words_cmd(words: &str) -> Cmd {
    let mut words = words.split_ascii_whitespace();
    let mut cmd = redis::cmd(words.next().expect("a command"));
    cmd.arg(words.collect::<Vec<_>>());
    cmd
}

impl Drop for RedisNode {
    fn drop(&mut self) {
        self.kill();
    }
}
