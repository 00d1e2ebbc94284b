//! Messages reach their target once, in order and with the id of the sender.

use serde_json::{Value, json};
use signalbox_tests::{
    CANDIDATE, SDP,
    peer::{ForwardedMessage, TestPeer},
};

on_each_store! {
    async fn an_offer_is_delivered(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.offer(&bob, SDP).await;
        let offer = bob.next_offer().await;
        assert_eq!(offer.from, alice.id());
        assert_eq!(offer.sdp.as_deref(), Some(SDP));
    }

    async fn a_negotiation_is_delivered_with_its_message_ids(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        let offer = alice.offer(&bob, SDP).await;
        assert_eq!(bob.next_offer().await.id, Some(offer));
        for kind in ["pranswer", "answer", "rollback"] {
            let id = bob.send_acked(json!({"type": kind, "to": alice.id(), "sdp": SDP, "re": offer})).await;
            let got = alice.next_forwarded(kind).await;
            assert_eq!((got.from.as_str(), got.id, got.re), (bob.id(), Some(id), Some(offer)));
            assert_eq!(got.sdp.as_deref(), (kind != "rollback").then_some(SDP), "{kind}");
        }
    }

    async fn candidates_and_end_of_candidates_are_delivered_unchanged(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        let end = json!({"candidate": "", "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "x"});
        let one = json!({"candidate": CANDIDATE, "sdpMid": null, "later": [1, {"a": null}]});
        for candidate in [one, end] {
            let id = alice.candidate(&bob, candidate.clone(), 7).await;
            let got = bob.next_forwarded("candidate").await;
            assert_eq!((got.id, got.re, got.candidate), (Some(id), Some(7), Some(candidate)));
        }
    }

    async fn a_message_reaches_one_peer_or_the_whole_room(cluster) {
        let peers = cluster.room("r").join_all(&["alice", "bob", "carol"]).await;
        let [alice, bob, carol] = &peers[..] else { unreachable!() };
        alice.message(bob, json!({"for": "bob"})).await;
        alice.message_room(json!(null)).await;
        let to_bob = bob.next_message().await;
        assert_eq!((to_bob.data, to_bob.room), (Some(json!({"for": "bob"})), false));
        for peer in [bob, carol] {
            let to_all = peer.next_message().await;
            assert!(to_all.room && to_all.frame["data"].is_null() && to_all.from == alice.id(), "{to_all:?}");
        }
    }

    async fn the_server_sets_the_sender_of_a_message(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        let forged = json!({"type": "offer", "to": bob.id(), "from": bob.id(), "seq": 99, "room": true, "sdp": SDP,
            "polite": true, "re": 4, "unknown": {"x": 1}});
        alice.send_acked(forged).await;
        let offer = bob.next_offer().await;
        assert_eq!(offer.from, alice.id());
        assert_eq!(offer.seq, 1);
        let mut members: Vec<_> = offer.frame.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["from", "id", "sdp", "seq", "type"]);
    }

    async fn a_message_without_an_id_is_forwarded_without_one(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.send(json!({"type": "message", "to": bob.id(), "data": 1})).await;
        assert_eq!(bob.next_message().await.id, None);
        alice.ping().await;
        assert!(alice.take_unread().await.is_empty(), "an answer to a message without an id");
    }

    /// Eight peers on both nodes send to the room concurrently.
    async fn five_hundred_interleaved_messages_arrive_in_order_per_sender(cluster) {
        const EACH: usize = 64;
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let peers = cluster.room("r").join_all(&names).await;
        let send_all = async |peer: &TestPeer| {
            for n in 1..=EACH {
                peer.send(json!({"type": "message", "id": n, "data": n})).await;
            }
            for n in 1..=EACH {
                assert_eq!(peer.reply_to(n as u64).await["type"], "ack");
            }
        };
        futures_util::future::join_all(peers.iter().map(send_all)).await;
        for peer in &peers {
            let mut got: Vec<ForwardedMessage> = Vec::new();
            while got.len() < EACH * (names.len() - 1) {
                got.push(peer.next_message().await);
            }
            // The harness has checked that `seq` has no gap.
            for sender in peers.iter().filter(|sender| sender.id() != peer.id()) {
                let from = got.iter().filter(|message| message.from == sender.id());
                let ids: Vec<u64> = from.filter_map(|message| message.id).collect();
                assert_eq!(ids, (1..=EACH as u64).collect::<Vec<_>>(), "messages to {} from {}", peer.id(), sender.id());
            }
        }
    }

    async fn answers_come_in_the_order_of_the_messages(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        for id in 1..=100 {
            alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": id})).await;
        }
        for id in 1..=100 {
            assert_eq!(alice.next().await, json!({"type": "ack", "id": id}));
        }
    }

    async fn a_repeated_message_id_is_acknowledged_and_not_delivered_again(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        for (id, data, duplicate) in [(5, "first", false), (5, "again", true), (3, "late", true), (6, "next", false)] {
            alice.send(json!({"type": "message", "to": bob.id(), "id": id, "data": data})).await;
            let answer = alice.reply_to(id).await;
            assert_eq!((&answer["type"], answer["duplicate"] == true), (&json!("ack"), duplicate), "{answer}");
        }
        let received = [bob.next_message().await, bob.next_message().await].map(|message| message.data.unwrap());
        assert_eq!(received, ["first", "next"]);
    }

    async fn the_message_id_of_an_update_also_detects_duplicates(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.send(json!({"type": "update", "id": 10, "name": "Alice"})).await;
        assert_eq!(alice.reply_to(10).await, json!({"type": "ack", "id": 10}));
        alice.send(json!({"type": "update", "id": 10, "name": "Again"})).await;
        assert_eq!(alice.reply_to(10).await, json!({"type": "ack", "id": 10, "duplicate": true}));
        alice.send(json!({"type": "message", "to": bob.id(), "id": 9, "data": "old"})).await;
        assert_eq!(alice.reply_to(9).await, json!({"type": "ack", "id": 9, "duplicate": true}));
        assert_eq!(bob.next_of_type("peer-updated").await["name"], "Alice");
        alice.message(&bob, json!("marker")).await;
        // The harness counts message ids from 1, so this id is a duplicate as well: Bob receives
        // only the update.
        assert!(bob.take_unread().await.is_empty());
    }

    async fn no_message_leaves_its_room(cluster) {
        let (alice, bob) = cluster.room("one").join2().await;
        let eve = cluster.room("two").join("eve").await;
        let former = cluster.room("one").join("former").await;
        let former_id = former.id().to_owned();
        former.leave().await;
        let mut answers: Vec<Value> = Vec::new();
        for target in [alice.id(), "0123456789abcdef0123456789abcdef", &former_id] {
            for message in [json!({"type": "offer", "sdp": SDP}), json!({"type": "message", "data": 1}),
                json!({"type": "candidate", "candidate": {"candidate": ""}})] {
                let mut message = message;
                message["to"] = target.into();
                let sender = if target == former_id { &bob } else { &eve };
                let mut answer = sender.request(message).await;
                answer.as_object_mut().unwrap().remove("id");
                answers.push(answer);
            }
        }
        assert_eq!(answers[0]["code"], "no_such_peer");
        assert_eq!(answers[0]["field"], "to");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "the answers reveal whether a peer exists: {answers:?}");
        eve.message_room(json!("to an empty room")).await;
        bob.message(&alice, json!("marker")).await;
        assert_eq!(alice.next_message().await.data, Some(json!("marker")));
    }

    async fn a_message_to_its_own_sender_is_refused(cluster) {
        let alice = cluster.room("r").join("alice").await;
        let answer = alice.request(json!({"type": "offer", "to": alice.id(), "sdp": SDP})).await;
        assert_eq!((&answer["code"], &answer["field"]), (&json!("bad_message"), &json!("to")));
    }

    async fn a_role_without_the_message_permission_may_still_negotiate(cluster) {
        let room = cluster.room("r");
        let alice = room.join("alice").await;
        let viewer = room.join_with(json!({"user": "v", "role": "viewer"})).await;
        assert_eq!(viewer.joined["permissions"], json!([]));
        let answer = viewer.request(json!({"type": "message", "data": 1})).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("not_permitted")));
        viewer.offer(&alice, SDP).await;
        assert_eq!(alice.next_offer().await.from, viewer.id());
    }

    async fn a_pong_has_the_id_of_its_ping(cluster) {
        let alice = cluster.room("r").join("alice").await;
        alice.send(json!({"type": "ping", "id": 41})).await;
        assert_eq!(alice.next().await, json!({"type": "pong", "id": 41}));
        alice.send(json!({"type": "ping"})).await;
        assert_eq!(alice.next().await, json!({"type": "pong"}));
    }

    async fn a_late_or_invalid_acknowledgement_has_no_effect_on_delivery(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        bob.stop_confirming();
        for n in 1..=20 {
            alice.message(&bob, json!(n)).await;
            bob.next_message().await;
        }
        // An append of Bob acknowledges all entries written to his socket; his `received` comes
        // later with a lower seq.
        bob.message(&alice, json!("from bob")).await;
        bob.send(json!({"type": "received", "seq": 3})).await;
        bob.ping().await;
        bob.send(json!({"type": "received", "seq": 20})).await;
        bob.ping().await;
        let answer = bob.expect_error(json!({"type": "received", "seq": 999})).await;
        assert_eq!((&answer["code"], &answer["field"]), (&json!("bad_message"), &json!("seq")));
        alice.message(&bob, json!("still there")).await;
        assert_eq!(bob.next_message().await.data, Some(json!("still there")));
    }
}
