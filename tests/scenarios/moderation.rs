//! Moderation by peers: kick, mute, lock and end, and the permissions that each needs.

use serde_json::{Value, json};
use signalbox_tests::{http::Request, net::eventually, peer::ResumeState, peer::TestConnection};

fn command(kind: &str, peer: &str) -> Value {
    json!({"type": kind, "peer": peer})
}

async fn assert_refused(answer: Value, code: &str) {
    assert_eq!((&answer["type"], &answer["code"]), (&"error".into(), &code.into()), "{answer}");
}

/// Asserts that the upgrade with this handle is refused with this code.
async fn assert_cannot_resume(address: std::net::SocketAddr, resume_state: &ResumeState, code: &str) {
    let target = format!("/ws/signal?resume={}&since={}", resume_state.handle, resume_state.since);
    // The grant is revoked too, so the refusal may come from the handle or from the revocation.
    let answer = Request::upgrade(target).send(address).await;
    let found = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    assert!(answer.status == 401 && [code, "token_revoked"].contains(&&*found), "{}", answer.text);
}

on_each_store! {
    async fn a_kicked_peer_is_closed_as_removed_and_cannot_resume(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let (mallory, bob) = room.join2().await;
        let resume_state = mallory.resume_state().await;
        host.send_acked(command("kick", mallory.id())).await;
        let closed = mallory.wait_closed().await;
        assert_eq!((closed.code, &*closed.reason), (4513, "removed"));
        let left = bob.next_of_type("peer-left").await;
        assert_eq!((left["peerId"].as_str(), &left["reason"]), (Some(mallory.id()), &"removed".into()));
        for node in &cluster.nodes {
            assert_cannot_resume(node.address, &resume_state, "resume_expired").await;
        }
    }

    async fn a_guest_may_not_moderate_and_a_moderator_may_not_act_on_a_host(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let moderator = room.join_with(json!({"user": "mod", "role": "moderator"})).await;
        let guest = room.join("guest").await;
        for message in [command("kick", moderator.id()), command("mute", host.id()), command("admit", host.id()), json!({"type": "lock"}), json!({"type": "end"})] {
            assert_refused(guest.request(message).await, "not_permitted").await;
        }
        assert_refused(moderator.request(command("kick", host.id())).await, "not_permitted").await;
        assert_refused(moderator.request(json!({"type": "end"})).await, "not_permitted").await;
        assert_refused(moderator.request(command("kick", guest.id().replace(|_: char| true, "0").as_str())).await, "no_such_peer").await;
        moderator.send_acked(command("kick", guest.id())).await;
        host.send_acked(command("kick", moderator.id())).await;
        assert_eq!(moderator.wait_closed().await.code, 4513);
    }

    async fn a_moderator_has_no_permission_in_another_room(cluster) {
        let other_host = cluster.room("elsewhere").join_with(json!({"user": "host", "role": "host"})).await;
        let (alice, bob) = cluster.room("r").join2().await;
        assert_refused(other_host.request(command("kick", alice.id())).await, "no_such_peer").await;
        other_host.send_acked(json!({"type": "lock"})).await;
        cluster.room("r").join("carol").await.leave().await;
        alice.message(&bob, json!("still here")).await;
        bob.next_message().await;
    }

    async fn a_locked_room_refuses_joins_and_accepts_resumes(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let alice = room.join("alice").await;
        host.send_acked(json!({"type": "lock"})).await;
        let updated = alice.next_of_type("room-updated").await;
        assert_eq!(updated["locked"], true, "{updated}");
        let late = room.connect("late").await;
        assert_eq!(late.next().await["code"], "room_locked");
        assert_eq!(late.wait_closed().await.code, 4517);
        let resumed = alice.disconnect().await.resume_on(cluster.next_node()).await;
        assert_eq!(resumed.joined["room"]["locked"], true, "{}", resumed.joined);
        host.send_acked(json!({"type": "lock", "locked": false})).await;
        assert_eq!(resumed.next_of_type("room-updated").await["locked"], false);
        room.join("late").await;
    }

    async fn all_peers_see_the_muted_state_including_later_joiners(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let (alice, bob) = room.join2().await;
        let entry = |peer: &signalbox_tests::peer::TestPeer, of: &str| {
            let entries = peer.joined["peers"].as_array().unwrap().iter();
            entries.clone().find(|entry| entry["peerId"] == of).unwrap().clone()
        };
        assert_eq!(entry(&bob, alice.id()).get("muted"), None);
        host.send_acked(command("mute", alice.id())).await;
        let updated = bob.next_of_type("peer-updated").await;
        assert_eq!((updated["peerId"].as_str(), &updated["muted"]), (Some(alice.id()), &true.into()), "{updated}");
        host.next_of_type("peer-updated").await;
        let late = room.join("late").await;
        assert_eq!(entry(&late, alice.id())["muted"], true);
        let path = format!("/api/rooms/r/participants/{}", alice.id());
        for (change, muted) in [(json!({"muted": false}), Value::Null), (json!({"muted": true}), true.into()), (json!({"role": "guest"}), Value::Null)] {
            cluster.api("PATCH", &path, &change).await.assert_status(200);
            let updated = bob.next_of_type("peer-updated").await;
            assert_eq!(updated["muted"], muted, "after {change}: {updated}");
        }
        let auth = cluster.auth.as_ref().unwrap_or(&cluster.nodes[0]);
        for event in ["peer_unmuted", "peer_muted", "role_changed"] {
            eventually("the change is in the audit log", async || auth.log().contains(event).then_some(())).await;
        }
        let bob = bob.disconnect().await.resume_on(cluster.next_node()).await;
        assert_eq!(entry(&bob, alice.id()).get("muted"), None);
    }

    async fn a_muted_peer_receives_its_remaining_permissions(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let alice = room.join("alice").await;
        host.send_acked(command("mute", alice.id())).await;
        let update = alice.next_of_type("permissions").await;
        assert_eq!((&update["role"], &update["muted"]), (&"guest".into(), &true.into()), "{update}");
        assert_eq!(update["permissions"], json!(["message", "share", "data"]), "{update}");
        let sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=sendrecv\r\n";
        let offer = || json!({"type": "offer", "to": host.id(), "sdp": sdp});
        assert_refused(alice.request(offer()).await, "not_permitted").await;
        host.send_acked(json!({"type": "mute", "peer": alice.id(), "muted": false})).await;
        let update = alice.next_of_type("permissions").await;
        assert_eq!(update["permissions"], json!(["publish", "message", "share", "data"]), "{update}");
        alice.send_acked(offer()).await;
    }

    async fn ending_a_room_closes_all_its_peers(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let (alice, bob) = room.join2().await;
        let resume_state = alice.resume_state().await;
        host.send_acked(json!({"type": "end"})).await;
        for peer in [host, alice, bob] {
            let closed = peer.wait_closed().await;
            assert_eq!((closed.code, &*closed.reason), (4514, "ended"));
        }
        assert_cannot_resume(cluster.nodes[0].address, &resume_state, "resume_expired").await;
        room.join("alice").await.leave().await;
    }

    async fn a_repeated_moderation_command_is_applied_once(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let alice = room.join("alice").await;
        let id = host.send_acked(command("kick", alice.id())).await;
        host.send(json!({"type": "kick", "peer": alice.id(), "id": id})).await;
        let repeated = host.reply_to(id).await;
        assert_eq!((&repeated["type"], &repeated["duplicate"]), (&"ack".into(), &true.into()), "{repeated}");
    }

    async fn a_lock_during_concurrent_joins_admits_or_refuses_each_join(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "host", "role": "host"})).await;
        let mut tokens = Vec::new();
        for n in 0..12 {
            tokens.push(room.token(json!({"user": format!("u{n}")})).await);
        }
        let joins = tokens.iter().map(|token| async {
            let link = TestConnection::open(cluster.next_node().address, token).await;
            let first_frame = link.next().await;
            (first_frame["type"] == "joined", link)
        });
        let (outcomes, _) = tokio::join!(futures_util::future::join_all(joins), host.send_acked(json!({"type": "lock"})));
        let joined = outcomes.iter().filter(|(joined, _)| *joined).count();
        for _ in 0..joined {
            host.next_of_type("peer-joined").await;
        }
        host.ping().await;
        assert!(host.take_unread().await.iter().all(|frame| frame["type"] != "peer-joined"), "a refused join is not announced");
    }
}
