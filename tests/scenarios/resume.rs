//! A peer that loses its socket resumes on any node and misses no entry. If entries may be missing,
//! the peer receives `recovered: false`.
//!
//! The terms of these tests (see docs/GLOSSARY.md and docs/PROTOCOL.md, section 2.1):
//! - An *entry* is one message or event for a peer. The *mailbox* of the peer keeps its entries in
//!   order.
//! - The *seq* of an entry is its number in the mailbox: 1, 2, 3, without gaps.
//! - *since* is the last seq that the client has processed. The client sends it to resume.
//! - A *takeover* is a request with a handle and without `since`, as a reloaded page sends it. The
//!   client joins as a new peer, and the old peer leaves in the same commit.
//! - The *first frame* that a client sends on a connection confirms the handle of this connection:
//!   older handles are then refused.
//! - The *audit* after a scenario checks the processes, the logs and the keys in Redis.
//! - `on_each_store!` runs each scenario in one process, and with two nodes over Redis. It ends
//!   each scenario with the audit.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::{Request, Response},
    net::{eventually, within},
    peer::{CloseStatus, ResumeState, TestConnection, TestPeer},
    process::{Process, send_signal},
    proxy::{Direction, FaultProxy, ResumedFault},
    socket::{self, UpgradeError},
};

/// Long enough for each resume in this file. It is short because the audit waits until all peers have
/// left, and a detached peer leaves at the end of the window.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "2s");

/// Short, because the test waits for its end.
const SHORT_WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "300ms");

/// Short, because the test waits until a node counts Redis as unavailable.
const REDIS_DEADLINE: (&str, &str) = ("REDIS__DEADLINE", "300ms");

/// The close code and reason of a connection when a newer connection of the same peer, or a
/// takeover, replaces it.
const CLOSED_AS_REPLACED: (u16, &str) = (4512, "replaced");

fn last_node(cluster: &TestCluster) -> &Process {
    cluster.nodes.last().unwrap()
}

async fn assert_next_messages(peer: &TestPeer, expected: impl IntoIterator<Item = Value>) {
    for data in expected {
        assert_eq!(peer.next_message().await.data, Some(data));
    }
}

/// Checks that `peer` has received no unread message. To do so, `sender` sends a marker message,
/// which arrives after all earlier messages of `sender`.
async fn assert_no_more_messages(peer: &TestPeer, sender: &TestPeer) {
    sender.message(peer, json!("marker")).await;
    assert_next_messages(peer, [json!("marker")]).await;
    let remaining = peer.take_unread().await;
    assert!(!remaining.iter().any(|frame| frame["type"] == "message"), "{remaining:?}");
}

fn assert_closed(closed: &CloseStatus, (code, reason): (u16, &str)) {
    assert_eq!((closed.code, closed.reason.as_str()), (code, reason));
}

/// Checks that this node refuses the handle with this status and code, both as an upgrade and at
/// `/ws/validate`.
async fn assert_refused(node: &Process, resume_state: &ResumeState, status: u16, code: &str) {
    for path in ["/ws/signal", "/ws/validate"] {
        let target = format!("{path}?{}", resume_state.query());
        let request = if path == "/ws/signal" { Request::upgrade(target) } else { Request::get(target) };
        request.send(node.address).await.assert_problem(status, code);
    }
}

fn expect_response(refusal: UpgradeError) -> Response {
    match refusal {
        UpgradeError::Rejected(response) => response,
        UpgradeError::Connection(error) => panic!("no answer: {error}"),
    }
}

on_each_store! {
    async fn missed_entries_arrive_once_and_in_order_on_any_node(cluster, [super::WINDOW]) {
        let (alice, mut bob) = cluster.room("r").join2().await;
        for (round, node) in cluster.nodes.iter().rev().enumerate() {
            alice.message(&bob, json!([round, "before"])).await;
            assert_next_messages(&bob, [json!([round, "before"])]).await;
            let resume_state = bob.disconnect().await;
            assert_eq!(alice.next_of_type("peer-detached").await["peerId"], *resume_state.peer_id);
            for n in 0..10 {
                alice.send_acked(json!({"type": "message", "to": resume_state.peer_id, "data": [round, n]})).await;
                alice.message_room(json!([round, n, "all"])).await;
            }
            bob = resume_state.resume_on(node).await;
            assert_eq!(bob.joined["recovered"], true, "{}", bob.joined);
            assert_eq!(alice.next_of_type("peer-attached").await["peerId"], bob.id());
            assert_next_messages(&bob, (0..10).flat_map(|n| [json!([round, n]), json!([round, n, "all"])])).await;
            assert_no_more_messages(&bob, &alice).await;
            bob.message(&alice, json!([round, "back"])).await;
            assert_next_messages(&alice, [json!([round, "back"])]).await;
        }
    }

    async fn the_resumed_frame_has_all_fields_of_the_joined_frame(cluster, [super::WINDOW]) {
        let room = cluster.room("r");
        let alice = room.join_with(json!({"user": "alice", "role": "host", "name": "Alice"})).await;
        let bob = room.join("bob").await;
        assert!(bob.joined["features"].as_array().unwrap().contains(&json!("resume")), "{}", bob.joined);
        let handle = bob.joined["resume"].as_str().unwrap();
        assert_eq!(handle.matches('.').count(), 1, "{handle}");
        assert!(handle.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{handle}");
        let joined = bob.joined.clone();
        let bob_state = bob.disconnect().await;
        // If Bob resumed before his node noticed the loss, Alice would get no `peer-attached`.
        alice.next_of_type("peer-detached").await;
        let bob = bob_state.resume_on(last_node(cluster)).await;
        let unchanged_fields = [
            "peerId", "roomId", "userId", "role", "permissions", "peers", "iceServers", "icePolicy", "limits",
            "pingInterval", "resumeWindow", "features", "seq",
        ];
        for name in unchanged_fields {
            assert_eq!(bob.joined[name], joined[name], "{name}");
        }
        assert_eq!((&bob.joined["recovered"], &bob.joined["lastId"]), (&json!(true), &json!(0)));
        alice.next_of_type("peer-attached").await;
    }

    /// Alice loses her socket while twenty messages are in flight. `lastId` says which messages
    /// were accepted; she sends the other messages again with their ids.
    async fn unacknowledged_messages_are_sent_again_and_delivered_once(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        for id in 1..=20 {
            alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": id})).await;
        }
        let alice = alice.disconnect().await.resume_on(last_node(cluster)).await;
        let accepted = alice.joined["lastId"].as_u64().unwrap();
        assert!(accepted <= 20, "{accepted}");
        // A client may start earlier: an accepted message is acknowledged as a duplicate.
        for id in accepted.saturating_sub(2).max(1)..=20 {
            alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": id})).await;
            let answer = alice.reply_to(id).await;
            assert_eq!((&answer["type"], answer["duplicate"] == true), (&json!("ack"), id <= accepted), "{answer}");
        }
        assert_next_messages(&bob, (1..=20).map(|id| json!(id))).await;
        alice.send(json!({"type": "message", "to": bob.id(), "id": 100, "data": "marker"})).await;
        assert_next_messages(&bob, [json!("marker")]).await;
    }

    async fn the_newest_connection_replaces_the_older_connection(cluster, [super::WINDOW]) {
        let (alice, old) = cluster.room("r").join2().await;
        let new = old.resume_state().await.resume_on(&cluster.nodes[0]).await;
        assert_closed(&old.wait_closed().await, CLOSED_AS_REPLACED);
        alice.message(&new, json!("for the new one")).await;
        assert_next_messages(&new, [json!("for the new one")]).await;
        new.message(&alice, json!("from the new one")).await;
        assert_next_messages(&alice, [json!("from the new one")]).await;
        assert_no_more_messages(&new, &alice).await;
    }

    /// A `resumed` frame may be lost. The first frame of the client proves that it has the new
    /// handle.
    async fn the_previous_handle_is_valid_until_the_client_sends_a_frame(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let older_state = bob.disconnect().await;
        for node in cluster.nodes.iter().chain(&cluster.nodes) {
            let connection =
                within("a resume", older_state.try_resume(node.address)).await.expect("a handle that is still valid");
            assert_eq!(connection.next_of_type("resumed").await["recovered"], true);
        }
        let bob = older_state.resume_on(last_node(cluster)).await;
        assert_old_handle_refused_after_first_frame(cluster, &bob, &older_state).await;
        alice.message(&bob, json!("still here")).await;
        assert_next_messages(&bob, [json!("still here")]).await;
        let newer_state = bob.disconnect().await;
        newer_state.resume_on(&cluster.nodes[0]).await;
    }

    async fn a_forged_or_foreign_handle_is_invalid(cluster, [super::WINDOW]) {
        let bob = cluster.room("r").join("bob").await;
        let other_cluster = TestCluster::start(StoreKind::Memory, &[]).await;
        let foreign = other_cluster.room("r").join("bob").await.resume_state().await;
        let resume_state = bob.resume_state().await;
        let (body, seal) = resume_state.handle.split_once('.').unwrap();
        let other = |text: &str| format!("{}{}", if text.starts_with('A') { 'B' } else { 'A' }, &text[1..]);
        let forged = [foreign.handle.clone(), format!("{}.{seal}", other(body)), format!("{body}.{}", other(seal)),
            format!("{body}."), format!(".{seal}"), body.to_owned(), "x".to_owned(), "x.y".to_owned(), "%00.%ff".to_owned()];
        for handle in forged {
            for node in &cluster.nodes {
                let mut bad = resume_state.clone();
                bad.handle.clone_from(&handle);
                assert_refused(node, &bad, 401, "resume_invalid").await;
            }
        }
        // The genuine handle is still valid.
        resume_state.resume_on(&cluster.nodes[0]).await;
    }

    async fn a_handle_expires_after_the_window_and_after_a_leave(cluster, [super::SHORT_WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let bob_state = bob.disconnect().await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "timeout");
        let carol = cluster.room("r").join("carol").await;
        let carol_state = carol.resume_state().await;
        carol.leave().await;
        for node in &cluster.nodes {
            assert_refused(node, &bob_state, 401, "resume_expired").await;
            assert_refused(node, &carol_state, 401, "resume_expired").await;
        }
        let new_bob = cluster.room("r").join("bob").await;
        assert_ne!(new_bob.id(), bob_state.peer_id);
    }

    async fn a_handle_expires_with_its_room(cluster, [super::SHORT_WINDOW]) {
        let bob = cluster.room("r").join("bob").await;
        let resume_state = bob.resume_state().await;
        // Bob was the only peer, so the room ends when he leaves. The room then remembers no peer
        // that left, and the handle must be refused all the same.
        bob.leave().await;
        assert_refused(last_node(cluster), &resume_state, 401, "resume_expired").await;
    }

    /// After a page reload a new peer replaces the old peer, also in a full room.
    async fn a_takeover_replaces_the_old_peer_also_in_a_full_room(cluster, [super::WINDOW, ("LIMITS__ROOM_PEERS", "2")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let resume_state = bob.resume_state().await;
        let new = within("a takeover", resume_state.take_over(last_node(cluster).address)).await.expect("a takeover");
        let new = new.into_peer().await;
        assert_ne!(new.id(), resume_state.peer_id);
        assert_eq!((&new.joined["userId"], &new.joined["seq"]), (&json!("bob"), &json!(0)));
        assert_eq!(new.joined["peers"][0]["peerId"], alice.id());
        let left_event = alice.next_of_type("peer-left").await;
        assert_eq!((&left_event["peerId"], &left_event["reason"]), (&json!(resume_state.peer_id), &json!("replaced")));
        let joined = alice.next_of_type("peer-joined").await;
        assert_eq!(joined["peerId"], new.id());
        assert_eq!(joined["seq"].as_u64(), left_event["seq"].as_u64().map(|seq| seq + 1), "in one commit");
        assert_closed(&bob.wait_closed().await, CLOSED_AS_REPLACED);
        let late_peer = room.connect("late").await;
        assert_eq!(late_peer.next().await["code"], "room_full");
        alice.message(&new, json!("welcome")).await;
        assert_next_messages(&new, [json!("welcome")]).await;
        let refusal = resume_state.try_resume(last_node(cluster).address).await.err().expect("an invalid handle");
        assert_eq!(expect_response(refusal).status, 401);
    }

    async fn a_takeover_replaces_a_detached_peer(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let resume_state = bob.disconnect().await;
        alice.next_of_type("peer-detached").await;
        let new = resume_state.take_over(last_node(cluster).address).await.expect("a takeover").into_peer().await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "replaced");
        assert_eq!(alice.next_of_type("peer-joined").await["peerId"], new.id());
    }

    async fn a_resume_beyond_the_last_seq_is_not_recovered(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.message(&bob, json!(1)).await;
        assert_next_messages(&bob, [json!(1)]).await;
        let mut resume_state = bob.disconnect().await;
        resume_state.since += 100;
        let bob = resume_state.resume_on(last_node(cluster)).await;
        assert_eq!(bob.joined["recovered"], false, "{}", bob.joined);
        assert_eq!(bob.joined["peers"][0]["peerId"], alice.id());
        alice.message(&bob, json!(2)).await;
        assert_next_messages(&bob, [json!(2)]).await;
    }

    /// The node reads the backlog only as fast as the socket accepts it, so the outbox (the send
    /// buffer of the connection) does not overflow and the peer is not closed as slow. The settings
    /// are checked at the start: the list of the peers of a full room must fit into the outbox, so
    /// this small outbox needs a small room.
    async fn a_backlog_larger_than_the_outbox_is_delivered(cluster,
        [super::WINDOW, ("LIMITS__OUTBOX", "256KiB"), ("LIMITS__BACKLOG_BYTES", "2MiB"), ("LIMITS__ROOM_PEERS", "10")]) {
        const MESSAGES: usize = 80;
        let (alice, bob) = cluster.room("r").join2().await;
        let resume_state = bob.disconnect().await;
        let large = "x".repeat(15 * 1024);
        for n in 0..MESSAGES {
            alice.send_acked(json!({"type": "message", "to": resume_state.peer_id, "data": [n, large]})).await;
        }
        // The delay makes the connection slower than the node reads the backlog.
        let proxy = FaultProxy::start(last_node(cluster).address).await;
        proxy.set_delay(Duration::from_millis(2));
        let bob = resume_state.resume_at(proxy.address).await;
        assert_eq!(bob.joined["recovered"], true);
        for n in 0..MESSAGES {
            assert_eq!(bob.next_message().await.data.unwrap()[0], n);
        }
        assert_no_more_messages(&bob, &alice).await;
    }

    /// The old connection is lost, and neither side has noticed it: no data arrives any more.
    async fn a_half_open_connection_does_not_block_a_resume(cluster, [super::WINDOW]) {
        let room = cluster.room("r");
        let alice = room.join("alice").await;
        let proxy = FaultProxy::start(last_node(cluster).address).await;
        let token = room.token(json!({"user": "bob"})).await;
        let bob = TestConnection::open(proxy.address, &token).await.into_peer().await;
        assert_eq!(proxy.half_open_all(Direction::Both), 1);
        let resume_state = bob.resume_state().await;
        for n in 0..5 {
            alice.send_acked(json!({"type": "message", "to": resume_state.peer_id, "data": n})).await;
        }
        let bob = resume_state.resume_on(&cluster.nodes[0]).await;
        assert_eq!(bob.joined["recovered"], true);
        assert_next_messages(&bob, (0..5).map(|n| json!(n))).await;
        assert_no_more_messages(&bob, &alice).await;
    }

    async fn a_client_resumes_again_when_the_resumed_frame_was_lost(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let resume_state = bob.disconnect().await;
        alice.next_of_type("peer-detached").await;
        alice.send_acked(json!({"type": "message", "to": resume_state.peer_id, "data": "missed"})).await;
        let proxy = FaultProxy::start(last_node(cluster).address).await;
        for fault in [ResumedFault::CutBefore, ResumedFault::CutAfter, ResumedFault::CutBefore] {
            proxy.set_resumed_fault(Some(fault));
            let connection =
                within("an upgrade", resume_state.try_resume(proxy.address)).await.expect("an upgrade");
            let closed = connection.wait_closed().await;
            assert_eq!(closed.code, 1006, "{closed:?}");
        }
        assert_eq!(proxy.resumed_cuts(), 3);
        let bob = resume_state.resume_on(&cluster.nodes[0]).await;
        assert_eq!(bob.joined["recovered"], true);
        assert_next_messages(&bob, [json!("missed")]).await;
        assert_no_more_messages(&bob, &alice).await;
    }

    async fn a_token_and_a_handle_together_are_refused(cluster, [super::WINDOW]) {
        let room = cluster.room("r");
        let resume_state = room.join("bob").await.resume_state().await;
        let token = room.token(json!({"user": "bob"})).await;
        let (query, handle) = (resume_state.query(), &resume_state.handle);
        let address = cluster.nodes[0].address;
        let requests = [
            Request::upgrade(format!("/ws/signal?{query}&token={token}")),
            Request::upgrade(format!("/ws/signal?{query}")).header("Sec-WebSocket-Protocol", format!("signalbox.v1, token.{token}")),
            Request::upgrade(format!("/ws/signal?token={token}")).header("Sec-WebSocket-Protocol", format!("signalbox.v1, resume.{handle}")),
        ];
        for request in requests {
            request.send(address).await.assert_problem(400, "bad_request");
        }
        // The handle may also be a subprotocol; then only `since` is in the query.
        let request = Request::upgrade(format!("/ws/signal?since={}", resume_state.since))
            .header("Sec-WebSocket-Protocol", format!("signalbox.v1, resume.{handle}"));
        let answer = request.send(address).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("signalbox.v1")), "{}", answer.text);
    }

    async fn validation_over_http_does_not_invalidate_a_handle(cluster, [super::WINDOW]) {
        let bob = cluster.room("r").join("bob").await;
        let resume_state = bob.resume_state().await;
        for node in cluster.nodes.iter().chain(&cluster.nodes) {
            let answer = Request::get(format!("/ws/validate?{}", resume_state.query())).send(node.address).await;
            assert_eq!((answer.status, answer.json()["valid"].as_bool()), (200, Some(true)), "{}", answer.text);
        }
        // If a validation had issued a newer handle, this frame would confirm the newer handle.
        bob.ping().await;
        resume_state.resume_on(&cluster.nodes[0]).await;
    }
}

/// Sends the first frame of a resumed peer. Checks that every node then refuses the handle with
/// which the peer resumed. The refusal begins when the store knows of the frame, so this waits.
async fn assert_old_handle_refused_after_first_frame(
    cluster: &TestCluster,
    peer: &TestPeer,
    old_state: &ResumeState,
) {
    peer.ping().await;
    eventually("the older handle is replaced", async || {
        let answer =
            Request::get(format!("/ws/validate?{}", old_state.query())).send(cluster.nodes[0].address).await;
        (answer.status != 200).then_some(())
    })
    .await;
    for node in &cluster.nodes {
        assert_refused(node, old_state, 401, "resume_replaced").await;
    }
}

/// Bob resumes after the entries in his mailbox have expired.
#[tokio::test]
async fn expired_entries_cause_recovered_false() {
    // The maximum age of an entry is the window plus three leases, so both are short. The interval of
    // pings is longer than the test: by a ping the node would notice that Bob's connection is lost.
    let settings = [SHORT_WINDOW, ("TIMING__LEASE", "200ms"), ("TIMING__PING", "60s")];
    let cluster = TestCluster::start(StoreKind::Redis(2), &settings).await;
    let room = cluster.room("r");
    let alice = room.join("alice").await;
    let proxy = FaultProxy::start(cluster.nodes[1].address).await;
    let token = room.token(json!({"user": "bob"})).await;
    let bob = TestConnection::open(proxy.address, &token).await.into_peer().await;
    // The server still counts Bob as attached, but no frame reaches him.
    proxy.half_open_all(Direction::ToClient);
    for n in 0..5 {
        alice.message(&bob, json!(n)).await;
    }
    // No event reports that an entry has expired, so the test waits for its maximum age.
    tokio::time::sleep(cluster.max_entry_age()).await;
    // At the resume the mailbox is not empty. The server must notice that entries before this one
    // are missing.
    alice.message(&bob, json!(5)).await;
    let bob = bob.disconnect().await.resume_on(&cluster.nodes[0]).await;
    assert_eq!(bob.joined["recovered"], false, "five entries have expired: {}", bob.joined);
    alice.message(&bob, json!("after")).await;
    assert_next_messages(&bob, [json!("after")]).await;
}

/// Bob's mailbox is filled. After his resume he receives each acknowledged message.
#[tokio::test]
async fn messages_refused_by_a_full_mailbox_are_not_a_gap() {
    let cluster = TestCluster::start(StoreKind::Redis(2), &[("LIMITS__BACKLOG", "16"), WINDOW]).await;
    let (alice, bob) = cluster.room("r").join2().await;
    let resume_state = bob.disconnect().await;
    alice.next_of_type("peer-detached").await;
    let mut accepted = Vec::new();
    for n in 0..30 {
        let answer = alice.request(json!({"type": "message", "to": resume_state.peer_id, "data": n})).await;
        if answer["type"] == "ack" {
            accepted.push(json!(n));
        } else {
            assert_eq!(answer["code"], "peer_backlogged", "{answer}");
        }
    }
    assert!(accepted.len() < 30, "the backlog is bounded");
    let bob = resume_state.resume_on(&cluster.nodes[0]).await;
    assert_eq!(bob.joined["recovered"], true);
    assert_next_messages(&bob, accepted).await;
}

/// While Redis is unavailable, no node can check a handle, so each node refuses it temporarily.
#[tokio::test]
async fn a_handle_is_valid_again_after_redis_was_unavailable() {
    let cluster = TestCluster::start(StoreKind::Redis(2), &[WINDOW, REDIS_DEADLINE]).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    let resume_state = bob.disconnect().await;
    alice.next_of_type("peer-detached").await;
    send_signal(redis.pid(), "STOP");
    for node in &cluster.nodes {
        assert_refused(node, &resume_state, 503, "unavailable").await;
        let takeover = resume_state.take_over(node.address).await.err().expect("a refusal");
        expect_response(takeover).assert_problem(503, "unavailable");
    }
    send_signal(redis.pid(), "CONT");
    let (connection, resumed) = eventually("the handle is accepted", async || {
        let connection = resume_state.try_resume(cluster.nodes[1].address).await.ok()?;
        let first_frame = connection.next().await;
        (first_frame["type"] == "resumed").then_some((connection, first_frame))
    })
    .await;
    assert_eq!(resumed["peerId"], *resume_state.peer_id);
    drop((alice, connection));
    cluster.audit().await;
}

/// A node with the new key accepts handles of the previous key.
#[tokio::test]
async fn a_handle_stays_valid_during_a_key_rotation() {
    let mut cluster = TestCluster::start(StoreKind::Redis(1), &[WINDOW]).await;
    let base_env = cluster.env().to_vec();
    let (old_key, new_key) =
        (signalbox_tests::cluster::random_secret(), signalbox_tests::cluster::random_secret());
    let env_with_keys = |current: &str, previous: Option<&str>| {
        let mut env = base_env.clone();
        env.push(("SIGNALBOX_SESSION_KEY".to_owned(), current.to_owned()));
        env.extend(previous.map(|key| ("SIGNALBOX_SESSION_KEY_PREVIOUS".to_owned(), key.to_owned())));
        env
    };
    // The first node of the cluster has another session key and takes no part in this test.
    cluster.nodes.push(Process::start("signal-service", &env_with_keys(&old_key, None)).await);
    cluster.nodes.push(Process::start("signal-service", &env_with_keys(&new_key, Some(&old_key))).await);
    let room = cluster.room("keys");
    let carol = room.join_on(&cluster.nodes[1], "carol").await;
    let carol = carol.disconnect().await.resume_on(&cluster.nodes[2]).await;
    assert_eq!(carol.joined["recovered"], true);
    // A node without the new key refuses a handle that the new key sealed.
    let refusal =
        carol.resume_state().await.try_resume(cluster.nodes[1].address).await.err().expect("a refusal");
    assert_eq!(refusal.code(), "resume_invalid");
}

#[tokio::test]
async fn the_query_of_a_resume_is_not_logged() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &[WINDOW]).await;
    let resume_state = cluster.room("r").join("bob").await.disconnect().await;
    let invalid = format!("resume={}x&since=0", resume_state.handle);
    assert!(socket::open(cluster.nodes[0].address, &invalid, Duration::from_secs(5)).await.is_err());
    drop(resume_state.resume_on(&cluster.nodes[0]).await);
    let log = cluster.nodes[0].log();
    let (body, seal) = resume_state.handle.split_once('.').unwrap();
    assert!(!log.contains(body) && !log.contains(seal) && !log.contains("resume="), "a handle is in the log");
}
