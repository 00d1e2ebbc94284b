//! Who loses the socket comes back as the same peer, on any node, and has missed nothing; what cannot be promised is said.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::{Request, Response},
    net::within,
    peer::{Closed, Link, TestPeer},
    process::{Process, signal},
    proxy::{AtResumed, FaultProxy, Way},
    socket::{self, Refusal},
    ticket::Ticket,
};

/// Long enough for what happens between a loss and a return, and no longer: the audit waits for it.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "2s");

const REPLACED: (u16, &str) = (4512, "replaced");

fn last_node(cluster: &TestCluster) -> &Process {
    cluster.nodes.last().unwrap()
}

async fn hears(peer: &TestPeer, wanted: impl IntoIterator<Item = Value>) {
    for data in wanted {
        assert_eq!(peer.next_message().await.data, Some(data));
    }
}

/// Nothing more has come by the time a fence of this peer's is there.
async fn hears_no_more(peer: &TestPeer, sender: &TestPeer) {
    sender.message(peer, json!("fence")).await;
    hears(peer, [json!("fence")]).await;
    let rest = peer.rest().await;
    assert!(!rest.iter().any(|frame| frame["type"] == "message"), "{rest:?}");
}

fn assert_closed(closed: &Closed, (code, reason): (u16, &str)) {
    assert_eq!((closed.code, closed.reason.as_str()), (code, reason));
}

/// The same verdict for an upgrade and for `/ws/validate`.
async fn assert_refused(node: &Process, ticket: &Ticket, status: u16, code: &str) {
    for path in ["/ws/signal", "/ws/validate"] {
        let target = format!("{path}?{}", ticket.query());
        let request = if path == "/ws/signal" { Request::upgrade(target) } else { Request::get(target) };
        request.send(node.address).await.assert_problem(status, code);
    }
}

fn answered(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Answered(response) => response,
        Refusal::Lost(error) => panic!("no answer: {error}"),
    }
}

on_each_store! {
    async fn every_entry_missed_comes_once_and_in_order_on_any_node(cluster, [super::WINDOW]) {
        let (alice, mut bob) = cluster.room("r").join2().await;
        for (round, node) in cluster.nodes.iter().rev().enumerate() {
            alice.message(&bob, json!([round, "before"])).await;
            hears(&bob, [json!([round, "before"])]).await;
            let ticket = bob.lose().await;
            assert_eq!(alice.next_of_type("peer-detached").await["peerId"], *ticket.peer_id);
            for n in 0..10 {
                alice.must(json!({"type": "message", "to": ticket.peer_id, "data": [round, n]})).await;
                alice.tell_room(json!([round, n, "all"])).await;
            }
            bob = ticket.resume_on(node).await;
            assert_eq!(bob.joined["recovered"], true, "{}", bob.joined);
            assert_eq!(alice.next_of_type("peer-attached").await["peerId"], bob.id());
            hears(&bob, (0..10).flat_map(|n| [json!([round, n]), json!([round, n, "all"])])).await;
            hears_no_more(&bob, &alice).await;
            bob.message(&alice, json!([round, "back"])).await;
            hears(&alice, [json!([round, "back"])]).await;
        }
    }

    async fn resumed_holds_all_that_joined_does(cluster, [super::WINDOW]) {
        let room = cluster.room("r");
        let alice = room.join_as(json!({"user": "alice", "role": "host", "name": "Alice"})).await;
        let bob = room.join("bob").await;
        assert!(bob.joined["features"].as_array().unwrap().contains(&json!("resume")), "{}", bob.joined);
        let handle = bob.joined["resume"].as_str().unwrap();
        assert_eq!(handle.matches('.').count(), 1, "{handle}");
        assert!(handle.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{handle}");
        let joined = bob.joined.clone();
        let lost = bob.lose().await;
        // Who comes back before anybody has noticed is not announced.
        alice.next_of_type("peer-detached").await;
        let back = lost.resume_on(last_node(cluster)).await;
        let same = ["peerId", "roomId", "userId", "role", "permissions", "peers", "iceServers", "icePolicy", "limits",
            "pingInterval", "features", "seq"];
        for name in same {
            assert_eq!(back.joined[name], joined[name], "{name}");
        }
        assert_eq!((&back.joined["recovered"], &back.joined["lastId"]), (&json!(true), &json!(0)));
        alice.next_of_type("peer-attached").await;
    }

    /// Alice loses her socket with twenty messages on the way: she learns which were taken, and sends the rest under their old ids.
    async fn what_was_not_acknowledged_is_sent_again_and_heard_once(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        for id in 1..=20 {
            alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": id})).await;
        }
        let alice = alice.lose().await.resume_on(last_node(cluster)).await;
        let taken = alice.joined["lastId"].as_u64().unwrap();
        assert!(taken <= 20, "{taken}");
        // Whoever is not sure begins earlier: what was taken is acknowledged as a duplicate.
        for id in taken.saturating_sub(2).max(1)..=20 {
            alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": id})).await;
            let answer = alice.answer(id).await;
            assert_eq!((&answer["type"], answer["duplicate"] == true), (&json!("ack"), id <= taken), "{answer}");
        }
        hears(&bob, (1..=20).map(|id| json!(id))).await;
        alice.send(json!({"type": "message", "to": bob.id(), "id": 100, "data": "fence"})).await;
        hears(&bob, [json!("fence")]).await;
    }

    async fn the_newest_connection_wins(cluster, [super::WINDOW]) {
        let (alice, old) = cluster.room("r").join2().await;
        let new = old.ticket().await.resume_on(&cluster.nodes[0]).await;
        assert_closed(&old.closed().await, REPLACED);
        alice.message(&new, json!("for the new one")).await;
        hears(&new, [json!("for the new one")]).await;
        new.message(&alice, json!("from the new one")).await;
        hears(&alice, [json!("from the new one")]).await;
        hears_no_more(&new, &alice).await;
    }

    /// The client has never seen a newer handle, however often it tries; once it has spoken on the new connection it has.
    async fn the_handle_before_is_good_until_the_client_speaks(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let first = bob.lose().await;
        for node in cluster.nodes.iter().chain(&cluster.nodes) {
            let link = within("a resume", first.try_at(node.address)).await.expect("a handle that is still good");
            assert_eq!(link.next_of_type("resumed").await["recovered"], true);
        }
        let bob = first.resume_on(last_node(cluster)).await;
        assert_refused_after_speaking(cluster, &bob, &first).await;
        alice.message(&bob, json!("still here")).await;
        hears(&bob, [json!("still here")]).await;
        let second = bob.lose().await;
        second.resume_on(&cluster.nodes[0]).await;
    }

    async fn a_forged_or_foreign_handle_is_invalid(cluster, [super::WINDOW]) {
        let bob = cluster.room("r").join("bob").await;
        let elsewhere = TestCluster::start(Store::Memory, &[]).await;
        let foreign = elsewhere.room("r").join("bob").await.ticket().await;
        let ticket = bob.ticket().await;
        let (body, seal) = ticket.handle.split_once('.').unwrap();
        let other = |text: &str| format!("{}{}", if text.starts_with('A') { 'B' } else { 'A' }, &text[1..]);
        let forged = [foreign.handle.clone(), format!("{}.{seal}", other(body)), format!("{body}.{}", other(seal)),
            format!("{body}."), format!(".{seal}"), body.to_owned(), "x".to_owned(), "x.y".to_owned(), "%00.%ff".to_owned()];
        for handle in forged {
            for node in &cluster.nodes {
                let mut bad = ticket.clone();
                bad.handle.clone_from(&handle);
                assert_refused(node, &bad, 401, "resume_invalid").await;
            }
        }
        // And the right one is as good as before.
        ticket.resume_on(&cluster.nodes[0]).await;
    }

    async fn after_the_window_and_after_a_leave_the_handle_has_expired(cluster, [("TIMING__RESUME_WINDOW", "300ms")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let lost = bob.lose().await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "timeout");
        let carol = cluster.room("r").join("carol").await;
        let left = carol.ticket().await;
        carol.leave().await;
        for node in &cluster.nodes {
            assert_refused(node, &lost, 401, "resume_expired").await;
            assert_refused(node, &left, 401, "resume_expired").await;
        }
        let anew = cluster.room("r").join("bob").await;
        assert_ne!(anew.id(), lost.peer_id);
    }

    async fn whose_room_is_gone_joins_anew(cluster, [("TIMING__RESUME_WINDOW", "300ms")]) {
        let bob = cluster.room("r").join("bob").await;
        let ticket = bob.ticket().await;
        bob.leave().await;
        assert_refused(last_node(cluster), &ticket, 401, "resume_expired").await;
    }

    /// A reloaded page: a new peer in the old one's place, also where the room is full.
    async fn a_takeover_is_a_new_peer_in_the_same_place(cluster, [super::WINDOW, ("LIMITS__ROOM_PEERS", "2")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let ticket = bob.ticket().await;
        let new = within("a takeover", ticket.take_over(last_node(cluster).address)).await.expect("a takeover");
        let new = new.into_peer().await;
        assert_ne!(new.id(), ticket.peer_id);
        assert_eq!((&new.joined["userId"], &new.joined["seq"]), (&json!("bob"), &json!(0)));
        assert_eq!(new.joined["peers"][0]["peerId"], alice.id());
        let left = alice.next_of_type("peer-left").await;
        assert_eq!((&left["peerId"], &left["reason"]), (&json!(ticket.peer_id), &json!("replaced")));
        let joined = alice.next_of_type("peer-joined").await;
        assert_eq!(joined["peerId"], new.id());
        assert_eq!(joined["seq"].as_u64(), left["seq"].as_u64().map(|seq| seq + 1), "in one step");
        assert_closed(&bob.closed().await, REPLACED);
        let late = room.knock("late").await;
        assert_eq!(late.next().await["code"], "room_full");
        alice.message(&new, json!("welcome")).await;
        hears(&new, [json!("welcome")]).await;
        let refusal = ticket.try_at(last_node(cluster).address).await.err().expect("a void handle");
        assert_eq!(answered(refusal).status, 401);
    }

    async fn a_takeover_of_a_lost_socket(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let ticket = bob.lose().await;
        alice.next_of_type("peer-detached").await;
        let new = ticket.take_over(last_node(cluster).address).await.expect("a takeover").into_peer().await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "replaced");
        assert_eq!(alice.next_of_type("peer-joined").await["peerId"], new.id());
    }

    async fn since_beyond_the_head_is_not_recovered(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.message(&bob, json!(1)).await;
        hears(&bob, [json!(1)]).await;
        let mut ticket = bob.lose().await;
        ticket.since += 100;
        let bob = ticket.resume_on(last_node(cluster)).await;
        assert_eq!(bob.joined["recovered"], false, "{}", bob.joined);
        assert_eq!(bob.joined["peers"][0]["peerId"], alice.id());
        alice.message(&bob, json!(2)).await;
        hears(&bob, [json!(2)]).await;
    }

    /// More than an outbox holds: it is pulled as the socket takes it, and nobody is closed as slow.
    async fn a_replay_larger_than_the_outbox_arrives(cluster,
        [super::WINDOW, ("LIMITS__OUTBOX", "256KiB"), ("LIMITS__BACKLOG_BYTES", "2MiB"), ("LIMITS__ROOM_PEERS", "10")]) {
        const MESSAGES: usize = 80;
        let (alice, bob) = cluster.room("r").join2().await;
        let ticket = bob.lose().await;
        let large = "x".repeat(15 * 1024);
        for n in 0..MESSAGES {
            alice.must(json!({"type": "message", "to": ticket.peer_id, "data": [n, large]})).await;
        }
        // A slow line, so that the outbox would fill.
        let line = FaultProxy::start(last_node(cluster).address).await;
        line.delay(Duration::from_millis(2));
        let bob = ticket.resume_at(line.address).await;
        assert_eq!(bob.joined["recovered"], true);
        for n in 0..MESSAGES {
            assert_eq!(bob.next_message().await.data.unwrap()[0], n);
        }
        hears_no_more(&bob, &alice).await;
    }

    /// Neither side has noticed that the old connection is dead.
    async fn a_half_open_connection_does_not_stand_in_the_way(cluster, [super::WINDOW]) {
        let room = cluster.room("r");
        let alice = room.join("alice").await;
        let line = FaultProxy::start(last_node(cluster).address).await;
        let token = room.token(json!({"user": "bob"})).await;
        let bob = Link::open(line.address, &token).await.into_peer().await;
        assert_eq!(line.half_open(Way::Both, || true), 1);
        let ticket = bob.ticket().await;
        for n in 0..5 {
            alice.must(json!({"type": "message", "to": ticket.peer_id, "data": n})).await;
        }
        let bob = ticket.resume_on(&cluster.nodes[0]).await;
        assert_eq!(bob.joined["recovered"], true);
        hears(&bob, (0..5).map(|n| json!(n))).await;
        hears_no_more(&bob, &alice).await;
    }

    async fn a_lost_resumed_is_asked_for_again(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let ticket = bob.lose().await;
        alice.next_of_type("peer-detached").await;
        alice.must(json!({"type": "message", "to": ticket.peer_id, "data": "missed"})).await;
        let line = FaultProxy::start(last_node(cluster).address).await;
        for what in [AtResumed::Lost, AtResumed::ThenCut, AtResumed::Lost] {
            line.at_resumed(Some(what));
            let link = within("an upgrade", ticket.try_at(line.address)).await.expect("an upgrade");
            let closed = link.closed().await;
            assert_eq!(closed.code, 1006, "{closed:?}");
        }
        assert_eq!(line.cut_at_resumed(), 3);
        let bob = ticket.resume_on(&cluster.nodes[0]).await;
        assert_eq!(bob.joined["recovered"], true);
        hears(&bob, [json!("missed")]).await;
        hears_no_more(&bob, &alice).await;
    }

    async fn a_token_and_a_handle_together_are_refused(cluster, [super::WINDOW]) {
        let room = cluster.room("r");
        let ticket = room.join("bob").await.ticket().await;
        let token = room.token(json!({"user": "bob"})).await;
        let (query, handle) = (ticket.query(), &ticket.handle);
        let address = cluster.nodes[0].address;
        let protocols = |list: String| ("Sec-WebSocket-Protocol", list);
        let both = [
            Request::upgrade(format!("/ws/signal?{query}&token={token}")),
            Request::upgrade(format!("/ws/signal?{query}")).header("Sec-WebSocket-Protocol", format!("signalbox.v1, token.{token}")),
            Request::upgrade(format!("/ws/signal?token={token}")).header("Sec-WebSocket-Protocol", format!("signalbox.v1, resume.{handle}")),
        ];
        for request in both {
            request.send(address).await.assert_problem(400, "bad_request");
        }
        // In the subprotocol it is as good as in the query, where only `since` stays.
        let (name, list) = protocols(format!("signalbox.v1, resume.{handle}"));
        let request = Request::upgrade(format!("/ws/signal?since={}", ticket.since)).header(name, list);
        let answer = request.send(address).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("signalbox.v1")), "{}", answer.text);
    }

    async fn a_verdict_over_http_consumes_nothing(cluster, [super::WINDOW]) {
        let bob = cluster.room("r").join("bob").await;
        let ticket = bob.ticket().await;
        for node in cluster.nodes.iter().chain(&cluster.nodes) {
            let answer = Request::get(format!("/ws/validate?{}", ticket.query())).send(node.address).await;
            assert_eq!((answer.status, answer.json()["valid"].as_bool()), (200, Some(true)), "{}", answer.text);
        }
        bob.ping().await;
        ticket.resume_on(&cluster.nodes[0]).await;
    }
}

/// Once the client has spoken, and its node has told the store, the handle that it came with is an old one.
async fn assert_refused_after_speaking(cluster: &TestCluster, peer: &TestPeer, used: &Ticket) {
    peer.ping().await;
    signalbox_tests::net::eventually("the older handle is void", async || {
        let answer =
            Request::get(format!("/ws/validate?{}", used.query())).send(cluster.nodes[0].address).await;
        (answer.status != 200).then_some(())
    })
    .await;
    for node in &cluster.nodes {
        assert_refused(node, used, 401, "resume_replaced").await;
    }
}

/// What was sent to Bob is older than any entry may get when he comes back: he is told, or he hears it all.
#[tokio::test]
async fn what_got_too_old_meanwhile_is_announced() {
    let cluster = TestCluster::start(
        Store::Redis(2),
        &[("TIMING__RESUME_WINDOW", "300ms"), ("TIMING__LEASE", "200ms"), ("TIMING__PING", "60s")],
    )
    .await;
    let room = cluster.room("r");
    let alice = room.join("alice").await;
    let line = FaultProxy::start(cluster.nodes[1].address).await;
    let token = room.token(json!({"user": "bob"})).await;
    let bob = Link::open(line.address, &token).await.into_peer().await;
    // For the server he is there; nothing reaches him.
    line.half_open(Way::Down, || true);
    for n in 0..5 {
        alice.message(&bob, json!(n)).await;
    }
    // Window, three leases and the slack: time passes, that is what is tested.
    tokio::time::sleep(Duration::from_millis(300 + 600 + 4_000 + 500)).await;
    alice.message(&bob, json!(5)).await;
    let bob = bob.lose().await.resume_on(&cluster.nodes[0]).await;
    assert_eq!(bob.joined["recovered"], false, "five entries are gone: {}", bob.joined);
    alice.message(&bob, json!("after")).await;
    hears(&bob, [json!("after")]).await;
}

/// More was sent to Carol than her mailbox holds; nothing that was acknowledged is missing when she comes back.
#[tokio::test]
async fn what_was_refused_for_a_full_mailbox_is_no_gap() {
    let cluster = TestCluster::start(Store::Redis(2), &[("LIMITS__BACKLOG", "16"), WINDOW]).await;
    let (alice, carol) = cluster.room("r").join2().await;
    let ticket = carol.lose().await;
    alice.next_of_type("peer-detached").await;
    let mut taken = Vec::new();
    for n in 0..30 {
        let answer = alice.ask(json!({"type": "message", "to": ticket.peer_id, "data": n})).await;
        if answer["type"] == "ack" {
            taken.push(json!(n));
        } else {
            assert_eq!(answer["code"], "peer_backlogged", "{answer}");
        }
    }
    assert!(taken.len() < 30, "the bound holds");
    let carol = ticket.resume_on(&cluster.nodes[0]).await;
    assert_eq!(carol.joined["recovered"], true);
    hears(&carol, taken).await;
}

/// While Redis is away nobody can say whether a handle is good: keep it and try again.
#[tokio::test]
async fn while_redis_is_away_a_handle_is_kept() {
    let cluster = TestCluster::start(Store::Redis(2), &[WINDOW, ("REDIS__DEADLINE", "300ms")]).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    let ticket = bob.lose().await;
    alice.next_of_type("peer-detached").await;
    signal(redis.pid(), "STOP");
    for node in &cluster.nodes {
        assert_refused(node, &ticket, 503, "unavailable").await;
        let takeover = ticket.take_over(node.address).await.err().expect("a refusal");
        answered(takeover).assert_problem(503, "unavailable");
    }
    signal(redis.pid(), "CONT");
    let bob = signalbox_tests::net::eventually("the handle is taken", async || {
        let link = ticket.try_at(cluster.nodes[1].address).await.ok()?;
        let first = link.next().await;
        (first["type"] == "resumed").then_some((link, first))
    })
    .await;
    assert_eq!(bob.1["peerId"], *ticket.peer_id);
    drop((alice, bob));
    cluster.audit().await;
}

/// A key is rotated on one node after the other: handles of either are good on both.
#[tokio::test]
async fn a_handle_survives_the_rotation_of_its_key() {
    let mut cluster = TestCluster::start(Store::Redis(1), &[WINDOW]).await;
    let bob = cluster.room("r").join("bob").await;
    let mut env = cluster.env().to_vec();
    // Before, the key was derived from AUTH_SECRET.
    let (old, new) = (signalbox_tests::cluster::random_secret(), signalbox_tests::cluster::random_secret());
    let with = |env: &[(String, String)], now: &str, before: Option<&str>| {
        let mut env = env.to_vec();
        env.push(("SIGNALBOX_SESSION_KEY".to_owned(), now.to_owned()));
        env.extend(before.map(|before| ("SIGNALBOX_SESSION_KEY_PREVIOUS".to_owned(), before.to_owned())));
        env
    };
    cluster.nodes.push(Process::start("signal-service", &with(&env, &old, None)).await);
    env = with(&env, &new, Some(&old));
    cluster.nodes.push(Process::start("signal-service", &env).await);
    let room = cluster.room("keys");
    let carol = room.join_on(&cluster.nodes[1], "carol").await;
    let carol = carol.lose().await.resume_on(&cluster.nodes[2]).await;
    assert_eq!(carol.joined["recovered"], true);
    // What the newer key sealed the older node cannot open.
    let refusal = carol.ticket().await.try_at(cluster.nodes[1].address).await.err().expect("a refusal");
    assert_eq!(refusal.code(), "resume_invalid");
    drop(bob);
}

/// A handle in the query may be long; the upgrade is one all the same.
#[tokio::test]
async fn the_query_of_a_resume_reaches_no_log() {
    let cluster = TestCluster::start(Store::Redis(1), &[WINDOW]).await;
    let ticket = cluster.room("r").join("bob").await.lose().await;
    let invalid = format!("resume={}x&since=0", ticket.handle);
    assert!(socket::open(cluster.nodes[0].address, &invalid, Duration::from_secs(5)).await.is_err());
    drop(ticket.resume_on(&cluster.nodes[0]).await);
    let log = cluster.nodes[0].log();
    let (body, seal) = ticket.handle.split_once('.').unwrap();
    assert!(!log.contains(body) && !log.contains(seal) && !log.contains("resume="), "a handle is in the log");
}
