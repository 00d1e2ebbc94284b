//! One part stops: a node that is asked to stop, Redis that dies or hangs, a broken subscription.

use std::time::{Duration, Instant};

use serde_json::json;
use signalbox_tests::{
    SDP,
    cluster::{StoreKind, TestCluster},
    http::Request,
    net::{DEADLINE, eventually},
    process::{Process, send_signal},
    raw_socket::{RawFrame, RawSocket, op},
};

async fn ready_status(process: &Process) -> u16 {
    Request::get("/health/ready").send(process.address).await.status
}

async fn live_status(process: &Process) -> u16 {
    Request::get("/health/live").send(process.address).await.status
}

async fn until_ready_status(cluster: &TestCluster, status: u16) {
    for process in cluster.nodes.iter().chain(&cluster.auth) {
        eventually(&format!("ready status {status}"), async || {
            (ready_status(process).await == status).then_some(())
        })
        .await;
    }
}

/// A draining node also refuses new connections.
#[tokio::test]
async fn a_stopping_node_sends_a_goaway_closes_with_4000_and_exits() {
    let cluster = TestCluster::redis(2).await;
    let room = cluster.room("r");
    let (alice, bob) = room.join2().await;
    let carol = room.join_on(&cluster.nodes[1], "carol").await;
    bob.next_of_type("peer-joined").await;
    alice.next_of_type("peer-joined").await;
    let stopping = &cluster.nodes[0];
    // This client never answers the close frame, so the node is still draining during the requests
    // below.
    let token = cluster.room("other").token(json!({"user": "mallory"})).await;
    let mut unresponsive = RawSocket::open(stopping.address, &token, None).await;
    assert_eq!(unresponsive.next_text().await["type"], "joined");

    let start = Instant::now();
    stopping.terminate();
    let goaway = alice.next_of_type("goaway").await;
    assert!(goaway["reconnectIn"].as_u64().unwrap() <= 2_000, "{goaway}");
    let closed = alice.wait_closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (4000, "going_away"));
    let late_token = cluster.sign_token("r", "late");
    Request::upgrade(format!("/ws/signal?token={late_token}"))
        .send(stopping.address)
        .await
        .assert_problem(503, "draining");
    Request::get("/health/ready").send(stopping.address).await.assert_problem(503, "draining");
    assert_eq!(live_status(stopping).await, 200);
    for peer in [&bob, &carol] {
        // Alice does not resume.
        assert_eq!(peer.next_of_type("peer-detached").await["peerId"], alice.id());
        let left = peer.next_of_type("peer-left").await;
        assert_eq!((&left["peerId"], &left["reason"]), (&json!(alice.id()), &json!("timeout")));
    }
    let status = stopping.wait_exit(Duration::from_secs(8)).await;
    assert!(
        status.success() && start.elapsed() < Duration::from_secs(7),
        "{status} after {:?}",
        start.elapsed()
    );
    // The other peers continue, and Alice can join again.
    bob.message(&carol, json!("still here")).await;
    carol.next_message().await;
    let rejoined = room.join_on(&cluster.nodes[1], "alice").await;
    assert_eq!(rejoined.joined["peers"].as_array().unwrap().len(), 2);
    drop((bob, carol, rejoined, alice, unresponsive));
    cluster.assert_clean_logs();
    cluster.redis.as_ref().unwrap().assert_clean_after(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_all_in_one_process_drains_in_the_same_way() {
    let cluster = TestCluster::memory().await;
    let (alice, bob) = cluster.room("r").join2().await;
    cluster.nodes[0].terminate();
    for peer in [&alice, &bob] {
        peer.next_of_type("goaway").await;
        assert_eq!(peer.wait_closed().await.code, 4000);
    }
    assert!(cluster.nodes[0].wait_exit(Duration::from_secs(8)).await.success());
    cluster.assert_clean_logs();
}

#[tokio::test]
async fn an_idle_process_exits_immediately() {
    let cluster = TestCluster::redis(1).await;
    for process in cluster.nodes.iter().chain(&cluster.auth) {
        let start = Instant::now();
        process.terminate();
        let status = process.wait_exit(DEADLINE).await;
        assert!(
            status.success() && start.elapsed() < Duration::from_secs(3),
            "{status} after {:?}",
            start.elapsed()
        );
    }
}

/// Redis is killed and restarts empty. No process crashes, no socket is closed, and each peer gets
/// `recovered: false` and stays the same peer.
#[tokio::test]
async fn peers_stay_connected_when_redis_restarts_empty() {
    let mut cluster = TestCluster::redis(2).await;
    let (alice, bob) = cluster.room("r").join2().await;
    cluster.redis.as_mut().unwrap().kill();
    until_ready_status(&cluster, 503).await;
    for process in cluster.nodes.iter().chain(&cluster.auth) {
        assert_eq!(live_status(process).await, 200);
        process.assert_running();
    }
    let start = Instant::now();
    let answer = alice.request(json!({"type": "offer", "to": bob.id(), "sdp": SDP})).await;
    assert_eq!((&answer["code"], &answer["retryMs"]), (&json!("unavailable"), &json!(500)), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    alice.ping().await;
    let token = cluster.sign_token("r", "late");
    let upgrade = Request::upgrade(format!("/ws/signal?token={token}"));
    upgrade.send(cluster.nodes[0].address).await.assert_problem(503, "unavailable");

    cluster.redis.as_mut().unwrap().restart().await;
    until_ready_status(&cluster, 200).await;
    // The nodes restore the room that the store has lost.
    for peer in [&alice, &bob] {
        let resumed = peer.next_of_type("resumed").await;
        assert_eq!(
            (&resumed["recovered"], &resumed["peerId"]),
            (&json!(false), &json!(peer.id())),
            "{resumed}"
        );
        assert_eq!(resumed["peers"].as_array().unwrap().len(), 1, "{resumed}");
    }
    alice.send(json!({"type": "offer", "to": bob.id(), "sdp": SDP, "id": answer["id"]})).await;
    assert_eq!(alice.reply_to(answer["id"].as_u64().unwrap()).await["type"], "ack");
    assert_eq!(bob.next_offer().await.from, alice.id());
    drop((alice, bob));
    cluster.audit().await;
}

/// Redis hangs for longer than the deadline of a command, and then continues with the same data.
#[tokio::test]
async fn no_message_is_lost_or_duplicated_while_redis_hangs() {
    let cluster = TestCluster::start(StoreKind::Redis(2), &[("REDIS__DEADLINE", "300ms")]).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    alice.message(&bob, json!("before")).await;
    send_signal(redis.pid(), "STOP");
    let mut refused = Vec::new();
    for n in 0..3 {
        let answer = alice.request(json!({"type": "message", "to": bob.id(), "data": n})).await;
        assert_eq!(answer["code"], "unavailable", "{answer}");
        refused.push(answer["id"].as_u64().unwrap());
    }
    send_signal(redis.pid(), "CONT");
    until_ready_status(&cluster, 200).await;
    // docs/PROTOCOL.md, section 3.2: retry in order, from the first refused id.
    for (n, id) in refused.iter().enumerate() {
        let message = json!({"type": "message", "to": bob.id(), "data": n, "id": id});
        eventually("the message is acknowledged", async || {
            alice.send(message.clone()).await;
            (alice.reply_to(*id).await["type"] == "ack").then_some(())
        })
        .await;
    }
    alice.message(&bob, json!("after")).await;
    let mut received = Vec::new();
    while received.last() != Some(&json!("after")) {
        received.push(bob.next_message().await.data.unwrap());
    }
    assert_eq!(received, [json!("before"), json!(0), json!(1), json!(2), json!("after")]);
    drop((alice, bob));
    cluster.audit().await;
}

/// A leave and a lost socket during the outage are announced after it.
#[tokio::test]
async fn a_leave_while_redis_hangs_is_committed_afterwards() {
    let cluster = TestCluster::start(StoreKind::Redis(2), &[("REDIS__DEADLINE", "300ms")]).await;
    let redis = cluster.redis.as_ref().unwrap();
    let peers = cluster.room("r").join_all(&["alice", "bob", "carol"]).await;
    let [alice, bob, carol] = <[_; 3]>::try_from(peers).ok().unwrap();
    let (bob_id, carol_id) = (bob.id().to_owned(), carol.id().to_owned());
    send_signal(redis.pid(), "STOP");
    bob.send(json!({"type": "leave"})).await;
    assert_eq!(bob.wait_closed().await.code, 1000);
    carol.drop_socket();
    // The outage lasts for a few deadlines.
    tokio::time::sleep(Duration::from_secs(1)).await;
    send_signal(redis.pid(), "CONT");
    let mut left = [alice.next_of_type("peer-left").await, alice.next_of_type("peer-left").await];
    left.sort_by_key(|frame| frame["reason"].as_str().map(str::to_owned));
    assert_eq!((&left[0]["peerId"], &left[0]["reason"]), (&json!(bob_id), &json!("left")));
    assert_eq!((&left[1]["peerId"], &left[1]["reason"]), (&json!(carol_id), &json!("timeout")));
    drop((alice, bob));
    cluster.audit().await;
}

#[tokio::test]
async fn an_update_while_redis_hangs_is_accepted_when_retried() {
    let cluster = TestCluster::start(StoreKind::Redis(2), &[("REDIS__DEADLINE", "300ms")]).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    send_signal(redis.pid(), "STOP");
    let answer = alice.request(json!({"type": "update", "name": "Alice"})).await;
    assert_eq!(answer["code"], "unavailable", "{answer}");
    send_signal(redis.pid(), "CONT");
    until_ready_status(&cluster, 200).await;
    let id = answer["id"].as_u64().unwrap();
    eventually("the update is acknowledged", async || {
        alice.send(json!({"type": "update", "name": "Alice", "id": id})).await;
        (alice.reply_to(id).await["type"] == "ack").then_some(())
    })
    .await;
    assert_eq!(bob.next_of_type("peer-updated").await["name"], "Alice");
    drop((alice, bob));
    cluster.audit().await;
}

/// The node reads from the mailbox the entries that were published while the subscription was
/// broken.
#[tokio::test]
async fn no_entry_is_missed_when_the_subscription_breaks() {
    let cluster = TestCluster::redis(2).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    for n in 0..10 {
        let mut connection = redis.connect().await;
        let _: i64 = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("pubsub")
            .query_async(&mut connection)
            .await
            .unwrap();
        alice.message(&bob, json!(n)).await;
    }
    for n in 0..10 {
        assert_eq!(bob.next_message().await.data, Some(json!(n)));
    }
    drop((alice, bob));
    cluster.audit().await;
}

#[tokio::test]
async fn the_all_in_one_process_over_redis_serves_the_same_rooms() {
    let mut cluster = TestCluster::redis(1).await;
    let another = Process::start("signalbox", cluster.env()).await;
    cluster.nodes.push(another);
    let (alice, bob) = cluster.room("r").join2().await;
    assert_ne!(alice.joined["node"], bob.joined["node"]);
    alice.offer(&bob, SDP).await;
    assert_eq!(bob.next_offer().await.from, alice.id());
    bob.message_room(json!(1)).await;
    assert_eq!(alice.next_message().await.from, bob.id());
    drop((alice, bob));
    cluster.audit().await;
}

#[tokio::test]
async fn a_script_flush_has_no_effect_on_peers() {
    let cluster = TestCluster::redis(2).await;
    let (alice, bob) = cluster.room("r").join2().await;
    let mut connection = cluster.redis.as_ref().unwrap().connect().await;
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
    alice.offer(&bob, SDP).await;
    bob.next_offer().await;
    drop((alice, bob));
    cluster.audit().await;
}

on_each_store! {
    async fn a_client_lost_in_the_middle_of_a_frame_is_detached(cluster) {
        let room = cluster.room("r");
        let alice = room.join("alice").await;
        let token = room.token(json!({"user": "half"})).await;
        let mut raw = RawSocket::open(cluster.nodes[0].address, &token, None).await;
        assert_eq!(raw.next_text().await["type"], "joined");
        alice.next_of_type("peer-joined").await;
        raw.send(&RawFrame { declared: Some(1_000), ..RawFrame::with_op(op::TEXT, b"{\"type\":") }).await;
        drop(raw);
        alice.next_of_type("peer-detached").await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "timeout");
    }
}
