//! A draining node closes its clients evenly, each after a `goaway`; a rolling restart loses no
//! message.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use signalbox_tests::{
    checker::check,
    fleet::Fleet,
    history::{ClientEvent, RunRecord},
    peer::TestPeer,
    swarm::Swarm,
};

use crate::node_death::{join, long, plan};

const CLIENTS: usize = 100;
const SPREAD: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(4);

/// The largest number of moments within a tenth of a second.
fn max_in_100_ms(moments: &[Duration]) -> usize {
    let mut sorted = moments.to_vec();
    sorted.sort_unstable();
    let within = |from: &Duration| {
        sorted.iter().filter(|at| (*from..*from + Duration::from_millis(100)).contains(at)).count()
    };
    sorted.iter().map(within).max().unwrap_or(0)
}

/// Any tenth of a second has at most twice the clients of an even drain. The last client is closed
/// before the deadline.
#[tokio::test]
async fn a_drain_closes_clients_evenly_and_with_a_goaway() {
    let settings = [("TIMING__DRAIN_SPREAD", "2s"), ("TIMING__DRAIN", "4s"), ("LIMITS__ROOM_PEERS", "110")];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(join(&fleet, 0, &format!("u{n}")).await);
    }
    let start = Instant::now();
    fleet.nodes[0].process.terminate();
    let await_close = async |client: &TestPeer| {
        let goaway = client.next_of_type("goaway").await;
        let closed = client.wait_closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (4000, "going_away"));
        (Duration::from_millis(goaway["reconnectIn"].as_u64().unwrap()), start.elapsed())
    };
    let (announced, closed): (Vec<_>, Vec<_>) =
        join_all(clients.iter().map(await_close)).await.into_iter().unzip();
    let status = fleet.nodes[0].process.wait_exit(DRAIN).await;
    assert!(
        status.success() && start.elapsed() < DRAIN + Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    let even = CLIENTS as f64 * 0.1 / SPREAD.as_secs_f64();
    // Only a long run checks the times of the closes: other tests delay this process otherwise.
    let checked = if long() { 2 } else { 1 };
    for (name, moments) in [("announced", &announced), ("closed", &closed)].into_iter().take(checked) {
        let max = max_in_100_ms(moments);
        assert!(max as f64 <= 2.0 * even, "{name}: {max} in 100 ms, an even drain has {even}: {moments:?}");
    }
    let last = closed.iter().max().unwrap();
    assert!(*last < DRAIN, "the last client was closed after {last:?}");
    assert!(announced.iter().all(|wait| *wait <= SPREAD), "{announced:?}");
    // No client is closed before the announced time.
    let early = announced
        .iter()
        .zip(&closed)
        .filter(|(announced, closed)| **closed + Duration::from_millis(50) < **announced)
        .count();
    assert_eq!(early, 0, "{announced:?}\n{closed:?}");
}

/// The client resumes as the same peer while its old node is still draining.
#[tokio::test]
async fn a_client_of_a_draining_node_resumes_on_another_node() {
    let settings =
        [("TIMING__DRAIN_SPREAD", "500ms"), ("TIMING__DRAIN", "2s"), ("TIMING__RESUME_WINDOW", "10s")];
    let fleet = Fleet::over_single_redis(2, &settings).await;
    let bob = join(&fleet, 1, "bob").await;
    let alice = join(&fleet, 0, "alice").await;
    fleet.nodes[0].process.terminate();
    alice.next_of_type("goaway").await;
    bob.message(&alice, json!("on the way")).await;
    alice.wait_closed().await;
    let alice = alice.disconnect().await.resume_at(fleet.nodes[1].client_proxy.address).await;
    assert_eq!(alice.joined["recovered"], true);
    bob.message(&alice, json!("there")).await;
    let mut received = vec![alice.next_message().await.data.unwrap()];
    if received[0] == "on the way" {
        received.push(alice.next_message().await.data.unwrap());
    }
    assert_eq!(received.last(), Some(&json!("there")));
    assert!(fleet.nodes[0].process.wait_exit(Duration::from_secs(3)).await.success());
    let rest = bob.take_unread().await;
    assert!(!rest.iter().any(|frame| frame["type"] == "peer-left"), "{rest:?}");
}

/// Each node in turn is drained and started again while all clients send.
#[tokio::test]
async fn a_rolling_restart_under_load_loses_no_message() {
    let settings = [
        ("TIMING__RESUME_WINDOW", "10s"),
        ("TIMING__LEASE", "1s"),
        ("TIMING__PING", "2s"),
        ("TIMING__DRAIN_SPREAD", "1s"),
        ("TIMING__DRAIN", "2500ms"),
    ];
    let mut fleet = Fleet::over_single_redis(3, &settings).await;
    let swarm = Swarm::start(&plan(&fleet, 60));
    swarm.wait_connected(Duration::from_secs(20)).await;
    for node in 0..3 {
        fleet.drain(node, Duration::from_secs(4)).await;
        // Load between two drains.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let moved = swarm.count_events(|_, event| matches!(event, ClientEvent::Resumed { .. }));
    let histories = swarm.finish(Duration::from_secs(15)).await;
    let window = Duration::from_secs(10);
    check(&RunRecord { histories, window, lossless: true, ..RunRecord::default() }).assert_clean();
    assert!(moved >= 60, "only {moved} clients resumed on another node");
    fleet.audit();
}
