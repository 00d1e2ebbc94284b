//! Bad input affects only its sender, and each kind of bad input gets its documented answer.

use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster, TestRoom},
    net::eventually,
    peer::TestPeer,
    process::Process,
    raw_socket::{RawFrame, RawSocket, op},
};

/// One byte more than the largest message.
const TOO_LONG: usize = 64 * 1024 + 1;

async fn connect_attacker(room: &TestRoom<'_>, node: &Process) -> RawSocket {
    let token = room.token(json!({"user": "mallory"})).await;
    let mut raw = RawSocket::open(node.address, &token, None).await;
    assert_eq!(raw.next_text().await["type"], "joined");
    raw
}

/// Two uninvolved peers exchange one message each way, without delay.
async fn exchange(alice: &TestPeer, bob: &TestPeer) {
    let start = Instant::now();
    alice.message(bob, json!("to bob")).await;
    bob.next_message().await;
    bob.message(alice, json!("to alice")).await;
    alice.next_message().await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "bad input delayed two other peers: {:?}",
        start.elapsed()
    );
}

fn encode(frames: &[RawFrame<'_>]) -> Vec<u8> {
    frames.iter().flat_map(RawFrame::to_bytes).collect()
}

/// Input that breaks a connection, with its name and the expected close code.
fn broken_input() -> Vec<(&'static str, Vec<u8>, u16)> {
    let long = vec![b'x'; TOO_LONG];
    let (third, json) = (&long[..30 * 1024], br#"{"type":"ping"}"#);
    let fragment = |op, fin, payload| RawFrame { op, fin, ..RawFrame::text(payload) };
    let text = RawFrame::text(json);
    vec![
        ("one frame too large", encode(&[RawFrame::text(&long)]), 4502),
        (
            "fragments too large together",
            encode(&[
                fragment(op::TEXT, false, third),
                fragment(op::CONTINUATION, false, third),
                fragment(op::CONTINUATION, true, third),
            ]),
            4502,
        ),
        (
            "the beginning of a frame of 10 MiB",
            encode(&[RawFrame { declared: Some(10 << 20), ..RawFrame::text(&long) }]),
            4502,
        ),
        ("a length of 2^63", encode(&[RawFrame { declared: Some(1 << 63), ..text.clone() }]), 4502),
        ("binary", encode(&[RawFrame::with_op(op::BINARY, json)]), 4501),
        ("the first fragment of a binary message", encode(&[fragment(op::BINARY, false, json)]), 4501),
        ("not UTF-8", encode(&[RawFrame::text(b"{\"type\":\"\xff\xfe\"}")]), 4500),
        ("unmasked", encode(&[RawFrame { masked: false, ..text.clone() }]), 4500),
        ("a reserved bit", encode(&[RawFrame { reserved: 4, ..text.clone() }]), 4500),
        ("an unknown opcode", encode(&[RawFrame::with_op(3, json)]), 4500),
        ("a continuation without a message", encode(&[RawFrame::with_op(op::CONTINUATION, json)]), 4500),
        ("a message within another", encode(&[fragment(op::TEXT, false, b"{"), text.clone()]), 4500),
        ("a ping in fragments", encode(&[fragment(op::PING, false, b"x")]), 4500),
        ("a ping of 126 bytes", encode(&[RawFrame::with_op(op::PING, &long[..126])]), 4500),
    ]
}

on_each_store! {
    async fn a_broken_frame_closes_only_its_own_connection_with_the_documented_code(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        for (name, bytes, code) in broken_input() {
            let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
            raw.send_bytes(&bytes).await;
            assert_eq!(raw.close_code().await, Some(code), "{name}");
            exchange(&alice, &bob).await;
        }
    }

    /// A browser sends the last message of a page in one segment with its close frame.
    async fn a_message_before_the_close_frame_of_a_client_is_delivered(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
        let good = json!({"type": "message", "id": 1, "data": "last words"}).to_string();
        let close = 1001_u16.to_be_bytes();
        raw.send_bytes(&encode(&[RawFrame::text(good.as_bytes()), RawFrame::with_op(op::CLOSE, &close)])).await;
        for peer in [&alice, &bob] {
            assert_eq!(peer.next_message().await.data, Some(json!("last words")));
        }
        raw.close_code().await;
    }

    /// The header declares 10 MiB, so the server need not wait for the payload.
    async fn a_frame_too_large_is_refused_when_its_header_arrives(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
        raw.send(&RawFrame { declared: Some(10 << 20), ..RawFrame::text(b"x") }).await;
        assert_eq!(raw.close_code().await, Some(4502));
        exchange(&alice, &bob).await;
    }

    /// The header declares 60 000 bytes and no payload follows.
    async fn a_frame_without_its_payload_ends_with_a_ping_timeout(cluster, [("TIMING__PING", "1s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
        raw.send(&RawFrame { declared: Some(60_000), ..RawFrame::text(b"x") }).await;
        assert_eq!(raw.close_code().await, Some(4002));
        exchange(&alice, &bob).await;
    }

    async fn a_malformed_message_gets_an_error_and_the_connection_stays_open(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let nested = format!(r#"{{"type":"message","data":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        let rows = [
            ("", "bad_message", None),
            ("hello", "bad_message", None),
            ("{", "bad_message", None),
            ("null", "bad_message", None),
            ("[]", "bad_message", None),
            (r#"["offer"]"#, "bad_message", None),
            (r#"[{"type":"ping"}]"#, "bad_message", None),
            (r#"{"type":"ping","type":"ping"}"#, "bad_message", None),
            (r#"{"type":"ping"} {"type":"ping"}"#, "bad_message", None),
            (r#"{"id":3}"#, "bad_message", Some("type")),
            (r#"{"type":7}"#, "bad_message", Some("type")),
            (r#"{"type":"shout"}"#, "unknown_type", Some("type")),
            (r#"{"type":"OFFER"}"#, "unknown_type", Some("type")),
            (r#"{"type":"peer-left"}"#, "unknown_type", Some("type")),
            (r#"{"type":"offer","to":"bob","sdp":"x"}"#, "bad_message", Some("to")),
            (r#"{"type":"offer","sdp":"x"}"#, "bad_message", Some("to")),
            (r#"{"type":"message"}"#, "bad_message", Some("data")),
            (r#"{"type":"received"}"#, "bad_message", Some("seq")),
            (r#"{"type":"update","name":7}"#, "bad_message", Some("name")),
            (r#"{"type":"update","metadata":[]}"#, "bad_message", Some("metadata")),
            (&nested, "bad_message", Some("data")),
        ];
        for (text, code, field) in rows {
            alice.send_text(text).await;
            let answer = alice.next_of_type("error").await;
            assert_eq!((answer["code"].as_str(), answer["field"].as_str()), (Some(code), field), "{text:.60}: {answer}");
        }
        let to = bob.id();
        for (candidate, field) in [(json!(null), "candidate"), (json!("x"), "candidate"), (json!({"sdpMid": "0"}), "candidate"),
            (json!({"candidate": "", "sdpMLineIndex": -1}), "candidate")] {
            let answer = alice.request(json!({"type": "candidate", "to": to, "candidate": candidate})).await;
            assert_eq!((answer["code"].as_str(), answer["field"].as_str()), (Some("bad_message"), Some(field)));
        }
        for reserved in ["report"] {
            assert_eq!(alice.request(json!({"type": reserved})).await["code"], "unsupported", "{reserved}");
        }
        exchange(&alice, &bob).await;
    }

    /// The limit accepts 1 000 frames, the next 1 000 get an error each, then the connection is
    /// closed. Meanwhile two other peers exchange messages.
    async fn a_flood_of_messages_is_rate_limited_and_then_closed(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
        let frame = RawFrame::text(br#"{"type":"message","data":"x","to":"0123456789abcdef0123456789abcdef"}"#);
        let flood = frame.to_bytes().repeat(10_000);
        let (frames, ()) = join(raw.flood(&flood), exchange_repeatedly(&alice, &bob)).await;
        let (texts, code) = texts_and_close_code(frames);
        assert_eq!(code, Some(4003));
        let count = |code: &str| texts.iter().filter(|text| text["code"] == code).count();
        assert!((1_000..=1_100).contains(&count("rate_limited")), "{} frames were rate limited", count("rate_limited"));
        assert!(texts.iter().all(|text| text["code"] != "rate_limited" || text["retryMs"].as_u64() > Some(0)));
        // Messages that waited for the store when the connection was closed get no answer.
        assert!(count("no_such_peer") >= 500, "{} frames were handled", count("no_such_peer"));
    }

    async fn a_flood_of_pings_or_pongs_closes_the_connection(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        for opcode in [op::PING, op::PONG] {
            let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
            let flood = RawFrame::with_op(opcode, b"payload").to_bytes().repeat(10_000);
            let (frames, ()) = join(raw.flood(&flood), exchange_repeatedly(&alice, &bob)).await;
            assert_eq!(texts_and_close_code(frames).1, Some(4003));
        }
    }

    /// RFC 6455, section 5.5.3.
    async fn unsolicited_pongs_are_ignored(cluster) {
        let room = cluster.room("r");
        let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
        raw.send_bytes(&RawFrame::with_op(op::PONG, b"payload").to_bytes().repeat(500)).await;
        raw.send(&RawFrame::text(br#"{"type":"ping"}"#)).await;
        assert_eq!(raw.next_text().await["type"], "pong");
    }

    /// The other peers keep sending to a peer that never reads.
    async fn a_peer_that_never_reads_is_closed_and_others_continue(cluster,
        // A mailbox that is never full, so that the outbox limit applies.
        [("LIMITS__OUTBOX", "512KiB"), ("LIMITS__BACKLOG_BYTES", "8MiB"), ("LIMITS__ROOM_PEERS", "10"), ("TIMING__PING", "60s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let node = &cluster.nodes[0];
        let token = room.token(json!({"user": "mallory"})).await;
        let mut non_reader = RawSocket::open(node.address, &token, Some(4096)).await;
        alice.next_of_type("peer-joined").await;
        bob.next_of_type("peer-joined").await;
        let large = "x".repeat(12 * 1024);
        let mut sent = 0;
        let detached = loop {
            let start = Instant::now();
            alice.message_room(json!([sent, large])).await;
            assert_eq!(bob.next_message().await.data.unwrap()[0], sent);
            assert!(start.elapsed() < Duration::from_secs(1), "the peer that never reads delayed the others: {:?}", start.elapsed());
            sent += 1;
            let frames = alice.take_unread().await;
            if frames.iter().any(|frame| frame["type"] == "peer-detached") {
                break frames;
            }
            assert!(sent < 600, "{} KiB were sent to a peer that never reads", sent * 12);
        };
        assert_eq!(detached.len(), 1, "{detached:?}");
        alice.next_where("peer-left", |frame| frame["type"] == "peer-left" && frame["reason"] == "timeout").await;
        exchange(&alice, &bob).await;
        let high_water = node.metric("signalbox_outbox_high_water_bytes").await;
        assert!((1.0..=512.0 * 1024.0).contains(&high_water), "{high_water}");
        assert_eq!(node.metric(r#"signalbox_closes_total{reason="slow_consumer"}"#).await, 1.0);
        // The close frame is behind the frames in the socket buffer, or the socket was reset.
        let code = non_reader.close_code().await;
        assert!(matches!(code, Some(4001) | None), "{code:?}");
    }

    /// Small messages reach the bound on entries long before the bound on bytes.
    async fn a_peer_that_never_reads_does_not_block_the_room(cluster, [("LIMITS__BACKLOG", "200"), ("TIMING__PING", "60s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let token = room.token(json!({"user": "mallory"})).await;
        let mut non_reader = RawSocket::open(cluster.nodes[0].address, &token, Some(4096)).await;
        alice.next_of_type("peer-joined").await;
        for n in 0..700 {
            alice.message_room(json!(n)).await;
            bob.next_message().await;
        }
        non_reader.send(&RawFrame::with_op(op::CLOSE, &[])).await;
    }

    async fn a_message_in_small_fragments_arrives_complete(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = connect_attacker(&room, &cluster.nodes[0]).await;
        let text = json!({"type": "message", "data": "pieces: \u{e9}\u{1f600}"}).to_string();
        for (n, byte) in text.as_bytes().iter().enumerate() {
            let last = n + 1 == text.len();
            let frame = RawFrame { op: if n == 0 { op::TEXT } else { op::CONTINUATION }, fin: last, ..RawFrame::text(std::slice::from_ref(byte)) };
            for piece in frame.to_bytes().chunks(3) {
                raw.send_bytes(piece).await;
            }
            if n % 16 == 0 {
                // RFC 6455, section 5.4: a control frame may stand between fragments.
                raw.send(&RawFrame::with_op(op::PING, b"between")).await;
                exchange(&alice, &bob).await;
            }
        }
        assert_eq!(alice.next_message().await.data, Some(json!("pieces: \u{e9}\u{1f600}")));
    }
}

async fn exchange_repeatedly(alice: &TestPeer, bob: &TestPeer) {
    for _ in 0..20 {
        exchange(alice, bob).await;
    }
}

fn texts_and_close_code(frames: Vec<(u8, Vec<u8>)>) -> (Vec<Value>, Option<u16>) {
    let (mut texts, mut code) = (Vec::new(), None);
    for (opcode, payload) in frames {
        match opcode {
            op::TEXT => texts.push(serde_json::from_slice(&payload).unwrap()),
            op::CLOSE => code = Some(u16::from_be_bytes([payload[0], payload[1]])),
            _ => {}
        }
    }
    (texts, code)
}

async fn send_all_bad_input(room: &TestRoom<'_>, node: &Process) {
    for (_, bytes, _) in broken_input() {
        let mut raw = connect_attacker(room, node).await;
        raw.send_bytes(&bytes).await;
        raw.close_code().await;
    }
    let flood = RawFrame::text(br#"{"type":"message","data":"x"}"#).to_bytes().repeat(3_000);
    connect_attacker(room, node).await.flood(&flood).await;
    let flood = RawFrame::with_op(op::PING, b"x").to_bytes().repeat(3_000);
    connect_attacker(room, node).await.flood(&flood).await;
    let mut open_sockets = Vec::new();
    for _ in 0..20 {
        let mut raw = connect_attacker(room, node).await;
        raw.send(&RawFrame { declared: Some(10 << 20), ..RawFrame::text(&[b'x'; 60_000]) }).await;
        open_sockets.push(raw);
    }
}

/// Bad input may grow the memory of the process by 4 MiB at most. The first rounds warm up the
/// process, because allocators keep memory that was in use once. The binaries are the ones built
/// for the test, usually unoptimized.
async fn assert_bad_input_does_not_grow_the_process(store: StoreKind) {
    let cluster = TestCluster::start(store, &[]).await;
    let (alice, bob) = cluster.room("calm").join2().await;
    let node = &cluster.nodes[0];
    let own_connections = node.metric("signalbox_connections").await;
    let attackers_disconnected = async || {
        eventually("all attackers are disconnected", async || {
            (node.metric("signalbox_connections").await <= own_connections).then_some(())
        })
        .await;
    };
    for n in 0..2 {
        send_all_bad_input(&cluster.room(&format!("warm-{n}")), node).await;
        attackers_disconnected().await;
    }
    let before = node.rss_kib();
    for n in 0..5 {
        send_all_bad_input(&cluster.room(&format!("wild-{n}")), node).await;
        exchange(&alice, &bob).await;
    }
    attackers_disconnected().await;
    let after = node.rss_kib();
    assert!(after <= before + 4 * 1024, "{before} KiB before, {after} KiB after");
    exchange(&alice, &bob).await;
    drop((alice, bob));
    cluster.audit().await;
}

#[tokio::test]
async fn bad_input_does_not_grow_the_process_in_memory() {
    assert_bad_input_does_not_grow_the_process(StoreKind::Memory).await;
}

#[tokio::test]
async fn bad_input_does_not_grow_the_process_over_redis() {
    assert_bad_input_does_not_grow_the_process(StoreKind::Redis(2)).await;
}
