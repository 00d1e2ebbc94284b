//! One deployment of Redis of each kind, for a suite that holds over all of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use redis::{Cmd, FromRedisValue, Value};
use signalbox_config as config;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{
    net::free_address,
    redis_cluster::RedisCluster,
    redis_guard::Guard,
    redis_node::{RedisNode, words_cmd},
    redis_sentinel::TestSentinel,
};

/// A kind of deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One server.
    Standalone,
    /// One server that asks for TLS and for the user `signal` of the shipped ACL.
    Guarded,
    /// A master behind Sentinels.
    Sentinel,
    /// Three masters.
    Cluster,
}

/// All kinds.
pub const KINDS: [Kind; 4] = [Kind::Standalone, Kind::Guarded, Kind::Sentinel, Kind::Cluster];

/// What is running.
enum Deployment {
    One(RedisNode, Guard),
    Sentinel(TestSentinel),
    Cluster(RedisCluster),
}

/// A deployment of one's own for the length of a test: empty and as it was at the start.
pub struct Lease {
    shared: Arc<Shared>,
    place: Vec<usize>,
    // Whoever waits for it has an `Arc` of the deployment already, so that it goes on.
    _turn: OwnedMutexGuard<()>,
}

struct Shared {
    deployment: Deployment,
    turn: Arc<AsyncMutex<()>>,
}

impl Kind {
    /// Takes a deployment for one test. Tests of one process that want the same kind take turns with one, which ends with the last
    /// of them: a Cluster takes seconds to start.
    pub async fn lease(self) -> Lease {
        // One at a time: it may have to be started.
        static STARTING: AsyncMutex<()> = AsyncMutex::const_new(());
        static RUNNING: Mutex<[Weak<Shared>; 4]> =
            Mutex::new([Weak::new(), Weak::new(), Weak::new(), Weak::new()]);
        let running = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = {
            let _starting = STARTING.lock().await;
            let found = running()[self as usize].upgrade();
            match found {
                Some(shared) => shared,
                None => {
                    let shared = Arc::new(Shared { deployment: self.start().await, turn: Arc::default() });
                    running()[self as usize] = Arc::downgrade(&shared);
                    shared
                }
            }
        };
        let turn = shared.turn.clone().lock_owned().await;
        let place = shared.deployment.masters().await;
        let lease = Lease { shared, place, _turn: turn };
        for words in
            ["FLUSHALL", "SCRIPT FLUSH", "CONFIG SET maxmemory 0", "CONFIG SET maxmemory-policy noeviction"]
        {
            lease.everywhere::<Value>(&words_cmd(words)).await;
        }
        lease
    }

    async fn start(self) -> Deployment {
        let one =
            async |guard: Guard| Deployment::One(RedisNode::start(free_address(), &guard, &[]).await, guard);
        match self {
            Self::Standalone => one(Guard::none()).await,
            Self::Guarded => one(Guard::both()).await,
            Self::Sentinel => Deployment::Sentinel(TestSentinel::start(Guard::none()).await),
            Self::Cluster => Deployment::Cluster(RedisCluster::start(Guard::none()).await),
        }
    }
}

impl Deployment {
    fn nodes(&self) -> &[RedisNode] {
        match self {
            Self::One(node, _) => std::slice::from_ref(node),
            Self::Sentinel(sentinel) => &sentinel.nodes,
            Self::Cluster(cluster) => &cluster.nodes,
        }
    }

    async fn masters(&self) -> Vec<usize> {
        match self {
            Self::One(..) => vec![0],
            Self::Sentinel(sentinel) => vec![sentinel.master().await],
            Self::Cluster(cluster) => cluster.masters().await,
        }
    }
}

impl Lease {
    /// The URL for the signaling service.
    pub fn url(&self) -> String {
        self.url_for("signal")
    }

    /// The URL for the service whose user in the shipped ACL this is: `signal` or `auth`.
    pub fn url_for(&self, user: &str) -> String {
        match &self.shared.deployment {
            Deployment::One(node, guard) => {
                format!("{}://{}{}", guard.scheme(), guard.login(user), node.address)
            }
            Deployment::Sentinel(sentinel) => sentinel.url(user),
            Deployment::Cluster(cluster) => cluster.url(user),
        }
    }

    /// The settings that go with the URL.
    pub fn settings(&self) -> config::RedisSettings {
        match &self.shared.deployment {
            Deployment::One(_, guard) => guard.settings(),
            Deployment::Sentinel(sentinel) => sentinel.guard().settings(),
            Deployment::Cluster(cluster) => cluster.guard().settings(),
        }
    }

    /// One command by the administrator, on the master of a partition.
    pub async fn at<T: FromRedisValue>(&self, partition: usize, cmd: &Cmd) -> T {
        let place = match &self.shared.deployment {
            Deployment::Cluster(cluster) => cluster.master_of(partition).await,
            _ => self.place[0],
        };
        self.shared.deployment.nodes()[place].run(cmd).await
    }

    /// One command by the administrator, on each master.
    pub async fn everywhere<T: FromRedisValue>(&self, cmd: &Cmd) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.place.len());
        for place in &self.place {
            answers.push(self.shared.deployment.nodes()[*place].run(cmd).await);
        }
        answers
    }

    /// The same, where those that do not have the key say so: the answers that came.
    pub async fn try_everywhere<T: FromRedisValue>(&self, cmd: &Cmd) -> Vec<Option<T>> {
        let mut answers = Vec::with_capacity(self.place.len());
        for place in &self.place {
            answers.push(self.shared.deployment.nodes()[*place].try_run(cmd).await);
        }
        answers
    }

    /// Every key there is.
    pub async fn keys(&self) -> Vec<String> {
        self.everywhere::<Vec<String>>(&words_cmd("KEYS *")).await.concat()
    }
}
