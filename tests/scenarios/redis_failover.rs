//! A Redis master dies with acknowledged writes, or slots move to another master. Each loss must be
//! announced to the clients.

use std::time::{Duration, Instant};

use serde_json::json;
use signalbox_protocol::id::RoomId;
use signalbox_redis::redis_keys::partition_of_room;
use signalbox_tests::{
    checker::check,
    cluster::{Settings, StoreKind, TestCluster},
    fleet::Fleet,
    fleet_store::FleetStore,
    history::RunRecord,
    http::Request,
    net::{eventually, free_address},
    peer::TestConnection,
    proxy::FaultProxy,
    redis_security::RedisSecurity,
    redis_server::RedisServer,
    swarm::Swarm,
    token::TokenBuilder,
};
use tokio::time::timeout;

use crate::{event_feed, node_death::plan};

const SETTINGS: Settings<'static> = &[
    ("TIMING__RESUME_WINDOW", "10s"),
    ("TIMING__LEASE", "1s"),
    ("TIMING__PING", "2s"),
    ("REDIS__DEADLINE", "500ms"),
];
const WINDOW: Duration = Duration::from_secs(10);

/// Injects a failure under load and checks the records of the clients. Returns the number of
/// announced gaps.
async fn inject_under_load(backend: FleetStore, inject: impl AsyncFn(&mut Fleet)) -> u64 {
    let mut fleet = Fleet::start(backend, 2, SETTINGS).await;
    let swarm = Swarm::start(&plan(&fleet, 40));
    swarm.wait_connected(Duration::from_secs(20)).await;
    inject(&mut fleet).await;
    let histories = swarm.finish(Duration::from_secs(25)).await;
    let report = check(&RunRecord { histories, window: WINDOW, ..RunRecord::default() });
    report.assert_clean();
    assert_eq!(report.lost_peers, 0, "peers had to join again: {report}");
    fleet.audit();
    report.recovered_false
}

/// The replica misses the writes of 700 ms that the master has acknowledged.
#[tokio::test]
async fn a_gap_is_announced_after_a_failover_that_loses_writes() {
    let resyncs = inject_under_load(FleetStore::start_sentinel().await, async |fleet| {
        let FleetStore::Sentinel(sentinel) = &mut fleet.store else { unreachable!() };
        sentinel.cut_replication().await;
        // Writes during this pause are lost.
        tokio::time::sleep(Duration::from_millis(700)).await;
        sentinel.kill_master().await;
        sentinel.wait_master().await;
    })
    .await;
    assert!(resyncs > 0, "writes were lost without an announcement");
}

/// A Redis Cluster of three shards.
#[tokio::test]
async fn a_failover_of_one_shard_leaves_no_silent_gap() {
    inject_under_load(FleetStore::start_cluster().await, async |fleet| {
        fleet.store.fail_over(1).await;
    })
    .await;
}

/// One master dies and its replica is promoted. A room of another shard keeps exchanging messages.
#[tokio::test]
async fn a_failover_of_one_shard_does_not_affect_rooms_of_other_shards() {
    let mut fleet = Fleet::start(FleetStore::start_cluster().await, 2, SETTINGS).await;
    let FleetStore::Cluster(cluster) = &fleet.store else { unreachable!() };
    let other_partitions = cluster.partitions_of(cluster.master_of(127).await).await;
    assert!(!other_partitions.contains(&0), "the first and the last partition lie on different masters");
    let names = (0..).map(|n| format!("room-{n}"));
    let name = names
        .into_iter()
        .find(|name| other_partitions.contains(&partition_of_room(&RoomId::parse(name).unwrap())))
        .unwrap();
    let join = async |node: usize, user: &str| {
        let token = TokenBuilder::valid(&name, user).sign(&fleet.secret);
        TestConnection::open(fleet.nodes[node].process.address, &token).await.into_peer().await
    };
    let (alice, bob) = (join(0, "alice").await, join(1, "bob").await);
    alice.next_of_type("peer-joined").await;
    let FleetStore::Cluster(cluster) = &mut fleet.store else { unreachable!() };
    cluster.kill_master_of(0).await;
    // Long enough to cover the whole failover.
    let end = Instant::now() + Duration::from_secs(6);
    let mut sent = 0;
    while Instant::now() < end {
        alice.message(&bob, json!(sent)).await;
        assert_eq!(bob.next_message().await.data, Some(json!(sent)));
        sent += 1;
        // The interval between messages.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for peer in [&alice, &bob] {
        let rest = peer.take_unread().await;
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// Slots move from one master to another while peers in their rooms exchange messages.
#[tokio::test]
async fn moving_slots_leaves_no_silent_gap() {
    inject_under_load(FleetStore::start_cluster().await, async |fleet| {
        for salt in 0..3 {
            fleet.store.reshard(salt).await;
        }
    })
    .await;
}

/// The address of a single Redis leads to another master, and the old server lives on as its replica.
/// The auth service uses pooled connections for refresh tokens, and a subscription for the feed.
#[tokio::test]
async fn both_services_follow_the_address_of_redis_to_another_master() {
    let security = RedisSecurity::none();
    let old = RedisServer::start(free_address(), &security, &[]).await;
    let new = RedisServer::start(free_address(), &security, &[]).await;
    let front = FaultProxy::start(old.address).await;
    let env = [("REDIS_URL".to_owned(), format!("redis://{}/0", front.address))];
    let cluster = TestCluster::start_with(StoreKind::Redis(1), &[], &env).await;
    let request_token = async || {
        let body = json!({"room": "r", "user": "alice", "refresh": true});
        cluster.api("POST", "/auth/token", &body).await.status
    };
    for _ in 0..4 {
        assert_eq!(request_token().await, 200);
    }
    new.run_text::<()>(&format!("REPLICAOF 127.0.0.1 {}", old.address.port())).await;
    eventually("the replica follows", async || {
        (new.replication_info("master_link_status").await? == "up").then_some(())
    })
    .await;

    new.run_text::<()>("REPLICAOF NO ONE").await;
    old.run_text::<()>(&format!("REPLICAOF 127.0.0.1 {}", new.address.port())).await;
    front.set_upstream(new.address);
    eventually("the auth service writes to the new master, on each of its connections", async || {
        for _ in 0..8 {
            if request_token().await != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    let mut feed = event_feed::open(&cluster).await;
    eventually("a peer joins", async || {
        let ready = Request::get("/health/ready").send(cluster.nodes[0].address).await;
        (ready.status == 200).then_some(())
    })
    .await;
    // An event that comes before the new subscription is lost.
    let mut rooms = 0;
    eventually("an event arrives", async || {
        rooms += 1;
        cluster.room(&format!("r{rooms}")).join("alice").await.leave().await;
        timeout(Duration::from_millis(200), event_feed::next(&mut feed)).await.ok()
    })
    .await;
    cluster.assert_clean_logs();
}
