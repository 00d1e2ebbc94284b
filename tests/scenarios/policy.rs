//! What a role may not send does not arrive, and its sender learns why, or need not know.

use serde_json::json;

const RELAY: &str = "candidate:3 1 udp 41885439 198.51.100.7 50001 typ relay raddr 203.0.113.9 rport 40001 generation 0 ufrag x";
const HOST: &str = "candidate:1 1 udp 2122260223 192.168.1.23 40000 typ host generation 0 ufrag x";

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
}
