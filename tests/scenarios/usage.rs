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

/// How long peers were connected, as their clients see it: at least and at most so long. The bounds
/// hold however slowly the machine runs.
#[derive(Debug, Clone, Copy, Default)]
struct ConnectedTime {
    least: Duration,
    most: Duration,
}

impl std::ops::AddAssign for ConnectedTime {
    fn add_assign(&mut self, other: Self) {
        self.least += other.least;
        self.most += other.most;
    }
}

/// The connected time of one connection, while it lasts.
struct ConnectionClock {
    requested_at: Instant,
    served_at: Instant,
}

impl ConnectionClock {
    /// `requested_at` is before the request that connects or admits the peer.
    async fn start(peer: &TestConnection, requested_at: Instant) -> Self {
        // The node counts when it answers the requests of the peer.
        peer.ping().await;
        Self { requested_at, served_at: Instant::now() }
    }

    /// The connection began to end at `ended_after` at the earliest, and has ended now.
    fn stop(&self, ended_after: Instant) -> ConnectedTime {
        ConnectedTime { least: ended_after - self.served_at, most: self.requested_at.elapsed() }
    }

    async fn leave(self, peer: &TestConnection) -> ConnectedTime {
        let leaves_at = Instant::now();
        assert_eq!(peer.request(json!({"type": "leave"})).await["type"], "ack");
        peer.wait_closed().await;
        self.stop(leaves_at)
    }
}

/// Waits until the usage of a room has so many joins and the least time. The report rounds each row
/// to a thousandth of a minute, so a row is wrong by at most half of that.
async fn assert_usage(cluster: &TestCluster, room: &str, joins: u64, time: ConnectedTime) {
    let written_by = Instant::now() + WRITE_LIMIT;
    let description = format!("the usage of {room} is read");
    let (joined, connected, rounding) = eventually_within(2 * WRITE_LIMIT, &description, async || {
        let rows = fetch_usage(cluster, &format!("?room={room}")).await["days"].as_array().unwrap().clone();
        let sum = |name: &str| rows.iter().map(|row| row[name].as_f64().unwrap()).sum::<f64>();
        // Half of 60 ms, and one more because a node counts whole milliseconds.
        let rounding = Duration::from_millis(31) * rows.len() as u32;
        let (joined, connected) = (sum("joins") as u64, Duration::from_secs_f64(sum("peerMinutes") * 60.0));
        let is_complete = joined >= joins && connected + rounding >= time.least;
        (is_complete || Instant::now() >= written_by).then_some((joined, connected, rounding))
    })
    .await;
    assert_eq!(joined, joins, "joins; {connected:?} of {time:?}");
    assert!(connected + rounding >= time.least, "{connected:?} is not within {time:?}");
    assert!(connected <= time.most + rounding, "{connected:?} is not within {time:?}");
}

#[tokio::test]
async fn peer_minutes_are_counted_once_across_resumes_and_takeovers() {
    for store in [StoreKind::Memory, StoreKind::Redis(2)] {
        // The window must be longer than the time without a connection.
        let cluster = TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
        let room = cluster.room("r");
        let mut total = ConnectedTime::default();
        let requested_at = Instant::now();
        let alice = room.join("alice").await;
        let alice_clock = ConnectionClock::start(&alice, requested_at).await;
        let requested_at = Instant::now();
        let bob = room.join("bob").await;
        let bob_clock = ConnectionClock::start(&bob, requested_at).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Bob loses his socket, resumes on the other node, and then takes over his own peer.
        let lost_after = Instant::now();
        let resume_state = bob.disconnect().await;
        alice.next_of_type("peer-detached").await;
        total += bob_clock.stop(lost_after);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let requested_at = Instant::now();
        let replaced = resume_state.resume_on(cluster.nodes.last().unwrap()).await;
        let replaced_clock = ConnectionClock::start(&replaced, requested_at).await;
        let takeover_state = replaced.resume_state().await;
        let requested_at = Instant::now();
        let bob = takeover_state.take_over(cluster.nodes[0].address).await.unwrap().into_peer().await;
        let bob_clock = ConnectionClock::start(&bob, requested_at).await;
        assert_eq!(replaced.wait_closed().await.code, 4512);
        total += replaced_clock.stop(requested_at);
        tokio::time::sleep(Duration::from_secs(1)).await;
        total += bob_clock.leave(&bob).await;
        total += alice_clock.leave(&alice).await;
        // Neither a resume nor a takeover is a join.
        assert_usage(&cluster, "r", 2, total).await;
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
        let requested_at = Instant::now();
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let host_clock = ConnectionClock::start(&host, requested_at).await;
        let [alice, bob, carol] =
            [room.connect("alice").await, room.connect("bob").await, room.connect("carol").await];
        let (alice_id, bob_id) = (alice.expect_waiting().await, bob.expect_waiting().await);
        carol.expect_waiting().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Carol leaves the lobby. Alice is admitted, and Bob is admitted while detached.
        assert_eq!(carol.request(json!({"type": "leave"})).await["type"], "ack");
        let admitted_at = Instant::now();
        host.send_acked(json!({"type": "admit", "peer": alice_id})).await;
        let alice = alice.into_peer().await;
        let alice_clock = ConnectionClock::start(&alice, admitted_at).await;
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
        let requested_at = Instant::now();
        let bob = TestConnection::open_with(cluster.nodes[0].address, &query).await.unwrap();
        assert_eq!(bob.next().await["type"], "resumed");
        let bob_clock = ConnectionClock::start(&bob, requested_at).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut total = bob_clock.leave(&bob).await;
        total += alice_clock.leave(&alice).await;
        total += host_clock.leave(&host).await;
        // A peer that left the lobby has not joined.
        assert_usage(&cluster, "r", 3, total).await;
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
