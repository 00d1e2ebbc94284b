//! Peers that wait in the lobby until a moderator admits them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{TestCluster, TestRoom},
    http::Request,
    peer::{TestConnection, TestPeer},
};

/// Creates a room with a lobby; its host has joined.
async fn create_room_with_host<'a>(cluster: &'a TestCluster, settings: Value) -> (TestRoom<'a>, TestPeer) {
    let mut body = json!({"id": "r", "lobby": true});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    cluster.api("POST", "/api/rooms", &body).await.assert_status(201);
    let room = cluster.room("r");
    let host = room.join_with(json!({"user": "host", "role": "host"})).await;
    (room, host)
}

async fn delete_room(cluster: &TestCluster) {
    cluster.api("DELETE", "/api/rooms/r", &json!(null)).await.assert_status(204);
}

fn command(kind: &str, peer: &str) -> Value {
    json!({"type": kind, "peer": peer})
}

async fn resume(address: SocketAddr, (handle, since): (String, u64)) -> TestConnection {
    TestConnection::open_with(address, &format!("resume={handle}&since={since}")).await.expect("an upgrade")
}

on_each_store! {
    async fn a_waiting_peer_cannot_exchange_messages_and_is_announced_when_admitted(cluster) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        let id = alice.expect_waiting().await;
        let knock = host.next_of_type("knock").await;
        assert_eq!((&knock["peerId"], &knock["userId"]), (&json!(id), &"alice".into()), "{knock}");
        let answer = alice.request(json!({"type": "message", "data": 1})).await;
        assert_eq!(answer["code"], "not_permitted", "{answer}");
        let answer = host.request(json!({"type": "message", "to": id, "data": 1})).await;
        assert_eq!(answer["code"], "no_such_peer", "{answer}");
        host.send_acked(command("admit", &id)).await;
        // Send immediately: a message sent before Alice receives `joined` must not be lost.
        host.send_acked(json!({"type": "message", "to": id, "data": "welcome"})).await;
        let alice = alice.into_peer().await;
        assert_eq!((alice.id(), alice.joined["peers"][0]["userId"].as_str()), (&*id, Some("host")));
        assert_eq!(alice.next_message().await.data, Some("welcome".into()));
        assert_eq!(host.next_of_type("knock-ended").await["reason"], "admitted");
        assert_eq!(host.next_of_type("peer-joined").await["peerId"], json!(id));
        // A second `admit` is acknowledged and has no effect.
        host.send_acked(command("admit", &id)).await;
        alice.message(&host, json!("here")).await;
        host.next_message().await;
        delete_room(cluster).await;
    }

    async fn a_denied_peer_is_closed_and_cannot_return_with_its_handle(cluster) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        let id = alice.expect_waiting().await;
        let (handle, _) = alice.handle().await;
        host.send_acked(command("kick", &id)).await;
        let closed = alice.wait_closed().await;
        assert_eq!((closed.code, &*closed.reason), (4521, "denied"));
        assert_eq!(host.next_of_type("knock-ended").await["reason"], "denied");
        let resume = Request::upgrade(format!("/ws/signal?resume={handle}&since=0")).send(cluster.nodes[0].address).await;
        // The grant is revoked too, so either check may refuse the handle.
        resume.assert_status(401);
        delete_room(cluster).await;
    }

    async fn a_waiting_peer_resumes_its_wait_on_another_node(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        let id = alice.expect_waiting().await;
        let handle = alice.handle().await;
        drop(alice);
        let resumed = resume(cluster.next_node().address, handle).await;
        assert_eq!(resumed.expect_waiting().await, id);
        let handle = resumed.handle().await;
        drop(resumed);
        // The host admits the detached peer, so its resume makes it a member.
        host.send_acked(command("admit", &id)).await;
        let resumed = resume(cluster.next_node().address, handle).await;
        let first = resumed.next().await;
        assert_eq!((&first["type"], &first["recovered"]), (&"resumed".into(), &true.into()), "{first}");
        assert_eq!(first["peers"][0]["userId"], "host", "{first}");
        delete_room(cluster).await;
    }

    async fn only_the_host_is_notified_when_a_detached_waiting_peer_times_out(cluster) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let bob = room.connect("bob").await;
        let bob_id = bob.expect_waiting().await;
        host.send_acked(command("admit", &bob_id)).await;
        let bob = bob.into_peer().await;
        let alice = room.connect("alice").await;
        alice.expect_waiting().await;
        drop(alice);
        let ended = host.next_where("the end of the wait of Alice", |frame| frame["type"] == "knock-ended" && frame["reason"] != "admitted").await;
        assert_eq!(ended["reason"], "timeout", "{ended}");
        bob.ping().await;
        let frames = bob.take_unread().await;
        assert!(frames.iter().all(|frame| !["knock", "knock-ended", "peer-left"].contains(&frame["type"].as_str().unwrap())), "{frames:?}");
        delete_room(cluster).await;
    }

    async fn a_role_that_may_pass_the_lobby_joins_directly(cluster, [
        ("ROLES__HOST__PERMISSIONS", "admit,end"), ("ROLES__GUEST__PERMISSIONS", "message"),
        ("ROLES__SPEAKER__PERMISSIONS", "message"), ("ROLES__SPEAKER__LOBBY", "pass"),
    ]) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        let id = alice.expect_waiting().await;
        let bob = room.join_with(json!({"user": "bob", "role": "speaker"})).await;
        assert_eq!(host.next_of_type("peer-joined").await["peerId"], json!(bob.id()));
        // A waiting peer is admitted when it gets such a role.
        let path = format!("/api/rooms/r/participants/{id}");
        cluster.api("PATCH", &path, &json!({"role": "speaker"})).await.assert_status(200);
        assert_eq!(alice.into_peer().await.id(), id);
        delete_room(cluster).await;
    }

    async fn the_lobby_has_places_of_its_own(cluster, [("LIMITS__LOBBY_PEERS", "2"), ("LIMITS__RESERVE", "50")]) {
        let (room, host) = create_room_with_host(cluster, json!({"maxPeers": 2})).await;
        let alice = room.connect("alice").await;
        let id = alice.expect_waiting().await;
        // One caller gets half of the lobby.
        let bob = room.connect("bob").await;
        assert_eq!(bob.next().await["code"], "room_full");
        assert_eq!(bob.wait_closed().await.code, 4510);
        let token = cluster.sign_token("r", "carol");
        let carol = TestConnection::open(cluster.next_node().address, &token).await;
        let carol_id = carol.expect_waiting().await;
        host.send_acked(command("admit", &id)).await;
        alice.into_peer().await;
        let full = host.request(command("admit", &carol_id)).await;
        assert_eq!((&full["type"], &full["code"]), (&"error".into(), &"room_full".into()), "{full}");
        carol.ping().await;
        delete_room(cluster).await;
    }

    async fn a_later_moderator_receives_the_list_of_waiting_peers(cluster) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        let id = alice.expect_waiting().await;
        host.leave().await;
        let second = room.join_with(json!({"user": "second", "role": "moderator"})).await;
        assert_eq!(second.joined["waiting"][0]["peerId"], json!(id), "{}", second.joined);
        second.send_acked(command("admit", &id)).await;
        alice.into_peer().await;
        delete_room(cluster).await;
    }

    async fn a_waiting_peer_knows_whether_a_moderator_is_in_the_room(cluster) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        let waiting = alice.next().await;
        assert_eq!((&waiting["type"], &waiting["moderatorPresent"]), (&json!("waiting"), &json!(true)), "{waiting}");
        let carol = room.join_with(json!({"user": "carol", "role": "moderator"})).await;
        host.leave().await;
        carol.leave().await;
        // Nothing is sent while one of two moderators leaves.
        let changed = json!({"type": "lobby-updated", "moderatorPresent": false});
        assert_eq!(alice.next().await, changed);
        let bob = room.connect("bob").await;
        assert_eq!(bob.next().await["moderatorPresent"], json!(false));
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        for peer in [&alice, &bob] {
            assert_eq!(peer.next().await, json!({"type": "lobby-updated", "moderatorPresent": true}));
        }
        let id = waiting["peerId"].as_str().unwrap();
        host.send_acked(command("admit", id)).await;
        assert_eq!(alice.into_peer().await.id(), id);
        delete_room(cluster).await;
    }

    async fn a_moderator_turns_the_lobby_on_and_off(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let bob = room.join("bob").await;
        let answer = bob.request(json!({"type": "lobby"})).await;
        assert_eq!(answer["code"], "not_permitted", "{answer}");
        host.send_acked(json!({"type": "lobby"})).await;
        assert_eq!(bob.next_of_type("room-updated").await["lobby"], true);
        // Bob stays in the room; the next peer waits.
        let alice = room.connect("alice").await;
        let id = alice.expect_waiting().await;
        host.send_acked(json!({"type": "lobby", "lobby": false})).await;
        assert_eq!(alice.into_peer().await.id(), id);
        assert_eq!(bob.next_of_type("peer-joined").await["userId"], "alice");
        room.join("carol").await;
    }

    async fn ending_the_room_closes_waiting_peers(cluster) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        alice.expect_waiting().await;
        host.send_acked(json!({"type": "end"})).await;
        assert_eq!(alice.wait_closed().await.code, 4514);
        delete_room(cluster).await;
    }

    async fn a_waiting_peer_may_leave(cluster) {
        let (room, host) = create_room_with_host(cluster, json!({})).await;
        let alice = room.connect("alice").await;
        alice.expect_waiting().await;
        let answer = alice.request(json!({"type": "leave"})).await;
        assert_eq!(answer["type"], "ack", "{answer}");
        assert_eq!(host.next_of_type("knock-ended").await["reason"], "left");
        delete_room(cluster).await;
    }
}
