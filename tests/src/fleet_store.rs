//! The store of a fleet, and the faults that can be injected into it, for each kind of Redis.

use std::{net::SocketAddr, time::Duration};

use crate::{
    net::eventually_within, process::send_signal, redis_cluster::TestRedisCluster,
    redis_security::RedisSecurity, redis_sentinel::TestSentinel, redis_server::RedisServer, rng::SeededRng,
    test_redis::TestRedis,
};

/// How long an election may take on a busy machine.
const ELECTION_LIMIT: Duration = Duration::from_secs(30);

/// The store of a fleet.
pub enum FleetStore {
    /// One server, reached through a proxy for each node.
    Single(TestRedis),
    /// A master, replicas, and Sentinels that watch them.
    Sentinel(TestSentinel),
    /// A Redis Cluster: masters with replicas.
    Cluster(TestRedisCluster),
}

impl FleetStore {
    /// Starts a single server.
    pub async fn start_single() -> Self {
        Self::Single(TestRedis::start().await)
    }

    /// Starts a master behind Sentinels.
    pub async fn start_sentinel() -> Self {
        Self::Sentinel(TestSentinel::start(RedisSecurity::none()).await)
    }

    /// Starts a Redis Cluster.
    pub async fn start_cluster() -> Self {
        Self::Cluster(TestRedisCluster::start(RedisSecurity::none()).await)
    }

    /// The URL for the signaling nodes.
    pub fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
            Self::Sentinel(sentinel) => sentinel.url("signal"),
            Self::Cluster(cluster) => cluster.url("signal"),
        }
    }

    /// The address of a single server. Other kinds announce addresses themselves, so no proxy fits.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Single(redis) => Some(redis.address),
            Self::Sentinel(_) | Self::Cluster(_) => None,
        }
    }

    /// The single server.
    ///
    /// # Panics
    /// If the store is another kind.
    pub fn single(&mut self) -> &mut TestRedis {
        match self {
            Self::Single(redis) => redis,
            Self::Sentinel(_) | Self::Cluster(_) => panic!("not a single server"),
        }
    }

    /// The running data servers of a Sentinel or Cluster deployment.
    fn servers(&self) -> impl Iterator<Item = &RedisServer> {
        let nodes = match self {
            Self::Single(_) => &[],
            Self::Sentinel(sentinel) => &sentinel.servers[..],
            Self::Cluster(cluster) => &cluster.servers,
        };
        nodes.iter().filter(|node| node.is_running())
    }

    /// Pauses every data server. The servers keep their connections.
    pub fn pause(&self) {
        match self {
            Self::Single(redis) => send_signal(redis.pid(), "STOP"),
            _ => self.servers().for_each(RedisServer::pause),
        }
    }

    /// Continues every data server.
    pub fn unpause(&self) {
        match self {
            Self::Single(redis) => send_signal(redis.pid(), "CONT"),
            _ => self.servers().for_each(RedisServer::unpause),
        }
    }

    /// Makes the masters refuse new data: their memory limit is reached.
    pub async fn exhaust_memory(&self) {
        const FULL: &str = "CONFIG SET maxmemory 1";
        match self {
            Self::Single(redis) => set_max_memory(redis, "1").await,
            Self::Sentinel(sentinel) => sentinel.servers[sentinel.wait_master().await].run_text(FULL).await,
            Self::Cluster(cluster) => cluster.run_on_masters(FULL).await,
        }
    }

    /// Undoes [`FleetStore::exhaust_memory`].
    pub async fn restore_memory(&self) {
        if let Self::Single(redis) = self {
            set_max_memory(redis, "0").await;
        }
        for node in self.servers() {
            node.run_text::<()>("CONFIG SET maxmemory 0").await;
        }
    }

    /// Kills a master and waits until another server is the master. In most cases replication is
    /// cut before, so that the replicas lack the last acknowledged writes. Returns a description of
    /// the fault.
    ///
    /// # Panics
    /// If the store is a single server, or no other server becomes the master in time.
    pub async fn fail_over(&mut self, seed: u64) -> String {
        let mut rng = SeededRng::new(seed);
        let cut = rng.percent(75);
        // The writes of this time are acknowledged and lost.
        let gap = rng.between(Duration::from_millis(100), Duration::from_millis(800));
        let target = match self {
            Self::Single(_) => panic!("a single server has no replica"),
            Self::Sentinel(sentinel) => {
                wait_replicas_follow(sentinel).await;
                if cut {
                    sentinel.cut_replication().await;
                    tokio::time::sleep(gap).await;
                }
                let index = sentinel.kill_master().await;
                sentinel.wait_master().await;
                // Soon the Sentinels make it a replica; the next failover waits for that.
                sentinel.servers[index].restart().await;
                format!("master {index}")
            }
            Self::Cluster(cluster) => {
                let partition = rng.below(signalbox_redis::redis_keys::PARTITIONS);
                if cut {
                    cluster.cut_replication_of(partition).await;
                    tokio::time::sleep(gap).await;
                }
                let index = cluster.kill_master_of(partition).await;
                // A restart before that would make the empty server the master again.
                eventually_within(ELECTION_LIMIT, "its replica is the master", async || {
                    (cluster.master_of(partition).await != index).then_some(())
                })
                .await;
                cluster.servers[index].restart().await;
                cluster.wait_complete(3).await;
                format!("the master {index} of partition {partition}")
            }
        };
        let lost = if cut { format!("{gap:?} of writes lost") } else { "no writes cut off".to_owned() };
        format!("Failover: {target}, {lost}")
    }

    /// Moves some slots with their keys to other masters. Returns a description.
    ///
    /// # Panics
    /// If the store is not a Cluster.
    pub async fn reshard(&self, seed: u64) -> String {
        let Self::Cluster(cluster) = self else { panic!("only a Cluster has slots") };
        let mut rng = SeededRng::new(seed);
        let mut moves = Vec::new();
        for _ in 0..3 {
            let partition = rng.below(signalbox_redis::redis_keys::PARTITIONS);
            let from = cluster.master_of(partition).await;
            let masters: Vec<_> =
                cluster.masters().await.into_iter().filter(|index| *index != from).collect();
            let to = *rng.pick(&masters);
            cluster.move_slot(partition, to).await;
            moves.push(format!("{partition} from {from} to {to}"));
        }
        format!("Reshard: partitions {}", moves.join(", "))
    }
}

async fn set_max_memory(redis: &TestRedis, bytes: &str) {
    let mut connection = redis.connect().await;
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("maxmemory").arg(bytes);
    command.query_async::<()>(&mut connection).await.expect("CONFIG SET");
}

/// Waits until both other servers are replicas of the master.
async fn wait_replicas_follow(sentinel: &TestSentinel) {
    sentinel.heal_replication().await;
    eventually_within(ELECTION_LIMIT, "two replicas follow", async || {
        let info: String =
            sentinel.servers[sentinel.current_master().await?].try_run_text("INFO replication").await?;
        (info.matches("state=online").count() == 2).then_some(())
    })
    .await;
}
