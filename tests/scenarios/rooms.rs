//! The effects of the HTTP API on rooms and their peers.

use serde_json::{Value, json};
use signalbox_tests::{cluster::TestCluster, http::Request, peer::TestConnection};

async fn create_room(cluster: &TestCluster, mut settings: Value) {
    settings["id"] = "r".into();
    cluster.api("POST", "/api/rooms", &settings).await.assert_status(201);
}

async fn delete_room(cluster: &TestCluster) {
    cluster.api("DELETE", "/api/rooms/r", &Value::Null).await.assert_status(204);
}

async fn connect(cluster: &TestCluster, token: &str) -> TestConnection {
    TestConnection::open(cluster.next_node().address, token).await
}

on_each_store! {
    async fn a_created_room_exists_without_peers(cluster) {
        create_room(cluster, json!({"name": "Stand-up", "maxPeers": 1})).await;
        let alice = cluster.room("r").join("alice").await;
        assert_eq!((&alice.joined["room"]["name"], &alice.joined["room"]["maxPeers"]), (&"Stand-up".into(), &1.into()));
        let bob = cluster.room("r").connect("bob").await;
        assert_eq!(bob.next().await["code"], "room_full");
        let room = cluster.api("GET", "/api/rooms/r", &Value::Null).await.json();
        assert_eq!((&room["peers"], &room["name"]), (&1.into(), &"Stand-up".into()), "{room}");
        alice.leave().await;
        let room = cluster.api("GET", "/api/rooms/r", &Value::Null).await.json();
        assert_eq!((&room["peers"], &room["name"]), (&0.into(), &"Stand-up".into()), "{room}");
        delete_room(cluster).await;
        cluster.api("GET", "/api/rooms/r", &Value::Null).await.assert_problem(404, "no_such_room");
    }

    async fn a_locked_or_disabled_room_refuses_joins(cluster) {
        create_room(cluster, json!({})).await;
        let far_future = 4_000_000_000_000_u64;
        for (change, code, close) in [
            (json!({"locked": true}), "room_locked", 4517),
            (json!({"locked": false, "enabled": false}), "room_disabled", 4518),
        ] {
            cluster.api("PATCH", "/api/rooms/r", &change).await.assert_status(200);
            let late = cluster.room("r").connect("late").await;
            assert_eq!(late.next().await["code"], code);
            assert_eq!(late.wait_closed().await.code, close);
        }
        cluster.api("PATCH", "/api/rooms/r", &json!({"startsAt": far_future})).await.assert_problem(400, "bad_request");
        delete_room(cluster).await;
    }

    async fn a_room_with_required_encryption_refuses_roles_that_need_sdp_checks(cluster) {
        cluster.api("POST", "/api/rooms", &json!({"e2ee": "required"})).await.assert_problem(409, "conflict");
        create_room(cluster, json!({"e2ee": "required", "roles": ["guest", "host"]})).await;
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let alice = room.join("alice").await;
        for role in ["viewer", "speaker"] {
            let token = room.token(json!({"user": "late", "role": role})).await;
            let late = connect(cluster, &token).await;
            assert_eq!(late.next().await["code"], "room_not_allowed", "{role}");
            assert_eq!(late.wait_closed().await.code, 4522, "{role}");
        }
        let refused = host.request(json!({"type": "mute", "peer": alice.id()})).await;
        assert_eq!(refused["code"], "not_permitted", "{refused}");
        let path = format!("/api/rooms/r/participants/{}", alice.id());
        cluster.api("PATCH", &path, &json!({"role": "viewer"})).await.assert_problem(403, "role_not_allowed");
        cluster.api("PATCH", &path, &json!({"muted": true})).await.assert_problem(409, "conflict");
        host.send_acked(json!({"type": "kick", "peer": alice.id()})).await;
        assert_eq!(alice.wait_closed().await.code, 4513);
        delete_room(cluster).await;
    }

    async fn a_role_change_applies_to_the_open_connection_and_survives_a_resume(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let path = format!("/api/rooms/r/participants/{}", alice.id());
        cluster.api("PATCH", &path, &json!({"role": "viewer"})).await.assert_status(200);
        let permissions = alice.next_of_type("permissions").await;
        assert_eq!((&permissions["role"], &permissions["permissions"]), (&"viewer".into(), &json!([])), "{permissions}");
        assert_eq!(bob.next_of_type("peer-updated").await["role"], "viewer");
        let refused = alice.request(json!({"type": "message", "data": 1})).await;
        assert_eq!(refused["code"], "not_permitted", "{refused}");
        let alice = alice.disconnect().await.resume_on(cluster.next_node()).await;
        assert_eq!(alice.joined["role"], "viewer");
        let refused = alice.request(json!({"type": "message", "data": 1})).await;
        assert_eq!(refused["code"], "not_permitted", "{refused}");
        cluster.api("PATCH", &path, &json!({"role": "host"})).await.assert_status(200);
        alice.next_where("the permissions of the new role", |frame| frame["type"] == "permissions" && frame["role"] == "host").await;
        alice.send_acked(json!({"type": "kick", "peer": bob.id()})).await;
    }

    async fn a_removed_peer_cannot_return_with_its_handle_or_token(cluster) {
        let room = cluster.room("r");
        let _host = room.join("host").await;
        let token = room.token(json!({"user": "mallory"})).await;
        let mallory = connect(cluster, &token).await.into_peer().await;
        let resume_state = mallory.resume_state().await;
        let path = format!("/api/rooms/r/participants/{}", mallory.id());
        cluster.api("DELETE", &path, &Value::Null).await.assert_status(200);
        assert_eq!(mallory.wait_closed().await.code, 4513);
        for node in &cluster.nodes {
            signalbox_tests::net::eventually("each node knows that the token is revoked", async || {
                let answer = Request::upgrade(format!("/ws/signal?token={token}")).send(node.address).await;
                (answer.status == 401 && answer.json()["code"] == "token_revoked").then_some(())
            }).await;
            let answer = Request::upgrade(format!("/ws/signal?{}", resume_state.query())).send(node.address).await;
            assert_eq!(answer.status, 401, "{}", answer.text);
        }
        let again = room.connect("mallory").await;
        assert_eq!(again.next().await["code"], "removed", "another token");
        assert_eq!(again.wait_closed().await.code, 4513);
    }

    async fn one_request_removes_all_peers_of_a_role_or_a_user(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let guests = room.join_all(&["a", "b"]).await;
        let speaker = room.join_with(json!({"user": "speaker", "role": "speaker"})).await;
        let answer = cluster.api("DELETE", "/api/rooms/r/participants?role=guest", &Value::Null).await;
        assert_eq!(answer.json()["removed"], 2, "{}", answer.text);
        for guest in guests {
            assert_eq!(guest.wait_closed().await.code, 4513);
        }
        cluster.api("DELETE", "/api/rooms/r/participants?user=speaker", &Value::Null).await.assert_status(200);
        assert_eq!(speaker.wait_closed().await.code, 4513);
        let list = cluster.api("GET", "/api/rooms/r/participants", &Value::Null).await.json();
        assert_eq!((&list["participants"][0]["peerId"], list["participants"].as_array().unwrap().len()), (&json!(host.id()), 1));
    }

    async fn a_ban_from_a_room_removes_the_user_from_that_room_only(cluster) {
        let (room, other_room) = (cluster.room("r"), cluster.room("elsewhere"));
        let host = room.join("host").await;
        let mallory = room.join("mallory").await;
        let new_token = cluster.sign_token("r", "mallory");
        cluster.api("POST", "/api/rooms/r/bans", &json!({"user": "mallory", "for": 60})).await.assert_status(201);
        assert_eq!(mallory.wait_closed().await.code, 4515);
        assert_eq!(host.next_of_type("peer-left").await["reason"], "banned");
        for node in &cluster.nodes {
            signalbox_tests::net::eventually("each node knows the ban", async || {
                let answer = Request::upgrade(format!("/ws/signal?token={new_token}")).send(node.address).await;
                (answer.status == 403).then_some(())
            }).await;
        }
        other_room.join("mallory").await.leave().await;
    }

    async fn messages_of_the_application_and_of_peers_arrive_in_order(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.message(&bob, json!(1)).await;
        cluster.api("POST", "/api/rooms/r/messages", &json!({"data": {"text": "soon over"}})).await.assert_status(202);
        cluster.api("POST", "/api/rooms/r/messages", &json!({"to": bob.id(), "data": 2})).await.assert_status(202);
        assert_eq!(alice.next_of_type("message").await["data"]["text"], "soon over");
        let first = bob.next_of_type("message").await;
        assert_eq!((&first["from"], &first["data"]), (&json!(alice.id()), &1.into()));
        let second = bob.next_of_type("message").await;
        assert_eq!((second.get("from"), &second["room"]), (None, &true.into()), "{second}");
        assert_eq!(bob.next_of_type("message").await["data"], 2);
    }

    async fn a_room_that_was_ended_and_locked_refuses_joins_until_it_is_unlocked(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        cluster.api("POST", "/api/rooms/r/end", &json!({"lock": true})).await.assert_status(200);
        for peer in [alice, bob] {
            assert_eq!(peer.wait_closed().await.code, 4514);
        }
        assert_eq!(room.connect("alice").await.next().await["code"], "room_locked");
        cluster.api("POST", "/api/rooms/r/unlock", &Value::Null).await.assert_status(200);
        room.join("alice").await.leave().await;
        delete_room(cluster).await;
    }

    async fn a_room_ends_after_its_maximum_duration(cluster) {
        create_room(cluster, json!({"maxDuration": 1})).await;
        let alice = cluster.room("r").join("alice").await;
        assert!(alice.joined["room"]["endsAt"].is_u64(), "{}", alice.joined);
        assert_eq!(alice.wait_closed().await.code, 4514);
        delete_room(cluster).await;
    }

    async fn without_auto_create_only_created_rooms_accept_joins(cluster, [("ROOMS__IMPLICIT", "false")]) {
        let link = cluster.room("r").connect("alice").await;
        assert_eq!(link.next().await["code"], "room_not_allowed");
        assert_eq!(link.wait_closed().await.code, 4522);
        create_room(cluster, json!({})).await;
        cluster.room("r").join("alice").await.leave().await;
        delete_room(cluster).await;
    }
}
