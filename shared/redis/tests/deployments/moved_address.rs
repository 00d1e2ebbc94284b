//! The address of Redis leads to another server, as after a change of a DNS name or behind a TCP
//! proxy. The old server lives on and keeps its connections open.

use futures_util::future::join_all;
use signalbox_redis::TopicProbe;
use signalbox_tests::{
    net::{eventually_within, free_address},
    proxy::FaultProxy,
    redis_cluster::{key_in, topic_in},
    redis_security::RedisSecurity,
    redis_server::RedisServer,
};

use crate::test_client::{FAILOVER_DEADLINE, TestClient, TestListener};

/// The user of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionUser {
    SharedCalls,
    PooledCalls,
    /// Topics whose probes are published: those of a node.
    ProbedTopics,
    /// Topics whose server is asked for its role: the event feed.
    AskedTopics,
}

impl ConnectionUser {
    const ALL: [Self; 4] = [Self::SharedCalls, Self::PooledCalls, Self::ProbedTopics, Self::AskedTopics];
}

/// What becomes of the old server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OldServer {
    /// It replicates the new one.
    BecomesReplica,
    /// It stays a master, without the new writes.
    StaysMaster,
}

impl OldServer {
    const ALL: [Self; 2] = [Self::BecomesReplica, Self::StaysMaster];
}

/// A client behind an address that can be moved from `old` to `new`.
struct MovableRedis {
    old: RedisServer,
    new: RedisServer,
    front: FaultProxy,
    client: TestClient,
    probed: TestListener,
    asked: TestListener,
}

impl MovableRedis {
    async fn start() -> Self {
        let security = RedisSecurity::none();
        let old = RedisServer::start(free_address(), &security, &[]).await;
        let new = RedisServer::start(free_address(), &security, &[]).await;
        new.run_text::<()>(&format!("REPLICAOF 127.0.0.1 {}", old.address.port())).await;
        eventually_within(FAILOVER_DEADLINE, "the replica follows", async || {
            (new.replication_info("master_link_status").await? == "up").then_some(())
        })
        .await;
        let front = FaultProxy::start(old.address).await;
        let client = TestClient::connect(&format!("redis://{}", front.address), &security.settings()).await;
        let probed = TestListener::open_as(&client, TopicProbe::PublishProbe, "probed").await;
        let asked = TestListener::open_as(&client, TopicProbe::AskRole, "asked").await;
        let redis = Self { old, new, front, client, probed, asked };
        // Several at a time, so that the pool has several connections.
        join_all((0..8).map(|_| redis.client.count_pooled(1, "before", &[]))).await;
        redis.client.count(1, "before").await.unwrap();
        redis
    }

    async fn move_address(&self, becomes: OldServer) {
        self.new.run_text::<()>("REPLICAOF NO ONE").await;
        if becomes == OldServer::BecomesReplica {
            let follow = format!("REPLICAOF 127.0.0.1 {}", self.new.address.port());
            self.old.run_text::<()>(&follow).await;
        }
        self.front.set_upstream(self.new.address);
    }

    /// Whether this user reaches the new server now.
    async fn reaches_new_server(&self, user: ConnectionUser) -> bool {
        let id = format!("after {user:?}").replace(' ', "-");
        let is_counted = async || {
            let found = self.new.try_run_text::<i64>(&format!("HEXISTS {} {id}", key_in(1, "counts"))).await;
            found == Some(1)
        };
        match user {
            ConnectionUser::SharedCalls => self.client.count(1, &id).await.is_ok() && is_counted().await,
            ConnectionUser::PooledCalls => {
                // Each connection of the pool has its turn.
                let calls = join_all((0..8).map(|_| self.client.count_pooled(1, &id, &[]))).await;
                calls.iter().all(Result::is_ok) && is_counted().await
            }
            ConnectionUser::ProbedTopics | ConnectionUser::AskedTopics => {
                let (listener, name) = match user {
                    ConnectionUser::ProbedTopics => (&self.probed, "probed"),
                    _ => (&self.asked, "asked"),
                };
                let publish = format!("SPUBLISH {} {id}", topic_in(3, name));
                self.new.try_run_text::<i64>(&publish).await;
                // A push that comes later is seen by the next try.
                listener.has_received(&id)
            }
        }
    }

    /// The connections of the client that the old server still has.
    async fn connections_to_old_server(&self) -> Vec<String> {
        let list = self.old.try_run_text::<String>("CLIENT LIST").await.unwrap_or_default();
        // Replication has the flags M and S.
        let is_of_client = |line: &&str| {
            !line.contains("cmd=client") && ["flags=N", "flags=P"].iter().any(|f| line.contains(f))
        };
        list.lines().filter(is_of_client).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn every_user_of_a_connection_follows_a_moved_address() {
    for becomes in OldServer::ALL {
        let redis = MovableRedis::start().await;
        redis.move_address(becomes).await;
        for user in ConnectionUser::ALL {
            eventually_within(
                FAILOVER_DEADLINE,
                &format!("{user:?} follow, the old server {becomes:?}"),
                async || redis.reaches_new_server(user).await.then_some(()),
            )
            .await;
        }
        let what = format!("no connection stays at the old server, which {becomes:?}");
        eventually_within(FAILOVER_DEADLINE, &what, async || {
            redis.connections_to_old_server().await.is_empty().then_some(())
        })
        .await;
        eventually_within(FAILOVER_DEADLINE, "the client is ready", async || {
            redis.client.client.check_ready().ok()
        })
        .await;
    }
}
