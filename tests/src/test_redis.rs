//! A Redis server for one test, and checks of all its keys.

use std::{net::SocketAddr, time::Duration};

use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use signalbox_redis::redis_keys::KeyKind;

use crate::{
    net::{eventually_within, free_address},
    redis_security::RedisSecurity,
    redis_server::RedisServer,
};

/// The maximum life of a room, and the time that its window may add.
const MAX_ROOM_MS: i64 = (24 * 60 * 60 + 600) * 1_000;

const HOUR_MS: i64 = 60 * 60 * 1_000;

/// The maximum TTL of a kind of key, in milliseconds.
const fn max_ttl_ms(kind: KeyKind) -> i64 {
    match kind {
        KeyKind::Rules
        | KeyKind::RuleEnds
        | KeyKind::RuleLog
        | KeyKind::NodeRules
        | KeyKind::NodeRuleEnds
        | KeyKind::NodeRuleLog => (31 * 24 + 1) * HOUR_MS,
        KeyKind::Usage => 35 * 24 * HOUR_MS,
        KeyKind::Ticket => 30_000,
        KeyKind::RefreshFamily
        | KeyKind::RootFamilies
        | KeyKind::UserFamilies
        | KeyKind::KeyInvites
        | KeyKind::Invites => (30 * 24 + 1) * HOUR_MS,
        KeyKind::Room
        | KeyKind::Mailbox
        | KeyKind::Bodies
        | KeyKind::BodyHolders
        | KeyKind::NodeRooms
        | KeyKind::Due
        | KeyKind::CreatedRooms
        | KeyKind::Nodes
        | KeyKind::Timeline
        | KeyKind::TimelinePairs
        | KeyKind::PartitionCount
        | KeyKind::WebhookQueue
        | KeyKind::WebhookState
        | KeyKind::WebhookLease
        | KeyKind::WebhookDead => MAX_ROOM_MS,
    }
}

/// A running `redis-server` without persistence.
pub struct TestRedis {
    /// The address on which it listens.
    pub address: SocketAddr,
    security: RedisSecurity,
    server: RedisServer,
}

/// A key in Redis.
#[derive(Debug, Clone)]
pub struct RedisKey {
    /// The name of the key.
    pub name: String,
    /// The TTL in milliseconds; negative if there is none.
    pub ttl_ms: i64,
    /// The age of the oldest entry, if the key is a stream.
    pub oldest_ms: Option<u64>,
}

impl TestRedis {
    /// Starts a server that never evicts.
    pub async fn start() -> Self {
        Self::with_policy("noeviction").await
    }

    /// Starts a server with the users of the ACL that we ship.
    pub async fn with_acl() -> Self {
        Self::start_server(RedisSecurity::acl(), "noeviction").await
    }

    /// Starts a server with this `maxmemory-policy`.
    ///
    /// # Panics
    /// If the server does not answer in time.
    pub async fn with_policy(policy: &'static str) -> Self {
        Self::start_server(RedisSecurity::none(), policy).await
    }

    async fn start_server(security: RedisSecurity, policy: &str) -> Self {
        let address = free_address();
        let server = RedisServer::start(address, &security, &["--maxmemory-policy", policy]).await;
        Self { address, security, server }
    }

    /// Starts the server again on the same port, empty.
    ///
    /// # Panics
    /// If the server does not answer in time.
    pub async fn restart(&mut self) {
        self.server.restart().await;
    }

    /// Kills the server. All its data is lost.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// The process id.
    ///
    /// # Panics
    /// If the server is not running.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The URL of the server, without a user.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// The URL of the server for a user of the ACL: `signal` or `auth`.
    pub fn url_for(&self, user: &str) -> String {
        format!("redis://{}{}/0", self.security.login(user), self.address)
    }

    /// A connection, to inspect or to change data.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn connect(&self) -> MultiplexedConnection {
        self.server.connect().await
    }

    /// All keys.
    ///
    /// # Panics
    /// If Redis does not answer.
    pub async fn keys(&self) -> Vec<RedisKey> {
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
            // -2: the key expired since the SCAN.
            if ttl_ms == -2 || kind == "none" {
                continue;
            }
            let has_dates = kind == "stream" && !name.contains("hook");
            let oldest_ms = if has_dates { oldest_entry_age(&mut connection, &name).await } else { None };
            keys.push(RedisKey { name, ttl_ms, oldest_ms });
        }
        keys
    }

    /// Checks I3: every key has our prefix and a TTL, no key outlives its limit, and no entry is
    /// older than `max_entry_age`.
    ///
    /// # Panics
    /// If a check fails.
    pub async fn assert_bounded(&self, max_entry_age: Duration) {
        for key in self.keys().await {
            let Some(kind) = KeyKind::of_key(&key.name) else { panic!("a key of no kind: {key:?}") };
            assert!(key.ttl_ms > 0, "a key without a TTL: {key:?}");
            assert!(key.ttl_ms <= max_ttl_ms(kind), "a key with too long a TTL: {key:?}");
            let is_rule_log = matches!(kind, KeyKind::RuleLog | KeyKind::NodeRuleLog);
            let max_age_ms = if is_rule_log { 600_000 } else { max_entry_age.as_millis() as u64 + 1_000 };
            assert!(
                key.oldest_ms.is_none_or(|age| age <= max_age_ms),
                "an entry older than {max_age_ms} ms: {key:?}"
            );
        }
    }

    /// Waits until no key of a room remains, at most `window` and 5 s.
    ///
    /// # Panics
    /// If a key remains.
    pub async fn assert_clean_after(&self, window: Duration) {
        let limit = window + Duration::from_secs(5);
        let remaining = async || self.keys().await.iter().all(|key| outlives_rooms(&key.name)).then_some(());
        eventually_within(limit, "no key of a room remains", remaining).await;
    }
}

/// Whether a key may remain after all rooms have ended: keys of nodes, access rules and tokens, and
/// what is kept for the operator (the usage of a day, timelines, events for webhooks).
pub fn outlives_rooms(key: &str) -> bool {
    !matches!(
        KeyKind::of_key(key),
        None | Some(
            KeyKind::Room | KeyKind::Mailbox | KeyKind::NodeRooms | KeyKind::Due | KeyKind::CreatedRooms
        )
    )
}

/// The age of the oldest entry of a stream, by the clock of the server. `t` of an entry is the time
/// of its write.
async fn oldest_entry_age(connection: &mut MultiplexedConnection, name: &str) -> Option<u64> {
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
    Some((seconds * 1_000 + micros / 1_000).saturating_sub(at.expect("an entry contains its time")))
}
