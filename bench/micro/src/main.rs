//! Micro-benchmarks of what a message and a join pass. They find which part of a path has changed;
//! `bench/instructions.sh` decides whether the whole has.
//!
//!   cargo run --release --manifest-path bench/micro/Cargo.toml -- --bench
//!
//! Without `--bench`, everything runs once and nothing is measured.
//!
//! The frame reader and the outbox are private to the node. So their files are compiled here as
//! they are, and the product needs no door for a benchmark.

#[allow(dead_code, unreachable_pub, reason = "a file of the node, of which a part is measured")]
#[path = "../../../signal-service/src/connection/frame_reader.rs"]
mod frame_reader;
#[allow(dead_code, unreachable_pub, reason = "a file of the node, of which a part is measured")]
#[path = "../../../signal-service/src/registry/outbox.rs"]
mod outbox;
#[allow(dead_code, unreachable_pub, reason = "a file of the node, of which a part is measured")]
#[path = "../../../signal-service/src/socket_budget.rs"]
mod socket_budget;

use std::{hint::black_box, io::Read as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;
use signalbox_config::ServiceSettings;
use signalbox_protocol::{
    ClientMessage, MessageLimits, ServerMessage,
    id::{NodeId, PeerId},
};
use signalbox_rooms::room::{Member, PeerAttachment, RoomInput, RoomPolicy, RoomState, decide};
use signalbox_token::{KeyAlgorithm, PublicJwk, SecretBytes, SharedSecret, TokenVerifier};

/// When the tokens are verified, seconds since 1970.
const NOW_S: u64 = 1_800_000_000;

const LIMITS: MessageLimits = MessageLimits { sdp: 49_152, candidate: 2_048, data: 16_384, metadata: 4_096 };

/// An offer with an SDP of about 1,400 bytes, with the escapes of JSON.
fn offer() -> String {
    let line = r"a=candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx raddr 0.0.0.0 rport 0\r\n";
    format!(
        r#"{{"type":"offer","to":"{}","id":17,"sdp":"v=0\r\n{}"}}"#,
        PeerId::from_bits(7),
        line.repeat(15)
    )
}

/// The same as a masked frame.
fn offer_frame() -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let payload = offer().into_bytes();
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend(MASK);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
    frame
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let (text, frame) = (offer(), offer_frame());
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse an offer", |bencher| {
        bencher.iter(|| ClientMessage::parse(black_box(&text), &LIMITS).unwrap());
    });
    let Ok(ClientMessage::Forward(message)) = ClientMessage::parse(&text, &LIMITS) else {
        panic!("an offer")
    };
    let (from, mut out) = (PeerId::from_bits(9), String::new());
    group.bench_function("write the frame for the target", |bencher| {
        bencher.iter(|| {
            out.clear();
            message.write_frame(black_box(&from), &mut out);
        });
    });
    group.bench_function("write an ack", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            ServerMessage::ack(black_box(17)).write_json(&mut out);
        });
    });
    let eight = bytes::BytesMut::from(&*frame.repeat(8));
    let budget = socket_budget::SocketBudget::new(usize::MAX);
    group.throughput(Throughput::Bytes(eight.len() as u64));
    group.bench_function("read eight frames of one read", |bencher| {
        let reader = || {
            let bytes = budget.open_connection().open_buffer();
            frame_reader::FrameReader::new(65_536, eight.clone(), bytes)
        };
        bencher.iter_batched_ref(
            reader,
            |reader| {
                while let Ok(Some(frame)) = reader.next_frame() {
                    black_box(frame);
                }
            },
            BatchSize::SmallInput,
        );
    });
    bench_outbox(&mut group, &out, budget.open_connection().open_buffer());
}

/// Eight deliveries that leave in one write, the system call included.
fn bench_outbox(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    frame: &str,
    bytes: socket_budget::BufferBytes,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut reader, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::TcpStream::from_std(socket).unwrap();
    runtime.block_on(socket.writable()).unwrap();
    let mut outbox = outbox::Outbox::new(Arc::new(socket), 1 << 20, bytes);
    let mut received = vec![0; 8 * (frame.len() + 20)];
    let length = 8 * (frame.len() + 4 + 10);
    group.bench_function("deliver eight messages in one write", |bencher| {
        bencher.iter(|| {
            for _ in 0..8 {
                outbox.push_text(br#"{"seq":17,"#, &frame.as_bytes()[1..]).unwrap();
            }
            outbox.flush();
            reader.read_exact(&mut received[..length - 8]).unwrap();
        });
    });
}

fn member(user: usize) -> Box<Member> {
    let record = json!({
        "user": format!("user-{user}"), "role": "guest", "permissions": ["publish", "message"],
        "token": format!("{user:032x}.1"), "issued": NOW_S, "expires": NOW_S + 3_600, "caller": "app",
        "name": "", "metadata": {},
    });
    let mut member: Member = serde_json::from_str(&record.to_string()).unwrap();
    member.attachment = PeerAttachment::Attached(NodeId::from_bits(1));
    (member.epoch, member.generation, member.mailbox_version) = (1, 1, 1);
    Box::new(member)
}

fn join(user: usize) -> RoomInput {
    RoomInput::Join { peer: PeerId::from_bits(user as u128), member: member(user) }
}

fn room_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("room core");
    let policy = RoomPolicy::new(&ServiceSettings::default());
    let (now, empty) = (NOW_S * 1_000, RoomState::new("room".into(), "replication".into()));
    for peers in [2, 50] {
        let inputs: Vec<_> = (1..peers).map(join).collect();
        let room = decide(&empty, now, &inputs, &policy).next_state;
        assert_eq!(room.members.len(), peers - 1);
        let last = [join(peers)];
        group.bench_function(format!("a join as peer {peers}"), |bencher| {
            bencher.iter(|| decide(black_box(&room), now, &last, &policy));
        });
        let detach = [RoomInput::Detach { peer: PeerId::from_bits(1), epoch: 1, is_going: false }];
        group.bench_function(format!("a lost connection in a room of {}", peers - 1), |bencher| {
            bencher.iter(|| decide(black_box(&room), now, &detach, &policy));
        });
    }
    let storm: Vec<_> = (1..=50).map(join).collect();
    group.bench_function("50 joins in one decision", |bencher| {
        bencher.iter(|| decide(black_box(&empty), now, &storm, &policy));
    });
}

fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    // It only has to pass the check of weak secrets.
    let secret: String = (1..=16_u64).map(|n| format!("{:04x}", n.pow(9) * 7_919 % 65_521)).collect();
    let shared = SharedSecret::new(SecretBytes::new(secret.clone())).unwrap();
    let verifier = TokenVerifier::from_secrets([&shared]);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let token = sign(&json!({"alg": "HS256", "typ": "signalbox-room+jwt"}), |text| {
        hmac::sign(&key, text).as_ref().to_vec()
    });
    group.bench_function("verify a room token (HS256)", |bencher| {
        bencher.iter(|| verifier.verify_room_token(black_box(&token), NOW_S).unwrap());
    });
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = BASE64URL.encode(key.public_key());
    let public = PublicJwk::new(KeyAlgorithm::parse("EdDSA").unwrap(), public, None).unwrap();
    let verifier = TokenVerifier::with_published_keys([]);
    verifier.replace_published_keys(vec![public.to_verification_key().unwrap()]);
    let header = json!({"alg": "EdDSA", "typ": "signalbox-room+jwt", "kid": public.kid()});
    let token = sign(&header, |text| key.sign(text).as_ref().to_vec());
    group.bench_function("verify a room token (EdDSA)", |bencher| {
        bencher.iter(|| verifier.verify_room_token(black_box(&token), NOW_S).unwrap());
    });
}

fn sign(header: &serde_json::Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let claims = json!({
        "iss": "signalbox", "aud": "signalbox-signal", "sub": "user-1", "room": "room-1", "role": "guest",
        "permissions": ["publish", "message", "share", "data"],
        "iat": NOW_S - 1, "nbf": NOW_S - 1, "exp": NOW_S + 3_600, "jti": "0123456789abcdef0123456789abcdef",
    });
    let text = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
    let signature = BASE64URL.encode(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

criterion_group!(benches, codec, room_core, tokens);
criterion_main!(benches);
