//! What members with a permission may do to others and to the room.

use serde_json::{Value, json};
use signalbox_tests::{http::Request, peer::Link, ticket::Ticket};

fn on(kind: &str, peer: &str) -> Value {
    json!({"type": kind, "peer": peer})
}

async fn assert_refused(answer: Value, code: &str) {
    assert_eq!((&answer["type"], &answer["code"]), (&"error".into(), &code.into()), "{answer}");
}

/// A handle that is refused before the upgrade, with this code.
async fn assert_cannot_resume(address: std::net::SocketAddr, ticket: &Ticket, code: &str) {
    let target = format!("/ws/signal?resume={}&since={}", ticket.handle, ticket.since);
    // Its grant is taken back too; which is heard of first does not matter.
    let answer = Request::upgrade(target).send(address).await;
    let found = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    assert!(answer.status == 401 && [code, "token_revoked"].contains(&&*found), "{}", answer.text);
}

on_each_store! {
    async fn who_is_kicked_is_told_so_and_cannot_resume(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let (mallory, bob) = room.join2().await;
        let ticket = mallory.ticket().await;
        host.must(on("kick", mallory.id())).await;
        let closed = mallory.closed().await;
        assert_eq!((closed.code, &*closed.reason), (4513, "removed"));
        let left = bob.next_of_type("peer-left").await;
        assert_eq!((left["peerId"].as_str(), &left["reason"]), (Some(mallory.id()), &"removed".into()));
        for node in &cluster.nodes {
            assert_cannot_resume(node.address, &ticket, "resume_expired").await;
        }
    }

    async fn a_role_without_the_permission_may_nothing_and_a_moderator_nothing_to_a_host(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let moderator = room.join_as(json!({"user": "mod", "role": "moderator"})).await;
        let guest = room.join("guest").await;
        for message in [on("kick", moderator.id()), on("mute", host.id()), on("admit", host.id()), json!({"type": "lock"}), json!({"type": "end"})] {
            assert_refused(guest.ask(message).await, "not_permitted").await;
        }
        assert_refused(moderator.ask(on("kick", host.id())).await, "not_permitted").await;
        assert_refused(moderator.ask(json!({"type": "end"})).await, "not_permitted").await;
        assert_refused(moderator.ask(on("kick", guest.id().replace(|_: char| true, "0").as_str())).await, "no_such_peer").await;
        moderator.must(on("kick", guest.id())).await;
        host.must(on("kick", moderator.id())).await;
        assert_eq!(moderator.closed().await.code, 4513);
    }

    async fn a_moderator_has_no_power_in_another_room(cluster) {
        let elsewhere = cluster.room("elsewhere").join_as(json!({"user": "host", "role": "host"})).await;
        let (alice, bob) = cluster.room("r").join2().await;
        assert_refused(elsewhere.ask(on("kick", alice.id())).await, "no_such_peer").await;
        elsewhere.must(json!({"type": "lock"})).await;
        cluster.room("r").join("carol").await.leave().await;
        alice.message(&bob, json!("still here")).await;
        bob.next_message().await;
    }

    async fn a_locked_room_takes_nobody_in_but_those_who_come_back(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let alice = room.join("alice").await;
        host.must(json!({"type": "lock"})).await;
        let told = alice.next_of_type("room-updated").await;
        assert_eq!(told["locked"], true, "{told}");
        let late = room.knock("late").await;
        assert_eq!(late.next().await["code"], "room_locked");
        assert_eq!(late.closed().await.code, 4517);
        let back = alice.lose().await.resume_on(cluster.next_node()).await;
        assert_eq!(back.joined["room"]["locked"], true, "{}", back.joined);
        host.must(json!({"type": "lock", "locked": false})).await;
        assert_eq!(back.next_of_type("room-updated").await["locked"], false);
        room.join("late").await;
    }

    async fn everybody_sees_who_is_muted_late_joiners_too(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let (alice, bob) = room.join2().await;
        let entry = |peer: &signalbox_tests::peer::TestPeer, of: &str| {
            let entries = peer.joined["peers"].as_array().unwrap().iter();
            entries.clone().find(|entry| entry["peerId"] == of).unwrap().clone()
        };
        assert_eq!(entry(&bob, alice.id()).get("muted"), None);
        host.must(on("mute", alice.id())).await;
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
        let bob = bob.lose().await.resume_on(cluster.next_node()).await;
        assert_eq!(entry(&bob, alice.id()).get("muted"), None);
    }

    async fn who_is_muted_hears_what_it_may_still_do(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let alice = room.join("alice").await;
        host.must(on("mute", alice.id())).await;
        let standing = alice.next_of_type("permissions").await;
        assert_eq!((&standing["role"], &standing["muted"]), (&"guest".into(), &true.into()), "{standing}");
        assert_eq!(standing["permissions"], json!(["message", "share", "data"]), "{standing}");
        let sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=sendrecv\r\n";
        let offer = || json!({"type": "offer", "to": host.id(), "sdp": sdp});
        assert_refused(alice.ask(offer()).await, "not_permitted").await;
        host.must(json!({"type": "mute", "peer": alice.id(), "muted": false})).await;
        let standing = alice.next_of_type("permissions").await;
        assert_eq!(standing["permissions"], json!(["publish", "message", "share", "data"]), "{standing}");
        alice.must(offer()).await;
    }

    async fn the_end_of_a_room_sends_everybody_out(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let (alice, bob) = room.join2().await;
        let ticket = alice.ticket().await;
        host.must(json!({"type": "end"})).await;
        for peer in [host, alice, bob] {
            let closed = peer.closed().await;
            assert_eq!((closed.code, &*closed.reason), (4514, "ended"));
        }
        assert_cannot_resume(cluster.nodes[0].address, &ticket, "resume_expired").await;
        room.join("alice").await.leave().await;
    }

    async fn a_command_that_is_sent_again_is_done_once(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let alice = room.join("alice").await;
        let id = host.must(on("kick", alice.id())).await;
        host.send(json!({"type": "kick", "peer": alice.id(), "id": id})).await;
        let again = host.answer(id).await;
        assert_eq!((&again["type"], &again["duplicate"]), (&"ack".into(), &true.into()), "{again}");
    }

    async fn a_lock_meets_joins_in_flight_and_each_is_in_or_refused(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "host", "role": "host"})).await;
        let mut tokens = Vec::new();
        for n in 0..12 {
            tokens.push(room.token(json!({"user": format!("u{n}")})).await);
        }
        let knocks = tokens.iter().map(|token| async {
            let link = Link::open(cluster.next_node().address, token).await;
            let first = link.next().await;
            (first["type"] == "joined", link)
        });
        let (outcomes, _) = tokio::join!(futures_util::future::join_all(knocks), host.must(json!({"type": "lock"})));
        let inside = outcomes.iter().filter(|(joined, _)| *joined).count();
        for _ in 0..inside {
            host.next_of_type("peer-joined").await;
        }
        host.ping().await;
        assert!(host.rest().await.iter().all(|frame| frame["type"] != "peer-joined"), "who was refused was never there");
    }
}
