//! A master of Redis dies with what it had acknowledged, or slots move: nobody loses anything without being told.

use std::time::{Duration, Instant};

use serde_json::json;
use signalbox_protocol::id::RoomId;
use signalbox_redis::redis_keys::partition_of_room;
use signalbox_tests::{
    backend::Backend, checker::check, cluster::Settings, fleet::Fleet, history::Run, peer::Link,
    swarm::Swarm, token::Forgery,
};

use crate::node_death::plan;

const SETTINGS: Settings<'static> = &[
    ("TIMING__RESUME_WINDOW", "10s"),
    ("TIMING__LEASE", "1s"),
    ("TIMING__PING", "2s"),
    ("REDIS__DEADLINE", "500ms"),
];
const WINDOW: Duration = Duration::from_secs(10);

/// Load, what is done, load again; judged by the clients. The number of gaps that were announced.
async fn under_load(backend: Backend, strike: impl AsyncFn(&mut Fleet)) -> u64 {
    let mut fleet = Fleet::start(backend, 2, SETTINGS).await;
    let swarm = Swarm::start(&plan(&fleet, 40));
    swarm.all_live(Duration::from_secs(20)).await;
    strike(&mut fleet).await;
    let histories = swarm.finish(Duration::from_secs(25)).await;
    let verdict = check(&Run { histories, window: WINDOW, ..Run::default() });
    verdict.assert_clean();
    assert_eq!(verdict.lost_peers, 0, "nobody had to join anew: {verdict}");
    fleet.audit();
    verdict.resyncs
}

/// The replica has missed what was acknowledged for most of a second: everybody is told.
#[tokio::test]
async fn a_failover_that_loses_writes_is_announced() {
    let resyncs = under_load(Backend::start_sentinel().await, async |fleet| {
        let Backend::Sentinel(sentinel) = &mut fleet.store else { unreachable!() };
        sentinel.cut_replication().await;
        // What is written now is lost.
        tokio::time::sleep(Duration::from_millis(700)).await;
        sentinel.kill_master().await;
        sentinel.master().await;
    })
    .await;
    assert!(resyncs > 0, "writes were lost, and nobody was told");
}

/// The same in one shard of three.
#[tokio::test]
async fn a_dead_master_of_a_shard_is_announced() {
    under_load(Backend::start_cluster().await, async |fleet| {
        fleet.store.fail_over(1).await;
    })
    .await;
}

/// While one master is dead and another takes its place, rooms of the others talk on as if nothing had been.
#[tokio::test]
async fn rooms_of_other_shards_notice_nothing() {
    let mut fleet = Fleet::start(Backend::start_cluster().await, 2, SETTINGS).await;
    let Backend::Cluster(cluster) = &fleet.store else { unreachable!() };
    let others = cluster.partitions_of(cluster.master_of(127).await).await;
    assert!(!others.contains(&0), "the first and the last partition lie on different masters");
    let names = (0..).map(|n| format!("room-{n}"));
    let name = names
        .into_iter()
        .find(|name| others.contains(&partition_of_room(&RoomId::parse(name).unwrap())))
        .unwrap();
    let join = async |node: usize, user: &str| {
        let token = Forgery::good(&name, user).sign(&fleet.secret);
        Link::open(fleet.nodes[node].process.address, &token).await.into_peer().await
    };
    let (alice, bob) = (join(0, "alice").await, join(1, "bob").await);
    alice.next_of_type("peer-joined").await;
    let Backend::Cluster(cluster) = &mut fleet.store else { unreachable!() };
    cluster.kill_master_of(0).await;
    // Until long after the failover: what is promised here is that nothing happens.
    let end = Instant::now() + Duration::from_secs(6);
    let mut said = 0;
    while Instant::now() < end {
        alice.message(&bob, json!(said)).await;
        assert_eq!(bob.next_message().await.data, Some(json!(said)));
        said += 1;
        // The pace of the load.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for peer in [&alice, &bob] {
        let rest = peer.rest().await;
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// Slots move from one master to another while their rooms talk.
#[tokio::test]
async fn moving_slots_loses_nothing() {
    under_load(Backend::start_cluster().await, async |fleet| {
        for salt in 0..3 {
            fleet.store.reshard(salt).await;
        }
    })
    .await;
}
