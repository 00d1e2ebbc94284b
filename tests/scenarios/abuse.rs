//! Bad input hurts nobody but its sender, and the answer to each kind is the documented one.

use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster, TestRoom},
    net::eventually,
    peer::TestPeer,
    process::Process,
    raw::{Frame, RawSocket, op},
};

/// More than a message may have.
const TOO_LONG: usize = 64 * 1024 + 1;

async fn intruder(room: &TestRoom<'_>, node: &Process) -> RawSocket {
    let token = room.token(json!({"user": "mallory"})).await;
    let mut raw = RawSocket::open(node.address, &token, None).await;
    assert_eq!(raw.next_text().await["type"], "joined");
    raw
}

/// Two that mind their own business: a message each way, without delay.
async fn exchange(alice: &TestPeer, bob: &TestPeer) {
    let start = Instant::now();
    alice.message(bob, json!("to bob")).await;
    bob.next_message().await;
    bob.message(alice, json!("to alice")).await;
    alice.next_message().await;
    assert!(start.elapsed() < Duration::from_secs(1), "two others were held up: {:?}", start.elapsed());
}

fn whole(frames: &[Frame<'_>]) -> Vec<u8> {
    frames.iter().flat_map(Frame::to_bytes).collect()
}

/// What breaks a connection, and the code it is closed with.
fn breaking() -> Vec<(&'static str, Vec<u8>, u16)> {
    let long = vec![b'x'; TOO_LONG];
    let (third, json) = (&long[..30 * 1024], br#"{"type":"ping"}"#);
    let part = |op, fin, payload| Frame { op, fin, ..Frame::text(payload) };
    let text = Frame::text(json);
    vec![
        ("one frame too large", whole(&[Frame::text(&long)]), 4502),
        (
            "fragments too large together",
            whole(&[
                part(op::TEXT, false, third),
                part(op::CONTINUATION, false, third),
                part(op::CONTINUATION, true, third),
            ]),
            4502,
        ),
        (
            "10 MiB, of which the begin comes",
            whole(&[Frame { declared: Some(10 << 20), ..Frame::text(&long) }]),
            4502,
        ),
        ("a length of 2^63", whole(&[Frame { declared: Some(1 << 63), ..text.clone() }]), 4502),
        ("binary", whole(&[Frame::of(op::BINARY, json)]), 4501),
        ("the begin of a binary message", whole(&[part(op::BINARY, false, json)]), 4501),
        ("not UTF-8", whole(&[Frame::text(b"{\"type\":\"\xff\xfe\"}")]), 4500),
        ("unmasked", whole(&[Frame { masked: false, ..text.clone() }]), 4500),
        ("a reserved bit", whole(&[Frame { reserved: 4, ..text.clone() }]), 4500),
        ("an opcode of nobody", whole(&[Frame::of(3, json)]), 4500),
        ("a continuation of nothing", whole(&[Frame::of(op::CONTINUATION, json)]), 4500),
        ("a message within another", whole(&[part(op::TEXT, false, b"{"), text.clone()]), 4500),
        ("a ping in fragments", whole(&[part(op::PING, false, b"x")]), 4500),
        ("a ping of 126 bytes", whole(&[Frame::of(op::PING, &long[..126])]), 4500),
    ]
}

on_each_store! {
    async fn a_broken_frame_is_closed_with_its_code_and_others_go_on(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        for (what, bytes, code) in breaking() {
            let mut raw = intruder(&room, &cluster.nodes[0]).await;
            raw.send_bytes(&bytes).await;
            assert_eq!(raw.close_code().await, Some(code), "{what}");
            exchange(&alice, &bob).await;
        }
    }

    /// The last words of a page that goes: they are in one segment with its close frame.
    async fn what_came_before_the_clients_close_is_carried_out(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = intruder(&room, &cluster.nodes[0]).await;
        let good = json!({"type": "message", "id": 1, "data": "last words"}).to_string();
        let close = 1001_u16.to_be_bytes();
        raw.send_bytes(&whole(&[Frame::text(good.as_bytes()), Frame::of(op::CLOSE, &close)])).await;
        for peer in [&alice, &bob] {
            assert_eq!(peer.next_message().await.data, Some(json!("last words")));
        }
        raw.close_code().await;
    }

    /// The head says 10 MiB: that is enough to know.
    async fn a_frame_that_is_too_large_is_refused_by_its_head(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = intruder(&room, &cluster.nodes[0]).await;
        raw.send(&Frame { declared: Some(10 << 20), ..Frame::text(b"x") }).await;
        assert_eq!(raw.close_code().await, Some(4502));
        exchange(&alice, &bob).await;
    }

    /// The head says 60 000 bytes and then nothing comes: silence ends it.
    async fn a_body_that_never_comes_ends_with_a_ping_timeout(cluster, [("TIMING__PING", "300ms")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = intruder(&room, &cluster.nodes[0]).await;
        raw.send(&Frame { declared: Some(60_000), ..Frame::text(b"x") }).await;
        assert_eq!(raw.close_code().await, Some(4002));
        exchange(&alice, &bob).await;
    }

    async fn nonsense_is_answered_and_the_connection_stays(cluster) {
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
            let answer = alice.ask(json!({"type": "candidate", "to": to, "candidate": candidate})).await;
            assert_eq!((answer["code"].as_str(), answer["field"].as_str()), (Some("bad_message"), Some(field)));
        }
        for reserved in ["report"] {
            assert_eq!(alice.ask(json!({"type": reserved})).await["code"], "unsupported", "{reserved}");
        }
        exchange(&alice, &bob).await;
    }

    /// 1 000 pass, 1 000 are refused one by one, then it is over. Two others talk meanwhile.
    async fn ten_thousand_frames_at_once_are_refused_and_then_closed(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = intruder(&room, &cluster.nodes[0]).await;
        let frame = Frame::text(br#"{"type":"message","data":"x","to":"0123456789abcdef0123456789abcdef"}"#);
        let flood = frame.to_bytes().repeat(10_000);
        let (frames, ()) = join(raw.flood(&flood), exchange_often(&alice, &bob)).await;
        let (texts, code) = sorted(frames);
        assert_eq!(code, Some(4003));
        let count = |code: &str| texts.iter().filter(|text| text["code"] == code).count();
        assert!((1_000..=1_100).contains(&count("rate_limited")), "{} were told", count("rate_limited"));
        assert!(texts.iter().all(|text| text["code"] != "rate_limited" || text["retryMs"].as_u64() > Some(0)));
        // What waited for the store when the connection was closed has no answer.
        assert!(count("no_such_peer") >= 500, "{} were handled", count("no_such_peer"));
    }

    async fn a_flood_of_pings_or_pongs_is_closed(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        for opcode in [op::PING, op::PONG] {
            let mut raw = intruder(&room, &cluster.nodes[0]).await;
            let flood = Frame::of(opcode, b"payload").to_bytes().repeat(10_000);
            let (frames, ()) = join(raw.flood(&flood), exchange_often(&alice, &bob)).await;
            assert_eq!(sorted(frames).1, Some(4003));
        }
    }

    /// RFC 6455, section 5.5.3.
    async fn pongs_that_nobody_asked_for_mean_nothing(cluster) {
        let room = cluster.room("r");
        let mut raw = intruder(&room, &cluster.nodes[0]).await;
        raw.send_bytes(&Frame::of(op::PONG, b"payload").to_bytes().repeat(500)).await;
        raw.send(&Frame::text(br#"{"type":"ping"}"#)).await;
        assert_eq!(raw.next_text().await["type"], "pong");
    }

    /// It never reads while everybody talks to it: it is cut off, and nobody else notices.
    async fn who_never_reads_is_closed_and_others_go_on(cluster,
        // A mailbox that is never full, so that the outbox decides.
        [("LIMITS__OUTBOX", "512KiB"), ("LIMITS__BACKLOG_BYTES", "8MiB"), ("LIMITS__ROOM_PEERS", "10"), ("TIMING__PING", "60s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let node = &cluster.nodes[0];
        let token = room.token(json!({"user": "mallory"})).await;
        let mut deaf = RawSocket::open(node.address, &token, Some(4096)).await;
        alice.next_of_type("peer-joined").await;
        bob.next_of_type("peer-joined").await;
        let large = "x".repeat(12 * 1024);
        let mut sent = 0;
        let gone = loop {
            let start = Instant::now();
            alice.tell_room(json!([sent, large])).await;
            assert_eq!(bob.next_message().await.data.unwrap()[0], sent);
            assert!(start.elapsed() < Duration::from_secs(1), "held up: {:?}", start.elapsed());
            sent += 1;
            let heard = alice.rest().await;
            if heard.iter().any(|frame| frame["type"] == "peer-detached") {
                break heard;
            }
            assert!(sent < 600, "{} KiB were sent to somebody who does not read", sent * 12);
        };
        assert_eq!(gone.len(), 1, "{gone:?}");
        alice.next_where("peer-left", |frame| frame["type"] == "peer-left" && frame["reason"] == "timeout").await;
        exchange(&alice, &bob).await;
        let high_water = node.metric("signalbox_outbox_high_water_bytes").await;
        assert!((1.0..=512.0 * 1024.0).contains(&high_water), "{high_water}");
        assert_eq!(node.metric(r#"signalbox_closes_total{reason="slow_consumer"}"#).await, 1.0);
        // Should it read after all, it finds the reason behind what was on its way, or was cut off.
        let code = deaf.close_code().await;
        assert!(matches!(code, Some(4001) | None), "{code:?}");
    }

    /// Small messages: the bound on entries comes long before the one on bytes.
    async fn who_never_reads_does_not_silence_the_room(cluster, [("LIMITS__BACKLOG", "200"), ("TIMING__PING", "60s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let token = room.token(json!({"user": "mallory"})).await;
        let mut deaf = RawSocket::open(cluster.nodes[0].address, &token, Some(4096)).await;
        alice.next_of_type("peer-joined").await;
        for n in 0..700 {
            alice.tell_room(json!(n)).await;
            bob.next_message().await;
        }
        deaf.send(&Frame::of(op::CLOSE, &[])).await;
    }

    async fn a_message_in_small_pieces_arrives_whole(cluster) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let mut raw = intruder(&room, &cluster.nodes[0]).await;
        let text = json!({"type": "message", "data": "pieces: \u{e9}\u{1f600}"}).to_string();
        for (n, byte) in text.as_bytes().iter().enumerate() {
            let last = n + 1 == text.len();
            let frame = Frame { op: if n == 0 { op::TEXT } else { op::CONTINUATION }, fin: last, ..Frame::text(std::slice::from_ref(byte)) };
            for piece in frame.to_bytes().chunks(3) {
                raw.send_bytes(piece).await;
            }
            if n % 16 == 0 {
                // A control frame may stand between fragments.
                raw.send(&Frame::of(op::PING, b"between")).await;
                exchange(&alice, &bob).await;
            }
        }
        assert_eq!(alice.next_message().await.data, Some(json!("pieces: \u{e9}\u{1f600}")));
    }
}

async fn exchange_often(alice: &TestPeer, bob: &TestPeer) {
    for _ in 0..20 {
        exchange(alice, bob).await;
    }
}

/// The texts and the close code among frames.
fn sorted(frames: Vec<(u8, Vec<u8>)>) -> (Vec<Value>, Option<u16>) {
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

/// Every kind of bad input once.
async fn storm(room: &TestRoom<'_>, node: &Process) {
    for (_, bytes, _) in breaking() {
        let mut raw = intruder(room, node).await;
        raw.send_bytes(&bytes).await;
        raw.close_code().await;
    }
    let flood = Frame::text(br#"{"type":"message","data":"x"}"#).to_bytes().repeat(3_000);
    intruder(room, node).await.flood(&flood).await;
    let flood = Frame::of(op::PING, b"x").to_bytes().repeat(3_000);
    intruder(room, node).await.flood(&flood).await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut raw = intruder(room, node).await;
        raw.send(&Frame { declared: Some(10 << 20), ..Frame::text(&[b'x'; 60_000]) }).await;
        waiting.push(raw);
    }
}

/// The memory of the process is the same after the storm as before it, within 4 MiB. A first storm warms it up: allocators keep
/// what they once had. The binaries are those that were built for the test, usually unoptimized ones.
async fn memory_comes_back(store: Store) {
    let cluster = TestCluster::start(store, &[]).await;
    let (alice, bob) = cluster.room("calm").join2().await;
    let node = &cluster.nodes[0];
    let own = node.metric("signalbox_connections").await;
    let quiet = async || {
        eventually("all intruders are gone", async || {
            (node.metric("signalbox_connections").await <= own).then_some(())
        })
        .await;
    };
    for n in 0..2 {
        storm(&cluster.room(&format!("warm-{n}")), node).await;
        quiet().await;
    }
    let before = node.rss_kib();
    for n in 0..5 {
        storm(&cluster.room(&format!("wild-{n}")), node).await;
        exchange(&alice, &bob).await;
    }
    quiet().await;
    let after = node.rss_kib();
    assert!(after <= before + 4 * 1024, "{before} KiB before, {after} KiB after");
    exchange(&alice, &bob).await;
    drop((alice, bob));
    cluster.audit().await;
}

#[tokio::test]
async fn bad_input_costs_no_memory_in_memory() {
    memory_comes_back(Store::Memory).await;
}

#[tokio::test]
async fn bad_input_costs_no_memory_over_redis() {
    memory_comes_back(Store::Redis(2)).await;
}
