//! What signaling costs Redis: nothing while idle, one round trip for a message.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use signalbox_tests::{
    cluster::{Store, TestCluster},
    monitor::Monitor,
    net::{eventually, eventually_within},
    peer::TestPeer,
};

use crate::node_death::long;

async fn monitor(cluster: &TestCluster) -> Monitor {
    Monitor::start(cluster.redis.as_ref().unwrap().address).await
}

/// Commands in so much time.
async fn idle(monitor: &Monitor, time: Duration) -> u64 {
    let before = monitor.count();
    // Nothing happens: that is what is measured.
    tokio::time::sleep(time).await;
    monitor.count() - before
}

/// Waits until nobody talks about rooms any more: what joins entailed has been told, and counted.
async fn until_quiet(monitor: &Monitor) {
    // Nodes write every ten seconds what they have counted, if somebody came or went.
    idle(monitor, Duration::from_secs(10)).await;
    eventually_within(Duration::from_secs(30), "rooms are idle", async || {
        let before = monitor.of_rooms();
        idle(monitor, Duration::from_secs(2)).await;
        (monitor.of_rooms() == before).then_some(())
    })
    .await;
}

/// What two nodes ask of Redis for many silent peers is what they ask for five.
#[tokio::test]
async fn idle_peers_cost_redis_nothing() {
    let (many, time) = if long() { (5_000, Duration::from_secs(60)) } else { (150, Duration::from_secs(4)) };
    // The pace of a deployment, and a node that is busy with the test is not taken for dead.
    let settings = [("TIMING__PING", "1s"), ("TIMING__LEASE", "2s"), ("TIMING__RESUME_WINDOW", "8s")];
    let cluster = TestCluster::start(Store::Redis(2), &settings).await;
    // What a node does once after its start is over: three leases, and then it looks at its rooms.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut peers = Vec::new();
    let mut fill = async |up_to: usize| {
        while peers.len() < up_to {
            let name = format!("room-{}", peers.len() / 5);
            peers.push(cluster.room(&name).join("user").await);
        }
    };
    let monitor = monitor(&cluster).await;
    fill(5).await;
    // Nodes that have just started look at no deadlines yet.
    idle(&monitor, Duration::from_secs(2)).await;
    until_quiet(&monitor).await;
    let few = idle(&monitor, time).await;
    fill(many).await;
    until_quiet(&monitor).await;
    let full = idle(&monitor, time).await;
    assert!(few > 0 && full * 10 <= few * 11, "{few} commands with 5 peers, {full} with {many}");
}

/// Pairs send as fast as they are answered; what is asked of Redis for them is counted.
async fn round_trips(cluster: &TestCluster, across: bool) -> f64 {
    const PAIRS: usize = 8;
    let each = if long() { 1_250 } else { 300 };
    let mut pairs: Vec<(TestPeer, TestPeer)> = Vec::new();
    for pair in 0..PAIRS {
        let room = cluster.room(&format!("{across}-{pair}"));
        let alice = room.join_on(&cluster.nodes[0], "alice").await;
        let bob = room.join_on(&cluster.nodes[usize::from(across)], "bob").await;
        alice.next_of_type("peer-joined").await;
        pairs.push((alice, bob));
    }
    let monitor = monitor(cluster).await;
    let before = monitor.of_rooms();
    let talk = async |(alice, bob): &(TestPeer, TestPeer)| {
        for n in 0..each {
            alice.message(bob, json!(n)).await;
            bob.next_message().await;
        }
    };
    join_all(pairs.iter().map(talk)).await;
    // The monitor's last lines may still be on their way.
    let messages = (PAIRS * each) as u64;
    let seen = async || (monitor.of_rooms() >= before + messages).then_some(());
    eventually("the monitor has seen the messages", seen).await;
    (monitor.of_rooms() - before) as f64 / messages as f64
}

/// `received` rides along, and the acknowledgement of an entry costs nothing of its own.
#[tokio::test]
async fn a_message_costs_one_round_trip() {
    let fast = [("LIMITS__RATE", "100000"), ("LIMITS__BURST", "100000")];
    let cluster = TestCluster::start(Store::Redis(2), &fast).await;
    for across in [false, true] {
        let trips = round_trips(&cluster, across).await;
        assert!(trips <= 1.05, "{trips:.3} round trips for a message, across nodes: {across}");
    }
}

/// A call that says nothing for longer than any mailbox lives is no less a call: nothing has to be refreshed.
#[tokio::test]
async fn a_silent_room_goes_on() {
    let settings = [("TIMING__RESUME_WINDOW", "1s"), ("TIMING__LEASE", "200ms"), ("TIMING__PING", "1s")];
    let cluster = TestCluster::start(Store::Redis(2), &settings).await;
    let (alice, bob) = cluster.room("r").join2().await;
    alice.message(&bob, json!("before")).await;
    bob.next_message().await;
    bob.send(json!({"type": "received", "seq": bob.seq().await})).await;
    // Window, three leases and slack: every mailbox has expired, and more than three windows have passed.
    tokio::time::sleep(Duration::from_millis(1_000 + 600 + 4_000 + 1_000)).await;
    alice.message(&bob, json!("after")).await;
    assert_eq!(bob.next_message().await.data, Some(json!("after")));
    let bob = bob.lose().await.resume_on(&cluster.nodes[0]).await;
    assert_eq!(bob.joined["recovered"], true, "{}", bob.joined);
    bob.message(&alice, json!("back")).await;
    assert_eq!(alice.next_message().await.data, Some(json!("back")));
    drop((alice, bob));
    // The room outlives its peers by a window of one second.
    cluster.redis.as_ref().unwrap().assert_clean_after(Duration::from_secs(3)).await;
    cluster.assert_clean_logs();
}
