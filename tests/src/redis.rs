//! A Redis server of one's own, and a look at everything it holds.

use std::{net::SocketAddr, time::Duration};

use redis::{AsyncCommands as _, aio::MultiplexedConnection};

use crate::{
    net::{eventually_within, free_address},
    redis_guard::Guard,
    redis_node::RedisNode,
};

/// The longest a room may live, and the slack for the window after it.
const LONGEST_MS: i64 = (24 * 60 * 60 + 600) * 1_000;

/// The keys of what was taken back, and the longest they live.
const CONTROL: &str = "sb:{control}:";
const CONTROL_MS: i64 = (31 * 24 + 1) * 60 * 60 * 1_000;
/// How long a day's usage is kept.
const USAGE_MS: i64 = 35 * 24 * 60 * 60 * 1_000;

/// The keys of the auth service, and the longest each lives: tickets, refresh tokens, invites.
const AUTH: [(&str, i64); 3] = [
    ("sb:ticket:", 30_000),
    ("sb:refresh:", (30 * 24 + 1) * 60 * 60 * 1_000),
    ("sb:invite:", (30 * 24 + 1) * 60 * 60 * 1_000),
];

/// A running `redis-server` without persistence.
pub struct TestRedis {
    /// Where it listens.
    pub address: SocketAddr,
    node: RedisNode,
}

/// One key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Milliseconds it has left; negative where it has no TTL.
    pub ttl_ms: i64,
    /// The age of the oldest entry, if it is a stream.
    pub oldest_ms: Option<u64>,
}

impl TestRedis {
    /// Starts a server that never evicts.
    pub async fn start() -> Self {
        Self::with_policy("noeviction").await
    }

    /// Starts a server with this `maxmemory-policy`.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub async fn with_policy(policy: &'static str) -> Self {
        let address = free_address();
        let node = RedisNode::start(address, &Guard::none(), &["--maxmemory-policy", policy]).await;
        Self { address, node }
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub async fn go_on(&mut self) {
        self.node.go_on().await;
    }

    /// Kills it; what it held is gone.
    pub fn stop(&mut self) {
        self.node.kill();
    }

    /// Its id.
    ///
    /// # Panics
    /// If it is stopped.
    pub fn pid(&self) -> u32 {
        self.node.pid()
    }

    /// The URL for the product.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// A connection, to look or to interfere.
    ///
    /// # Panics
    /// If there is none.
    pub async fn connect(&self) -> MultiplexedConnection {
        self.node.connect().await
    }

    /// Every key there is.
    ///
    /// # Panics
    /// If Redis does not answer.
    pub async fn keys(&self) -> Vec<Key> {
        let mut connection = self.connect().await;
        let mut names: Vec<String> = Vec::new();
        {
            let mut scan = connection.scan::<String>().await.expect("SCAN");
            while let Some(name) = scan.next_item().await {
                names.push(name.expect("a key"));
            }
        }
        let mut keys = Vec::new();
        for name in names {
            let ttl_ms: i64 = connection.pttl(&name).await.expect("PTTL");
            let kind: String =
                redis::cmd("TYPE").arg(&name).query_async(&mut connection).await.expect("TYPE");
            // -2: it went while we looked.
            if ttl_ms == -2 || kind == "none" {
                continue;
            }
            let is_dated = kind == "stream" && !name.contains("}:hooks");
            let oldest_ms = if is_dated { oldest(&mut connection, &name).await } else { None };
            keys.push(Key { name, ttl_ms, oldest_ms });
        }
        keys
    }

    /// Checks I3: every key is ours and has a TTL, no room outlives a day and its window, no entry is older than `entry_life`.
    ///
    /// # Panics
    /// If one does not hold.
    pub async fn assert_bounded(&self, entry_life: Duration) {
        for key in self.keys().await {
            assert!(key.name.starts_with("sb:"), "a key outside the name space: {key:?}");
            assert!(key.ttl_ms > 0, "a key without a TTL: {key:?}");
            // What was taken back is remembered for longer than any room, its log for less.
            let longest = match &key.name {
                name if name.starts_with(CONTROL) => CONTROL_MS,
                name if name.starts_with("sb:usage:") => USAGE_MS,
                name => {
                    AUTH.iter().find(|(start, _)| name.starts_with(start)).map_or(LONGEST_MS, |(_, ms)| *ms)
                }
            };
            assert!(key.ttl_ms <= longest, "a key that outlives a room: {key:?}");
            let log = key.name.starts_with(CONTROL);
            let most = if log { 600_000 } else { entry_life.as_millis() as u64 + 1_000 };
            assert!(
                key.oldest_ms.is_none_or(|age| age <= most),
                "an entry older than {entry_life:?}: {key:?}"
            );
        }
    }

    /// Waits until nothing is left, at most `window` and some slack.
    ///
    /// # Panics
    /// If something is.
    pub async fn assert_clean_after(&self, window: Duration) {
        let limit = window + Duration::from_secs(5);
        let left = async || self.keys().await.iter().all(|key| is_of_nodes(&key.name)).then_some(());
        eventually_within(limit, "no key of a room is left", left).await;
    }
}

/// Whether a key is there with or without rooms: of nodes, of what was taken back, of tokens; or is kept for the operator when rooms are
/// over: a day's usage, and what webhooks are told.
pub fn is_of_nodes(key: &str) -> bool {
    let is_kept = key.starts_with("sb:usage:") || key.contains("}:hooks");
    is_kept
        || key.ends_with(":nodes")
        || key.ends_with(":partitions")
        || key.starts_with(CONTROL)
        || AUTH.iter().any(|(start, _)| key.starts_with(start))
}

/// The age of a stream's oldest entry by the server's clock. Entries carry `t`, when they were written.
async fn oldest(connection: &mut MultiplexedConnection, name: &str) -> Option<u64> {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await.expect("TIME");
    let page: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
        .arg(name)
        .arg("-")
        .arg("+")
        .arg("COUNT")
        .arg(1)
        .query_async(connection)
        .await
        .ok()?;
    let (_, fields) = page.into_iter().next()?;
    let at = fields.chunks(2).find(|pair| pair[0] == "t").and_then(|pair| pair[1].parse::<u64>().ok());
    Some((seconds * 1_000 + micros / 1_000).saturating_sub(at.expect("an entry says when it was written")))
}
