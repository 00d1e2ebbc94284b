//! The usage report: joins and peer-minutes for each API key and room.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::Request,
    net::{eventually, eventually_within},
    peer::TestConnection,
};
use tokio::time::Instant;

/// Longer than the ten seconds after which a node writes its counters.
const WRITE_LIMIT: Duration = Duration::from_secs(15);

async fn fetch_usage(cluster: &TestCluster, query: &str) -> Value {
    let request = Request::get(format!("/api/usage{query}")).header("Authorization", cluster.basic_auth());
    let answer = request.send(cluster.auth_address()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Waits until the usage of a room has so many joins and seconds; returns both numbers.
async fn wait_for_usage(cluster: &TestCluster, room: &str, joins: u64, seconds: f64) -> (u64, f64) {
    eventually_within(WRITE_LIMIT, &format!("the usage of {room} is written"), async || {
        let rows = fetch_usage(cluster, &format!("?room={room}")).await["days"].as_array().unwrap().clone();
        let sum = |name: &str| rows.iter().map(|row| row[name].as_f64().unwrap()).sum::<f64>();
        let found = (sum("joins") as u64, sum("peerMinutes") * 60.0);
        (found.0 >= joins && found.1 >= seconds - 0.5).then_some(found)
    })
    .await
}

#[tokio::test]
async fn peer_minutes_are_counted_once_across_resumes_and_takeovers() {
    for store in [StoreKind::Memory, StoreKind::Redis(2)] {
        // The window must be longer than the time without a connection.
        let cluster = TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
        let room = cluster.room("r");
        let started = Instant::now();
        let alice = room.join("alice").await;
        let bob = room.join("bob").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Bob loses his socket, resumes on the other node, and then takes over his own peer.
        let resume_state = bob.disconnect().await;
        let first_part = started.elapsed();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let resumed_at = Instant::now();
        let bob = resume_state.resume_on(cluster.nodes.last().unwrap()).await;
        let takeover_state = bob.resume_state().await;
        let bob = takeover_state.take_over(cluster.nodes[0].address).await.unwrap().into_peer().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        bob.leave().await;
        alice.leave().await;
        let (alice, bob) = (started.elapsed(), first_part + resumed_at.elapsed());
        let expected = (alice + bob).as_secs_f64();
        let (joins, seconds) = wait_for_usage(&cluster, "r", 2, expected).await;
        assert_eq!(joins, 2, "neither a resume nor a takeover is a join");
        assert!((seconds - expected).abs() < 1.0, "{seconds} s of {expected} s");
        let rows = fetch_usage(&cluster, "?room=r").await;
        assert!(rows["days"].as_array().unwrap().iter().all(|row| row["key"] == "backend"), "{rows}");
        cluster.audit().await;
    }
}

/// A peer in the lobby has not joined the room yet.
#[tokio::test]
async fn a_peer_in_the_lobby_is_counted_from_its_admission() {
    for store in [StoreKind::Memory, StoreKind::Redis(2)] {
        let cluster = TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
        cluster.api("POST", "/api/rooms", &json!({"id": "r", "lobby": true})).await.assert_status(201);
        let room = cluster.room("r");
        let started = Instant::now();
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let [alice, bob, carol] =
            [room.connect("alice").await, room.connect("bob").await, room.connect("carol").await];
        let (alice_id, bob_id) = (alice.expect_waiting().await, bob.expect_waiting().await);
        carol.expect_waiting().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Carol leaves the lobby. Alice is admitted, and Bob is admitted while detached.
        assert_eq!(carol.request(json!({"type": "leave"})).await["type"], "ack");
        host.send_acked(json!({"type": "admit", "peer": alice_id})).await;
        let admitted_at = Instant::now();
        let alice = alice.into_peer().await;
        let handle = bob.handle().await;
        drop(bob);
        eventually("the list shows Bob as detached", async || {
            let listed = cluster.api("GET", "/api/rooms/r/participants", &Value::Null).await.json();
            let is_bob_detached =
                |peer: &Value| peer["peerId"] == bob_id.as_str() && peer["detached"] == true;
            listed["participants"].as_array().unwrap().iter().any(is_bob_detached).then_some(())
        })
        .await;
        host.send_acked(json!({"type": "admit", "peer": bob_id})).await;
        let query = format!("resume={}&since={}", handle.0, handle.1);
        let bob = TestConnection::open_with(cluster.nodes[0].address, &query).await.unwrap();
        assert_eq!(bob.next().await["type"], "resumed");
        let resumed_at = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (host_s, alice_s, bob_s) = (started.elapsed(), admitted_at.elapsed(), resumed_at.elapsed());
        assert_eq!(bob.request(json!({"type": "leave"})).await["type"], "ack");
        alice.leave().await;
        host.leave().await;
        let expected = (host_s + alice_s + bob_s).as_secs_f64();
        let (joins, seconds) = wait_for_usage(&cluster, "r", 3, expected).await;
        assert_eq!(joins, 3, "a peer that left the lobby has not joined");
        assert!((seconds - expected).abs() < 1.0, "{seconds} s of {expected} s");
        cluster.api("DELETE", "/api/rooms/r", &json!(null)).await.assert_status(204);
        cluster.audit().await;
    }
}

#[tokio::test]
async fn a_draining_node_writes_its_usage() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &[]).await;
    let peer = cluster.room("r").join("alice").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait_exit(Duration::from_secs(10)).await;
    drop(peer);
    let row = fetch_usage(&cluster, "").await["days"][0].clone();
    assert_eq!((&row["joins"], &row["room"]), (&json!(1), &json!("r")));
    assert!(row["peerMinutes"].as_f64().unwrap() * 60.0 >= 1.0, "{row}");
}

#[tokio::test]
async fn rooms_beyond_the_limit_are_counted_together_and_answers_are_paged() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &[("USAGE__PAIRS", "3")]).await;
    for room in ["a", "b", "c", "d", "e"] {
        cluster.room(room).join("alice").await.leave().await;
    }
    // The application signed this token itself.
    TestConnection::open(cluster.nodes[0].address, &cluster.sign_token("a", "bob"))
        .await
        .into_peer()
        .await
        .leave()
        .await;
    let joins = |answer: &Value| -> Vec<(String, u64)> {
        let rows = answer["days"].as_array().unwrap().iter();
        rows.map(|row| (row["room"].as_str().unwrap().to_owned(), row["joins"].as_u64().unwrap())).collect()
    };
    let all_rows = eventually_within(WRITE_LIMIT, "all joins are written", async || {
        let found = joins(&fetch_usage(&cluster, "").await);
        (found.iter().map(|(_, joins)| joins).sum::<u64>() == 6).then_some(found)
    })
    .await;
    assert!(all_rows.iter().any(|(room, _)| room == "~other"), "{all_rows:?}");
    let (mut paged_rows, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = fetch_usage(&cluster, &query).await;
        assert_eq!(page["days"].as_array().unwrap().len(), 1);
        paged_rows.extend(joins(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=1&cursor={next}");
    }
    assert_eq!(paged_rows, all_rows);
    assert_eq!(fetch_usage(&cluster, "?key=unknown").await["days"], json!([]));
    assert_eq!(fetch_usage(&cluster, "?from=2020-01-01&to=2020-01-31").await, json!({"days": []}));
    for (query, field) in [
        ("?from=yesterday", "from"),
        ("?from=2026-02-30", "from"),
        ("?from=2026-02-02&to=2026-02-01", "from"),
        ("?from=2020-01-01&to=2026-01-01", "from"),
        ("?limit=0", "limit"),
        ("?cursor=x", "cursor"),
        ("?to=2026-01-01&to=2026-01-02", "to"),
    ] {
        let request =
            Request::get(format!("/api/usage{query}")).header("Authorization", cluster.basic_auth());
        let answer = request.send(cluster.auth_address()).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{query}");
    }
    cluster.audit().await;
}
