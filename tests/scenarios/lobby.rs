//! Peers that wait until somebody lets them in.

use std::net::SocketAddr;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{TestCluster, TestRoom},
    http::Request,
    peer::{Link, TestPeer},
};

/// A room with a lobby, and its host inside.
async fn with_host<'a>(cluster: &'a TestCluster, settings: Value) -> (TestRoom<'a>, TestPeer) {
    let mut body = json!({"id": "r", "lobby": true});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    cluster.api("POST", "/api/rooms", &body).await.assert_status(201);
    let room = cluster.room("r");
    let host = room.join_as(json!({"user": "host", "role": "host"})).await;
    (room, host)
}

async fn over(cluster: &TestCluster) {
    cluster.api("DELETE", "/api/rooms/r", &json!(null)).await.assert_status(204);
}

fn on(kind: &str, peer: &str) -> Value {
    json!({"type": kind, "peer": peer})
}

async fn resume(address: SocketAddr, (handle, since): (String, u64)) -> Link {
    Link::ask_in(address, &format!("resume={handle}&since={since}")).await.expect("an upgrade")
}

on_each_store! {
    async fn who_knocks_waits_unheard_and_is_new_to_all_when_let_in(cluster) {
        let (room, host) = with_host(cluster, json!({})).await;
        let alice = room.knock("alice").await;
        let id = alice.in_lobby().await;
        let knock = host.next_of_type("knock").await;
        assert_eq!((&knock["peerId"], &knock["userId"]), (&json!(id), &"alice".into()), "{knock}");
        let answer = alice.ask(json!({"type": "message", "data": 1})).await;
        assert_eq!(answer["code"], "not_permitted", "{answer}");
        let answer = host.ask(json!({"type": "message", "to": id, "data": 1})).await;
        assert_eq!(answer["code"], "no_such_peer", "{answer}");
        host.must(on("admit", &id)).await;
        // At once: what is sent before the other side has its `joined` must not be lost.
        host.must(json!({"type": "message", "to": id, "data": "welcome"})).await;
        let alice = alice.into_peer().await;
        assert_eq!((alice.id(), alice.joined["peers"][0]["userId"].as_str()), (&*id, Some("host")));
        assert_eq!(alice.next_message().await.data, Some("welcome".into()));
        assert_eq!(host.next_of_type("knock-ended").await["reason"], "admitted");
        assert_eq!(host.next_of_type("peer-joined").await["peerId"], json!(id));
        // Twice does no harm, and says so.
        host.must(on("admit", &id)).await;
        alice.message(&host, json!("here")).await;
        host.next_message().await;
        over(cluster).await;
    }

    async fn who_is_denied_is_told_and_cannot_come_back_with_the_handle(cluster) {
        let (room, host) = with_host(cluster, json!({})).await;
        let alice = room.knock("alice").await;
        let id = alice.in_lobby().await;
        let (handle, _) = alice.handle().await;
        host.must(on("kick", &id)).await;
        let closed = alice.closed().await;
        assert_eq!((closed.code, &*closed.reason), (4521, "denied"));
        assert_eq!(host.next_of_type("knock-ended").await["reason"], "denied");
        let again = Request::upgrade(format!("/ws/signal?resume={handle}&since=0")).send(cluster.nodes[0].address).await;
        // Its grant is taken back too; which is heard of first does not matter.
        again.assert_status(401);
        over(cluster).await;
    }

    async fn who_waits_may_lose_its_socket_and_wait_on_elsewhere(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let (room, host) = with_host(cluster, json!({})).await;
        let alice = room.knock("alice").await;
        let id = alice.in_lobby().await;
        let handle = alice.handle().await;
        drop(alice);
        let back = resume(cluster.next_node().address, handle).await;
        assert_eq!(back.in_lobby().await, id);
        let handle = back.handle().await;
        drop(back);
        // Let in while its socket is lost: it comes back as a member.
        host.must(on("admit", &id)).await;
        let back = resume(cluster.next_node().address, handle).await;
        let first = back.next().await;
        assert_eq!((&first["type"], &first["recovered"]), (&"resumed".into(), &true.into()), "{first}");
        assert_eq!(first["peers"][0]["userId"], "host", "{first}");
        over(cluster).await;
    }

    async fn who_waits_and_stays_away_has_left_and_only_the_host_hears(cluster) {
        let (room, host) = with_host(cluster, json!({})).await;
        let bob = room.knock("bob").await;
        let bob_id = bob.in_lobby().await;
        host.must(on("admit", &bob_id)).await;
        let bob = bob.into_peer().await;
        let alice = room.knock("alice").await;
        alice.in_lobby().await;
        drop(alice);
        let ended = host.next_where("the end of alice's wait", |frame| frame["type"] == "knock-ended" && frame["reason"] != "admitted").await;
        assert_eq!(ended["reason"], "timeout", "{ended}");
        bob.ping().await;
        let heard = bob.rest().await;
        assert!(heard.iter().all(|frame| !["knock", "knock-ended", "peer-left"].contains(&frame["type"].as_str().unwrap())), "{heard:?}");
        over(cluster).await;
    }

    async fn a_role_passes_where_its_template_says_so(cluster, [
        ("ROLES__HOST__PERMISSIONS", "admit,end"), ("ROLES__GUEST__PERMISSIONS", "message"),
        ("ROLES__SPEAKER__PERMISSIONS", "message"), ("ROLES__SPEAKER__LOBBY", "pass"),
    ]) {
        let (room, host) = with_host(cluster, json!({})).await;
        let alice = room.knock("alice").await;
        let id = alice.in_lobby().await;
        let bob = room.join_as(json!({"user": "bob", "role": "speaker"})).await;
        assert_eq!(host.next_of_type("peer-joined").await["peerId"], json!(bob.id()));
        // Who waits passes with such a role.
        let path = format!("/api/rooms/r/participants/{id}");
        cluster.api("PATCH", &path, &json!({"role": "speaker"})).await.assert_status(200);
        assert_eq!(alice.into_peer().await.id(), id);
        over(cluster).await;
    }

    async fn those_who_wait_have_their_places(cluster) {
        let (room, _host) = with_host(cluster, json!({"maxPeers": 2})).await;
        let alice = room.knock("alice").await;
        alice.in_lobby().await;
        let bob = room.knock("bob").await;
        assert_eq!(bob.next().await["code"], "room_full");
        assert_eq!(bob.closed().await.code, 4510);
        over(cluster).await;
    }

    async fn whoever_may_let_in_learns_who_waits_though_the_first_host_has_gone(cluster) {
        let (room, host) = with_host(cluster, json!({})).await;
        let alice = room.knock("alice").await;
        let id = alice.in_lobby().await;
        host.leave().await;
        let second = room.join_as(json!({"user": "second", "role": "moderator"})).await;
        assert_eq!(second.joined["waiting"][0]["peerId"], json!(id), "{}", second.joined);
        second.must(on("admit", &id)).await;
        alice.into_peer().await;
        over(cluster).await;
    }

    async fn the_end_of_the_room_ends_the_wait(cluster) {
        let (room, host) = with_host(cluster, json!({})).await;
        let alice = room.knock("alice").await;
        alice.in_lobby().await;
        host.must(json!({"type": "end"})).await;
        assert_eq!(alice.closed().await.code, 4514);
        over(cluster).await;
    }

    async fn who_waits_may_leave(cluster) {
        let (room, host) = with_host(cluster, json!({})).await;
        let alice = room.knock("alice").await;
        alice.in_lobby().await;
        let answer = alice.ask(json!({"type": "leave"})).await;
        assert_eq!(answer["type"], "ack", "{answer}");
        assert_eq!(host.next_of_type("knock-ended").await["reason"], "left");
        over(cluster).await;
    }
}
