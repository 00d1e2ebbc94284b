//! One deployment of each kind of Redis, for tests that must pass on all of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use redis::{Cmd, FromRedisValue, Value};
use signalbox_config as config;
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
}

/// All kinds of deployments.
pub const REDIS_KINDS: [RedisKind; 4] =
    [RedisKind::Standalone, RedisKind::Secured, RedisKind::Sentinel, RedisKind::Cluster];

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
        static RUNNING: Mutex<[Weak<SharedDeployment>; 4]> =
            Mutex::new([Weak::new(), Weak::new(), Weak::new(), Weak::new()]);
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
                format!("{}://{}{}", security.scheme(), security.login(user), server.address)
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

    /// Runs a command as administrator on the master of a partition.
    pub async fn run_on_partition<T: FromRedisValue>(&self, partition: usize, cmd: &Cmd) -> T {
        let index = match &self.shared.deployment {
            RedisDeployment::Cluster(cluster) => cluster.master_of(partition).await,
            _ => self.masters[0],
        };
        self.shared.deployment.servers()[index].run(cmd).await
    }

    /// Runs a command as administrator on each master.
    pub async fn run_on_masters<T: FromRedisValue>(&self, cmd: &Cmd) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.masters.len());
        for index in &self.masters {
            answers.push(self.shared.deployment.servers()[*index].run(cmd).await);
        }
        answers
    }

    /// Runs a command on each master. `None` for a master that does not serve the key.
    pub async fn try_run_on_masters<T: FromRedisValue>(&self, cmd: &Cmd) -> Vec<Option<T>> {
        let mut answers = Vec::with_capacity(self.masters.len());
        for index in &self.masters {
            answers.push(self.shared.deployment.servers()[*index].try_run(cmd).await);
        }
        answers
    }

    /// All keys.
    pub async fn keys(&self) -> Vec<String> {
        self.run_on_masters::<Vec<String>>(&parse_cmd("KEYS *")).await.concat()
    }
}
