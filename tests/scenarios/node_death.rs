//! A node is killed, hangs or loses its connection to Redis. Its clients resume on another node
//! within seconds, and no message is lost or duplicated.

use std::time::{Duration, Instant};

use serde_json::json;
use signalbox_tests::{
    checker::check,
    cluster::Settings,
    fleet::Fleet,
    history::{ClientEvent, RunRecord},
    net::eventually,
    peer::{TestConnection, TestPeer},
    swarm::Swarm,
    swarm_plan::SwarmPlan,
    token::TokenBuilder,
};

const WINDOW: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(1);
const SETTINGS: Settings<'static> =
    &[("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "1s"), ("TIMING__PING", "2s")];

pub(crate) fn plan(fleet: &Fleet, clients: usize) -> SwarmPlan {
    let plan = SwarmPlan {
        addresses: fleet.client_addresses(),
        secret: fleet.secret.clone(),
        rooms: Vec::new(),
        message_interval: Duration::from_millis(400),
        room_percent: 30,
        ping_interval: Duration::from_secs(2),
        pong_limit: Duration::from_secs(5),
        seed: 1,
    };
    plan.fill(clients)
}

/// Joins through the proxy of a node.
pub(crate) async fn join(fleet: &Fleet, node: usize, user: &str) -> TestPeer {
    let token = TokenBuilder::valid("r", user).sign(&fleet.secret);
    TestConnection::open(fleet.nodes[node].client_proxy.address, &token).await.into_peer().await
}

#[tokio::test]
async fn clients_of_a_killed_node_resume_within_seconds_without_losing_a_message() {
    let fleet = Fleet::over_single_redis(3, SETTINGS).await;
    let swarm = Swarm::start(&plan(&fleet, 60));
    swarm.wait_connected(Duration::from_secs(20)).await;
    // Load before the kill.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let killed = swarm.elapsed();
    fleet.nodes[0].process.kill();
    let lost = eventually("the clients of the node notice the loss", async || {
        let lost =
            swarm.count_events(|at, event| at >= killed && matches!(event, ClientEvent::ConnectionLost(_)));
        (lost >= 10).then_some(lost)
    })
    .await;
    swarm.wait_connected(Duration::from_secs(10)).await;
    let recovery = swarm.elapsed() - killed;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let histories = swarm.finish(Duration::from_secs(15)).await;
    let report = check(&RunRecord { histories, window: WINDOW, lossless: true, ..RunRecord::default() });
    report.assert_clean();
    assert!(report.resumes.len() >= lost, "{} resumed of {lost}", report.resumes.len());
    assert!(recovery <= Duration::from_secs(5), "the last client was live after {recovery:?}\n{report}");
    fleet.nodes[1..].iter().for_each(|node| node.process.assert_running());
}

/// Others receive `peer-detached` within three leases, and `peer-left` once, after the window.
#[tokio::test]
async fn a_peer_of_a_killed_node_that_does_not_resume_is_detached_and_leaves() {
    let settings = [("TIMING__RESUME_WINDOW", "2s"), ("TIMING__LEASE", "1s")];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let bob = join(&fleet, 1, "bob").await;
    let alice = join(&fleet, 0, "alice").await;
    let killed = Instant::now();
    fleet.nodes[0].process.kill();
    assert_eq!(bob.next_of_type("peer-joined").await["peerId"], alice.id());
    assert_eq!(bob.next_of_type("peer-detached").await["peerId"], alice.id());
    let detached = killed.elapsed();
    // Two seconds of tolerance for a slow machine.
    assert!(detached <= 3 * LEASE + Duration::from_secs(2), "{detached:?}");
    let left = bob.next_of_type("peer-left").await;
    assert_eq!((&left["peerId"], &left["reason"]), (&json!(alice.id()), &json!("timeout")));
    let window = killed.elapsed() - detached;
    assert!(window >= Duration::from_millis(1_500), "the peer left before its window ended: {window:?}");
    bob.ping().await;
    let rest = bob.take_unread().await;
    assert!(rest.is_empty(), "{rest:?}");
}

/// A node hangs for longer than its lease. Alice resumes on another node and Bob keeps his
/// connection. When the node continues, it must not write for Alice, and it still serves Bob.
#[tokio::test]
async fn a_node_that_hung_is_fenced_for_a_peer_that_resumed_elsewhere() {
    let settings = [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "500ms"), ("TIMING__PING", "20s")];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let carol = join(&fleet, 1, "carol").await;
    let bob = join(&fleet, 0, "bob").await;
    let alice = join(&fleet, 0, "alice").await;
    let bob_id = bob.id().to_owned();
    alice.message(&carol, json!("before")).await;
    fleet.nodes[0].pause();
    // The message waits in the socket buffer of the node that hangs.
    let id = alice.next_id();
    let message = json!({"type": "message", "to": carol.id(), "id": id, "data": "once"});
    alice.send(message.clone()).await;
    let resume_state = alice.resume_state().await;
    for n in 0..2 {
        let detached = carol.next_of_type("peer-detached").await;
        assert!(
            [&resume_state.peer_id, &bob_id].contains(&&detached["peerId"].as_str().unwrap().to_owned()),
            "detached peer {n}"
        );
    }
    let resumed = resume_state.resume_at(fleet.nodes[1].client_proxy.address).await;
    assert_eq!(resumed.joined["recovered"], true);
    assert!(resumed.joined["lastId"].as_u64().unwrap() < id);
    resumed.send(message).await;
    assert_eq!(resumed.reply_to(id).await["type"], "ack");
    fleet.nodes[0].unpause();
    // The old connection is closed, and its last message is not delivered twice.
    let closed = alice.wait_closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (4512, "replaced"));
    // The node reclaims Bob.
    let attached: Vec<_> =
        [carol.next_of_type("peer-attached").await, carol.next_of_type("peer-attached").await]
            .iter()
            .map(|frame| frame["peerId"].as_str().unwrap().to_owned())
            .collect();
    assert!(attached.contains(&bob_id) && attached.contains(&resume_state.peer_id), "{attached:?}");
    bob.send_until_acked(json!({"type": "message", "to": carol.id(), "data": "bob"})).await;
    resumed.message(&bob, json!("to bob")).await;
    assert_eq!(bob.next_message().await.data, Some(json!("to bob")));
    let mut received = Vec::new();
    while !received.contains(&json!("bob")) {
        received.push(carol.next_message().await.data.unwrap());
    }
    assert_eq!(received, [json!("before"), json!("once"), json!("bob")]);
    assert_eq!(bob.joined["peerId"], bob_id, "the same peer");
    fleet.audit();
}

/// One node loses its connection to Redis for many leases. It keeps its sockets and reclaims its
/// peers.
#[tokio::test]
async fn a_node_without_a_connection_to_redis_keeps_its_sockets() {
    let settings = [
        ("TIMING__RESUME_WINDOW", if long() { "90s" } else { "20s" }),
        ("TIMING__LEASE", "500ms"),
        ("REDIS__DEADLINE", "300ms"),
    ];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 0, "bob").await;
    let carol = join(&fleet, 1, "carol").await;
    fleet.nodes[0].redis_proxy().isolate();
    let answer = alice.send_until_acked(json!({"type": "message", "to": bob.id(), "data": "local"})).await;
    assert_eq!(answer["durable"], false, "{answer}");
    // The other node has detached the peers when their leases have expired.
    for _ in 0..2 {
        carol.next_of_type("peer-detached").await;
    }
    // The node stays without Redis for this time.
    tokio::time::sleep(Duration::from_secs(if long() { 60 } else { 4 })).await;
    alice.ping().await;
    bob.ping().await;
    fleet.nodes[0].redis_proxy().heal();
    for _ in 0..2 {
        carol.next_of_type("peer-attached").await;
    }
    alice.send_until_acked(json!({"type": "message", "to": carol.id(), "data": "again"})).await;
    assert_eq!(carol.next_message().await.data, Some(json!("again")));
    carol.message(&bob, json!("and back")).await;
    // The message of direct delivery arrives before this one.
    while bob.next_of_type("message").await["data"] != "and back" {}
    fleet.audit();
}

/// Whether the tests use production timing, not the timing of a quick run.
pub(crate) fn long() -> bool {
    signalbox_config::LoadedConfig::read_environment().contains_key("SIGNALBOX_TEST_LONG")
}
