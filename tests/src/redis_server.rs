//! One `redis-server` process: a data server or a Sentinel.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

use crate::{net::eventually, process::send_signal, redis_security::RedisSecurity};

/// How long an answer may take. The default of the driver, 500 ms, is too short while a build runs.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A server process. It is killed when dropped.
pub struct RedisServer {
    /// The address on which it listens.
    pub address: SocketAddr,
    security: RedisSecurity,
    child: Option<Child>,
    args: Vec<String>,
    _dir: TempDir,
}

impl RedisServer {
    /// Starts a server without persistence and eviction, with additional arguments.
    pub async fn start(address: SocketAddr, security: &RedisSecurity, extra_args: &[&str]) -> Self {
        let dir = TempDir::with_prefix("signalbox-redis-").expect("a temporary folder");
        let mut args = security.server_args(address.port(), dir.path());
        let common =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"];
        args.extend(common.iter().chain(extra_args).map(|arg| (*arg).to_owned()));
        args.extend(["--dir".to_owned(), dir.path().display().to_string()]);
        args.extend(
            ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"].map(str::to_owned),
        );
        let mut server = Self { address, security: security.clone(), child: None, args, _dir: dir };
        server.restart().await;
        server
    }

    /// Starts a Sentinel with this configuration.
    pub(crate) async fn start_sentinel(address: SocketAddr, security: &RedisSecurity, config: &str) -> Self {
        let dir = TempDir::with_prefix("signalbox-sentinel-").expect("a temporary folder");
        let path = dir.path().join("sentinel.conf");
        // A Sentinel does not have the users of the servers, so the test shows that a service does not
        // send its own there.
        let mut args = vec![path.display().to_string(), "--sentinel".to_owned()];
        args.extend(security.without_users().server_args(address.port(), dir.path()));
        let users = security.sentinel_users();
        std::fs::write(&path, format!("bind 127.0.0.1\ndir {}\n{users}{config}", dir.path().display()))
            .expect("a file");
        let mut server = Self { address, security: security.of_sentinels(), child: None, args, _dir: dir };
        server.restart().await;
        server
    }

    /// Starts the process, for the first time or again, and waits until it answers.
    ///
    /// # Panics
    /// If the server does not answer in time.
    pub async fn restart(&mut self) {
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

    /// Kills the process. All its data is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The process may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the process was started and not killed.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The process id.
    ///
    /// # Panics
    /// If the process is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running redis-server").id()
    }

    /// Pauses the process. It keeps its connections.
    ///
    /// # Panics
    /// If the process is not running.
    pub fn pause(&self) {
        send_signal(self.pid(), "STOP");
    }

    /// Continues the process.
    ///
    /// # Panics
    /// If the process is not running.
    pub fn unpause(&self) {
        send_signal(self.pid(), "CONT");
    }

    /// A connection with all permissions, if the server answers.
    pub async fn try_connect(&self) -> Option<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_LIMIT))
            .set_response_timeout(Some(ANSWER_LIMIT));
        self.security.client(self.address).get_multiplexed_async_connection_with_config(&config).await.ok()
    }

    /// A connection with all permissions.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn connect(&self) -> MultiplexedConnection {
        self.try_connect().await.expect("a Redis connection")
    }

    /// Runs a command as administrator.
    ///
    /// # Panics
    /// If the command fails.
    pub async fn run<T: FromRedisValue>(&self, cmd: &Cmd) -> T {
        cmd.query_async(&mut self.connect().await).await.expect("an answer")
    }

    /// Runs a command as administrator, if possible.
    pub async fn try_run<T: FromRedisValue>(&self, cmd: &Cmd) -> Option<T> {
        cmd.query_async(&mut self.try_connect().await?).await.ok()
    }

    /// Runs a command that is given as text, if possible.
    pub async fn try_run_text<T: FromRedisValue>(&self, text: &str) -> Option<T> {
        parse_cmd(text).query_async(&mut self.try_connect().await?).await.ok()
    }

    /// Runs a command that is given as text.
    ///
    /// # Panics
    /// If the command fails.
    pub async fn run_text<T: FromRedisValue>(&self, text: &str) -> T {
        match parse_cmd(text).query_async(&mut self.connect().await).await {
            Ok(value) => value,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    /// Makes the replica unable to authenticate, so that later writes of its master are not
    /// replicated.
    pub async fn stop_replication(&self) {
        self.run_text::<()>("CONFIG SET masterauth wrong-password").await;
    }

    /// Undoes [`RedisServer::stop_replication`].
    pub async fn allow_replication(&self) {
        let mut cmd = parse_cmd("CONFIG SET masterauth");
        cmd.arg(self.security.admin_password().unwrap_or_default());
        self.run::<()>(&cmd).await;
    }

    /// A field of `INFO replication`.
    pub async fn replication_info(&self, name: &str) -> Option<String> {
        let info: String = self.try_run_text("INFO replication").await?;
        info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }
}

/// A command whose arguments contain no white space.
pub(crate) fn parse_cmd(text: &str) -> Cmd {
    let mut words = text.split_ascii_whitespace();
    let mut cmd = redis::cmd(words.next().expect("a command"));
    cmd.arg(words.collect::<Vec<_>>());
    cmd
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
