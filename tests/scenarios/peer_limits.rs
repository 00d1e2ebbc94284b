//! A rate limit belongs to the peer: a new connection, another node or a takeover does not renew it.
//! Attaching a peer costs by the size of its room.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::TestCluster,
    net::within,
    peer::{ResumeState, TestConnection, TestPeer},
};
use tokio::time::{Instant, timeout};

const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "4s");

/// The default limits.
const BURST: f64 = 1_000.0;
const RATE: f64 = 100.0;

const ROUNDS: usize = 5;
const MESSAGES_PER_ROUND: usize = 950;

/// How long the socket stays open after a burst.
const ROUND_LIMIT: Duration = Duration::from_secs(1);

/// Sends a burst to `target`. The server reads it until the round is over, or closes the connection of
/// a peer that does not slow down.
async fn send_burst(sender: &TestPeer, target: &str) {
    let message = json!({"type": "message", "to": target, "data": "x".repeat(40)}).to_string();
    for _ in 0..MESSAGES_PER_ROUND {
        if sender.try_send_text(&message).await.is_err() {
            break;
        }
    }
    let _ = timeout(ROUND_LIMIT, sender.wait_closed()).await;
}

/// Mallory had one burst and the rate in this time.
async fn assert_burst_is_not_renewed(alice: &TestPeer, bob: &TestPeer, elapsed: Duration) {
    alice.message(bob, json!("fence")).await;
    bob.next_where("the fence", |frame| frame["data"] == "fence").await;
    let accepted = bob.take_unread().await.iter().filter(|frame| frame["type"] == "message").count();
    let limit = BURST + RATE * elapsed.as_secs_f64() + 5.0;
    assert!((accepted as f64) <= limit, "{accepted} messages in {elapsed:?}, at most {limit:.0} are allowed");
    assert!(accepted >= 300, "a burst is allowed: {accepted}");
}

on_each_store! {
    /// Mallory sends a burst, drops the socket and resumes, on the nodes in turn.
    async fn a_resume_does_not_renew_the_burst(cluster, [super::WINDOW]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut mallory = room.join("mallory").await;
        let start = Instant::now();
        for round in 0..ROUNDS {
            send_burst(&mallory, bob.id()).await;
            let resume_state = mallory.disconnect().await;
            mallory = resume_state.resume_on(&cluster.nodes[round % cluster.nodes.len()]).await;
        }
        send_burst(&mallory, bob.id()).await;
        let elapsed = start.elapsed();
        drop(mallory.disconnect().await);
        assert_burst_is_not_renewed(&alice, &bob, elapsed).await;
    }

    /// Mallory joins as a new peer, on the nodes in turn, always with the same token. Her peers leave,
    /// or lose their sockets.
    async fn a_join_with_the_same_token_does_not_renew_the_burst(cluster, [super::WINDOW]) {
        for leaves in [true, false] {
            let room = cluster.room(if leaves { "left" } else { "detached" });
            let (alice, bob) = room.join2().await;
            let token = room.token(json!({"user": "mallory"})).await;
            let start = Instant::now();
            for round in 0..ROUNDS {
                let node = &cluster.nodes[round % cluster.nodes.len()];
                let mallory = TestConnection::open(node.address, &token).await.into_peer().await;
                send_burst(&mallory, bob.id()).await;
                // Only the frames of the first burst are all read before the leave.
                if leaves && round == 0 {
                    mallory.leave().await;
                } else {
                    let id = mallory.disconnect().await.peer_id;
                    alice.next_where("its end", |frame| frame["type"] == "peer-detached" && frame["peerId"] == id).await;
                }
            }
            assert_burst_is_not_renewed(&alice, &bob, start.elapsed()).await;
        }
    }

    /// Mallory has no permission and loops takeovers.
    async fn takeovers_in_a_loop_are_limited_and_push_no_message_out(cluster, [super::FLOOD[0], super::FLOOD[1], super::FLOOD[2], ("LIMITS__BACKLOG", "128")]) {
        let (alice, bob) = flood_with_takeovers(cluster).await;
        let bob = bob.resume_on(&cluster.nodes[0]).await;
        assert_eq!(bob.joined["recovered"], true, "{}", bob.joined);
        assert_next_message(&bob, "kept").await;
        alice.message(&bob, json!("after")).await;
        assert_next_message(&bob, "after").await;
    }

    /// The mailbox is so small that events are dropped that no later event replaces.
    async fn dropped_events_are_announced_and_no_message_is_lost(cluster, [super::FLOOD[0], super::FLOOD[1], super::FLOOD[2], ("LIMITS__BACKLOG", "16")]) {
        let (alice, state) = flood_with_takeovers(cluster).await;
        let since = state.since;
        let bob = state.resume_on(&cluster.nodes[0]).await;
        assert_eq!((&bob.joined["recovered"], &bob.joined["seq"]), (&json!(false), &json!(since)), "{}", bob.joined);
        assert_next_message(&bob, "kept").await;
        let alice_again = bob.joined["peers"].as_array().unwrap().iter().find(|peer| peer["peerId"] == alice.id());
        assert_eq!(alice_again.unwrap()["detached"], false);
        alice.message(&bob, json!("after")).await;
        assert_next_message(&bob, "after").await;
    }
}

/// Small limits, so that a few seconds show them.
const FLOOD: [(&str, &str); 3] =
    [("TIMING__RESUME_WINDOW", "10s"), ("LIMITS__BURST", "100"), ("LIMITS__RATE", "10")];

async fn assert_next_message(peer: &TestPeer, data: &str) {
    assert_eq!(peer.next_message().await.data, Some(json!(data)));
}

/// Twelve peers are in a room. Bob is detached, and one acknowledged message of Alice waits for him.
/// Mallory has no permission and loops takeovers. Checks that they are limited.
async fn flood_with_takeovers(cluster: &TestCluster) -> (TestPeer, ResumeState) {
    let room = cluster.room("r");
    let alice = room.join("alice").await;
    let mut others = Vec::new();
    for n in 0..10 {
        others.push(room.join(&format!("other{n}")).await);
    }
    let bob = room.join("bob").await.disconnect().await;
    alice.next_of_type("peer-detached").await;
    let mallory = room.join_with(json!({"user": "mallory", "role": "viewer"})).await;
    alice.send_acked(json!({"type": "message", "to": bob.peer_id, "data": "kept"})).await;
    let start = Instant::now();
    let takeovers = take_over_in_a_loop(cluster, mallory.disconnect().await).await;
    let elapsed = start.elapsed().as_secs_f64();
    // Each takeover costs three times (1 + 13 / 10) frames: at most a burst, a quarter of a burst in
    // advance, and the rate. Each node counts by itself.
    let limit = cluster.nodes.len() as f64 * (100.0 + 25.0 + 10.0 * elapsed) / 6.0 + 1.0;
    assert!(
        takeovers as f64 <= limit,
        "{takeovers} takeovers in {elapsed:.1} s, at most {limit:.0} are allowed"
    );
    for other in &others {
        other.ping().await;
        let is_presence =
            |frame: &&Value| frame["type"].as_str().is_some_and(|kind| kind.starts_with("peer-"));
        let count = other.take_unread().await.iter().filter(is_presence).count();
        assert!(count as f64 <= 3.0 * limit + 30.0, "{count} presence entries");
    }
    (alice, bob)
}

/// Takes the peer over again and again, on the nodes in turn, until a limit refuses it for a while.
/// Returns the number of takeovers.
async fn take_over_in_a_loop(cluster: &TestCluster, mut state: ResumeState) -> usize {
    let (start, mut takeovers) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(3) && takeovers < 300 {
        let node = &cluster.nodes[takeovers % cluster.nodes.len()];
        match within("a takeover", state.take_over(node.address)).await {
            Ok(connection) => {
                takeovers += 1;
                state = connection.into_peer().await.disconnect().await;
            }
            Err(refusal) => assert_eq!(refusal.code(), "rate_limited", "{refusal:?}"),
        }
    }
    takeovers
}
