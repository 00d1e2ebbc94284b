//! Redis is unavailable, hangs, is full or has lost its data: sockets stay open, direct delivery
//! continues, and the service recovers without an operator.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    fleet::Fleet,
    http::Request,
    net::{eventually, eventually_within},
    peer::TestPeer,
    process::{Process, send_signal},
    proxy::NewConnections,
};

use crate::node_death::{join, long};

async fn fetch_status(process: &Process, path: &str) -> u16 {
    Request::get(path).send(process.address).await.status
}

async fn wait_for_readiness(fleet: &Fleet, expected: u16, limit: Duration) {
    for node in &fleet.nodes {
        eventually_within(limit, &format!("/health/ready answers {expected}"), async || {
            (fetch_status(&node.process, "/health/ready").await == expected).then_some(())
        })
        .await;
    }
}

/// The duration of an outage. The guarantee is for one minute; five seconds show the same
/// behaviour.
fn outage_duration() -> Duration {
    Duration::from_secs(if long() { 60 } else { 5 })
}

/// Alice and Bob on one node, Carol on another.
struct PeerTrio {
    fleet: Fleet,
    alice: TestPeer,
    bob: TestPeer,
    carol: TestPeer,
}

impl PeerTrio {
    async fn start() -> Self {
        let settings =
            [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
        let fleet = Fleet::over_single_redis(2, &settings).await;
        let alice = join(&fleet, 0, "alice").await;
        let bob = join(&fleet, 0, "bob").await;
        let carol = join(&fleet, 1, "carol").await;
        alice.message(&bob, json!("before")).await;
        bob.next_message().await;
        Self { fleet, alice, bob, carol }
    }

    /// Checks the behaviour during an outage. Returns the id of Alice's refused message to Carol.
    async fn assert_works_without_redis(&self) -> u64 {
        let Self { fleet, alice, bob, carol } = self;
        wait_for_readiness(fleet, 503, Duration::from_secs(10)).await;
        for node in &fleet.nodes {
            assert_eq!(fetch_status(&node.process, "/health/live").await, 200);
        }
        let refused = alice.request(json!({"type": "message", "to": carol.id(), "data": "refused"})).await;
        assert_eq!(
            (&refused["type"], &refused["code"]),
            (&json!("error"), &json!("unavailable")),
            "{refused}"
        );
        assert!(refused["retryMs"].is_u64(), "{refused}");
        // Messages to peers of the same node do not wait for the refused message.
        for n in 0..3 {
            let answer = alice.request(json!({"type": "message", "to": bob.id(), "data": n})).await;
            assert_eq!((&answer["type"], &answer["durable"]), (&json!("ack"), &json!(false)), "{answer}");
            let received = bob.next_of_type("message").await;
            assert_eq!(
                (&received["data"], &received["from"], &received["id"]),
                (&json!(n), &json!(alice.id()), &answer["id"])
            );
            assert!(received.get("seq").is_none(), "not from the mailbox: {received}");
        }
        refused["id"].as_u64().unwrap()
    }

    /// Checks the state five seconds after the outage: all nodes are ready, the refused message can
    /// be sent again, no message arrives twice, and all peers see the same members.
    async fn assert_recovers(self, refused_id: u64) {
        let Self { fleet, alice, bob, carol } = &self;
        wait_for_readiness(fleet, 200, Duration::from_secs(5)).await;
        let message = json!({"type": "message", "to": carol.id(), "id": refused_id, "data": "refused"});
        eventually_within(Duration::from_secs(5), "the refused message is accepted", async || {
            alice.send(message.clone()).await;
            (alice.reply_to(refused_id).await["type"] == "ack").then_some(())
        })
        .await;
        assert_eq!(carol.next_message().await.data, Some(json!("refused")));
        for (from, to) in [(alice, bob), (bob, carol), (carol, alice)] {
            let answer = from.request(json!({"type": "message", "to": to.id(), "data": "after"})).await;
            assert_eq!(answer, json!({"type": "ack", "id": answer["id"]}), "durable again");
            assert_eq!(to.next_message().await.data, Some(json!("after")));
        }
        for peer in [alice, bob, carol] {
            peer.ping().await;
            let remaining = peer.take_unread().await;
            let unexpected: Vec<_> = remaining
                .iter()
                .filter(|frame| frame["type"] == "message" || frame["type"] == "peer-left")
                .collect();
            assert!(unexpected.is_empty(), "repeated messages or lost peers: {unexpected:?}");
        }
        let dave = join(fleet, 1, "dave").await;
        let peers = dave.joined["peers"].as_array().unwrap();
        assert_eq!(peers.len(), 3);
        assert!(peers.iter().all(|peer| peer["detached"] == false), "{peers:?}");
        fleet.audit();
    }
}

/// Redis refuses connections for a while and keeps its data.
#[tokio::test]
async fn peers_keep_signaling_while_redis_refuses_connections() {
    let trio = PeerTrio::start().await;
    for node in &trio.fleet.nodes {
        node.redis_proxy().set_new_connections(NewConnections::Reset);
        node.redis_proxy().cut(|| true);
    }
    let refused_id = trio.assert_works_without_redis().await;
    // The outage must last for this time; there is no event to wait for.
    tokio::time::sleep(outage_duration()).await;
    trio.fleet.nodes.iter().for_each(|node| node.redis_proxy().heal());
    trio.assert_recovers(refused_id).await;
}

/// Redis accepts requests and does not answer.
#[tokio::test]
async fn peers_keep_signaling_while_redis_hangs() {
    let mut trio = PeerTrio::start().await;
    let pid = trio.fleet.store.single().pid();
    send_signal(pid, "STOP");
    let refused_id = trio.assert_works_without_redis().await;
    // The outage must last for this time; there is no event to wait for.
    tokio::time::sleep(outage_duration()).await;
    send_signal(pid, "CONT");
    trio.assert_recovers(refused_id).await;
}

/// Redis restarts without data: each peer keeps its id and receives `recovered: false`.
#[tokio::test]
async fn peers_stay_in_the_room_with_recovered_false_after_redis_lost_its_data() {
    let PeerTrio { mut fleet, alice, bob, carol } = PeerTrio::start().await;
    fleet.store.single().kill();
    wait_for_readiness(&fleet, 503, Duration::from_secs(10)).await;
    fleet.store.single().restart().await;
    for peer in [&alice, &bob, &carol] {
        let resumed = peer.next_of_type("resumed").await;
        assert_eq!(
            (&resumed["peerId"], &resumed["recovered"]),
            (&json!(peer.id()), &json!(false)),
            "{resumed}"
        );
    }
    wait_for_readiness(&fleet, 200, Duration::from_secs(5)).await;
    for (from, to) in [(&alice, &bob), (&bob, &carol), (&carol, &alice)] {
        from.send_until_acked(json!({"type": "message", "to": to.id(), "data": "after"})).await;
        while to.next_message().await.data != Some(json!("after")) {}
    }
    // A handle issued after the restart is valid on the other node.
    let alice = alice.disconnect().await.resume_at(fleet.nodes[1].client_proxy.address).await;
    assert_eq!(alice.joined["peers"].as_array().unwrap().len(), 2);
    fleet.audit();
}

/// A full Redis refuses messages, and accepts commits that free memory.
#[tokio::test]
async fn a_peer_can_leave_while_redis_is_full() {
    let PeerTrio { fleet, alice, bob, carol } = PeerTrio::start().await;
    fleet.store.exhaust_memory().await;
    let refused = eventually("Redis is full", async || {
        let answer = alice.request(json!({"type": "message", "to": carol.id(), "data": "too much"})).await;
        (answer["type"] == "error").then_some(answer)
    })
    .await;
    assert_eq!(refused["code"], "unavailable", "{refused}");
    let left_id = bob.id().to_owned();
    bob.leave().await;
    for peer in [&alice, &carol] {
        let left = peer.next_of_type("peer-left").await;
        assert_eq!((&left["peerId"], &left["reason"]), (&json!(left_id), &json!("left")));
    }
    let lost_peer = carol.disconnect().await;
    assert_eq!(alice.next_of_type("peer-detached").await["peerId"], *lost_peer.peer_id);
    fleet.store.restore_memory().await;
    let carol = eventually("a resume is accepted again", async || {
        let link = lost_peer.try_resume(fleet.nodes[0].client_proxy.address).await.ok()?;
        let first: Value = link.next().await;
        (first["type"] == "resumed").then_some((link, first))
    })
    .await;
    assert_eq!(carol.1["recovered"], true, "{}", carol.1);
    let id = refused["id"].as_u64().unwrap();
    eventually("the refused message is accepted", async || {
        alice.send(json!({"type": "message", "to": lost_peer.peer_id, "id": id, "data": "fits"})).await;
        (alice.reply_to(id).await["type"] == "ack").then_some(())
    })
    .await;
    assert_eq!(carol.0.next_message().await.data, Some(json!("fits")));
    fleet.audit();
}

/// Two ids for two targets are refused. The client sends only the first id again. Later ids stay
/// refused until the second id arrives: otherwise the second message would look like a duplicate.
#[tokio::test]
async fn no_later_message_overtakes_a_refused_message() {
    let mut trio = PeerTrio::start().await;
    let dave = join(&trio.fleet, 1, "dave").await;
    let pid = trio.fleet.store.single().pid();
    let PeerTrio { fleet, alice, carol, .. } = &trio;
    let message = |id: u64, to: &TestPeer| json!({"type": "message", "to": to.id(), "id": id, "data": id});
    let first = alice.next_id();
    let (second, third) = (first + 1, first + 2);
    send_signal(pid, "STOP");
    for (id, to) in [(first, carol), (second, &dave)] {
        alice.send(message(id, to)).await;
        assert_eq!(alice.reply_to(id).await["code"], "unavailable");
    }
    send_signal(pid, "CONT");
    wait_for_readiness(fleet, 200, Duration::from_secs(5)).await;
    eventually("the first message is accepted", async || {
        alice.send(message(first, carol)).await;
        (alice.reply_to(first).await["type"] == "ack").then_some(())
    })
    .await;
    alice.send(message(third, carol)).await;
    assert_eq!(
        alice.reply_to(third).await["code"],
        "unavailable",
        "the second message was not sent again yet"
    );
    alice.send(message(second, &dave)).await;
    alice.reply_to(second).await;
    assert_eq!(dave.next_message().await.data, Some(json!(second)));
    alice.send(message(third, carol)).await;
    assert_eq!(alice.reply_to(third).await, json!({"type": "ack", "id": third}));
    for id in [first, third] {
        assert_eq!(carol.next_message().await.data, Some(json!(id)));
    }
}
