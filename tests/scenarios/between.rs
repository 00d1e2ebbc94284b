//! What happens between two steps: an answer that is lost, a node that dies while nobody can be told, a break in the middle of work.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use signalbox_tests::{
    fleet::Fleet,
    http::Request,
    net::{eventually_within, within},
    peer::TestPeer,
    process::signal,
    proxy::{Arrivals, Way},
};

use crate::node_death::join;

async fn until_ready(fleet: &Fleet, node: usize, wanted: u16) {
    eventually_within(Duration::from_secs(10), &format!("ready says {wanted}"), async || {
        let status = Request::get("/health/ready").send(fleet.nodes[node].process.address).await.status;
        (status == wanted).then_some(())
    })
    .await;
}

async fn next_about(peer: &TestPeer, kind: &str, about: &str) {
    while peer.next_of_type(kind).await["peerId"] != about {}
}

/// A message is on its way when Redis goes. It is refused; from then on what goes to a peer on the same node goes straight.
#[tokio::test]
async fn a_call_that_was_lost_with_redis_does_not_silence_its_node() {
    let settings =
        [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
    let mut fleet = Fleet::single(1, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 0, "bob").await;
    alice.message(&bob, json!("before")).await;
    bob.next_message().await;
    let pid = fleet.store.single().pid();
    signal(pid, "STOP");
    let lost = alice.ask(json!({"type": "message", "to": bob.id(), "data": "lost"})).await;
    assert_eq!(lost["code"], "unavailable", "{lost}");
    until_ready(&fleet, 0, 503).await;
    // Long enough for what was asked before to fail.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id = lost["id"].as_u64().unwrap();
    eventually_within(Duration::from_secs(5), "it goes straight", async || {
        alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": "lost"})).await;
        let answer = alice.answer(id).await;
        (answer["type"] == "ack").then(|| assert_eq!(answer["durable"], false, "{answer}"))
    })
    .await;
    assert_eq!(bob.next_of_type("message").await["data"], "lost");
    signal(pid, "CONT");
    until_ready(&fleet, 0, 200).await;
    alice.insist(json!({"type": "message", "to": bob.id(), "data": "after"})).await;
    let heard = bob.next_of_type("message").await;
    assert_eq!(heard["data"], "after", "once");
    fleet.audit();
}

/// A client came back and says its first word while Redis is away: the handle is confirmed later, and nobody tries all the time.
#[tokio::test]
async fn a_handle_to_be_confirmed_does_not_keep_a_node_busy() {
    let settings = [("TIMING__RESUME_WINDOW", "10s"), ("REDIS__DEADLINE", "300ms")];
    let fleet = Fleet::single(1, &settings).await;
    let bob = join(&fleet, 0, "bob").await;
    let old = bob.ticket().await;
    let bob = bob.lose().await.resume_at(fleet.nodes[0].front.address).await;
    fleet.nodes[0].store().arrivals(Arrivals::Refused);
    fleet.nodes[0].store().cut(|| true);
    until_ready(&fleet, 0, 503).await;
    bob.ping().await;
    let node = &fleet.nodes[0].process;
    let before = node.metric("signalbox_append_seconds_count").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tried = node.metric("signalbox_append_seconds_count").await - before;
    assert!(tried <= 20.0, "{tried} times a second");
    fleet.nodes[0].store().heal();
    until_ready(&fleet, 0, 200).await;
    eventually_within(Duration::from_secs(5), "the handle before is void", async || {
        let target = format!("/ws/validate?{}", old.query());
        let answer = Request::get(target).send(node.address).await;
        (answer.status == 401).then_some(())
    })
    .await;
    bob.ping().await;
}

/// Redis comes back empty and with it the list of nodes; one of them has died meanwhile.
#[tokio::test]
async fn who_was_on_a_node_that_died_while_redis_forgot_it_is_given_up() {
    let settings =
        [("TIMING__RESUME_WINDOW", "2s"), ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
    let mut fleet = Fleet::single(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 1, "bob").await;
    next_about(&alice, "peer-joined", bob.id()).await;
    // Alice's node knows where Bob is.
    alice.message(&bob, json!("before")).await;
    alice.tell_room(json!("before")).await;
    fleet.store.single().stop();
    until_ready(&fleet, 0, 503).await;
    fleet.nodes[1].process.kill();
    fleet.store.single().go_on().await;
    assert_eq!(alice.next_of_type("resumed").await["recovered"], false);
    within("Bob is given up", next_about(&alice, "peer-left", bob.id())).await;
    fleet.nodes[0].process.assert_running();
}

/// A node was taken for dead. It takes its peer back, and the answer to that is lost: the peer is still its own.
#[tokio::test]
async fn who_is_taken_back_is_not_replaced_by_itself() {
    let settings = [
        ("TIMING__RESUME_WINDOW", "20s"),
        ("TIMING__LEASE", "500ms"),
        ("TIMING__PING", "20s"),
        ("REDIS__DEADLINE", "1s"),
    ];
    let mut fleet = Fleet::single(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let carol = join(&fleet, 1, "carol").await;
    fleet.nodes[0].suspend();
    next_about(&carol, "peer-detached", alice.id()).await;
    let url = fleet.store.single().url();
    let monitor = redis::Client::open(url).unwrap().get_async_monitor().await.unwrap();
    let mut seen = monitor.into_on_message::<String>();
    // Answers take their time, so that there is some to lose them in.
    fleet.nodes[0].store().delay(Duration::from_millis(100));
    fleet.nodes[0].go_on();
    let taken = format!("peer-attached\\\",\\\"peerId\\\":\\\"{}", alice.id());
    within("she is taken back", async { while !seen.next().await.unwrap().contains(&taken) {} }).await;
    fleet.nodes[0].store().half_open(Way::Down, || true);
    fleet.nodes[0].store().delay(Duration::ZERO);
    next_about(&carol, "peer-attached", alice.id()).await;
    // All that is left of it has happened when the node has its lease again.
    let answer = alice.insist(json!({"type": "message", "to": carol.id(), "data": "still here"})).await;
    assert_eq!(answer["type"], "ack", "{answer}");
    assert_eq!(carol.next_message().await.data, Some(json!("still here")));
    fleet.audit();
}

/// After a break a node compares what Redis holds with its sockets. However long that takes, it stays alive for the others.
#[tokio::test]
async fn a_node_that_is_slow_to_compare_is_not_taken_for_dead() {
    let settings = [("TIMING__RESUME_WINDOW", "20s"), ("TIMING__LEASE", "400ms"), ("REDIS__DEADLINE", "1s")];
    let fleet = Fleet::single(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let carol = join(&fleet, 1, "carol").await;
    // 128 questions one after the other take longer than a lease.
    fleet.nodes[0].store().delay(Duration::from_millis(4));
    fleet.nodes[0].store().cut(|| true);
    // The quiet time, and what it does after it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    alice.ping().await;
    carol.ping().await;
    let rest = carol.rest().await;
    assert!(!rest.iter().any(|frame| frame["type"] == "peer-detached"), "{rest:?}");
    fleet.audit();
}

/// Redis hangs while Bob is being given what he has missed. Nothing of Alice's overtakes that, or it would look like a copy.
#[tokio::test]
async fn nothing_goes_straight_past_a_replay() {
    const MISSED: usize = 200;
    let settings = [
        ("TIMING__RESUME_WINDOW", "20s"),
        ("REDIS__DEADLINE", "300ms"),
        ("LIMITS__BACKLOG_BYTES", "8MiB"),
        ("LIMITS__OUTBOX", "8MiB"),
        ("LIMITS__ROOM_PEERS", "10"),
    ];
    let mut fleet = Fleet::single(1, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 0, "bob").await;
    let ticket = bob.lose().await;
    alice.next_of_type("peer-detached").await;
    let long = "x".repeat(15 * 1024);
    for n in 0..MISSED {
        alice.must(json!({"type": "message", "to": ticket.peer_id, "data": [n, long]})).await;
    }
    // Each page takes its time.
    fleet.nodes[0].store().delay(Duration::from_millis(5));
    let bob = ticket.resume_at(fleet.nodes[0].front.address).await;
    assert_eq!(bob.next_message().await.data.unwrap()[0], 0);
    let pid = fleet.store.single().pid();
    signal(pid, "STOP");
    until_ready(&fleet, 0, 503).await;
    let id = alice.next_id();
    let late = json!({"type": "message", "to": bob.id(), "id": id, "data": [MISSED]});
    for _ in 0..20 {
        alice.send(late.clone()).await;
        if alice.answer(id).await["type"] == "ack" {
            break;
        }
        // As a client that tries again.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal(pid, "CONT");
    fleet.nodes[0].store().delay(Duration::ZERO);
    until_ready(&fleet, 0, 200).await;
    eventually_within(Duration::from_secs(5), "it is taken", async || {
        alice.send(late.clone()).await;
        (alice.answer(id).await["type"] == "ack").then_some(())
    })
    .await;
    for n in 1..=MISSED {
        assert_eq!(bob.next_of_type("message").await["data"][0], n);
    }
}
