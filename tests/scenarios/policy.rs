//! The role of a peer limits what the peer may publish and which candidates the peer receives.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    fleet::Fleet,
    http::Request,
    net::{eventually, eventually_within},
    peer::{TestConnection, TestPeer},
    proxy::NewConnections,
    redis_monitor::RedisMonitor,
    token::TokenBuilder,
};

const RELAY: &str = "candidate:3 1 udp 41885439 198.51.100.7 50001 typ relay raddr 203.0.113.9 rport 40001 generation 0 ufrag x";
const HOST: &str = "candidate:1 1 udp 2122260223 192.168.1.23 40000 typ host generation 0 ufrag x";

const SRFLX: &str = "candidate:2 1 udp 1686052607 203.0.113.9 40001 typ srflx raddr 192.168.1.23 rport 40000 generation 0 ufrag x";
const MDNS: &str = "candidate:4 1 udp 2122260222 0f1e2d3c-0f1e-2d3c-4b5a-0f1e2d3c4b5a.local 40002 typ host generation 0 ufrag x";
const ALL_CANDIDATES: [&str; 4] = [HOST, SRFLX, MDNS, RELAY];

/// Parts of the candidates above that a relay-only peer must not receive.
const NON_RELAY_PARTS: [&str; 5] = ["192.168.1.23", "203.0.113.9", ".local", "typ host", "typ srflx"];

/// A description with one video section in the format of browsers.
fn video(direction: &str, candidates: &[&str]) -> String {
    let mut sdp = format!(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=video 40000 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 192.168.1.23\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:0123456789abcdefghijkl\r\na=setup:actpass\r\na=mid:0\r\na={direction}\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
    );
    for candidate in candidates {
        sdp += &format!("a={candidate}\r\n");
    }
    sdp
}

/// Joins with all permissions, so that the roles differ only in their candidate rules.
async fn join_with_role(cluster: &TestCluster, user: &str, role: &str) -> TestPeer {
    let token = TokenBuilder::valid("r", user).claim("role", role);
    let token = token.claim("permissions", json!(["publish", "message", "share", "data"]));
    TestConnection::open(cluster.next_node().address, &token.sign(&cluster.secret)).await.into_peer().await
}

/// Sends all candidates in each message type that can carry candidates.
async fn send_all_candidates(from: &TestPeer, to: &TestPeer) {
    for kind in ["offer", "answer", "pranswer"] {
        from.send_acked(json!({"type": kind, "to": to.id(), "sdp": video("sendrecv", &ALL_CANDIDATES)}))
            .await;
    }
    for candidate in ALL_CANDIDATES {
        from.candidate(to, json!({"candidate": candidate, "sdpMid": "0"}), 1).await;
    }
    from.candidate(to, json!({"candidate": ""}), 1).await;
}

/// Receives what [`send_all_candidates`] sent: descriptions, and candidates up to
/// end-of-candidates.
async fn receive_candidates(to: &TestPeer) -> (Vec<String>, Vec<String>) {
    let mut descriptions = Vec::new();
    for kind in ["offer", "answer", "pranswer"] {
        descriptions.push(to.next_of_type(kind).await["sdp"].as_str().unwrap().to_owned());
    }
    let mut candidates = Vec::new();
    while candidates.last().is_none_or(|last: &String| !last.is_empty()) {
        let frame = to.next_of_type("candidate").await;
        candidates.push(frame["candidate"]["candidate"].as_str().unwrap().to_owned());
    }
    (descriptions, candidates)
}

async fn assert_relay_only(to: &TestPeer) {
    let (descriptions, candidates) = receive_candidates(to).await;
    for text in descriptions.iter().chain([&candidates[0]]) {
        assert!(text.contains("198.51.100.7"), "{text}");
        assert!(!NON_RELAY_PARTS.iter().any(|part| text.contains(part)), "{text}");
    }
    assert_eq!(candidates.len(), 2, "the relay candidate and end-of-candidates: {candidates:?}");
    let remaining = to.take_unread().await;
    assert!(!NON_RELAY_PARTS.iter().any(|part| json!(remaining).to_string().contains(part)), "{remaining:?}");
}

async fn assert_unredacted(to: &TestPeer) {
    let (descriptions, candidates) = receive_candidates(to).await;
    assert!(
        descriptions.iter().all(|sdp| *sdp == video("sendrecv", &ALL_CANDIDATES)),
        "the descriptions are unchanged"
    );
    assert_eq!(candidates, [HOST, SRFLX, MDNS, RELAY, ""]);
}

async fn set_role(cluster: &TestCluster, peer: &TestPeer, role: &str) {
    let path = format!("/api/rooms/r/participants/{}", peer.id());
    cluster.api("PATCH", &path, &json!({"role": role})).await.assert_status(200);
}

on_each_store! {
    async fn a_peer_without_publish_permission_can_only_receive(cluster) {
        let room = cluster.room("r");
        let host = room.join_with(json!({"user": "alice", "role": "host"})).await;
        let viewer = room.join_with(json!({"user": "bob", "role": "viewer"})).await;
        for kind in ["offer", "answer", "pranswer"] {
            for direction in ["sendrecv", "sendonly", "mid:1"] {
                let refused = viewer.expect_error(json!({"type": kind, "to": host.id(), "sdp": video(direction, &[])})).await;
                // A description with a repeated mid is malformed.
                let code = if direction == "mid:1" { "bad_message" } else { "not_permitted" };
                assert_eq!((&refused["code"], &refused["field"]), (&json!(code), &json!("sdp")), "{refused}");
            }
        }
        let sdp = video("recvonly", &[]);
        viewer.offer(&host, &sdp).await;
        assert_eq!(host.next_offer().await.sdp, Some(sdp));
        let sdp = video("sendrecv", &[HOST]);
        host.offer(&viewer, &sdp).await;
        assert_eq!(viewer.next_offer().await.sdp, Some(sdp));
    }

    async fn a_relay_policy_removes_all_other_candidates(cluster, [("ICE__POLICY", "relay")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        assert_eq!(alice.joined["icePolicy"], "relay");
        let first_id = alice.candidate(&bob, json!({"candidate": HOST, "sdpMid": "0"}), 1).await;
        let second_id = alice.candidate(&bob, json!({"candidate": RELAY, "sdpMid": "0"}), 1).await;
        let third_id = alice.candidate(&bob, json!({"candidate": ""}), 1).await;
        alice.offer(&bob, &video("sendrecv", &[HOST, RELAY])).await;
        assert!(first_id < second_id);
        let relayed = bob.next_forwarded("candidate").await;
        assert_eq!(relayed.id, Some(second_id));
        assert!(relayed.frame.to_string().contains("198.51.100.7") && !relayed.frame.to_string().contains("203.0.113.9"));
        assert_eq!(bob.next_forwarded("candidate").await.id, Some(third_id));
        let offer = bob.next_offer().await.sdp.unwrap();
        assert!(offer.contains("198.51.100.7"), "{offer}");
        assert!(!offer.contains("192.168.1.23") && !offer.contains("203.0.113.9"), "{offer}");
    }

    async fn unreadable_messages_are_refused_under_a_relay_policy(cluster, [("ICE__POLICY", "relay")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let refused = alice.expect_error(json!({"type": "candidate", "to": bob.id(), "candidate": {"candidate": "candidate:x"}})).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_message"), &json!("candidate")), "{refused}");
        let refused = alice.expect_error(json!({"type": "offer", "to": bob.id(), "sdp": "v=0 and no more"})).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_message"), &json!("sdp")), "{refused}");
    }

    async fn a_relay_only_peer_in_a_mixed_room_receives_only_relay_candidates(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let viewer = join_with_role(cluster, "viewer", "viewer").await;
        let speaker = join_with_role(cluster, "speaker", "speaker").await;
        let other = join_with_role(cluster, "other", "guest").await;
        assert_eq!((&viewer.joined["icePolicy"], &speaker.joined["icePolicy"]), (&json!("relay"), &json!("all")));
        for from in [&speaker, &other] {
            send_all_candidates(from, &viewer).await;
            assert_relay_only(&viewer).await;
            // The node redacts candidates of the relay-only peer too.
            send_all_candidates(&viewer, from).await;
            assert_relay_only(from).await;
        }
        send_all_candidates(&speaker, &other).await;
        assert_unredacted(&other).await;
        send_all_candidates(&other, &speaker).await;
        assert_unredacted(&speaker).await;
    }

    async fn the_default_ice_policy_applies_to_targets(
        cluster, [("ICE__POLICY", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        // The configuration does not define this role.
        let watcher = join_with_role(cluster, "watcher", "watcher").await;
        let speaker = join_with_role(cluster, "speaker", "speaker").await;
        send_all_candidates(&speaker, &watcher).await;
        assert_relay_only(&watcher).await;
        let guest = join_with_role(cluster, "guest", "guest").await;
        send_all_candidates(&speaker, &guest).await;
        assert_unredacted(&guest).await;
    }

    async fn a_role_change_applies_to_all_later_messages(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let bob = join_with_role(cluster, "bob", "speaker").await;
        let alice = join_with_role(cluster, "alice", "speaker").await;
        for round in 0..25 {
            let candidate = |role: &str| json!({"candidate": HOST, "sdpMid": format!("{role}{round}")});
            set_role(cluster, &bob, "viewer").await;
            let description = json!({"type": "offer", "to": bob.id(), "sdp": video("sendrecv", &ALL_CANDIDATES)});
            alice.send_acked(description.clone()).await;
            alice.candidate(&bob, candidate("viewer"), 1).await;
            let sdp = bob.next_offer().await.sdp.unwrap();
            assert!(!NON_RELAY_PARTS.iter().any(|part| sdp.contains(part)), "round {round}: {sdp}");
            set_role(cluster, &bob, "speaker").await;
            alice.send_acked(description).await;
            alice.candidate(&bob, candidate("speaker"), 1).await;
            assert_eq!(bob.next_offer().await.sdp.unwrap(), video("sendrecv", &ALL_CANDIDATES), "round {round}");
            let frame = bob.next_of_type("candidate").await;
            assert_eq!(frame["candidate"], candidate("speaker"));
        }
        // The new role also applies to messages sent while the peer was detached.
        let resume_state = bob.disconnect().await;
        let path = format!("/api/rooms/r/participants/{}", resume_state.peer_id);
        cluster.api("PATCH", &path, &json!({"role": "viewer"})).await.assert_status(200);
        alice.send_acked(json!({"type": "candidate", "to": resume_state.peer_id, "candidate": {"candidate": HOST}})).await;
        alice.send_acked(json!({"type": "candidate", "to": resume_state.peer_id, "candidate": {"candidate": RELAY}})).await;
        let bob = resume_state.resume_on(cluster.next_node()).await;
        assert!(bob.next_of_type("candidate").await.to_string().contains("typ relay"));
    }

    async fn a_relay_only_peer_receives_application_messages_unchanged(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let viewer = join_with_role(cluster, "viewer", "viewer").await;
        let speaker = join_with_role(cluster, "speaker", "speaker").await;
        speaker.message(&viewer, json!(HOST)).await;
        speaker.message_room(json!(SRFLX)).await;
        speaker.send_acked(json!({"type": "rollback", "to": viewer.id()})).await;
        assert_eq!(viewer.next_message().await.frame["data"], HOST);
        assert_eq!(viewer.next_message().await.frame["data"], SRFLX);
        viewer.next_of_type("rollback").await;
    }

    async fn unreadable_messages_to_a_relay_only_peer_are_refused(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let viewer = join_with_role(cluster, "viewer", "viewer").await;
        let speaker = join_with_role(cluster, "speaker", "speaker").await;
        let other = join_with_role(cluster, "other", "speaker").await;
        for (message, field) in [
            (json!({"type": "candidate", "candidate": {"candidate": "candidate:x"}}), "candidate"),
            (json!({"type": "offer", "sdp": "v=0 and no more"}), "sdp"),
        ] {
            let to = |peer: &TestPeer| {
                let mut message = message.clone();
                message["to"] = peer.id().into();
                message
            };
            let refused = speaker.request(to(&viewer)).await;
            assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_message"), &json!(field)), "{refused}");
            speaker.send_acked(to(&other)).await;
        }
        // A refused message does not block later messages.
        speaker.candidate(&viewer, json!({"candidate": RELAY}), 1).await;
        let relayed = viewer.next_of_type("candidate").await;
        assert!(relayed.to_string().contains("198.51.100.7"), "{relayed}");
        // The answer for an unknown peer does not depend on the message.
        let unknown_peer = "0".repeat(viewer.id().len());
        let refused: Value = speaker.request(json!({"type": "candidate", "to": unknown_peer, "candidate": {"candidate": HOST}})).await;
        assert_eq!(refused["code"], "no_such_peer", "{refused}");
    }
}

/// Redaction needs no extra round trip while the members of the room do not change.
#[tokio::test]
async fn a_message_in_a_mixed_room_costs_one_round_trip() {
    const ROUNDS: u64 = 100;
    let settings =
        [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")];
    let cluster = TestCluster::start(StoreKind::Redis(2), &settings).await;
    let viewer = join_with_role(&cluster, "viewer", "viewer").await;
    let speaker = join_with_role(&cluster, "speaker", "speaker").await;
    let other = join_with_role(&cluster, "other", "speaker").await;
    for peer in [&viewer, &speaker] {
        peer.next_where("the last peer joins", |frame| frame["userId"] == "other").await;
    }
    // The first message loads the room again if the node has not loaded it since the last join.
    speaker.candidate(&viewer, json!({"candidate": RELAY}), 1).await;
    speaker.candidate(&other, json!({"candidate": HOST}), 1).await;
    let monitor = RedisMonitor::start(cluster.redis.as_ref().unwrap().address).await;
    for _ in 0..ROUNDS {
        speaker.candidate(&viewer, json!({"candidate": RELAY}), 1).await;
        speaker.candidate(&other, json!({"candidate": HOST}), 1).await;
        // The node redacts this candidate.
        speaker.candidate(&viewer, json!({"candidate": HOST}), 1).await;
    }
    let messages = 3 * ROUNDS;
    let all_messages_counted = async || (monitor.room_commands() >= messages).then_some(());
    eventually("the monitor has seen the messages", all_messages_counted).await;
    let round_trips = monitor.room_commands() as f64 / messages as f64;
    assert!(round_trips <= 1.05, "{round_trips:.3} round trips for a message");
    drop((viewer, speaker, other));
    cluster.audit().await;
}

/// Direct delivery redacts candidates in the same way.
#[tokio::test]
async fn a_relay_only_peer_receives_only_relay_candidates_while_redis_is_unavailable() {
    let settings = [
        ("ROLES__VIEWER__ICE", "relay"),
        ("ROLES__SPEAKER__ICE", "all"),
        ("ROLES__GUEST__ICE", "all"),
        ("TIMING__LEASE", "500ms"),
        ("REDIS__DEADLINE", "300ms"),
    ];
    let fleet = Fleet::over_single_redis(1, &settings).await;
    let node = &fleet.nodes[0];
    let join_with_role = async |user: &str, role: &str| {
        let token = TokenBuilder::valid("r", user).claim("role", role);
        let token = token.claim("permissions", json!(["publish", "message", "share", "data"]));
        TestConnection::open(node.client_proxy.address, &token.sign(&fleet.secret)).await.into_peer().await
    };
    let viewer = join_with_role("viewer", "viewer").await;
    let speaker = join_with_role("speaker", "speaker").await;
    let other = join_with_role("other", "speaker").await;
    node.redis_proxy().set_new_connections(NewConnections::Reset);
    node.redis_proxy().cut(|| true);
    eventually_within(Duration::from_secs(10), "the node reports that Redis is unavailable", async || {
        let status = Request::get("/health/ready").send(node.process.address).await.status;
        (status == 503).then_some(())
    })
    .await;
    let sent = json!({"type": "offer", "to": viewer.id(), "sdp": video("sendrecv", &ALL_CANDIDATES)});
    assert_eq!(speaker.request(sent).await["durable"], false, "direct delivery");
    send_all_candidates(&speaker, &viewer).await;
    let offer = viewer.next_of_type("offer").await.to_string();
    assert!(!NON_RELAY_PARTS.iter().any(|part| offer.contains(part)), "{offer}");
    assert_relay_only(&viewer).await;
    send_all_candidates(&speaker, &other).await;
    assert_unredacted(&other).await;
    node.redis_proxy().heal();
    fleet.audit();
}
