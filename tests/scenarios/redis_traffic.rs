//! The Redis traffic of signaling: none for idle peers, one round trip for a message.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    net::{eventually, eventually_within},
    peer::TestPeer,
    redis_monitor::RedisMonitor,
};
use tokio::time::Instant;

use crate::node_death::long;

async fn monitor(cluster: &TestCluster) -> RedisMonitor {
    RedisMonitor::start(cluster.redis.as_ref().unwrap().address).await
}

/// Counts the commands during an idle period.
async fn count_while_idle(monitor: &RedisMonitor, period: Duration) -> u64 {
    let before = monitor.commands();
    tokio::time::sleep(period).await;
    monitor.commands() - before
}

/// Waits until commands about rooms have stopped, so that all effects of joins are counted.
async fn until_quiet(monitor: &RedisMonitor) {
    // A node writes its usage counters every ten seconds, if a peer joined or left.
    count_while_idle(monitor, Duration::from_secs(10)).await;
    eventually_within(Duration::from_secs(30), "no commands about rooms", async || {
        let before = monitor.room_commands();
        count_while_idle(monitor, Duration::from_secs(2)).await;
        (monitor.room_commands() == before).then_some(())
    })
    .await;
}

/// Two nodes send the same number of commands for many idle peers as for five.
#[tokio::test]
async fn redis_traffic_does_not_grow_with_idle_peers() {
    let (many, period) =
        if long() { (5_000, Duration::from_secs(60)) } else { (150, Duration::from_secs(10)) };
    // A lease as in production, so that a node that is busy with the test keeps it.
    let settings = [("TIMING__PING", "1s"), ("TIMING__LEASE", "2s"), ("TIMING__RESUME_WINDOW", "8s")];
    let cluster = TestCluster::start(StoreKind::Redis(2), &settings).await;
    // Wait for the work after the start of a node: it reconciles its rooms after three leases.
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
    // Nodes that have just started do not check deadlines yet.
    count_while_idle(&monitor, Duration::from_secs(2)).await;
    until_quiet(&monitor).await;
    let with_few = count_while_idle(&monitor, period).await;
    fill(many).await;
    until_quiet(&monitor).await;
    let with_many = count_while_idle(&monitor, period).await;
    assert!(
        with_few > 0 && with_many * 10 <= with_few * 11,
        "{with_few} commands with 5 peers, {with_many} with {many}"
    );
}

/// The Redis commands for each message of pairs that send as fast as they are answered, and the most
/// that there may be: acknowledgements that ride on no message, two for each peer and second.
async fn round_trips_per_message(cluster: &TestCluster, across_nodes: bool) -> (f64, f64) {
    const PAIRS: usize = 8;
    let messages_per_pair = if long() { 1_250 } else { 300 };
    let mut pairs: Vec<(TestPeer, TestPeer)> = Vec::new();
    for pair in 0..PAIRS {
        let room = cluster.room(&format!("{across_nodes}-{pair}"));
        let alice = room.join_on(&cluster.nodes[0], "alice").await;
        let bob = room.join_on(&cluster.nodes[usize::from(across_nodes)], "bob").await;
        alice.next_of_type("peer-joined").await;
        pairs.push((alice, bob));
    }
    let monitor = monitor(cluster).await;
    let (before, begin) = (monitor.room_commands(), Instant::now());
    let exchange = async |(alice, bob): &(TestPeer, TestPeer)| {
        for n in 0..messages_per_pair {
            alice.message(bob, json!(n)).await;
            bob.next_message().await;
        }
    };
    join_all(pairs.iter().map(exchange)).await;
    // The last lines of the monitor may arrive later.
    let messages = (PAIRS * messages_per_pair) as u64;
    let all_seen = async || (monitor.room_commands() >= before + messages).then_some(());
    eventually("the monitor has seen the messages", all_seen).await;
    let acknowledgements = begin.elapsed().as_secs_f64() * (2 * PAIRS * 2) as f64;
    let trips = (monitor.room_commands() - before) as f64 / messages as f64;
    (trips, 1.02 + acknowledgements / messages as f64)
}

/// The next append carries the `received` of a peer, so acknowledging an entry costs no command.
#[tokio::test]
async fn a_message_costs_one_redis_round_trip() {
    let fast = [("LIMITS__RATE", "100000"), ("LIMITS__BURST", "100000")];
    let cluster = TestCluster::start(StoreKind::Redis(2), &fast).await;
    for across_nodes in [false, true] {
        let (trips, most) = round_trips_per_message(&cluster, across_nodes).await;
        assert!(
            trips <= most,
            "{trips:.3} round trips for a message, {most:.3} at most; across nodes: {across_nodes}"
        );
    }
}

/// The calls so far of the commands that a script on a room uses, and that a node never sends while
/// its peers are idle; and the calls of scripts.
async fn script_calls(cluster: &TestCluster) -> (f64, f64) {
    const COMMANDS: [&str; 12] = [
        "hget",
        "hmget",
        "hset",
        "hdel",
        "hincrby",
        "hkeys",
        "xadd",
        "xtrim",
        "xrange",
        "xrevrange",
        "spublish",
        "pexpire",
    ];
    let mut redis = cluster.redis.as_ref().unwrap().connect().await;
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.unwrap();
    let calls = |names: &[&str]| {
        let calls_of = |line: &str| {
            let (name, values) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = values.split(',').next()?.parse::<u64>().ok()?;
            names.contains(&name).then_some(calls)
        };
        stats.lines().filter_map(calls_of).sum::<u64>() as f64
    };
    (calls(&COMMANDS), calls(&["evalsha"]))
}

/// TIME, HMGET, XADD, HSET and SPUBLISH. The `received` of a peer costs none with its next message.
#[tokio::test]
async fn a_message_costs_five_calls_in_redis() {
    const MESSAGES: usize = 1_000;
    let fast = [("LIMITS__RATE", "100000"), ("LIMITS__BURST", "100000")];
    let cluster = TestCluster::start(StoreKind::Redis(2), &fast).await;
    let room = cluster.room("r");
    let alice = room.join_on(&cluster.nodes[0], "alice").await;
    let bob = room.join_on(&cluster.nodes[1], "bob").await;
    alice.next_of_type("peer-joined").await;
    let before = script_calls(&cluster).await;
    for n in 0..MESSAGES / 2 {
        alice.message(&bob, json!(n)).await;
        bob.next_message().await;
        bob.message(&alice, json!(n)).await;
        alice.next_message().await;
    }
    let (calls, scripts) = script_calls(&cluster).await;
    let (calls, scripts) = (calls - before.0, scripts - before.1);
    // Each call of the script begins with TIME, which nodes also use for other scripts. An
    // acknowledgement that rides on no message, because the machine is slow, is a script of its own,
    // with at most four calls.
    let messages = MESSAGES as f64;
    let most = 5.05 * messages + 4.0 * (scripts - messages);
    assert!(calls + messages <= most, "{calls} calls in {scripts} scripts for {messages} messages");
}

/// A mailbox may expire while its room is silent, because the next message creates it again.
#[tokio::test]
async fn a_silent_room_outlives_the_ttl_of_its_mailboxes() {
    let settings = [("TIMING__RESUME_WINDOW", "1s"), ("TIMING__LEASE", "200ms"), ("TIMING__PING", "1s")];
    let cluster = TestCluster::start(StoreKind::Redis(2), &settings).await;
    let (alice, bob) = cluster.room("r").join2().await;
    alice.message(&bob, json!("before")).await;
    bob.next_message().await;
    bob.send(json!({"type": "received", "seq": bob.seq().await})).await;
    // The window, three leases and the deletion delay: every mailbox has expired, and more than three windows
    // have passed.
    tokio::time::sleep(Duration::from_millis(1_000 + 600 + 4_000 + 1_000)).await;
    alice.message(&bob, json!("after")).await;
    assert_eq!(bob.next_message().await.data, Some(json!("after")));
    let bob = bob.disconnect().await.resume_on(&cluster.nodes[0]).await;
    assert_eq!(bob.joined["recovered"], true, "{}", bob.joined);
    bob.message(&alice, json!("back")).await;
    assert_eq!(alice.next_message().await.data, Some(json!("back")));
    drop((alice, bob));
    // The room outlives its peers by one resume window of one second.
    cluster.redis.as_ref().unwrap().assert_clean_after(Duration::from_secs(3)).await;
    cluster.assert_clean_logs();
}
