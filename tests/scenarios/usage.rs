//! Joins and peer-minutes by API key and room.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::Request,
    net::{eventually, eventually_within},
    peer::Link,
};
use tokio::time::Instant;

/// Nodes write every ten seconds.
const WRITTEN: Duration = Duration::from_secs(15);

async fn usage(cluster: &TestCluster, query: &str) -> Value {
    let request = Request::get(format!("/api/usage{query}")).header("Authorization", cluster.basic());
    let answer = request.send(cluster.auth_address()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Joins and seconds of a room, when that many joins have been written and their time.
async fn counted(cluster: &TestCluster, room: &str, joins: u64, seconds: f64) -> (u64, f64) {
    eventually_within(WRITTEN, &format!("the usage of {room} is written"), async || {
        let rows = usage(cluster, &format!("?room={room}")).await["days"].as_array().unwrap().clone();
        let sum = |name: &str| rows.iter().map(|row| row[name].as_f64().unwrap()).sum::<f64>();
        let found = (sum("joins") as u64, sum("peerMinutes") * 60.0);
        (found.0 >= joins && found.1 >= seconds - 0.5).then_some(found)
    })
    .await
}

#[tokio::test]
async fn lifetimes_are_counted_once_whatever_becomes_of_the_sockets() {
    for store in [Store::Memory, Store::Redis(2)] {
        // A loss must not end the peer while it is away.
        let cluster = TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
        let room = cluster.room("r");
        let begun = Instant::now();
        let alice = room.join("alice").await;
        let bob = room.join("bob").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Bob loses the socket, is away for a while, and comes back on the other node; then his page is reloaded.
        let ticket = bob.lose().await;
        let with_bob = begun.elapsed();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let back = Instant::now();
        let bob = ticket.resume_on(cluster.nodes.last().unwrap()).await;
        let takeover = bob.ticket().await;
        let bob = takeover.take_over(cluster.nodes[0].address).await.unwrap().into_peer().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        bob.leave().await;
        alice.leave().await;
        let (alice, bob) = (begun.elapsed(), with_bob + back.elapsed());
        let expected = (alice + bob).as_secs_f64();
        let (joins, seconds) = counted(&cluster, "r", 2, expected).await;
        assert_eq!(joins, 2, "neither a resume nor a takeover is a join");
        assert!((seconds - expected).abs() < 1.0, "{seconds} s of {expected} s");
        let rows = usage(&cluster, "?room=r").await;
        assert!(rows["days"].as_array().unwrap().iter().all(|row| row["key"] == "backend"), "{rows}");
        cluster.audit().await;
    }
}

/// Whoever waits is not in the room: not before it is let in, and never if it is not.
#[tokio::test]
async fn one_who_waits_is_counted_from_its_admission_on() {
    for store in [Store::Memory, Store::Redis(2)] {
        let cluster = TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
        cluster.api("POST", "/api/rooms", &json!({"id": "r", "lobby": true})).await.assert_status(201);
        let room = cluster.room("r");
        let begun = Instant::now();
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let [alice, bob, carol] =
            [room.knock("alice").await, room.knock("bob").await, room.knock("carol").await];
        let (alice_id, bob_id) = (alice.in_lobby().await, bob.in_lobby().await);
        carol.in_lobby().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Carol gives up; Alice is let in, and Bob while it is away.
        assert_eq!(carol.ask(json!({"type": "leave"})).await["type"], "ack");
        host.must(json!({"type": "admit", "peer": alice_id})).await;
        let let_in = Instant::now();
        let alice = alice.into_peer().await;
        let handle = bob.handle().await;
        drop(bob);
        eventually("Bob is seen to be away", async || {
            let listed = cluster.api("GET", "/api/rooms/r/participants", &Value::Null).await.json();
            let away = |peer: &Value| peer["peerId"] == bob_id.as_str() && peer["detached"] == true;
            listed["participants"].as_array().unwrap().iter().any(away).then_some(())
        })
        .await;
        host.must(json!({"type": "admit", "peer": bob_id})).await;
        let query = format!("resume={}&since={}", handle.0, handle.1);
        let bob = Link::ask_in(cluster.nodes[0].address, &query).await.unwrap();
        assert_eq!(bob.next().await["type"], "resumed");
        let back = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (host_s, alice_s, bob_s) = (begun.elapsed(), let_in.elapsed(), back.elapsed());
        assert_eq!(bob.ask(json!({"type": "leave"})).await["type"], "ack");
        alice.leave().await;
        host.leave().await;
        let expected = (host_s + alice_s + bob_s).as_secs_f64();
        let (joins, seconds) = counted(&cluster, "r", 3, expected).await;
        assert_eq!(joins, 3, "who gave up has not joined");
        assert!((seconds - expected).abs() < 1.0, "{seconds} s of {expected} s");
        cluster.api("DELETE", "/api/rooms/r", &json!(null)).await.assert_status(204);
        cluster.audit().await;
    }
}

#[tokio::test]
async fn a_node_that_drains_writes_what_it_has_counted() {
    let cluster = TestCluster::start(Store::Redis(1), &[]).await;
    let peer = cluster.room("r").join("alice").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait(Duration::from_secs(10)).await;
    drop(peer);
    let row = usage(&cluster, "").await["days"][0].clone();
    assert_eq!((&row["joins"], &row["room"]), (&json!(1), &json!("r")));
    assert!(row["peerMinutes"].as_f64().unwrap() * 60.0 >= 1.0, "{row}");
}

#[tokio::test]
async fn rooms_beyond_the_bound_are_counted_together_and_answers_come_in_pages() {
    let cluster = TestCluster::start(Store::Redis(1), &[("USAGE__PAIRS", "3")]).await;
    for room in ["a", "b", "c", "d", "e"] {
        cluster.room(room).join("alice").await.leave().await;
    }
    // Another backend's word, made by itself.
    Link::open(cluster.nodes[0].address, &cluster.forge("a", "bob")).await.into_peer().await.leave().await;
    let joins = |answer: &Value| -> Vec<(String, u64)> {
        let rows = answer["days"].as_array().unwrap().iter();
        rows.map(|row| (row["room"].as_str().unwrap().to_owned(), row["joins"].as_u64().unwrap())).collect()
    };
    let all = eventually_within(WRITTEN, "all joins are written", async || {
        let found = joins(&usage(&cluster, "").await);
        (found.iter().map(|(_, joins)| joins).sum::<u64>() == 6).then_some(found)
    })
    .await;
    assert!(all.iter().any(|(room, _)| room == "~other"), "{all:?}");
    let (mut paged, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = usage(&cluster, &query).await;
        assert_eq!(page["days"].as_array().unwrap().len(), 1);
        paged.extend(joins(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=1&cursor={next}");
    }
    assert_eq!(paged, all);
    assert_eq!(usage(&cluster, "?key=nobody").await["days"], json!([]));
    assert_eq!(usage(&cluster, "?from=2020-01-01&to=2020-01-31").await, json!({"days": []}));
    for (query, field) in [
        ("?from=yesterday", "from"),
        ("?from=2026-02-30", "from"),
        ("?from=2026-02-02&to=2026-02-01", "from"),
        ("?from=2020-01-01&to=2026-01-01", "from"),
        ("?limit=0", "limit"),
        ("?cursor=x", "cursor"),
        ("?to=2026-01-01&to=2026-01-02", "to"),
    ] {
        let request = Request::get(format!("/api/usage{query}")).header("Authorization", cluster.basic());
        let answer = request.send(cluster.auth_address()).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{query}");
    }
    cluster.audit().await;
}
