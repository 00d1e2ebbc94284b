//! Redis goes away, hangs, is full or has forgotten everything: sockets stay, what can be done is done, and it heals by itself.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    fleet::Fleet,
    http::Request,
    net::{eventually, eventually_within},
    peer::TestPeer,
    process::{Process, signal},
    proxy::Arrivals,
};

use crate::node_death::{join, long};

async fn status(process: &Process, path: &str) -> u16 {
    Request::get(path).send(process.address).await.status
}

async fn until_ready(fleet: &Fleet, wanted: u16, limit: Duration) {
    for node in &fleet.nodes {
        eventually_within(limit, &format!("ready says {wanted}"), async || {
            (status(&node.process, "/health/ready").await == wanted).then_some(())
        })
        .await;
    }
}

/// How long an outage is: a minute is promised, seconds show the same.
fn outage() -> Duration {
    Duration::from_secs(if long() { 60 } else { 5 })
}

/// Alice and Bob on one node, Carol on another.
struct Trio {
    fleet: Fleet,
    alice: TestPeer,
    bob: TestPeer,
    carol: TestPeer,
}

impl Trio {
    async fn start() -> Self {
        let settings =
            [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
        let fleet = Fleet::single(2, &settings).await;
        let alice = join(&fleet, 0, "alice").await;
        let bob = join(&fleet, 0, "bob").await;
        let carol = join(&fleet, 1, "carol").await;
        alice.message(&bob, json!("before")).await;
        bob.next_message().await;
        Self { fleet, alice, bob, carol }
    }

    /// What holds in an outage that has begun; returns the id that Alice keeps for Carol.
    async fn goes_on_without(&self) -> u64 {
        let Self { fleet, alice, bob, carol } = self;
        until_ready(fleet, 503, Duration::from_secs(10)).await;
        for node in &fleet.nodes {
            assert_eq!(status(&node.process, "/health/live").await, 200);
        }
        let kept = alice.ask(json!({"type": "message", "to": carol.id(), "data": "kept"})).await;
        assert_eq!((&kept["type"], &kept["code"]), (&json!("error"), &json!("unavailable")), "{kept}");
        assert!(kept["retryMs"].is_u64(), "{kept}");
        // To others on this node nothing is held up by it.
        for n in 0..3 {
            let answer = alice.ask(json!({"type": "message", "to": bob.id(), "data": n})).await;
            assert_eq!((&answer["type"], &answer["durable"]), (&json!("ack"), &json!(false)), "{answer}");
            let heard = bob.next_of_type("message").await;
            assert_eq!(
                (&heard["data"], &heard["from"], &heard["id"]),
                (&json!(n), &json!(alice.id()), &answer["id"])
            );
            assert!(heard.get("seq").is_none(), "outside the mailbox: {heard}");
        }
        kept["id"].as_u64().unwrap()
    }

    /// Five seconds after its end all is green, what was kept arrives, nothing comes twice, and the views agree.
    async fn heals(self, kept: u64) {
        let Self { fleet, alice, bob, carol } = &self;
        until_ready(fleet, 200, Duration::from_secs(5)).await;
        let message = json!({"type": "message", "to": carol.id(), "id": kept, "data": "kept"});
        eventually_within(Duration::from_secs(5), "what was kept is taken", async || {
            alice.send(message.clone()).await;
            (alice.answer(kept).await["type"] == "ack").then_some(())
        })
        .await;
        assert_eq!(carol.next_message().await.data, Some(json!("kept")));
        for (from, to) in [(alice, bob), (bob, carol), (carol, alice)] {
            let answer = from.ask(json!({"type": "message", "to": to.id(), "data": "after"})).await;
            assert_eq!(answer, json!({"type": "ack", "id": answer["id"]}), "durable again");
            assert_eq!(to.next_message().await.data, Some(json!("after")));
        }
        for peer in [alice, bob, carol] {
            peer.ping().await;
            let rest = peer.rest().await;
            let odd: Vec<_> = rest
                .iter()
                .filter(|frame| frame["type"] == "message" || frame["type"] == "peer-left")
                .collect();
            assert!(odd.is_empty(), "heard twice, or gone: {odd:?}");
        }
        let dave = join(fleet, 1, "dave").await;
        let peers = dave.joined["peers"].as_array().unwrap();
        assert_eq!(peers.len(), 3);
        assert!(peers.iter().all(|peer| peer["detached"] == false), "{peers:?}");
        fleet.audit();
    }
}

/// Connections are refused for a while; what Redis holds is not lost.
#[tokio::test]
async fn redis_away_is_a_mode() {
    let trio = Trio::start().await;
    for node in &trio.fleet.nodes {
        node.store().arrivals(Arrivals::Refused);
        node.store().cut(|| true);
    }
    let kept = trio.goes_on_without().await;
    // The outage itself.
    tokio::time::sleep(outage()).await;
    trio.fleet.nodes.iter().for_each(|node| node.store().heal());
    trio.heals(kept).await;
}

/// It takes everything and answers nothing.
#[tokio::test]
async fn redis_that_hangs_is_the_same_mode() {
    let mut trio = Trio::start().await;
    let pid = trio.fleet.store.single().pid();
    signal(pid, "STOP");
    let kept = trio.goes_on_without().await;
    // The outage itself.
    tokio::time::sleep(outage()).await;
    signal(pid, "CONT");
    trio.heals(kept).await;
}

/// It comes back and has forgotten all: everybody is the same peer as before, and is told that something may be missing.
#[tokio::test]
async fn an_empty_redis_is_announced_and_filled_again() {
    let Trio { mut fleet, alice, bob, carol } = Trio::start().await;
    fleet.store.single().stop();
    until_ready(&fleet, 503, Duration::from_secs(10)).await;
    fleet.store.single().go_on().await;
    for peer in [&alice, &bob, &carol] {
        let resumed = peer.next_of_type("resumed").await;
        assert_eq!(
            (&resumed["peerId"], &resumed["recovered"]),
            (&json!(peer.id()), &json!(false)),
            "{resumed}"
        );
    }
    until_ready(&fleet, 200, Duration::from_secs(5)).await;
    for (from, to) in [(&alice, &bob), (&bob, &carol), (&carol, &alice)] {
        from.insist(json!({"type": "message", "to": to.id(), "data": "after"})).await;
        while to.next_message().await.data != Some(json!("after")) {}
    }
    // A handle of the new life is good, on the other node.
    let alice = alice.lose().await.resume_at(fleet.nodes[1].front.address).await;
    assert_eq!(alice.joined["peers"].as_array().unwrap().len(), 2);
    fleet.audit();
}

/// Nothing new is taken; what makes room is.
#[tokio::test]
async fn in_a_full_redis_one_can_still_leave() {
    let Trio { fleet, alice, bob, carol } = Trio::start().await;
    fleet.store.fill().await;
    let refused = eventually("it is full", async || {
        let answer = alice.ask(json!({"type": "message", "to": carol.id(), "data": "too much"})).await;
        (answer["type"] == "error").then_some(answer)
    })
    .await;
    assert_eq!(refused["code"], "unavailable", "{refused}");
    let gone = bob.id().to_owned();
    bob.leave().await;
    for peer in [&alice, &carol] {
        let left = peer.next_of_type("peer-left").await;
        assert_eq!((&left["peerId"], &left["reason"]), (&json!(gone), &json!("left")));
    }
    let lost = carol.lose().await;
    assert_eq!(alice.next_of_type("peer-detached").await["peerId"], *lost.peer_id);
    fleet.store.unfill().await;
    let carol = eventually("a resume is taken again", async || {
        let link = lost.try_at(fleet.nodes[0].front.address).await.ok()?;
        let first: Value = link.next().await;
        (first["type"] == "resumed").then_some((link, first))
    })
    .await;
    assert_eq!(carol.1["recovered"], true, "{}", carol.1);
    let id = refused["id"].as_u64().unwrap();
    eventually("what was refused is taken", async || {
        alice.send(json!({"type": "message", "to": lost.peer_id, "id": id, "data": "fits"})).await;
        (alice.answer(id).await["type"] == "ack").then_some(())
    })
    .await;
    assert_eq!(carol.0.next_message().await.data, Some(json!("fits")));
    fleet.audit();
}

/// Two ids are refused, for two targets. The first is taken again; the second is not, so nothing later may be, or it would look like
/// a copy when it comes.
#[tokio::test]
async fn a_refused_id_is_overtaken_by_none_that_comes_after_it() {
    let mut trio = Trio::start().await;
    let dave = join(&trio.fleet, 1, "dave").await;
    let pid = trio.fleet.store.single().pid();
    let Trio { fleet, alice, carol, .. } = &trio;
    let message = |id: u64, to: &TestPeer| json!({"type": "message", "to": to.id(), "id": id, "data": id});
    let first = alice.next_id();
    let (second, third) = (first + 1, first + 2);
    signal(pid, "STOP");
    for (id, to) in [(first, carol), (second, &dave)] {
        alice.send(message(id, to)).await;
        assert_eq!(alice.answer(id).await["code"], "unavailable");
    }
    signal(pid, "CONT");
    until_ready(fleet, 200, Duration::from_secs(5)).await;
    eventually("the first is taken", async || {
        alice.send(message(first, carol)).await;
        (alice.answer(first).await["type"] == "ack").then_some(())
    })
    .await;
    alice.send(message(third, carol)).await;
    assert_eq!(alice.answer(third).await["code"], "unavailable", "the second has not come again");
    alice.send(message(second, &dave)).await;
    alice.answer(second).await;
    assert_eq!(dave.next_message().await.data, Some(json!(second)));
    alice.send(message(third, carol)).await;
    assert_eq!(alice.answer(third).await, json!({"type": "ack", "id": third}));
    for id in [first, third] {
        assert_eq!(carol.next_message().await.data, Some(json!(id)));
    }
}
