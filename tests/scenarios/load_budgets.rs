//! What waits for peers that do not read is bounded and charged to its cause: in the store, in the
//! kernel, and in the memory of a node.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster, TestRoom},
    http::Request,
    net::eventually,
    peer::TestPeer,
    raw_socket::{RawFrame, RawSocket},
};

const MIB: u64 = 1024 * 1024;

/// The peers of a room that lose their sockets.
const DETACHED_PEERS: usize = 24;

/// Joins one sender and [`DETACHED_PEERS`] others, and drops the sockets of the others. Returns the
/// sender and the ids of the others.
async fn join_and_detach(room: &TestRoom<'_>) -> (TestPeer, Vec<String>) {
    let sender = room.join("sender").await;
    let joins = (0..DETACHED_PEERS).map(async |n| room.join(&format!("u{n}")).await);
    let others = join_all(joins).await;
    others.into_iter().for_each(TestPeer::drop_socket);
    let mut detached = Vec::new();
    for _ in 0..DETACHED_PEERS {
        let event = sender.next_of_type("peer-detached").await;
        detached.push(event["peerId"].as_str().unwrap().to_owned());
    }
    (sender, detached)
}

/// Sends `count` long messages to the room, or to each of these peers. Returns the codes of the
/// answers; `ack` if accepted.
async fn send_long(sender: &TestPeer, peers: Option<&[String]>, count: usize) -> Vec<String> {
    let long = json!({"type": "message", "data": "x".repeat(16_000)});
    let addressed = |peer: &String| {
        let mut message = long.clone();
        message["to"] = peer.clone().into();
        message
    };
    let messages = peers.map_or_else(|| vec![long.clone()], |peers| peers.iter().map(addressed).collect());
    let mut codes = Vec::new();
    for message in messages.iter().cycle().take(count * messages.len()) {
        let answer = sender.request(message.clone()).await;
        assert!(answer["type"] == "ack" || answer["retryMs"].is_u64(), "{answer}");
        codes.push(answer["code"].as_str().unwrap_or("ack").to_owned());
    }
    codes
}

async fn memory_info(cluster: &TestCluster, name: &str) -> u64 {
    let mut connection = cluster.redis.as_ref().unwrap().connect().await;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().parse().unwrap()
}

/// A stranger joins, exchanges a token for a ticket, and an application creates a room.
async fn assert_admits_others(cluster: &TestCluster, number: usize) {
    let start = Instant::now();
    let room = cluster.room("innocent");
    let peer = room.join(&format!("innocent{number}")).await;
    let bearer = format!("Bearer {}", room.token(json!({"user": "other"})).await);
    let ticket = Request::post("/auth/ticket", &json!({})).header("Authorization", bearer);
    let response = ticket.send(cluster.auth_address()).await;
    assert_eq!(response.status, 200, "{}", response.text);
    let created = cluster.api("POST", "/api/rooms", &json!({"id": format!("fresh{number}")})).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert!(start.elapsed() < Duration::from_secs(2), "others waited {:?}", start.elapsed());
    peer.leave().await;
}

/// Senders in three rooms flood detached peers, until more than `maxmemory` would wait. Returns the
/// cluster.
async fn flood_store(max_memory: &str, to_each: bool, count: usize) -> TestCluster {
    let cluster = TestCluster::start(StoreKind::Redis(1), &[("TIMING__RESUME_WINDOW", "20s")]).await;
    let mut connection = cluster.redis.as_ref().unwrap().connect().await;
    let set = redis::cmd("CONFIG").arg(&["SET", "maxmemory", max_memory]).clone();
    set.exec_async(&mut connection).await.unwrap();
    let rooms: Vec<_> = (0..3).map(|n| cluster.room(&format!("flood{n}"))).collect();
    let senders = join_all(rooms.iter().map(join_and_detach)).await;
    let floods = senders
        .iter()
        .map(|(sender, detached)| send_long(sender, to_each.then_some(detached.as_slice()), count));
    let codes: Vec<String> = join_all(floods).await.concat();
    for n in 0..3 {
        assert_admits_others(&cluster, n).await;
    }
    assert!(codes.iter().all(|code| code == "ack" || code == "peer_backlogged"), "{codes:?}");
    assert!(codes.iter().any(|code| code == "peer_backlogged"), "{codes:?}");
    // Peers that read are not affected.
    let (alice, bob) = cluster.room("calls").join2().await;
    alice.message(&bob, json!("still here")).await;
    assert_eq!(bob.next_message().await.data, Some(json!("still here")));
    cluster.assert_clean_logs();
    cluster
}

/// 70 messages for 24 peers in each of three rooms: more than 80 MB, if each mailbox had a copy.
#[tokio::test]
async fn messages_to_rooms_of_detached_peers_are_stored_once() {
    let cluster = flood_store("64mb", false, 70).await;
    let used = memory_info(&cluster, "used_memory").await;
    assert!(used < 16 * MIB, "{used} bytes are in use");
    assert!(cluster.nodes[0].metric(r#"signalbox_backlogged_total{bound="grant"}"#).await > 0.0);
}

/// 20 messages for each of 24 peers in each of three rooms: 23 MB.
#[tokio::test]
async fn messages_for_detached_peers_leave_memory_for_joins_tickets_and_rooms() {
    let cluster = flood_store("20mb", true, 20).await;
    let used = memory_info(&cluster, "used_memory").await;
    assert!(used < 19 * MIB, "{used} of 20 MB are in use");
    let node = &cluster.nodes[0];
    assert!(node.metric(r#"signalbox_backlogged_total{bound="memory"}"#).await > 0.0);
    assert!(node.metric("signalbox_store_memory_level").await >= 1.0);
    let count_lines = || node.log().matches("redis_memory_high").count();
    eventually("a line for the level", async || (count_lines() > 0).then_some(())).await;
    assert!(count_lines() <= 2, "one line for each level: {}", node.log());
}

async fn set_max_memory(cluster: &TestCluster, bytes: u64) {
    let mut connection = cluster.redis.as_ref().unwrap().connect().await;
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory").arg(bytes).exec_async(&mut connection).await.unwrap();
}

/// Metadata, invites, refresh tokens and messages of applications are refused; what a call needs is
/// not.
#[tokio::test]
async fn applications_store_nothing_that_calls_can_do_without_in_the_last_memory() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &[]).await;
    cluster.api("POST", "/api/rooms", &json!({"id": "r"})).await.assert_status(201);
    let room = cluster.room("r");
    let peer = room.join("alice").await;
    let mut connection = cluster.redis.as_ref().unwrap().connect().await;
    let mut ballast = redis::cmd("SET");
    ballast.arg("ballast").arg("x".repeat(20_000_000)).arg("EX").arg(600);
    ballast.exec_async(&mut connection).await.unwrap();
    let used = memory_info(&cluster, "used_memory").await;
    set_max_memory(&cluster, used * 100 / 75).await;
    let auth = cluster.auth.as_ref().unwrap();
    eventually("the auth service knows that little memory is left", async || {
        (auth.metric("signalbox_auth_store_memory_level").await >= 1.0).then_some(())
    })
    .await;
    let refused = [
        ("POST", "/api/rooms", json!({"id": "s", "metadata": {"a": "x".repeat(1_000)}})),
        ("PATCH", "/api/rooms/r", json!({"metadata": {"a": "x".repeat(1_000)}})),
        ("POST", "/api/rooms/r/invites", json!({})),
        ("POST", "/api/rooms/r/messages", json!({"data": "x".repeat(1_000)})),
        ("POST", "/auth/token", json!({"room": "r", "user": "u", "refresh": true})),
        ("POST", "/api/rooms/r/token", json!({"user": "u", "refresh": true})),
    ];
    for (method, path, body) in &refused {
        let answer = cluster.api(method, path, body).await;
        assert_eq!(answer.header("retry-after"), Some("10"), "{path}: {}", answer.text);
        answer.assert_problem(503, "overloaded");
    }
    assert_eq!(auth.metric("signalbox_auth_memory_refusals_total").await, refused.len() as f64);
    assert_admits_others(&cluster, 0).await;
    cluster.api("POST", "/api/rooms/r/bans", &json!({"user": "eve", "for": 60})).await.assert_status(201);
    cluster.api("POST", "/api/revocations", &json!({"user": "eve"})).await.assert_status(200);
    let path = format!("/api/rooms/r/participants/{}", peer.id());
    cluster.api("DELETE", &path, &json!(null)).await.assert_status(200);
    assert_eq!(peer.wait_closed().await.code, 4513);

    set_max_memory(&cluster, used * 2).await;
    eventually("the auth service knows that there is memory", async || {
        (auth.metric("signalbox_auth_store_memory_level").await == 0.0).then_some(())
    })
    .await;
    for (method, path, body) in &refused {
        let answer = cluster.api(method, path, body).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
    }
}

on_each_store! {
    async fn one_grant_does_not_use_up_what_may_wait_in_a_room(cluster,
        [("LIMITS__GRANT_BACKLOG_BYTES", "1MiB"), ("LIMITS__ROOM_BACKLOG_BYTES", "3MiB"), ("TIMING__RESUME_WINDOW", "3s")]) {
        let room = cluster.room("r");
        let (mallory, _) = join_and_detach(&room).await;
        let bob = room.join("bob").await;
        let codes = send_long(&mallory, None, 10).await;
        // Each message waits for 24 peers: 384 000 bytes.
        let expected: Vec<_> = (0..10).map(|n| if n < 3 { "ack" } else { "peer_backlogged" }).collect();
        assert_eq!(codes, expected);
        bob.message_room(json!("another grant")).await;
        assert_eq!(mallory.next_message().await.data, Some(json!("another grant")));
        // A message to a peer that reads is not refused.
        mallory.message(&bob, json!("direct")).await;
        bob.next_where("direct", |frame| frame["data"] == "direct").await;
        let mut refused = 0.0;
        for node in &cluster.nodes {
            refused += node.metric(r#"signalbox_backlogged_total{bound="grant"}"#).await;
        }
        assert_eq!(refused, 7.0);
    }
}

/// Small bounds, so that a few connections use up the budget of a node.
const SMALL_BUDGET: [(&str, &str); 7] = [
    ("LIMITS__OUTBOX", "256KiB"),
    ("LIMITS__NODE_OUTBOX", "1MiB"),
    ("LIMITS__ROOM_PEERS", "30"),
    ("LIMITS__LOBBY_PEERS", "10"),
    ("LIMITS__METADATA", "1KiB"),
    ("LIMITS__SOCKET_BUFFER", "16KiB"),
    ("TIMING__PING", "60s"),
];

/// No outbox reaches its own bound; together they exceed the bound of the node.
#[tokio::test]
async fn the_outboxes_of_a_node_are_bounded_together() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &SMALL_BUDGET).await;
    let (room, node) = (cluster.room("r"), &cluster.nodes[0]);
    let (alice, bob) = room.join2().await;
    let mut non_readers = Vec::new();
    for n in 0..16 {
        let token = room.token(json!({"user": format!("u{n}")})).await;
        non_readers.push(RawSocket::open(node.address, &token, Some(4096)).await);
        alice.next_of_type("peer-joined").await;
    }
    let large = "x".repeat(12_000);
    // 16 times 12 * 12 000 bytes.
    for n in 0..12 {
        alice.message_room(json!([n, large])).await;
        assert_eq!(bob.next_message().await.data.unwrap()[0], n);
    }
    eventually("the node is within its budget", async || {
        (node.metric("signalbox_socket_bytes").await < MIB as f64).then_some(())
    })
    .await;
    let closed = node.metric("signalbox_budget_closes_total").await;
    assert!((1.0..16.0).contains(&closed), "{closed} connections were closed");
    let high_water = node.metric("signalbox_outbox_high_water_bytes").await;
    assert!(high_water < 200_000.0, "no outbox is full: {high_water}");
    assert_eq!(node.metric(r#"signalbox_closes_total{reason="slow_consumer"}"#).await, closed);
    assert!(node.log().contains("node_outbox_full"), "{}", node.log());
}

#[tokio::test]
async fn incomplete_messages_count_in_the_budget_of_a_node() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &SMALL_BUDGET).await;
    let (room, node) = (cluster.room("r"), &cluster.nodes[0]);
    let (alice, bob) = room.join2().await;
    let part = RawFrame { declared: Some(60_000), ..RawFrame::text(&[b'x'; 59_000]) }.to_bytes();
    let mut senders = Vec::new();
    for n in 0..20 {
        let token = room.token(json!({"user": format!("u{n}")})).await;
        let mut raw = RawSocket::open(node.address, &token, None).await;
        raw.send_bytes(&part).await;
        senders.push(raw);
    }
    eventually("connections are closed", async || {
        (node.metric("signalbox_budget_closes_total").await >= 3.0).then_some(())
    })
    .await;
    assert!(node.metric("signalbox_socket_bytes").await <= MIB as f64);
    alice.message(&bob, json!("still here")).await;
    assert_eq!(bob.next_message().await.data, Some(json!("still here")));
}

/// The bytes that the kernel holds for the clients of a server, by the send queue of each socket.
fn kernel_send_queues(port: u16) -> Vec<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_port = format!(":{port:04X}");
    let queue = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_established = fields[3] == "01";
        (fields[1].ends_with(&of_port) && is_established)
            .then(|| u64::from_str_radix(fields[4].split(':').next().unwrap(), 16).unwrap())
    };
    table.lines().skip(1).filter_map(queue).collect()
}

#[tokio::test]
async fn the_kernel_holds_few_bytes_for_sockets_that_do_not_read() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &[("TIMING__PING", "60s")]).await;
    let (room, node) = (cluster.room("r"), &cluster.nodes[0]);
    let sender = room.join("sender").await;
    let mut non_readers = Vec::new();
    for n in 0..20 {
        let token = room.token(json!({"user": format!("u{n}")})).await;
        non_readers.push(RawSocket::open(node.address, &token, Some(4096)).await);
        sender.next_of_type("peer-joined").await;
    }
    let large = "x".repeat(15_000);
    let mut largest = 0;
    for _ in 0..250 {
        let answer = sender.request(json!({"type": "message", "data": large})).await;
        largest = largest.max(kernel_send_queues(node.address.port()).into_iter().max().unwrap());
        if answer["type"] == "error" {
            break;
        }
    }
    println!("the kernel held up to {largest} bytes for one socket");
    assert!(largest <= 256 * 1024, "the kernel held {largest} bytes for one socket");
    drop(non_readers);
    sender.ping().await;
}
