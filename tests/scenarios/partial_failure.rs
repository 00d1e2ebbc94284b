//! Failures in the middle of an operation: a lost answer, a node that dies during an outage of
//! Redis, an outage during a replay.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_protocol::id::{NodeId, RoomId};
use signalbox_redis::redis_keys;
use signalbox_tests::{
    fleet::Fleet,
    fleet_store::FleetStore,
    http::Request,
    net::{eventually_within, within},
    peer::{TestConnection, TestPeer},
    process::send_signal,
    proxy::{Direction, NewConnections},
    token::TokenBuilder,
};

use crate::node_death::join;

async fn until_ready_status(fleet: &Fleet, node: usize, expected: u16) {
    eventually_within(Duration::from_secs(10), &format!("ready status {expected}"), async || {
        let status = Request::get("/health/ready").send(fleet.nodes[node].process.address).await.status;
        (status == expected).then_some(())
    })
    .await;
}

async fn next_about(peer: &TestPeer, kind: &str, about: &str) {
    while peer.next_of_type(kind).await["peerId"] != about {}
}

/// Redis hangs during an append, so the message gets `unavailable`. From then on messages to a peer
/// of the same node use direct delivery.
#[tokio::test]
async fn an_append_lost_in_an_outage_of_redis_does_not_block_direct_delivery() {
    let settings =
        [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
    let mut fleet = Fleet::over_single_redis(1, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 0, "bob").await;
    alice.message(&bob, json!("before")).await;
    bob.next_message().await;
    let pid = fleet.store.single().pid();
    send_signal(pid, "STOP");
    let lost = alice.request(json!({"type": "message", "to": bob.id(), "data": "lost"})).await;
    assert_eq!(lost["code"], "unavailable", "{lost}");
    until_ready_status(&fleet, 0, 503).await;
    // Wait until earlier calls to Redis have failed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id = lost["id"].as_u64().unwrap();
    eventually_within(Duration::from_secs(5), "direct delivery of the message", async || {
        alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": "lost"})).await;
        let answer = alice.reply_to(id).await;
        (answer["type"] == "ack").then(|| assert_eq!(answer["durable"], false, "{answer}"))
    })
    .await;
    assert_eq!(bob.next_of_type("message").await["data"], "lost");
    send_signal(pid, "CONT");
    until_ready_status(&fleet, 0, 200).await;
    alice.send_until_acked(json!({"type": "message", "to": bob.id(), "data": "after"})).await;
    let next = bob.next_of_type("message").await;
    assert_eq!(next["data"], "after", "the message before was delivered once");
    fleet.audit();
}

/// A client resumes and sends its first frame while Redis is unavailable. The node confirms the
/// handle later, and meanwhile retries at a bounded rate.
#[tokio::test]
async fn a_handle_confirmation_is_not_retried_without_pause_while_redis_is_unavailable() {
    let settings = [("TIMING__RESUME_WINDOW", "10s"), ("REDIS__DEADLINE", "300ms")];
    let fleet = Fleet::over_single_redis(1, &settings).await;
    let bob = join(&fleet, 0, "bob").await;
    let old_state = bob.resume_state().await;
    let bob = bob.disconnect().await.resume_at(fleet.nodes[0].client_proxy.address).await;
    fleet.nodes[0].redis_proxy().set_new_connections(NewConnections::Reset);
    fleet.nodes[0].redis_proxy().cut(|| true);
    until_ready_status(&fleet, 0, 503).await;
    bob.ping().await;
    let node = &fleet.nodes[0].process;
    let before = node.metric("signalbox_append_seconds_count").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let attempts = node.metric("signalbox_append_seconds_count").await - before;
    assert!(attempts <= 20.0, "{attempts} attempts in one second");
    fleet.nodes[0].redis_proxy().heal();
    until_ready_status(&fleet, 0, 200).await;
    eventually_within(Duration::from_secs(5), "the previous handle is invalid", async || {
        let target = format!("/ws/validate?{}", old_state.query());
        let answer = Request::get(target).send(node.address).await;
        (answer.status == 401).then_some(())
    })
    .await;
    bob.ping().await;
}

/// Bob leaves while his node has to read his mailbox. The read would find that he has left, before the
/// answer to his leave arrives.
#[tokio::test]
async fn a_leave_is_acknowledged_although_the_mailbox_must_be_read() {
    let settings = [("TIMING__LEASE", "10s"), ("TIMING__RESUME_WINDOW", "20s")];
    let mut fleet = Fleet::over_single_redis(1, &settings).await;
    let bob = join(&fleet, 0, "bob").await;
    let room = RoomId::parse("r").unwrap();
    let node = NodeId::parse(bob.joined["node"].as_str().unwrap()).unwrap();
    let topic = redis_keys::node_topic(redis_keys::partition_of_room(&room), &node);
    let mut redis = fleet.store.single().connect().await;
    // A commit takes two delays, and the request to read takes one: it comes between the two.
    fleet.nodes[0].redis_proxy().set_delay(Duration::from_millis(150));
    let listeners: usize = redis::cmd("SPUBLISH")
        .arg(topic)
        .arg(format!("!r {}", bob.id()))
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(listeners, 1);
    bob.leave().await;
    fleet.nodes[0].redis_proxy().set_delay(Duration::ZERO);
    fleet.audit();
}

/// Redis returns empty, without its list of nodes, and one of the nodes has died meanwhile.
#[tokio::test]
async fn a_peer_of_a_node_that_dies_while_redis_loses_its_data_leaves() {
    let settings =
        [("TIMING__RESUME_WINDOW", "2s"), ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
    let mut fleet = Fleet::over_single_redis(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 1, "bob").await;
    next_about(&alice, "peer-joined", bob.id()).await;
    // Alice's node has learned which node owns Bob.
    alice.message(&bob, json!("before")).await;
    alice.message_room(json!("before")).await;
    fleet.store.single().kill();
    until_ready_status(&fleet, 0, 503).await;
    fleet.nodes[1].process.kill();
    fleet.store.single().restart().await;
    assert_eq!(alice.next_of_type("resumed").await["recovered"], false);
    within("Bob has left", next_about(&alice, "peer-left", bob.id())).await;
    fleet.nodes[0].process.assert_running();
}

/// A node hung past its lease. It reclaims its peer, and the answer to that commit is lost. The
/// node must find that it owns the peer.
#[tokio::test]
async fn a_reclaimed_peer_stays_owned_when_the_answer_to_the_reclaim_is_lost() {
    let settings = [
        ("TIMING__RESUME_WINDOW", "20s"),
        ("TIMING__LEASE", "500ms"),
        ("TIMING__PING", "20s"),
        ("REDIS__DEADLINE", "1s"),
    ];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let carol = join(&fleet, 1, "carol").await;
    fleet.nodes[0].pause();
    next_about(&carol, "peer-detached", alice.id()).await;
    let proxy = fleet.nodes[0].redis_proxy();
    proxy.lose_answer_to(format!("peer-attached\",\"peerId\":\"{}", alice.id()));
    fleet.nodes[0].unpause();
    next_about(&carol, "peer-attached", alice.id()).await;
    assert!(proxy.has_lost_answer(), "the answer to the reclaim of Alice");
    // When the node holds its lease again, all earlier steps have finished.
    let answer =
        alice.send_until_acked(json!({"type": "message", "to": carol.id(), "data": "still here"})).await;
    assert_eq!(answer["type"], "ack", "{answer}");
    assert_eq!(carol.next_message().await.data, Some(json!("still here")));
    fleet.audit();
}

/// After a lost connection to Redis a node reconciles its rooms. The node must keep its lease
/// however long that takes.
#[tokio::test]
async fn a_node_that_reconciles_slowly_keeps_its_lease() {
    let settings = [("TIMING__RESUME_WINDOW", "20s"), ("TIMING__LEASE", "400ms"), ("REDIS__DEADLINE", "1s")];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let carol = join(&fleet, 1, "carol").await;
    // 128 sequential calls, one for each partition, take longer than a lease.
    fleet.nodes[0].redis_proxy().set_delay(Duration::from_millis(4));
    fleet.nodes[0].redis_proxy().cut(|| true);
    // The grace period and the reconciliation after it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    alice.ping().await;
    carol.ping().await;
    let rest = carol.take_unread().await;
    assert!(!rest.iter().any(|frame| frame["type"] == "peer-detached"), "{rest:?}");
    fleet.audit();
}

/// Redis hangs during a replay to Bob. A later message of Alice must not overtake the replay, or
/// Bob would drop the replayed messages as duplicates.
#[tokio::test]
async fn direct_delivery_does_not_overtake_a_replay() {
    const BACKLOG: usize = 200;
    let settings = [
        ("TIMING__RESUME_WINDOW", "20s"),
        ("REDIS__DEADLINE", "300ms"),
        ("LIMITS__BACKLOG_BYTES", "8MiB"),
        ("LIMITS__OUTBOX", "8MiB"),
        ("LIMITS__ROOM_PEERS", "10"),
    ];
    let mut fleet = Fleet::over_single_redis(1, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let bob = join(&fleet, 0, "bob").await;
    let resume_state = bob.disconnect().await;
    alice.next_of_type("peer-detached").await;
    let payload = "x".repeat(15 * 1024);
    for n in 0..BACKLOG {
        alice.send_acked(json!({"type": "message", "to": resume_state.peer_id, "data": [n, payload]})).await;
    }
    // Slow down each page of the replay.
    fleet.nodes[0].redis_proxy().set_delay(Duration::from_millis(5));
    let bob = resume_state.resume_at(fleet.nodes[0].client_proxy.address).await;
    assert_eq!(bob.next_message().await.data.unwrap()[0], 0);
    let pid = fleet.store.single().pid();
    send_signal(pid, "STOP");
    until_ready_status(&fleet, 0, 503).await;
    let id = alice.next_id();
    let late = json!({"type": "message", "to": bob.id(), "id": id, "data": [BACKLOG]});
    for _ in 0..20 {
        alice.send(late.clone()).await;
        if alice.reply_to(id).await["type"] == "ack" {
            break;
        }
        // A client retries after a pause.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    send_signal(pid, "CONT");
    fleet.nodes[0].redis_proxy().set_delay(Duration::ZERO);
    until_ready_status(&fleet, 0, 200).await;
    eventually_within(Duration::from_secs(5), "the message is acknowledged", async || {
        alice.send(late.clone()).await;
        (alice.reply_to(id).await["type"] == "ack").then_some(())
    })
    .await;
    for n in 1..=BACKLOG {
        assert_eq!(bob.next_of_type("message").await["data"][0], n);
    }
}

/// A moderator removes Bob, and the server of the room answers Bob's node late. The node learns from
/// another server that the grant of Bob is revoked: while it reads why Bob has left, or before it has
/// heard that he left.
#[tokio::test]
async fn a_removed_peer_is_told_that_it_was_removed_whatever_its_node_learns_first() {
    let settings = [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "10s")];
    let fleet = Fleet::start(FleetStore::start_cluster().await, 2, &settings).await;
    let FleetStore::Cluster(cluster) = &fleet.store else { panic!("a cluster") };
    let room = RoomId::parse("s").unwrap();
    let room_server = &cluster.servers[cluster.master_of(redis_keys::partition_of_room(&room)).await];
    let slot: usize = room_server.run_text(&format!("CLUSTER KEYSLOT {}", redis_keys::NODE_RULES_KEY)).await;
    let rules_server = &cluster.servers[cluster.master_of(slot / 128).await];
    assert_ne!(room_server.address, rules_server.address, "the rules must not wait for the room");
    let join = async |node: usize, user: &str, permissions: Value| {
        let token = TokenBuilder::valid("s", user).claim("permissions", permissions).sign(&fleet.secret);
        TestConnection::open(fleet.nodes[node].process.address, &token).await.into_peer().await
    };
    let host = join(0, "host", json!(["moderate"])).await;
    for (user, loses_notice) in [("bob", false), ("bert", true)] {
        let bob = join(1, user, json!(["message"])).await;
        if loses_notice {
            room_server.run_text::<()>("CLIENT KILL TYPE pubsub").await;
        }
        host.send_acked(json!({"type": "kick", "peer": bob.id()})).await;
        // Shorter than a server without an answer counts as lost.
        room_server.run_text::<()>("CLIENT PAUSE 700 ALL").await;
        let closed = bob.wait_closed().await;
        assert_eq!((closed.code, &*closed.reason), (4513, "removed"), "without the notice: {loses_notice}");
        room_server.run_text::<()>("CLIENT UNPAUSE").await;
    }
    drop(host);
    fleet.audit();
}

/// Carol reads everything and confirms nothing, so her node acknowledges her entries. Two of its
/// acks do not reach Redis. Her mailbox must not count these entries for ever.
#[tokio::test]
async fn an_ack_that_redis_did_not_get_is_written_again() {
    // No entry becomes too old, and no node is counted as dead.
    let settings = [("LIMITS__BACKLOG", "8"), ("TIMING__RESUME_WINDOW", "60s"), ("TIMING__LEASE", "20s")];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let alice = join(&fleet, 0, "alice").await;
    let carol = join(&fleet, 1, "carol").await;
    carol.stop_confirming();
    let send = async |n: usize| {
        let limit = Duration::from_secs(5);
        eventually_within(limit, &format!("message {n} is accepted"), async || {
            let answer = alice.request(json!({"type": "message", "data": n})).await;
            assert!(answer["type"] == "ack" || answer["code"] == "peer_backlogged", "{answer}");
            (answer["type"] == "ack").then_some(())
        })
        .await;
        assert_eq!(carol.next_message().await.data, Some(json!(n)));
    };
    // The node acknowledges at half of the bound, and then keeps the newer half.
    for numbers in [1..=4, 5..=7] {
        fleet.nodes[1].redis_proxy().set_new_connections(NewConnections::Blackhole);
        fleet.nodes[1].redis_proxy().half_open_all(Direction::ToServer);
        for n in numbers {
            send(n).await;
        }
        until_ready_status(&fleet, 1, 503).await;
        fleet.nodes[1].redis_proxy().heal();
        until_ready_status(&fleet, 1, 200).await;
    }
    for n in 8..=20 {
        send(n).await;
    }
    fleet.audit();
}
