//! A node that stops sends its clients away one by one, each with a goodbye; a rolling restart loses nothing.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use signalbox_tests::{
    checker::check,
    fleet::Fleet,
    history::{Event, Run},
    peer::TestPeer,
    swarm::Swarm,
};

use crate::node_death::{join, long, plan};

const CLIENTS: usize = 100;
const SPREAD: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(4);

/// Most moments that lie within a tenth of a second.
fn crowd(moments: &[Duration]) -> usize {
    let mut sorted = moments.to_vec();
    sorted.sort_unstable();
    let within = |from: &Duration| {
        sorted.iter().filter(|at| (*from..*from + Duration::from_millis(100)).contains(at)).count()
    };
    sorted.iter().map(within).max().unwrap_or(0)
}

/// In any tenth of a second at most twice as many leave as an even spread has; the last is gone before the deadline; everybody is
/// told when to come back and closed with 4000.
#[tokio::test]
async fn clients_leave_evenly_and_with_a_goodbye() {
    let settings = [("TIMING__DRAIN_SPREAD", "2s"), ("TIMING__DRAIN", "4s"), ("LIMITS__ROOM_PEERS", "110")];
    let fleet = Fleet::single(2, &settings).await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(join(&fleet, 0, &format!("u{n}")).await);
    }
    let start = Instant::now();
    fleet.nodes[0].process.terminate();
    let farewell = async |client: &TestPeer| {
        let goaway = client.next_of_type("goaway").await;
        let closed = client.closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (4000, "going_away"));
        (Duration::from_millis(goaway["reconnectIn"].as_u64().unwrap()), start.elapsed())
    };
    let (told, gone): (Vec<_>, Vec<_>) = join_all(clients.iter().map(farewell)).await.into_iter().unzip();
    let status = fleet.nodes[0].process.wait(DRAIN).await;
    assert!(
        status.success() && start.elapsed() < DRAIN + Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    let even = CLIENTS as f64 * 0.1 / SPREAD.as_secs_f64();
    // When this process hears of it says something only where nothing else keeps it from hearing.
    let judged = if long() { 2 } else { 1 };
    for (what, moments) in [("told", &told), ("gone", &gone)].into_iter().take(judged) {
        let most = crowd(moments);
        assert!(most as f64 <= 2.0 * even, "{what}: {most} in 100 ms, {even} would be even: {moments:?}");
    }
    let last = gone.iter().max().unwrap();
    assert!(*last < DRAIN, "the last left after {last:?}");
    assert!(told.iter().all(|wait| *wait <= SPREAD), "{told:?}");
    // Who was told to go is closed after its moment, not before it.
    let early =
        told.iter().zip(&gone).filter(|(told, gone)| **gone + Duration::from_millis(50) < **told).count();
    assert_eq!(early, 0, "{told:?}\n{gone:?}");
}

/// Who is sent away comes back elsewhere as the same peer, while the node is still draining.
#[tokio::test]
async fn who_is_sent_away_resumes_elsewhere() {
    let settings =
        [("TIMING__DRAIN_SPREAD", "500ms"), ("TIMING__DRAIN", "2s"), ("TIMING__RESUME_WINDOW", "10s")];
    let fleet = Fleet::single(2, &settings).await;
    let bob = join(&fleet, 1, "bob").await;
    let alice = join(&fleet, 0, "alice").await;
    fleet.nodes[0].process.terminate();
    alice.next_of_type("goaway").await;
    bob.message(&alice, json!("on the way")).await;
    alice.closed().await;
    let alice = alice.lose().await.resume_at(fleet.nodes[1].front.address).await;
    assert_eq!(alice.joined["recovered"], true);
    bob.message(&alice, json!("there")).await;
    let mut heard = vec![alice.next_message().await.data.unwrap()];
    if heard[0] == "on the way" {
        heard.push(alice.next_message().await.data.unwrap());
    }
    assert_eq!(heard.last(), Some(&json!("there")));
    assert!(fleet.nodes[0].process.wait(Duration::from_secs(3)).await.success());
    let rest = bob.rest().await;
    assert!(!rest.iter().any(|frame| frame["type"] == "peer-left"), "{rest:?}");
}

/// Every node in turn is stopped and started again while everybody talks.
#[tokio::test]
async fn a_rolling_restart_under_load_loses_nothing() {
    let settings = [
        ("TIMING__RESUME_WINDOW", "10s"),
        ("TIMING__LEASE", "1s"),
        ("TIMING__PING", "2s"),
        ("TIMING__DRAIN_SPREAD", "1s"),
        ("TIMING__DRAIN", "2500ms"),
    ];
    let mut fleet = Fleet::single(3, &settings).await;
    let swarm = Swarm::start(&plan(&fleet, 60));
    swarm.all_live(Duration::from_secs(20)).await;
    for node in 0..3 {
        fleet.drain(node, Duration::from_secs(4)).await;
        // Load between two of them.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let moved = swarm.events(|_, event| matches!(event, Event::Resumed { .. }));
    let histories = swarm.finish(Duration::from_secs(15)).await;
    let window = Duration::from_secs(10);
    check(&Run { histories, window, lossless: true, ..Run::default() }).assert_clean();
    assert!(moved >= 60, "only {moved} had to move");
    fleet.audit();
}
