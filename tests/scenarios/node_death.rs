//! A node is killed, hangs, or loses Redis: its clients are back in seconds on another, and nothing is lost or doubled.

use std::time::{Duration, Instant};

use serde_json::json;
use signalbox_tests::{
    checker::check,
    cluster::Settings,
    fleet::Fleet,
    history::{Event, Run},
    net::eventually,
    peer::{Link, TestPeer},
    swarm::{Plan, Swarm},
    token::Forgery,
};

const WINDOW: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(1);
const SETTINGS: Settings<'static> =
    &[("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "1s"), ("TIMING__PING", "2s")];

pub(crate) fn plan(fleet: &Fleet, clients: usize) -> Plan {
    let plan = Plan {
        doors: fleet.doors(),
        secret: fleet.secret.clone(),
        rooms: Vec::new(),
        pace: Duration::from_millis(400),
        to_room: 30,
        ping: Duration::from_secs(2),
        pong: Duration::from_secs(5),
        seed: 1,
    };
    plan.fill(clients)
}

/// Joins through the proxy of a node.
pub(crate) async fn join(fleet: &Fleet, node: usize, user: &str) -> TestPeer {
    let token = Forgery::good("r", user).sign(&fleet.secret);
    Link::open(fleet.nodes[node].front.address, &token).await.into_peer().await
}

/// Load, a kill, load again: everybody is back in five seconds with everything.
#[tokio::test]
async fn a_killed_node_costs_its_clients_seconds_and_no_message() {
    let fleet = Fleet::single(3, SETTINGS).await;
    let swarm = Swarm::start(&plan(&fleet, 60));
    swarm.all_live(Duration::from_secs(20)).await;
    // Load before and after.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let killed = swarm.now();
    fleet.nodes[0].process.kill();
    let lost = eventually("its clients notice", async || {
        let lost = swarm.events(|at, event| at >= killed && matches!(event, Event::Lost(_)));
        (lost >= 10).then_some(lost)
    })
    .await;
    swarm.all_live(Duration::from_secs(10)).await;
    let back = swarm.now() - killed;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let histories = swarm.finish(Duration::from_secs(15)).await;
    let verdict = check(&Run { histories, window: WINDOW, lossless: true, ..Run::default() });
    verdict.assert_clean();
    assert!(verdict.resumes.len() >= lost, "{} resumed of {lost}", verdict.resumes.len());
    assert!(back <= Duration::from_secs(5), "the last was back after {back:?}\n{verdict}");
    fleet.nodes[1..].iter().for_each(|node| node.process.assert_running());
}

/// Who does not come back is detached for the others within three leases, and has left after the window, once.
#[tokio::test]
async fn who_stays_away_from_a_killed_node_is_detached_and_leaves() {
    let settings = [("TIMING__RESUME_WINDOW", "2s"), ("TIMING__LEASE", "1s")];
    let fleet = Fleet::single(2, &settings).await;
    let bob = join(&fleet, 1, "bob").await;
    let alice = join(&fleet, 0, "alice").await;
    let killed = Instant::now();
    fleet.nodes[0].process.kill();
    assert_eq!(bob.next_of_type("peer-joined").await["peerId"], alice.id());
    assert_eq!(bob.next_of_type("peer-detached").await["peerId"], alice.id());
    let detached = killed.elapsed();
    // Half a second for the machine.
    assert!(detached <= 3 * LEASE + Duration::from_millis(500), "{detached:?}");
    let left = bob.next_of_type("peer-left").await;
    assert_eq!((&left["peerId"], &left["reason"]), (&json!(alice.id()), &json!("timeout")));
    let waited = killed.elapsed() - detached;
    assert!(waited >= Duration::from_millis(1_500), "it had the window to come back: {waited:?}");
    bob.ping().await;
    let rest = bob.rest().await;
    assert!(rest.is_empty(), "{rest:?}");
}

/// A node hangs for longer than its lease. Alice resumes elsewhere and Bob waits: when it goes on, it may not write for her, and he
/// is still there.
#[tokio::test]
async fn a_node_that_hung_writes_for_nobody_who_went_elsewhere() {
    let settings = [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "500ms"), ("TIMING__PING", "20s")];
    let fleet = Fleet::single(2, &settings).await;
    let carol = join(&fleet, 1, "carol").await;
    let bob = join(&fleet, 0, "bob").await;
    let alice = join(&fleet, 0, "alice").await;
    let bob_id = bob.id().to_owned();
    alice.message(&carol, json!("before")).await;
    fleet.nodes[0].suspend();
    // It lies in the socket of the node that hangs.
    let id = alice.next_id();
    let late = json!({"type": "message", "to": carol.id(), "id": id, "data": "once"});
    alice.send(late.clone()).await;
    let old = alice.ticket().await;
    for gone in 0..2 {
        let detached = carol.next_of_type("peer-detached").await;
        assert!(
            [&old.peer_id, &bob_id].contains(&&detached["peerId"].as_str().unwrap().to_owned()),
            "{gone}"
        );
    }
    let new = old.resume_at(fleet.nodes[1].front.address).await;
    assert_eq!(new.joined["recovered"], true);
    assert!(new.joined["lastId"].as_u64().unwrap() < id);
    new.send(late).await;
    assert_eq!(new.answer(id).await["type"], "ack");
    fleet.nodes[0].go_on();
    // The old connection is closed, and what it said last is not said twice.
    let closed = alice.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (4512, "replaced"));
    // Bob never noticed.
    let attached: Vec<_> =
        [carol.next_of_type("peer-attached").await, carol.next_of_type("peer-attached").await]
            .iter()
            .map(|frame| frame["peerId"].as_str().unwrap().to_owned())
            .collect();
    assert!(attached.contains(&bob_id) && attached.contains(&old.peer_id), "{attached:?}");
    bob.insist(json!({"type": "message", "to": carol.id(), "data": "bob"})).await;
    new.message(&bob, json!("to bob")).await;
    assert_eq!(bob.next_message().await.data, Some(json!("to bob")));
    let mut heard = Vec::new();
    while !heard.contains(&json!("bob")) {
        heard.push(carol.next_message().await.data.unwrap());
    }
    assert_eq!(heard, [json!("before"), json!("once"), json!("bob")]);
    assert_eq!(bob.joined["peerId"], bob_id, "the same peer");
    fleet.audit();
}

/// One node alone is cut off from Redis for many leases: its sockets stay, and so do its peers.
#[tokio::test]
async fn a_node_cut_off_from_redis_keeps_its_sockets() {
    let settings = [
        ("TIMING__RESUME_WINDOW", if long() { "90s" } else { "20s" }),
        ("TIMING__LEASE", "500ms"),
        ("REDIS__DEADLINE", "300ms"),
    ];
    let fleet = Fleet::single(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 0, "bob").await;
    let carol = join(&fleet, 1, "carol").await;
    fleet.nodes[0].store().part();
    let answer = alice.insist(json!({"type": "message", "to": bob.id(), "data": "local"})).await;
    assert_eq!(answer["durable"], false, "{answer}");
    // What follows begins when the others have given the node up.
    for _ in 0..2 {
        carol.next_of_type("peer-detached").await;
    }
    // The cut itself.
    tokio::time::sleep(Duration::from_secs(if long() { 60 } else { 4 })).await;
    alice.ping().await;
    bob.ping().await;
    fleet.nodes[0].store().heal();
    for _ in 0..2 {
        carol.next_of_type("peer-attached").await;
    }
    alice.insist(json!({"type": "message", "to": carol.id(), "data": "again"})).await;
    assert_eq!(carol.next_message().await.data, Some(json!("again")));
    carol.message(&bob, json!("and back")).await;
    // What went around the mailbox is before it.
    while bob.next_of_type("message").await["data"] != "and back" {}
    fleet.audit();
}

/// Whether to take the times of the real promise and not those of a quick run.
pub(crate) fn long() -> bool {
    signalbox_config::LoadedConfig::read_environment().contains_key("SIGNALBOX_TEST_LONG")
}
