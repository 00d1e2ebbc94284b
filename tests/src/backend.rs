//! The store of a fleet, and what can be done to it, whatever kind it is.

use std::{net::SocketAddr, time::Duration};

use crate::{
    net::eventually_within, process::signal, redis::TestRedis, redis_cluster::RedisCluster,
    redis_guard::Guard, redis_node::RedisNode, redis_sentinel::TestSentinel, rng::Rng,
};

/// How long an election and what follows it may take on a busy machine.
const ELECTION: Duration = Duration::from_secs(30);

/// The store of a fleet.
pub enum Backend {
    /// One server, reached through a proxy for each node.
    Single(TestRedis),
    /// A master, replicas, and Sentinels that watch them.
    Sentinel(TestSentinel),
    /// Masters with replicas.
    Cluster(RedisCluster),
}

impl Backend {
    /// One server.
    pub async fn start_single() -> Self {
        Self::Single(TestRedis::start().await)
    }

    /// A master behind Sentinels.
    pub async fn start_sentinel() -> Self {
        Self::Sentinel(TestSentinel::start(Guard::none()).await)
    }

    /// A Cluster.
    pub async fn start_cluster() -> Self {
        Self::Cluster(RedisCluster::start(Guard::none()).await)
    }

    /// The URL for the product.
    pub fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
            Self::Sentinel(sentinel) => sentinel.url("signal"),
            Self::Cluster(cluster) => cluster.url("signal"),
        }
    }

    /// Where the server is, if it is one that a proxy can stand before.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Single(redis) => Some(redis.address),
            Self::Sentinel(_) | Self::Cluster(_) => None,
        }
    }

    /// The single server.
    ///
    /// # Panics
    /// If it is another kind of store.
    pub fn single(&mut self) -> &mut TestRedis {
        match self {
            Self::Single(redis) => redis,
            Self::Sentinel(_) | Self::Cluster(_) => panic!("not a single server"),
        }
    }

    /// The servers that hold data and run, where they are several.
    fn nodes(&self) -> impl Iterator<Item = &RedisNode> {
        let nodes = match self {
            Self::Single(_) => &[],
            Self::Sentinel(sentinel) => &sentinel.nodes[..],
            Self::Cluster(cluster) => &cluster.nodes,
        };
        nodes.iter().filter(|node| node.is_running())
    }

    /// Every server that holds data does nothing any more, and keeps its connections.
    pub fn freeze(&self) {
        match self {
            Self::Single(redis) => signal(redis.pid(), "STOP"),
            _ => self.nodes().for_each(RedisNode::freeze),
        }
    }

    /// They go on.
    pub fn thaw(&self) {
        match self {
            Self::Single(redis) => signal(redis.pid(), "CONT"),
            _ => self.nodes().for_each(RedisNode::thaw),
        }
    }

    /// From now on the masters have no memory for anything new.
    pub async fn fill(&self) {
        const FULL: &str = "CONFIG SET maxmemory 1";
        match self {
            Self::Single(redis) => max_memory(redis, "1").await,
            Self::Sentinel(sentinel) => sentinel.nodes[sentinel.master().await].ask(FULL).await,
            Self::Cluster(cluster) => cluster.everywhere(FULL).await,
        }
    }

    /// There is memory again.
    pub async fn unfill(&self) {
        if let Self::Single(redis) = self {
            max_memory(redis, "0").await;
        }
        for node in self.nodes() {
            node.ask::<()>("CONFIG SET maxmemory 0").await;
        }
    }

    /// Kills a master, more often than not when its replicas have missed what it acknowledged last; waits until there is another.
    /// What was done.
    ///
    /// # Panics
    /// If it is a single server, or no other master is found in time.
    pub async fn fail_over(&mut self, salt: u64) -> String {
        let mut rng = Rng::new(salt);
        let cut = rng.percent(75);
        // So long acknowledged writes are lost: that is the fault.
        let blind = rng.between(Duration::from_millis(100), Duration::from_millis(800));
        let what = match self {
            Self::Single(_) => panic!("a single server has no replica"),
            Self::Sentinel(sentinel) => {
                follow(sentinel).await;
                if cut {
                    sentinel.cut_replication().await;
                    tokio::time::sleep(blind).await;
                }
                let place = sentinel.kill_master().await;
                sentinel.master().await;
                // In some seconds the Sentinels make it a replica; the next failover waits for that.
                sentinel.nodes[place].go_on().await;
                format!("master {place}")
            }
            Self::Cluster(cluster) => {
                let partition = rng.below(signalbox_redis::redis_keys::PARTITIONS);
                if cut {
                    cluster.cut_replication_of(partition).await;
                    tokio::time::sleep(blind).await;
                }
                let place = cluster.kill_master_of(partition).await;
                // Back too early it would be the master again, and empty.
                eventually_within(ELECTION, "its replica is the master", async || {
                    (cluster.master_of(partition).await != place).then_some(())
                })
                .await;
                cluster.nodes[place].go_on().await;
                cluster.settled(3).await;
                format!("the master {place} of partition {partition}")
            }
        };
        let lost =
            if cut { format!("{blind:?} of writes lost") } else { "nothing lost on purpose".to_owned() };
        format!("Failover: {what}, {lost}")
    }

    /// Moves some slots with their keys to other masters. What was done.
    ///
    /// # Panics
    /// If it is not a Cluster.
    pub async fn reshard(&self, salt: u64) -> String {
        let Self::Cluster(cluster) = self else { panic!("only a Cluster has slots") };
        let mut rng = Rng::new(salt);
        let mut moves = Vec::new();
        for _ in 0..3 {
            let partition = rng.below(signalbox_redis::redis_keys::PARTITIONS);
            let from = cluster.master_of(partition).await;
            let masters: Vec<_> =
                cluster.masters().await.into_iter().filter(|place| *place != from).collect();
            let to = *rng.pick(&masters);
            cluster.move_slot(partition, to).await;
            moves.push(format!("{partition} from {from} to {to}"));
        }
        format!("Reshard: partitions {}", moves.join(", "))
    }
}

async fn max_memory(redis: &TestRedis, bytes: &str) {
    let mut connection = redis.connect().await;
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("maxmemory").arg(bytes);
    command.query_async::<()>(&mut connection).await.expect("CONFIG SET");
}

/// Waits until both others follow the master.
async fn follow(sentinel: &TestSentinel) {
    sentinel.heal_replication().await;
    eventually_within(ELECTION, "two replicas follow", async || {
        let info: String = sentinel.nodes[sentinel.master_now().await?].try_ask("INFO replication").await?;
        (info.matches("state=online").count() == 2).then_some(())
    })
    .await;
}
