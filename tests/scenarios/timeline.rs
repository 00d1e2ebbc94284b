//! Why did a call not connect: the outcomes that clients report, as metrics and as the timeline of a
//! room.

use serde_json::{Value, json};
use signalbox_protocol::{FailureCode, PairResult, PathProtocol};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    net::eventually,
    peer::TestPeer,
};

fn outcome(peer: &str, result: PairResult) -> Value {
    json!({"type": "outcome", "peer": peer, "result": result.as_str()})
}

/// An outcome with these members too.
fn outcome_with(peer: &str, result: PairResult, members: Value) -> Value {
    let mut outcome = outcome(peer, result);
    outcome.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    outcome
}

/// Waits until all nodes together have this value of a metric.
async fn wait_for_metric(cluster: &TestCluster, name: &str, expected: f64) {
    eventually(&format!("{name} is {expected}"), async || {
        let mut sum = 0.0;
        for node in &cluster.nodes {
            sum += node.metric(name).await;
        }
        (sum == expected).then_some(())
    })
    .await;
}

async fn assert_refused(peer: &TestPeer, frame: Value, code: &str, field: &str) {
    peer.send(frame.clone()).await;
    let answer = peer.next_of_type("error").await;
    assert_eq!((&answer["code"], &answer["field"]), (&code.into(), &field.into()), "{frame}: {answer}");
}

on_each_store! {
    async fn every_reported_outcome_is_counted_by_result_and_code(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        for code in FailureCode::ALL {
            alice.send(outcome_with(bob.id(), PairResult::Failed, json!({"code": code.as_str(), "ms": 5_000}))).await;
        }
        alice.send(outcome(bob.id(), PairResult::Failed)).await;
        alice.send(outcome(bob.id(), PairResult::Closed)).await;
        for protocol in PathProtocol::ALL {
            let members = json!({"ms": 400, "relayed": true, "protocol": protocol.as_str()});
            bob.send(outcome_with(alice.id(), PairResult::Connected, members)).await;
        }
        bob.send(outcome_with(alice.id(), PairResult::Connected, json!({"ms": 3_000, "relayed": false}))).await;
        let counter = |result: &str, code: &str| format!("signalbox_pair_outcomes_total{{code=\"{code}\",result=\"{result}\"}}");
        for code in FailureCode::ALL {
            wait_for_metric(cluster, &counter("failed", code.as_str()), 1.0).await;
        }
        wait_for_metric(cluster, &counter("failed", "none"), 1.0).await;
        wait_for_metric(cluster, &counter("closed", "none"), 1.0).await;
        wait_for_metric(cluster, &counter("connected", "none"), 4.0).await;
        wait_for_metric(cluster, "signalbox_pairs_relayed_total", 3.0).await;
        wait_for_metric(cluster, "signalbox_pair_connect_seconds_count", 4.0).await;
        wait_for_metric(cluster, "signalbox_pair_connect_seconds_bucket{le=\"0.5\"}", 3.0).await;
        wait_for_metric(cluster, "signalbox_pair_connect_seconds_sum", 4.2).await;
        // No other peer learns an outcome, and no outcome is acknowledged.
        for peer in [&alice, &bob] {
            peer.ping().await;
            let frames = peer.take_unread().await;
            assert!(frames.iter().all(|frame| frame["type"] != "ack" && frame["type"] != "error"), "{frames:?}");
            assert!(!format!("{frames:?}").contains("outcome"), "{frames:?}");
        }
    }

    async fn an_outcome_about_a_stranger_is_refused(cluster) {
        let (alice, _bob) = cluster.room("r").join2().await;
        let stranger = cluster.room("elsewhere").join("mallory").await;
        let failed = |peer: &str| outcome(peer, PairResult::Failed);
        assert_refused(&alice, failed(stranger.id()), "no_such_peer", "peer").await;
        assert_refused(&alice, failed(&"0".repeat(32)), "no_such_peer", "peer").await;
        assert_refused(&alice, failed(alice.id()), "bad_message", "peer").await;
        assert_refused(&alice, failed("bob"), "bad_message", "peer").await;
        let unknown = outcome_with(stranger.id(), PairResult::Failed, json!({"code": "my_router"}));
        assert_refused(&alice, unknown, "bad_message", "code").await;
        wait_for_metric(cluster, "signalbox_pair_outcomes_total{code=\"none\",result=\"failed\"}", 0.0).await;
    }

    async fn a_peer_in_the_lobby_is_no_peer_of_a_pair(cluster) {
        cluster.api("POST", "/api/rooms", &json!({"id": "r", "lobby": true})).await.assert_status(201);
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let waiting = room.connect("alice").await;
        let waiting_id = waiting.expect_waiting().await;
        assert_refused(&host, outcome(&waiting_id, PairResult::Failed), "no_such_peer", "peer").await;
        waiting.send(outcome(host.id(), PairResult::Failed)).await;
        assert_eq!(waiting.next_of_type("error").await["code"], "not_permitted");
        cluster.api("DELETE", "/api/rooms/r", &Value::Null).await.assert_status(204);
    }
}

/// The timeline of the room `r`.
async fn fetch_timeline(cluster: &TestCluster, query: &str) -> Value {
    let answer = cluster.api("GET", &format!("/api/rooms/r/timeline{query}"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The steps of the only pair, each with the user of its peer, when there are so many.
async fn wait_for_steps(cluster: &TestCluster, count: usize) -> Vec<String> {
    eventually(&format!("the timeline has {count} steps"), async || {
        let answer = cluster.api("GET", "/api/rooms/r/timeline", &Value::Null).await;
        let steps = (answer.status == 200).then(|| step_words(&answer.json()))?;
        (steps.len() == count).then_some(steps)
    })
    .await
}

fn step_words(timeline: &Value) -> Vec<String> {
    let pairs = timeline["pairs"].as_array().unwrap();
    assert!(pairs.len() <= 1, "{timeline}");
    let Some(pair) = pairs.first() else { return Vec::new() };
    let user_of = |step: &Value| {
        let is_peer = |peer: &&Value| peer["peerId"] == step["peerId"];
        pair["peers"].as_array().unwrap().iter().find(is_peer).unwrap()["userId"].as_str().unwrap().to_owned()
    };
    let word = |step: &Value| format!("{} {}", user_of(step), step["step"].as_str().unwrap());
    pair["steps"].as_array().unwrap().iter().map(word).collect()
}

/// The steps of one user: times of two nodes may differ by some milliseconds.
fn steps_of<'a>(steps: &'a [String], user: &str) -> Vec<&'a str> {
    steps.iter().filter_map(|step| step.strip_prefix(user)?.strip_prefix(' ')).collect()
}

async fn offer_and_answer(alice: &TestPeer, bob: &TestPeer) {
    alice.send(json!({"type": "offer", "to": bob.id(), "sdp": "v=0 of alice"})).await;
    bob.next_offer().await;
    bob.send(json!({"type": "answer", "to": alice.id(), "sdp": "v=0 of bob"})).await;
    alice.next_forwarded("answer").await;
    let candidate = json!({"candidate": "candidate:1 1 udp 1 192.0.2.77 9 typ host", "sdpMid": "0"});
    alice.send(json!({"type": "candidate", "to": bob.id(), "candidate": candidate})).await;
    bob.next_forwarded("candidate").await;
}

on_each_store! {
    async fn both_peers_and_the_server_write_one_timeline(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        offer_and_answer(&alice, &bob).await;
        alice.send(outcome_with(bob.id(), PairResult::Failed, json!({"code": "udp_blocked", "ms": 4_800}))).await;
        let steps = wait_for_steps(cluster, 3).await;
        assert_eq!(steps, ["alice joined", "alice offer", "alice failed"]);
        bob.send(outcome_with(alice.id(), PairResult::Connected, json!({"ms": 700, "relayed": true, "protocol": "tcp"}))).await;
        let steps = wait_for_steps(cluster, 6).await;
        assert_eq!(steps_of(&steps, "alice"), ["joined", "offer", "failed"]);
        assert_eq!(steps_of(&steps, "bob"), ["joined", "answer", "connected"]);

        let timeline = fetch_timeline(cluster, "").await;
        let pair = &timeline["pairs"][0];
        let outcome_of = |word: &str| pair["steps"].as_array().unwrap().iter().find(|step| step["step"] == word).unwrap().clone();
        let mut failed = outcome_of("failed");
        assert!(failed["at"].take().is_u64());
        assert_eq!(failed, json!({"at": null, "peerId": alice.id(), "step": "failed", "code": "udp_blocked", "ms": 4_800}));
        let connected = outcome_of("connected");
        assert_eq!((&connected["relayed"], &connected["protocol"]), (&json!(true), &json!("tcp")), "{connected}");
        for peer in pair["peers"].as_array().unwrap() {
            assert_eq!((&peer["present"], &peer["detached"]), (&json!(true), &json!(false)), "{peer}");
        }
        for secret in ["192.0.2.77", "v=0", "candidate:"] {
            assert!(!timeline.to_string().contains(secret), "{timeline}");
        }

        assert_eq!(fetch_timeline(cluster, &format!("?peer={}", bob.id())).await, timeline);
        let stranger = "0".repeat(32);
        assert_eq!(fetch_timeline(cluster, &format!("?peer={stranger}")).await, json!({"pairs": []}));
        for (query, field) in [("?peer=bob", "peer"), ("?peer=", "peer")] {
            let answer = cluster.api("GET", &format!("/api/rooms/r/timeline{query}"), &Value::Null).await;
            assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{query}");
        }
        let unknown = cluster.api("GET", "/api/rooms/r/timeline?user=bob", &Value::Null).await;
        unknown.assert_problem(400, "bad_request");
        cluster.api("GET", "/api/rooms/elsewhere/timeline", &Value::Null).await.assert_problem(404, "no_such_room");

        // The question comes after the call.
        alice.leave().await;
        bob.leave().await;
        eventually("the peers are shown as gone", async || {
            let timeline = fetch_timeline(cluster, "").await;
            let peers = timeline["pairs"][0]["peers"].as_array().unwrap().clone();
            peers.iter().all(|peer| peer["present"] == false).then_some(())
        })
        .await;
        assert_eq!(wait_for_steps(cluster, 6).await.len(), 6);
        for process in cluster.nodes.iter().chain(&cluster.auth) {
            for secret in ["udp_blocked", "192.0.2.77"] {
                assert!(!process.log().contains(secret), "{secret} is in a log");
            }
        }
    }

    async fn the_end_of_a_connection_is_in_the_timeline_of_an_open_attempt(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        offer_and_answer(&alice, &bob).await;
        let resume_state = alice.disconnect().await;
        assert_eq!(wait_for_steps(cluster, 3).await, ["alice joined", "alice offer", "alice detached"]);
        let timeline = fetch_timeline(cluster, &format!("?peer={}", bob.id())).await;
        let detached = |timeline: &Value| {
            let peers = timeline["pairs"][0]["peers"].as_array().unwrap().clone();
            peers.iter().filter(|peer| peer["detached"] == true).count()
        };
        assert!(detached(&timeline) <= 1, "{timeline}");
        let alice = resume_state.resume_on(cluster.nodes.last().unwrap()).await;
        alice.send(json!({"type": "offer", "to": bob.id(), "sdp": "v=0 again"})).await;
        bob.next_offer().await;
        let bob_id = bob.id().to_owned();
        bob.leave().await;
        alice.send(outcome_with(&bob_id, PairResult::Closed, json!({"code": "answer_missing"}))).await;
        let steps = wait_for_steps(cluster, 9).await;
        assert_eq!(steps_of(&steps, "alice"), ["joined", "offer", "detached", "resumed", "offer", "closed"]);
        assert_eq!(steps_of(&steps, "bob"), ["joined", "answer", "left"]);
        wait_for_metric(cluster, "signalbox_pair_attempts_total", 2.0).await;
        alice.leave().await;
    }

    async fn a_peer_floods_neither_the_timeline_nor_the_room(cluster, [("LIMITS__TIMELINE_STEPS", "6"), ("LIMITS__BURST", "60"), ("LIMITS__RATE", "10")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        for _ in 0..80 {
            alice.send(outcome(bob.id(), PairResult::Failed)).await;
        }
        assert_eq!(alice.next_of_type("error").await["code"], "rate_limited");
        bob.send(outcome(alice.id(), PairResult::Failed)).await;
        let steps = eventually("the last outcome is in the timeline", async || {
            let steps = step_words(&fetch_timeline(cluster, "").await);
            steps.contains(&"bob failed".to_owned()).then_some(steps)
        })
        .await;
        assert!(steps.len() <= 6, "{steps:?}");
        bob.send_acked(json!({"type": "message", "data": 1})).await;
        bob.ping().await;
        let frames = bob.take_unread().await;
        assert!(!format!("{frames:?}").contains("failed"), "{frames:?}");
    }
}

#[tokio::test]
async fn no_timeline_is_kept_if_it_has_no_place() {
    for store in [StoreKind::Memory, StoreKind::Redis(1)] {
        let cluster = TestCluster::start(store, &[("LIMITS__TIMELINE_PAIRS", "0")]).await;
        let (alice, bob) = cluster.room("r").join2().await;
        alice.send(outcome(bob.id(), PairResult::Failed)).await;
        wait_for_metric(&cluster, "signalbox_pair_outcomes_total{code=\"none\",result=\"failed\"}", 1.0)
            .await;
        assert_eq!(fetch_timeline(&cluster, "").await, json!({"pairs": []}));
        alice.leave().await;
        bob.leave().await;
        if let Some(redis) = &cluster.redis {
            let keys = redis.keys().await;
            assert!(keys.iter().all(|key| !key.name.contains("timeline")), "{keys:?}");
        }
        cluster.audit().await;
    }
}

#[tokio::test]
async fn a_timeline_ends_by_its_ttl() {
    for store in [StoreKind::Memory, StoreKind::Redis(2)] {
        let cluster = TestCluster::start(store, &[("TIMING__TIMELINE", "2s")]).await;
        let (alice, bob) = cluster.room("r").join2().await;
        alice.send(outcome(bob.id(), PairResult::Failed)).await;
        wait_for_steps(&cluster, 1).await;
        if let Some(redis) = &cluster.redis {
            let keys = redis.keys().await;
            let ttls: Vec<_> =
                keys.iter().filter(|key| key.name.contains("timeline")).map(|key| key.ttl_ms).collect();
            assert!(ttls.len() == 2 && ttls.iter().all(|ttl| (1..=2_000).contains(ttl)), "{keys:?}");
        }
        eventually("the timeline is empty", async || {
            let timeline = fetch_timeline(&cluster, "").await;
            (timeline["pairs"] == json!([])).then_some(())
        })
        .await;
        alice.leave().await;
        bob.leave().await;
        cluster.audit().await;
    }
}

/// Outcomes come while the store is away: they are counted, and signaling goes on.
#[tokio::test]
async fn an_outcome_without_a_store_is_counted_and_lost() {
    let mut cluster = TestCluster::start(StoreKind::Redis(1), &[("TIMING__RESUME_WINDOW", "10s")]).await;
    let (alice, bob) = cluster.room("r").join2().await;
    cluster.redis.as_mut().unwrap().kill();
    alice.send(outcome_with(bob.id(), PairResult::Failed, json!({"code": "no_relay"}))).await;
    wait_for_metric(&cluster, "signalbox_pair_outcomes_total{code=\"no_relay\",result=\"failed\"}", 1.0)
        .await;
    wait_for_metric(&cluster, "signalbox_timelines_lost_total", 1.0).await;
    alice.send(json!({"type": "offer", "to": bob.id(), "sdp": "v=0"})).await;
    bob.next_of_type("offer").await;
}
