//! Where the limits are, and what is said there.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    SDP,
    cluster::{Store, TestCluster},
    peer::TestPeer,
};

fn refusal(answer: &Value) -> (&str, &str, Option<&str>) {
    let text = |name: &str| answer[name].as_str();
    (text("type").unwrap(), text("code").unwrap_or(""), text("field"))
}

on_each_store! {
    async fn a_full_room_says_so_and_closes(cluster, [("LIMITS__ROOM_PEERS", "2")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        for node in &cluster.nodes {
            let late = room.knock_on(node, "late").await;
            assert_eq!(refusal(&late.next().await), ("error", "room_full", None));
            let closed = late.closed().await;
            assert_eq!((closed.code, closed.reason.as_str()), (4510, "room_full"));
        }
        bob.leave().await;
        alice.next_of_type("peer-left").await;
        room.join("carol").await;
        assert_eq!(alice.next().await["type"], "peer-joined", "who was not let in is not heard of");
    }

    async fn of_many_at_once_only_as_many_get_in_as_there_are_places(cluster, [("LIMITS__ROOM_PEERS", "3")]) {
        let room = cluster.room("r");
        let knock = async |n: usize| {
            let link = room.knock(&format!("u{n}")).await;
            let first = link.next().await;
            (link, first)
        };
        let first = futures_util::future::join_all((0..10).map(knock)).await;
        let inside = first.iter().filter(|(_, frame)| frame["type"] == "joined").count();
        let refused = first.iter().filter(|(_, frame)| frame["code"] == "room_full").count();
        assert_eq!((inside, refused), (3, 7));
    }

    async fn a_user_may_be_in_a_room_only_so_often(cluster, [("LIMITS__USER_PEERS", "1")]) {
        let room = cluster.room("r");
        let _alice = room.join("alice").await;
        let again = room.knock("alice").await;
        assert_eq!(refusal(&again.next().await), ("error", "user_limit", None));
        let closed = again.closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (4511, "user_limit"));
        room.join("bob").await;
        cluster.room("other").join("alice").await;
    }

    async fn what_is_too_large_is_named(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        let long = |length: usize| "x".repeat(length);
        let rows = [
            (json!({"type": "offer", "to": bob.id(), "sdp": long(48 * 1024)}), "sdp"),
            (json!({"type": "answer", "to": bob.id(), "sdp": long(48 * 1024)}), "sdp"),
            (json!({"type": "candidate", "to": bob.id(), "candidate": {"candidate": long(2048)}}), "candidate"),
            (json!({"type": "message", "to": bob.id(), "data": long(16 * 1024)}), "data"),
            (json!({"type": "update", "metadata": {"x": long(4096)}}), "metadata"),
        ];
        for (message, field) in rows {
            assert_eq!(refusal(&alice.ask(message.clone()).await), ("error", "too_large", Some(field)), "with an id");
            assert_eq!(refusal(&alice.refused(message).await), ("error", "too_large", Some(field)), "without an id");
        }
        // The largest that fits, quotes included.
        alice.offer(&bob, &long(48 * 1024 - 2)).await;
        alice.message(&bob, long(16 * 1024 - 2).into()).await;
        assert_eq!(bob.next_offer().await.sdp.unwrap().len(), 48 * 1024 - 2);
        bob.next_message().await;
    }

    async fn numbers_are_checked(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        for id in [json!(0), json!(-1), json!(1.5), json!("7"), json!(null), json!(9_007_199_254_740_992_u64)] {
            let message = json!({"type": "message", "to": bob.id(), "data": 1, "id": id});
            assert_eq!(refusal(&alice.refused(message).await), ("error", "bad_message", Some("id")), "{id}");
        }
        let top = 9_007_199_254_740_991_u64;
        for (id, duplicate) in [(41, false), (41, true), (40, true), (1, true), (42, false), (top, false), (top, true)] {
            alice.send(json!({"type": "message", "to": bob.id(), "data": id, "id": id})).await;
            assert_eq!(alice.answer(id).await["duplicate"] == true, duplicate, "{id}");
        }
        let heard = [bob.next_message().await, bob.next_message().await, bob.next_message().await];
        assert_eq!(heard.map(|message| message.id), [Some(41), Some(42), Some(top)]);
    }

    /// Ten a second after a burst of ten: an error for each frame too many, then a pause makes it good.
    async fn who_sends_too_fast_is_told_when_to_go_on(cluster, [("LIMITS__BURST", "10"), ("LIMITS__RATE", "10")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let mut refused = Value::Null;
        for n in 1..=20 {
            let answer = alice.ask(json!({"type": "message", "to": bob.id(), "data": n})).await;
            if answer["code"] == "rate_limited" {
                refused = answer;
                break;
            }
        }
        let wait = refused["retryMs"].as_u64().expect("retryMs");
        assert!((1..=100).contains(&wait), "{refused}");
        // The pause that the server asked for.
        tokio::time::sleep(Duration::from_millis(wait + 20)).await;
        alice.message(&bob, json!("slower")).await;
    }

    /// A client that reads and never says `received` has what was written to it.
    async fn a_peer_that_reads_and_never_confirms_is_not_backlogged(cluster, [("LIMITS__BACKLOG", "8")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        bob.stay_silent();
        for n in 1..=40 {
            alice.message(&bob, json!(n)).await;
            assert_eq!(bob.next_message().await.data, Some(json!(n)));
        }
    }

    /// Carol reads all she is sent and confirms nothing but the very beginning.
    async fn who_confirms_once_and_no_more_does_not_silence_the_room(cluster, [("LIMITS__BACKLOG", "32")]) {
        let peers = cluster.room("r").join_all(&["alice", "bob", "carol"]).await;
        let [alice, bob, carol]: [TestPeer; 3] = peers.try_into().ok().unwrap();
        carol.stay_silent();
        carol.send(json!({"type": "received", "seq": 0})).await;
        carol.ping().await;
        for n in 1..=100 {
            alice.tell_room(json!(n)).await;
            assert_eq!(bob.next_message().await.data, Some(json!(n)));
            assert_eq!(carol.next_message().await.data, Some(json!(n)));
        }
    }

    /// The same with a few large messages: the bound on bytes.
    async fn a_peer_that_reads_large_messages_is_not_backlogged(cluster,
        [("LIMITS__BACKLOG_BYTES", "64KiB"), ("LIMITS__OUTBOX", "256KiB"), ("LIMITS__ROOM_PEERS", "10")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let large = "x".repeat(15 * 1024);
        for n in 1..=20 {
            alice.message(&bob, json!([n, large])).await;
            bob.next_message().await;
        }
    }
}

/// Bob's socket is lost and the window is long, so what is sent to him waits, up to the bound.
async fn a_mailbox_that_nobody_empties_gets_full(store: Store) {
    let cluster =
        TestCluster::start(store, &[("LIMITS__BACKLOG", "8"), ("TIMING__RESUME_WINDOW", "15s")]).await;
    let peers = cluster.room("r").join_all(&["alice", "carol", "bob"]).await;
    let [alice, carol, bob]: [TestPeer; 3] = peers.try_into().ok().unwrap();
    let bob_id = bob.id().to_owned();
    bob.cut();
    alice.next_of_type("peer-detached").await;
    let mut taken = 0;
    let refused = loop {
        let answer = alice.ask(json!({"type": "offer", "to": bob_id, "sdp": SDP})).await;
        if answer["type"] == "error" {
            break answer;
        }
        taken += 1;
        assert!(taken <= 8, "more than the bound was taken");
    };
    assert_eq!(taken, 8);
    assert_eq!(refusal(&refused), ("error", "peer_backlogged", Some("to")));
    assert_eq!(refused["retryMs"], 500);
    // All or nothing: a message to the room reaches nobody.
    assert_eq!(alice.ask(json!({"type": "message", "data": 1})).await["code"], "peer_backlogged");
    alice.message(&carol, json!("direct")).await;
    assert_eq!(carol.next_message().await.data, Some(json!("direct")));
    cluster.assert_clean_logs();
    if let Some(redis) = &cluster.redis {
        redis.assert_bounded(Duration::from_secs(40)).await;
    }
}

#[tokio::test]
async fn a_mailbox_that_nobody_empties_gets_full_in_memory() {
    a_mailbox_that_nobody_empties_gets_full(Store::Memory).await;
}

#[tokio::test]
async fn a_mailbox_that_nobody_empties_gets_full_over_redis() {
    a_mailbox_that_nobody_empties_gets_full(Store::Redis(2)).await;
}
