//! What a role may not send, or be told, does not arrive, and its sender learns why, or need not know.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    fleet::Fleet,
    http::Request,
    monitor::Monitor,
    net::{eventually, eventually_within},
    peer::{Link, TestPeer},
    proxy::Arrivals,
    token::Forgery,
};

const RELAY: &str = "candidate:3 1 udp 41885439 198.51.100.7 50001 typ relay raddr 203.0.113.9 rport 40001 generation 0 ufrag x";
const HOST: &str = "candidate:1 1 udp 2122260223 192.168.1.23 40000 typ host generation 0 ufrag x";

const SRFLX: &str = "candidate:2 1 udp 1686052607 203.0.113.9 40001 typ srflx raddr 192.168.1.23 rport 40000 generation 0 ufrag x";
const MDNS: &str = "candidate:4 1 udp 2122260222 0f1e2d3c-0f1e-2d3c-4b5a-0f1e2d3c4b5a.local 40002 typ host generation 0 ufrag x";
const ALL: [&str; 4] = [HOST, SRFLX, MDNS, RELAY];

/// What stands in those candidates, and in descriptions around them, that only a peer of the open internet may be told.
const OWN: [&str; 5] = ["192.168.1.23", "203.0.113.9", ".local", "typ host", "typ srflx"];

/// A description with one video section, as browsers write it.
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

/// A peer that may do everything, with this role: which candidates it may be told is all that differs.
async fn enter(cluster: &TestCluster, user: &str, role: &str) -> TestPeer {
    let token = Forgery::good("r", user).claim("role", role);
    let token = token.claim("permissions", json!(["publish", "message", "share", "data"]));
    Link::open(cluster.next_node().address, &token.sign(&cluster.secret)).await.into_peer().await
}

/// Every way in which a candidate can be told; how many frames that is.
async fn tell_everything(from: &TestPeer, to: &TestPeer) {
    for kind in ["offer", "answer", "pranswer"] {
        from.must(json!({"type": kind, "to": to.id(), "sdp": video("sendrecv", &ALL)})).await;
    }
    for candidate in ALL {
        from.candidate(to, json!({"candidate": candidate, "sdpMid": "0"}), 1).await;
    }
    from.candidate(to, json!({"candidate": ""}), 1).await;
}

/// What came of [`tell_everything`]: descriptions and trickled candidates, up to their end.
async fn told(to: &TestPeer) -> (Vec<String>, Vec<String>) {
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

async fn assert_told_relayed_only(to: &TestPeer) {
    let (descriptions, candidates) = told(to).await;
    for text in descriptions.iter().chain([&candidates[0]]) {
        assert!(text.contains("198.51.100.7"), "{text}");
        assert!(!OWN.iter().any(|own| text.contains(own)), "{text}");
    }
    assert_eq!(candidates.len(), 2, "the relayed one and the end: {candidates:?}");
    let rest = to.rest().await;
    assert!(!OWN.iter().any(|own| json!(rest).to_string().contains(own)), "{rest:?}");
}

async fn assert_told_everything(to: &TestPeer) {
    let (descriptions, candidates) = told(to).await;
    assert!(descriptions.iter().all(|sdp| *sdp == video("sendrecv", &ALL)), "as they were sent");
    assert_eq!(candidates, [HOST, SRFLX, MDNS, RELAY, ""]);
}

async fn set_role(cluster: &TestCluster, peer: &TestPeer, role: &str) {
    let path = format!("/api/rooms/r/participants/{}", peer.id());
    cluster.api("PATCH", &path, &json!({"role": role})).await.assert_status(200);
}

on_each_store! {
    async fn who_may_not_publish_can_receive_and_nothing_else(cluster) {
        let room = cluster.room("r");
        let host = room.join_as(json!({"user": "alice", "role": "host"})).await;
        let viewer = room.join_as(json!({"user": "bob", "role": "viewer"})).await;
        for kind in ["offer", "answer", "pranswer"] {
            for direction in ["sendrecv", "sendonly", "mid:1"] {
                let refused = viewer.refused(json!({"type": kind, "to": host.id(), "sdp": video(direction, &[])})).await;
                // A mid that stands twice is not read at all.
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

    async fn with_relay_no_other_address_reaches_the_other_side(cluster, [("ICE__POLICY", "relay")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        assert_eq!(alice.joined["icePolicy"], "relay");
        let first = alice.candidate(&bob, json!({"candidate": HOST, "sdpMid": "0"}), 1).await;
        let second = alice.candidate(&bob, json!({"candidate": RELAY, "sdpMid": "0"}), 1).await;
        let third = alice.candidate(&bob, json!({"candidate": ""}), 1).await;
        alice.offer(&bob, &video("sendrecv", &[HOST, RELAY])).await;
        assert!(first < second);
        let relayed = bob.next_forwarded("candidate").await;
        assert_eq!(relayed.id, Some(second));
        assert!(relayed.whole.to_string().contains("198.51.100.7") && !relayed.whole.to_string().contains("203.0.113.9"));
        assert_eq!(bob.next_forwarded("candidate").await.id, Some(third));
        let offer = bob.next_offer().await.sdp.unwrap();
        assert!(offer.contains("198.51.100.7"), "{offer}");
        assert!(!offer.contains("192.168.1.23") && !offer.contains("203.0.113.9"), "{offer}");
    }

    async fn what_cannot_be_read_is_refused_where_it_would_be_judged(cluster, [("ICE__POLICY", "relay")]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let refused = alice.refused(json!({"type": "candidate", "to": bob.id(), "candidate": {"candidate": "candidate:x"}})).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_message"), &json!("candidate")), "{refused}");
        let refused = alice.refused(json!({"type": "offer", "to": bob.id(), "sdp": "v=0 and no more"})).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_message"), &json!("sdp")), "{refused}");
    }

    async fn in_a_mixed_room_one_who_may_only_be_relayed_is_told_of_no_other_address(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let viewer = enter(cluster, "viewer", "viewer").await;
        let speaker = enter(cluster, "speaker", "speaker").await;
        let other = enter(cluster, "other", "guest").await;
        assert_eq!((&viewer.joined["icePolicy"], &speaker.joined["icePolicy"]), (&json!("relay"), &json!("all")));
        for from in [&speaker, &other] {
            tell_everything(from, &viewer).await;
            assert_told_relayed_only(&viewer).await;
            // Nor does it tell them of its own.
            tell_everything(&viewer, from).await;
            assert_told_relayed_only(from).await;
        }
        tell_everything(&speaker, &other).await;
        assert_told_everything(&other).await;
        tell_everything(&other, &speaker).await;
        assert_told_everything(&speaker).await;
    }

    async fn the_policy_of_all_counts_for_targets_too(
        cluster, [("ICE__POLICY", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        // A role that the configuration has not.
        let watcher = enter(cluster, "watcher", "watcher").await;
        let speaker = enter(cluster, "speaker", "speaker").await;
        tell_everything(&speaker, &watcher).await;
        assert_told_relayed_only(&watcher).await;
        let guest = enter(cluster, "guest", "guest").await;
        tell_everything(&speaker, &guest).await;
        assert_told_everything(&guest).await;
    }

    async fn a_role_change_counts_for_whatever_is_sent_after_it(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let bob = enter(cluster, "bob", "speaker").await;
        let alice = enter(cluster, "alice", "speaker").await;
        for round in 0..25 {
            let candidate = |role: &str| json!({"candidate": HOST, "sdpMid": format!("{role}{round}")});
            set_role(cluster, &bob, "viewer").await;
            let description = json!({"type": "offer", "to": bob.id(), "sdp": video("sendrecv", &ALL)});
            alice.must(description.clone()).await;
            alice.candidate(&bob, candidate("viewer"), 1).await;
            let sdp = bob.next_offer().await.sdp.unwrap();
            assert!(!OWN.iter().any(|own| sdp.contains(own)), "round {round}: {sdp}");
            set_role(cluster, &bob, "speaker").await;
            alice.must(description).await;
            alice.candidate(&bob, candidate("speaker"), 1).await;
            assert_eq!(bob.next_offer().await.sdp.unwrap(), video("sendrecv", &ALL), "round {round}");
            let frame = bob.next_of_type("candidate").await;
            assert_eq!(frame["candidate"], candidate("speaker"));
        }
        // Nor what it was sent while it was away.
        let ticket = bob.lose().await;
        let path = format!("/api/rooms/r/participants/{}", ticket.peer_id);
        cluster.api("PATCH", &path, &json!({"role": "viewer"})).await.assert_status(200);
        alice.must(json!({"type": "candidate", "to": ticket.peer_id, "candidate": {"candidate": HOST}})).await;
        alice.must(json!({"type": "candidate", "to": ticket.peer_id, "candidate": {"candidate": RELAY}})).await;
        let bob = ticket.resume_on(cluster.next_node()).await;
        assert!(bob.next_of_type("candidate").await.to_string().contains("typ relay"));
    }

    async fn who_may_only_be_relayed_is_sent_what_the_application_says(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let viewer = enter(cluster, "viewer", "viewer").await;
        let speaker = enter(cluster, "speaker", "speaker").await;
        speaker.message(&viewer, json!(HOST)).await;
        speaker.tell_room(json!(SRFLX)).await;
        speaker.must(json!({"type": "rollback", "to": viewer.id()})).await;
        assert_eq!(viewer.next_message().await.whole["data"], HOST);
        assert_eq!(viewer.next_message().await.whole["data"], SRFLX);
        viewer.next_of_type("rollback").await;
    }

    async fn what_cannot_be_read_is_not_sent_to_one_who_may_only_be_relayed(
        cluster, [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")]
    ) {
        let viewer = enter(cluster, "viewer", "viewer").await;
        let speaker = enter(cluster, "speaker", "speaker").await;
        let other = enter(cluster, "other", "speaker").await;
        for (message, field) in [
            (json!({"type": "candidate", "candidate": {"candidate": "candidate:x"}}), "candidate"),
            (json!({"type": "offer", "sdp": "v=0 and no more"}), "sdp"),
        ] {
            let to = |peer: &TestPeer| {
                let mut message = message.clone();
                message["to"] = peer.id().into();
                message
            };
            let refused = speaker.ask(to(&viewer)).await;
            assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_message"), &json!(field)), "{refused}");
            speaker.must(to(&other)).await;
        }
        // It does not hold up what follows.
        speaker.candidate(&viewer, json!({"candidate": RELAY}), 1).await;
        let relayed = viewer.next_of_type("candidate").await;
        assert!(relayed.to_string().contains("198.51.100.7"), "{relayed}");
        // One who is not there is not there, whatever is sent.
        let nobody = "0".repeat(viewer.id().len());
        let refused: Value = speaker.ask(json!({"type": "candidate", "to": nobody, "candidate": {"candidate": HOST}})).await;
        assert_eq!(refused["code"], "no_such_peer", "{refused}");
    }
}

/// A choice costs no trip of its own while nobody comes, goes or changes.
#[tokio::test]
async fn in_a_mixed_room_too_a_message_costs_one_round_trip() {
    const EACH: u64 = 100;
    let settings =
        [("ROLES__VIEWER__ICE", "relay"), ("ROLES__SPEAKER__ICE", "all"), ("ROLES__GUEST__ICE", "all")];
    let cluster = TestCluster::start(Store::Redis(2), &settings).await;
    let viewer = enter(&cluster, "viewer", "viewer").await;
    let speaker = enter(&cluster, "speaker", "speaker").await;
    let other = enter(&cluster, "other", "speaker").await;
    for peer in [&viewer, &speaker] {
        peer.next_where("the last one joins", |frame| frame["userId"] == "other").await;
    }
    // The first one reads the room again, where it was not read since the last join.
    speaker.candidate(&viewer, json!({"candidate": RELAY}), 1).await;
    speaker.candidate(&other, json!({"candidate": HOST}), 1).await;
    let monitor = Monitor::start(cluster.redis.as_ref().unwrap().address).await;
    for _ in 0..EACH {
        speaker.candidate(&viewer, json!({"candidate": RELAY}), 1).await;
        speaker.candidate(&other, json!({"candidate": HOST}), 1).await;
        // Kept back.
        speaker.candidate(&viewer, json!({"candidate": HOST}), 1).await;
    }
    let messages = 3 * EACH;
    let seen = async || (monitor.of_rooms() >= messages).then_some(());
    eventually("the monitor has seen the messages", seen).await;
    let trips = monitor.of_rooms() as f64 / messages as f64;
    assert!(trips <= 1.05, "{trips:.3} round trips for a message");
    drop((viewer, speaker, other));
    cluster.audit().await;
}

/// What goes straight from socket to socket while the store is away is chosen alike.
#[tokio::test]
async fn while_redis_is_away_one_who_may_only_be_relayed_is_told_of_no_other_address() {
    let settings = [
        ("ROLES__VIEWER__ICE", "relay"),
        ("ROLES__SPEAKER__ICE", "all"),
        ("ROLES__GUEST__ICE", "all"),
        ("TIMING__LEASE", "500ms"),
        ("REDIS__DEADLINE", "300ms"),
    ];
    let fleet = Fleet::single(1, &settings).await;
    let node = &fleet.nodes[0];
    let enter = async |user: &str, role: &str| {
        let token = Forgery::good("r", user).claim("role", role);
        let token = token.claim("permissions", json!(["publish", "message", "share", "data"]));
        Link::open(node.front.address, &token.sign(&fleet.secret)).await.into_peer().await
    };
    let viewer = enter("viewer", "viewer").await;
    let speaker = enter("speaker", "speaker").await;
    let other = enter("other", "speaker").await;
    node.store().arrivals(Arrivals::Refused);
    node.store().cut(|| true);
    eventually_within(Duration::from_secs(10), "the node says that Redis is away", async || {
        let status = Request::get("/health/ready").send(node.process.address).await.status;
        (status == 503).then_some(())
    })
    .await;
    let sent = json!({"type": "offer", "to": viewer.id(), "sdp": video("sendrecv", &ALL)});
    assert_eq!(speaker.ask(sent).await["durable"], false, "straight");
    tell_everything(&speaker, &viewer).await;
    let offer = viewer.next_of_type("offer").await.to_string();
    assert!(!OWN.iter().any(|own| offer.contains(own)), "{offer}");
    assert_told_relayed_only(&viewer).await;
    tell_everything(&speaker, &other).await;
    assert_told_everything(&other).await;
    node.store().heal();
    fleet.audit();
}
