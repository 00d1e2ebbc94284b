//! The limits, and the answers when a limit is exceeded.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    SDP,
    cluster::{StoreKind, TestCluster},
    net::eventually_within,
    peer::TestPeer,
    process::send_signal,
};

fn refusal(answer: &Value) -> (&str, &str, Option<&str>) {
    let text = |name: &str| answer[name].as_str();
    (text("type").unwrap(), text("code").unwrap_or(""), text("field"))
}

/// The entries of a mailbox live for the resume window and three leases: longer than
/// `send_when_accepted` tries.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "3s");

/// Sends a message, as a client must if a mailbox is full: again, under a new id. The node of a peer
/// may acknowledge its entries a little later than the next messages come, so a mailbox may be full for
/// a moment. It must not stay full.
async fn send_when_accepted(sender: &TestPeer, message: Value) {
    eventually_within(Duration::from_secs(3), "the message is accepted", async || {
        let answer = sender.request(message.clone()).await;
        assert!(answer["type"] == "ack" || answer["code"] == "peer_backlogged", "{answer}");
        (answer["type"] == "ack").then_some(())
    })
    .await;
}

on_each_store! {
    async fn a_full_room_refuses_a_join_and_closes_the_connection(cluster, [("LIMITS__ROOM_PEERS", "2")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        for node in &cluster.nodes {
            let late = room.connect_on(node, "late").await;
            assert_eq!(refusal(&late.next().await), ("error", "room_full", None));
            let closed = late.wait_closed().await;
            assert_eq!((closed.code, closed.reason.as_str()), (4510, "room_full"));
        }
        bob.leave().await;
        alice.next_of_type("peer-left").await;
        room.join("carol").await;
        assert_eq!(alice.next().await["type"], "peer-joined", "a refused join is not announced");
    }

    async fn concurrent_joins_never_exceed_the_room_limit(cluster, [("LIMITS__ROOM_PEERS", "3")]) {
        let room = cluster.room("r");
        let connect = async |n: usize| {
            let link = room.connect(&format!("u{n}")).await;
            let first_frame = link.next().await;
            (link, first_frame)
        };
        let links = futures_util::future::join_all((0..10).map(connect)).await;
        let joined = links.iter().filter(|(_, frame)| frame["type"] == "joined").count();
        let refused = links.iter().filter(|(_, frame)| frame["code"] == "room_full").count();
        assert_eq!((joined, refused), (3, 7));
    }

    async fn a_user_may_have_only_the_configured_number_of_peers_in_a_room(cluster, [("LIMITS__USER_PEERS", "1")]) {
        let room = cluster.room("r");
        let _alice = room.join("alice").await;
        let second = room.connect("alice").await;
        assert_eq!(refusal(&second.next().await), ("error", "user_limit", None));
        let closed = second.wait_closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (4511, "user_limit"));
        room.join("bob").await;
        cluster.room("other").join("alice").await;
    }

    async fn the_error_for_a_message_too_large_names_the_field(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        let text = |length: usize| "x".repeat(length);
        let rows = [
            (json!({"type": "offer", "to": bob.id(), "sdp": text(48 * 1024)}), "sdp"),
            (json!({"type": "answer", "to": bob.id(), "sdp": text(48 * 1024)}), "sdp"),
            (json!({"type": "candidate", "to": bob.id(), "candidate": {"candidate": text(2048)}}), "candidate"),
            (json!({"type": "message", "to": bob.id(), "data": text(16 * 1024)}), "data"),
            (json!({"type": "update", "metadata": {"x": text(4096)}}), "metadata"),
        ];
        for (message, field) in rows {
            assert_eq!(refusal(&alice.request(message.clone()).await), ("error", "too_large", Some(field)), "with an id");
            assert_eq!(refusal(&alice.expect_error(message).await), ("error", "too_large", Some(field)), "without an id");
        }
        // The largest allowed values; the limit counts the quotes.
        alice.offer(&bob, &text(48 * 1024 - 2)).await;
        alice.message(&bob, text(16 * 1024 - 2).into()).await;
        assert_eq!(bob.next_offer().await.sdp.unwrap().len(), 48 * 1024 - 2);
        bob.next_message().await;
    }

    async fn message_ids_are_checked(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        for id in [json!(0), json!(-1), json!(1.5), json!("7"), json!(null), json!(9_007_199_254_740_992_u64)] {
            let message = json!({"type": "message", "to": bob.id(), "data": 1, "id": id});
            assert_eq!(refusal(&alice.expect_error(message).await), ("error", "bad_message", Some("id")), "{id}");
        }
        let top = 9_007_199_254_740_991_u64;
        for (id, duplicate) in [(41, false), (41, true), (40, true), (1, true), (42, false), (top, false), (top, true)] {
            alice.send(json!({"type": "message", "to": bob.id(), "data": id, "id": id})).await;
            assert_eq!(alice.reply_to(id).await["duplicate"] == true, duplicate, "{id}");
        }
        let received = [bob.next_message().await, bob.next_message().await, bob.next_message().await];
        assert_eq!(received.map(|message| message.id), [Some(41), Some(42), Some(top)]);
    }

    /// After a burst of ten the limit is ten frames a second.
    async fn a_rate_limited_peer_gets_the_time_until_it_may_send_again(cluster, [("LIMITS__BURST", "10"), ("LIMITS__RATE", "10")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let mut refused = Value::Null;
        for n in 1..=20 {
            let answer = alice.request(json!({"type": "message", "to": bob.id(), "data": n})).await;
            if answer["code"] == "rate_limited" {
                refused = answer;
                break;
            }
        }
        let wait = refused["retryMs"].as_u64().expect("retryMs");
        assert!((1..=100).contains(&wait), "{refused}");
        // The pause that the server requested.
        tokio::time::sleep(Duration::from_millis(wait + 20)).await;
        alice.message(&bob, json!("slower")).await;
    }

    /// Entries that were written to a socket do not count, even if the client never sends
    /// `received`.
    async fn a_peer_that_reads_without_acknowledging_has_no_backlog(cluster, [("LIMITS__BACKLOG", "8"), super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        bob.stop_confirming();
        for n in 1..=40 {
            send_when_accepted(&alice, json!({"type": "message", "to": bob.id(), "data": n})).await;
            assert_eq!(bob.next_message().await.data, Some(json!(n)));
        }
    }

    /// Carol reads all her entries and acknowledges only seq 0. Her node acknowledges the rest, when
    /// half of the bound is reached.
    async fn a_peer_that_acknowledges_only_once_does_not_block_the_room(cluster, [("LIMITS__BACKLOG", "32"), super::WINDOW]) {
        let peers = cluster.room("r").join_all(&["alice", "bob", "carol"]).await;
        let [alice, bob, carol]: [TestPeer; 3] = peers.try_into().ok().unwrap();
        carol.stop_confirming();
        carol.send(json!({"type": "received", "seq": 0})).await;
        carol.ping().await;
        for n in 1..=100 {
            send_when_accepted(&alice, json!({"type": "message", "data": n})).await;
            assert_eq!(bob.next_message().await.data, Some(json!(n)));
            assert_eq!(carol.next_message().await.data, Some(json!(n)));
        }
    }

    /// Bob reads all his entries and confirms none. On none of his connections he gets half of the bound.
    async fn a_peer_that_resumes_often_does_not_block_the_room(cluster, [("LIMITS__BACKLOG", "32"), super::WINDOW]) {
        let (alice, mut bob) = cluster.room("r").join2().await;
        for n in 1..=100 {
            bob.stop_confirming();
            send_when_accepted(&alice, json!({"type": "message", "data": n})).await;
            assert_eq!(bob.next_message().await.data, Some(json!(n)));
            if n % 10 == 0 {
                bob = bob.disconnect().await.resume_on(cluster.next_node()).await;
                assert_eq!(bob.joined["recovered"], true, "{}", bob.joined);
            }
        }
    }

    /// The same for the bound on bytes, with a few large messages.
    async fn a_peer_that_reads_large_messages_has_no_backlog(cluster,
        [("LIMITS__BACKLOG_BYTES", "64KiB"), ("LIMITS__OUTBOX", "256KiB"), ("LIMITS__ROOM_PEERS", "10"), super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let large = "x".repeat(15 * 1024);
        for n in 1..=20 {
            send_when_accepted(&alice, json!({"type": "message", "to": bob.id(), "data": [n, large]})).await;
            bob.next_message().await;
        }
    }
}

/// Bob is detached and his resume window is long, so his mailbox keeps entries up to the bound.
async fn assert_full_mailbox_refuses_messages(store: StoreKind) {
    let cluster =
        TestCluster::start(store, &[("LIMITS__BACKLOG", "8"), ("TIMING__RESUME_WINDOW", "15s")]).await;
    let peers = cluster.room("r").join_all(&["alice", "carol", "bob"]).await;
    let [alice, carol, bob]: [TestPeer; 3] = peers.try_into().ok().unwrap();
    let bob_id = bob.id().to_owned();
    bob.drop_socket();
    alice.next_of_type("peer-detached").await;
    let mut accepted = 0;
    let refused = loop {
        let answer = alice.request(json!({"type": "offer", "to": bob_id, "sdp": SDP})).await;
        if answer["type"] == "error" {
            break answer;
        }
        accepted += 1;
        assert!(accepted <= 8, "the mailbox accepted more entries than the bound");
    };
    assert_eq!(accepted, 8);
    assert_eq!(refusal(&refused), ("error", "peer_backlogged", Some("to")));
    assert_eq!(refused["retryMs"], 500);
    // A message to the room is appended to all mailboxes or to none.
    assert_eq!(alice.request(json!({"type": "message", "data": 1})).await["code"], "peer_backlogged");
    alice.message(&carol, json!("direct")).await;
    assert_eq!(carol.next_message().await.data, Some(json!("direct")));
    cluster.assert_clean_logs();
    if let Some(redis) = &cluster.redis {
        redis.assert_bounded(Duration::from_secs(40)).await;
    }
}

#[tokio::test]
async fn a_full_mailbox_of_a_detached_peer_refuses_messages_in_memory() {
    assert_full_mailbox_refuses_messages(StoreKind::Memory).await;
}

#[tokio::test]
async fn a_full_mailbox_of_a_detached_peer_refuses_messages_over_redis() {
    assert_full_mailbox_refuses_messages(StoreKind::Redis(2)).await;
}

/// The node of Carol does not run for a while. Until it acknowledges her entries again, the sender is
/// refused, and must send later.
#[tokio::test]
async fn a_node_that_runs_late_refuses_messages_only_until_it_runs() {
    let settings = [("LIMITS__BACKLOG", "8"), ("TIMING__LEASE", "20s"), ("TIMING__RESUME_WINDOW", "20s")];
    let cluster = TestCluster::start(StoreKind::Redis(2), &settings).await;
    let (alice, carol) = cluster.room("r").join2().await;
    carol.stop_confirming();
    send_signal(cluster.nodes[1].pid(), "STOP");
    for n in 1..=8 {
        alice.message_room(json!(n)).await;
    }
    let refused = alice.request(json!({"type": "message", "data": 9})).await;
    assert_eq!(
        (&refused["code"], &refused["retryMs"]),
        (&json!("peer_backlogged"), &json!(500)),
        "{refused}"
    );
    send_signal(cluster.nodes[1].pid(), "CONT");
    send_when_accepted(&alice, json!({"type": "message", "data": 9})).await;
    for n in 1..=9 {
        assert_eq!(carol.next_message().await.data, Some(json!(n)));
    }
    cluster.assert_clean_logs();
}
