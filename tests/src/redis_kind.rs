//! One deployment of each kind of Redis, for tests that must pass on all of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use redis::{Arg, Cmd, FromRedisValue, Value};
use signalbox_config as config;
use signalbox_redis::RedisNamespace;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{
    net::free_address,
    redis_cluster::TestRedisCluster,
    redis_security::RedisSecurity,
    redis_sentinel::TestSentinel,
    redis_server::{RedisServer, parse_cmd},
};

/// A kind of deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Standalone,
    /// One server that requires TLS and the user `signal` of the ACL that we ship.
    Secured,
    /// A master behind Sentinels.
    Sentinel,
    /// A Redis Cluster of three masters.
    Cluster,
    /// One server with other deployments: with `redis.prefix`, the users of the ACL for it, and in
    /// another database than 0.
    Shared,
}

/// All kinds of deployments.
pub const REDIS_KINDS: [RedisKind; 5] =
    [RedisKind::Standalone, RedisKind::Secured, RedisKind::Sentinel, RedisKind::Cluster, RedisKind::Shared];

/// A running deployment.
enum RedisDeployment {
    Single(RedisServer, RedisSecurity),
    Sentinel(TestSentinel),
    Cluster(TestRedisCluster),
}

/// A deployment that one test uses alone. At the start it is empty and has its first settings.
pub struct ExclusiveRedis {
    shared: Arc<SharedDeployment>,
    masters: Vec<usize>,
    // A test that waits for the lock holds an `Arc` of the deployment, so the deployment stays.
    _lock: OwnedMutexGuard<()>,
}

struct SharedDeployment {
    deployment: RedisDeployment,
    lock: Arc<AsyncMutex<()>>,
}

impl RedisKind {
    /// Acquires a deployment for one test. All tests of a process share one deployment of a kind
    /// and use it one after the other, because a Cluster takes seconds to start. It ends with the
    /// last of them.
    pub async fn acquire(self) -> ExclusiveRedis {
        // Held while a deployment starts, so that each kind is started once.
        static STARTING: AsyncMutex<()> = AsyncMutex::const_new(());
        static RUNNING: Mutex<[Weak<SharedDeployment>; REDIS_KINDS.len()]> =
            Mutex::new([const { Weak::new() }; REDIS_KINDS.len()]);
        let running = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = {
            let _starting = STARTING.lock().await;
            let existing = running()[self as usize].upgrade();
            match existing {
                Some(shared) => shared,
                None => {
                    let shared =
                        Arc::new(SharedDeployment { deployment: self.start().await, lock: Arc::default() });
                    running()[self as usize] = Arc::downgrade(&shared);
                    shared
                }
            }
        };
        let lock = shared.lock.clone().lock_owned().await;
        let masters = shared.deployment.masters().await;
        let redis = ExclusiveRedis { shared, masters, _lock: lock };
        for text in
            ["FLUSHALL", "SCRIPT FLUSH", "CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction"]
        {
            redis.run_on_masters::<Value>(&parse_cmd(text)).await;
        }
        redis
    }

    async fn start(self) -> RedisDeployment {
        let single = async |security: RedisSecurity| {
            RedisDeployment::Single(RedisServer::start(free_address(), &security, &[]).await, security)
        };
        match self {
            Self::Standalone => single(RedisSecurity::none()).await,
            Self::Secured => single(RedisSecurity::tls_and_acl()).await,
            Self::Shared => single(RedisSecurity::acl_in_shared_redis("blue", 1)).await,
            Self::Sentinel => RedisDeployment::Sentinel(TestSentinel::start(RedisSecurity::none()).await),
            Self::Cluster => RedisDeployment::Cluster(TestRedisCluster::start(RedisSecurity::none()).await),
        }
    }
}

impl RedisDeployment {
    fn servers(&self) -> &[RedisServer] {
        match self {
            Self::Single(server, _) => std::slice::from_ref(server),
            Self::Sentinel(sentinel) => &sentinel.servers,
            Self::Cluster(cluster) => &cluster.servers,
        }
    }

    async fn masters(&self) -> Vec<usize> {
        match self {
            Self::Single(..) => vec![0],
            Self::Sentinel(sentinel) => vec![sentinel.wait_master().await],
            Self::Cluster(cluster) => cluster.masters().await,
        }
    }
}

impl ExclusiveRedis {
    /// The URL for the signaling service.
    pub fn url(&self) -> String {
        self.url_for("signal")
    }

    /// The URL for a user of the ACL: `signal` or `auth`.
    pub fn url_for(&self, user: &str) -> String {
        match &self.shared.deployment {
            RedisDeployment::Single(server, security) => {
                let (scheme, login) = (security.scheme(), security.login(user));
                format!("{scheme}://{login}{}{}", server.address, security.database_path())
            }
            RedisDeployment::Sentinel(sentinel) => sentinel.url(user),
            RedisDeployment::Cluster(cluster) => cluster.url(user),
        }
    }

    /// The settings that belong to the URL.
    pub fn settings(&self) -> config::RedisSettings {
        match &self.shared.deployment {
            RedisDeployment::Single(_, security) => security.settings(),
            RedisDeployment::Sentinel(sentinel) => sentinel.security().settings(),
            RedisDeployment::Cluster(cluster) => cluster.security().settings(),
        }
    }

    /// The names of the deployment in Redis.
    fn names(&self) -> RedisNamespace {
        match &self.shared.deployment {
            RedisDeployment::Single(_, security) => security.names(),
            _ => RedisNamespace::default(),
        }
    }

    /// The command with the names of this deployment. Tests write the names of `redis_keys`.
    fn with_names(&self, cmd: &Cmd) -> Cmd {
        let names = self.names();
        let is_topic = cmd.args_iter().next() == Some(Arg::Simple(b"SPUBLISH"));
        let mut named = Cmd::new();
        for arg in cmd.args_iter() {
            let Arg::Simple(bytes) = arg else { continue };
            match std::str::from_utf8(bytes) {
                Ok(name) if name.starts_with("sb:") && is_topic => named.arg(names.topic(name)),
                Ok(name) if name.starts_with("sb:") => named.arg(names.key(name)),
                _ => named.arg(bytes),
            };
        }
        named
    }

    /// Runs a command as administrator on the master of a partition.
    pub async fn run_on_partition<T: FromRedisValue>(&self, partition: usize, cmd: &Cmd) -> T {
        let index = match &self.shared.deployment {
            RedisDeployment::Cluster(cluster) => cluster.master_of(partition).await,
            _ => self.masters[0],
        };
        self.shared.deployment.servers()[index].run(&self.with_names(cmd)).await
    }

    /// Runs a command as administrator on each master.
    pub async fn run_on_masters<T: FromRedisValue>(&self, cmd: &Cmd) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.masters.len());
        for index in &self.masters {
            answers.push(self.shared.deployment.servers()[*index].run(&self.with_names(cmd)).await);
        }
        answers
    }

    /// Runs a command on each master. `None` for a master that does not serve the key.
    pub async fn try_run_on_masters<T: FromRedisValue>(&self, cmd: &Cmd) -> Vec<Option<T>> {
        let mut answers = Vec::with_capacity(self.masters.len());
        for index in &self.masters {
            answers.push(self.shared.deployment.servers()[*index].try_run(&self.with_names(cmd)).await);
        }
        answers
    }

    /// All keys, by their names of `redis_keys`.
    ///
    /// # Panics
    /// If a key has no name of this deployment.
    pub async fn keys(&self) -> Vec<String> {
        let keys = self.run_on_masters::<Vec<String>>(&parse_cmd("KEYS *")).await.concat();
        let prefix = self.names().key("");
        let name = |key: String| key.strip_prefix(&prefix).expect("a key of this deployment").to_owned();
        keys.into_iter().map(name).collect()
    }
}
