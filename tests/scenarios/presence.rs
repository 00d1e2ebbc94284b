//! Presence: each other peer of the room receives each change of a peer exactly once.

use std::time::{Duration, Instant};

use serde_json::json;
use signalbox_tests::{
    cluster::RESUME_WINDOW,
    peer::{TestConnection, TestPeer},
};

on_each_store! {
    async fn the_joined_message_is_complete(cluster) {
        let room = cluster.room("r");
        let alice = room.join_with(json!({"user": "alice", "role": "host", "name": "Alice", "metadata": {"a": [1]}})).await;
        let bob = room.join("bob").await;
        let joined = &bob.joined;
        assert_eq!((&joined["roomId"], &joined["userId"], &joined["role"]), (&json!("r"), &json!("bob"), &json!("guest")));
        assert_eq!(joined["permissions"], json!(["publish", "message", "share", "data"]));
        assert_eq!(joined["limits"], json!({"frameBytes": 65536, "sdpBytes": 49152, "candidateBytes": 2048, "dataBytes": 16384,
            "metadataBytes": 4096, "roomPeers": 100, "burst": 1000, "ratePerSecond": 100, "backlog": 512}));
        assert_eq!((&joined["seq"], &joined["features"]), (&json!(0), &json!(["resume", "outcome"])));
        assert!(joined["resume"].as_str().unwrap().len() > 64);
        assert_eq!((&joined["pingInterval"], &joined["icePolicy"]), (&json!(25_000), &json!("all")));
        assert_eq!(joined["resumeWindow"], json!(RESUME_WINDOW.as_millis() as u64));
        assert_eq!((&joined["iceServers"], joined["node"].as_str().unwrap().len()), (&json!([]), 32));
        let entry = &joined["peers"][0];
        assert_eq!((&entry["peerId"], &entry["userId"]), (&json!(alice.id()), &json!("alice")));
        assert_eq!((&entry["name"], &entry["role"]), (&json!("Alice"), &json!("host")));
        assert_eq!((&entry["metadata"], &entry["detached"]), (&json!({"a": [1]}), &json!(false)));
        assert_eq!(joined["peers"].as_array().unwrap().len(), 1);
        if cluster.nodes.len() > 1 {
            assert_ne!(alice.joined["node"], joined["node"], "peers that join in turn are on different nodes");
        }
    }

    async fn two_peers_agree_which_peer_is_polite(cluster) {
        let room = cluster.room("r");
        for round in 0..6 {
            let alice = room.join("alice").await;
            let bob = room.join("bob").await;
            let seen_by_bob = bob.joined["peers"][0]["polite"].as_bool().unwrap();
            let seen_by_alice = alice.next_of_type("peer-joined").await["polite"].as_bool().unwrap();
            assert_ne!(seen_by_alice, seen_by_bob, "round {round}");
            assert_eq!(seen_by_bob, bob.id() < alice.id(), "the smaller id is polite");
            bob.send(json!({"type": "update", "name": "Bob"})).await;
            assert_eq!(alice.next_of_type("peer-updated").await["polite"], seen_by_alice);
            bob.leave().await;
            alice.leave().await;
        }
    }

    async fn an_update_announces_all_attributes_of_the_peer(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        bob.send_acked(json!({"type": "update", "name": "Bob", "metadata": {"hand": true}})).await;
        bob.send_acked(json!({"type": "update", "name": "Robert"})).await;
        let first = alice.next_of_type("peer-updated").await;
        assert_eq!((&first["name"], &first["metadata"]), (&json!("Bob"), &json!({"hand": true})));
        let second = alice.next_of_type("peer-updated").await;
        assert_eq!((&second["name"], &second["metadata"]), (&json!("Robert"), &json!({"hand": true})), "an absent attribute keeps its value");
        assert_eq!((&second["peerId"], &second["userId"], &second["role"]), (&json!(bob.id()), &json!("bob"), &json!("guest")));
        let carol = cluster.room("r").join("carol").await;
        let entry = carol.joined["peers"].as_array().unwrap().iter().find(|peer| peer["peerId"] == bob.id()).unwrap().clone();
        assert_eq!(entry["name"], "Robert");
    }

    async fn a_leave_is_acknowledged_closed_with_1000_and_announced_once(cluster) {
        let peers = cluster.room("r").join_all(&["alice", "bob", "carol"]).await;
        let [alice, bob, carol]: [TestPeer; 3] = peers.try_into().ok().unwrap();
        let left_id = alice.id().to_owned();
        alice.leave().await;
        for peer in [&bob, &carol] {
            let left = peer.next_of_type("peer-left").await;
            assert_eq!((&left["peerId"], &left["reason"]), (&json!(left_id), &json!("left")));
        }
        bob.message_room(json!("marker")).await;
        carol.next_message().await;
        carol.message_room(json!("marker")).await;
        bob.next_message().await;
        for peer in [&bob, &carol] {
            assert!(peer.take_unread().await.is_empty(), "a peer leaves once, and is not detached first");
        }
    }

    async fn a_peer_with_a_lost_socket_is_detached_and_leaves_after_the_window(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        let left_id = bob.id().to_owned();
        bob.drop_socket();
        let first = alice.next().await;
        assert_eq!((&first["type"], &first["peerId"]), (&json!("peer-detached"), &json!(left_id)));
        let second = alice.next().await;
        assert_eq!((&second["type"], &second["peerId"], &second["reason"]), (&json!("peer-left"), &json!(left_id), &json!("timeout")));
    }

    async fn a_peer_that_closes_without_a_leave_is_detached(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        let node = bob.joined["node"].clone();
        assert!(node.is_string());
        bob.close().await;
        assert_eq!(alice.next().await["type"], "peer-detached");
        assert_eq!(alice.next().await["reason"], "timeout");
    }

    /// A room for two: the next peer has the place of a closed tab within seconds, and not after the
    /// resume window. Until then a reloaded page has it.
    async fn the_place_of_a_closed_page_is_free_after_the_short_window(cluster, [("TIMING__RESUME_WINDOW", "10s"), ("TIMING__GOING_WINDOW", "1s"),
        ("LIMITS__ROOM_PEERS", "2")]) {
        let room = cluster.room("r");
        let alice = room.join("alice").await;
        for way in ["going", "going and leave", "close 1001"] {
            let bob = room.join("bob").await;
            alice.next_of_type("peer-joined").await;
            let began = Instant::now();
            let handle = bob.handle().await;
            match way {
                "going" => bob.send(json!({"type": "going"})).await,
                "going and leave" => {
                    bob.send(json!({"type": "going"})).await;
                    bob.send(json!({"type": "leave"})).await;
                }
                _ => bob.close_with(1001).await,
            }
            if way == "going and leave" {
                let left = alice.next().await;
                assert_eq!((&left["type"], &left["reason"]), (&json!("peer-left"), &json!("left")));
                continue;
            }
            assert_eq!(alice.next().await["type"], "peer-detached", "{way}");
            assert_eq!(room.connect("carol").await.wait_closed().await.code, 4510, "{way}: a reloaded page would take over");
            let left = alice.next().await;
            assert_eq!((&left["type"], &left["reason"]), (&json!("peer-left"), &json!("timeout")), "{way}");
            let took = began.elapsed();
            assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{way}: {took:?}");
            let query = format!("resume={}&since={}", handle.0, handle.1);
            assert!(TestConnection::open_with(cluster.next_node().address, &query).await.is_err(), "{way}");
        }
        room.join("dave").await;
    }

    /// The resume window is long enough for another join.
    async fn a_new_peer_sees_which_peers_are_detached(cluster, [("TIMING__RESUME_WINDOW", "2s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        bob.drop_socket();
        alice.next_of_type("peer-detached").await;
        let carol = room.join("carol").await;
        let mut detached: Vec<_> = carol.joined["peers"].as_array().unwrap().iter().map(|peer| peer["detached"].clone()).collect();
        detached.sort_by_key(|flag| flag.as_bool());
        assert_eq!(detached, [json!(false), json!(true)]);
        carol.next_of_type("peer-left").await;
    }

    /// The version of the room orders concurrent joins on both nodes.
    async fn twenty_concurrent_joins_all_succeed(cluster) {
        let room = cluster.room("r");
        let join = async |n: usize| room.join(&format!("u{n}")).await;
        let peers = futures_util::future::join_all((0..20).map(join)).await;
        for peer in &peers {
            let mut known_ids: Vec<String> =
                peer.joined["peers"].as_array().unwrap().iter().map(|p| p["peerId"].as_str().unwrap().to_owned()).collect();
            while known_ids.len() < 19 {
                known_ids.push(peer.next_of_type("peer-joined").await["peerId"].as_str().unwrap().to_owned());
            }
            known_ids.push(peer.id().to_owned());
            known_ids.sort();
            let mut all_ids: Vec<_> = peers.iter().map(|peer| peer.id().to_owned()).collect();
            all_ids.sort();
            assert_eq!(known_ids, all_ids);
        }
    }

    async fn a_peer_that_answers_no_ping_is_closed(cluster, [("TIMING__PING", "1s")]) {
        let room = cluster.room("r");
        let alice = room.join("alice").await;
        let token = room.token(json!({"user": "silent"})).await;
        let mut silent = signalbox_tests::raw_socket::RawSocket::open(cluster.nodes[0].address, &token, None).await;
        assert_eq!(silent.next_text().await["type"], "joined");
        // This socket reads, but does not answer pings.
        assert_eq!(silent.close_code().await, Some(4002));
        alice.next_of_type("peer-joined").await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "timeout");
    }
}
