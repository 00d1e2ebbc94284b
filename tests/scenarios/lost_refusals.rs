//! The answer to a refused message is lost with the socket, and a later message was accepted. At the
//! resume the client learns which ids were refused: no message is lost in silence.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::TestCluster,
    fleet::Fleet,
    http::Request,
    net::{eventually, eventually_within},
    peer::{TestConnection, TestPeer},
    proxy::{Direction, FaultProxy},
    token::TokenBuilder,
};

/// Short, because the audit waits until all peers have left. On a busy machine a resume, or the
/// messages to a detached peer, take several hundred milliseconds.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "8s");

/// So many messages fill a mailbox.
const BACKLOG: u64 = 8;

all_of! {
    /// Who refuses a message, and why.
    Refusal {
        UnknownType, ReservedType, MemberMissing, MemberTooLarge, NameNotAllowed, OwnPeer, SdpNotPermitted,
        CommandNotPermitted, PeerAbsent, MailboxFull, UnreadableForTarget, CommandRefused,
    }
}

all_of! {
    /// What accepts the later message, and so reports the refusal to the store.
    Acceptance { SameCall, LaterCall, RoomCommit }
}

impl Refusal {
    fn code(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::ReservedType => "unsupported",
            Self::MemberTooLarge => "too_large",
            Self::MemberMissing | Self::NameNotAllowed | Self::OwnPeer | Self::UnreadableForTarget => {
                "bad_message"
            }
            Self::SdpNotPermitted | Self::CommandNotPermitted => "not_permitted",
            Self::PeerAbsent | Self::CommandRefused => "no_such_peer",
            Self::MailboxFull => "peer_backlogged",
        }
    }

    /// The role and the permissions of the sender.
    fn sender(self) -> (&'static str, Value) {
        match self {
            Self::CommandRefused => ("host", json!(["message", "moderate"])),
            Self::SdpNotPermitted => ("guest", json!(["message"])),
            _ => ("guest", json!(["publish", "message", "share", "data"])),
        }
    }

    fn message(self, sender: &str, peers: &Others) -> Value {
        let absent = "0".repeat(sender.len());
        let video = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=sendrecv\r\n";
        match self {
            Self::UnknownType => json!({"type": "sing"}),
            Self::ReservedType => json!({"type": "report"}),
            Self::MemberMissing => json!({"type": "offer", "to": peers.bob.id()}),
            Self::MemberTooLarge => json!({"type": "message", "data": "x".repeat(17_000)}),
            Self::NameNotAllowed => json!({"type": "update", "name": "\u{0}"}),
            Self::OwnPeer => json!({"type": "message", "to": sender, "data": "refused"}),
            Self::SdpNotPermitted => json!({"type": "offer", "to": peers.bob.id(), "sdp": video}),
            Self::CommandNotPermitted => json!({"type": "kick", "peer": peers.bob.id()}),
            Self::PeerAbsent => json!({"type": "message", "to": absent, "data": "refused"}),
            Self::MailboxFull => json!({"type": "message", "to": peers.detached, "data": "refused"}),
            Self::UnreadableForTarget => {
                json!({"type": "candidate", "to": peers.viewer.id(), "candidate": {"candidate": "candidate:x"}})
            }
            Self::CommandRefused => json!({"type": "kick", "peer": absent}),
        }
    }
}

/// The other peers of the room.
struct Others {
    bob: TestPeer,
    /// A peer that receives relay candidates only.
    viewer: TestPeer,
    /// A peer without a connection, whose mailbox is full.
    detached: String,
}

impl Others {
    async fn join(cluster: &TestCluster, room: &str) -> Self {
        let join = async |user: &str, role: &str| {
            let token = TokenBuilder::valid(room, user).claim("role", role).sign(&cluster.secret);
            TestConnection::open(cluster.next_node().address, &token).await.into_peer().await
        };
        let (bob, viewer, carol) =
            (join("bob", "guest").await, join("viewer", "viewer").await, join("carol", "guest").await);
        let detached = carol.disconnect().await.peer_id;
        bob.next_where("the loss of Carol's socket", |frame| frame["type"] == "peer-detached").await;
        for n in 0..BACKLOG {
            bob.send_acked(json!({"type": "message", "to": detached, "data": n})).await;
        }
        Self { bob, viewer, detached }
    }
}

/// Joins through a proxy.
async fn join_at(
    cluster: &TestCluster,
    proxy: &FaultProxy,
    room: &str,
    (role, permissions): (&str, Value),
) -> TestPeer {
    let token = TokenBuilder::valid(room, "alice").claim("role", role).claim("permissions", permissions);
    TestConnection::open(proxy.address, &token.sign(&cluster.secret)).await.into_peer().await
}

fn with_id(mut message: Value, id: u64) -> Value {
    message["id"] = id.into();
    message
}

fn to_bob(bob: &TestPeer, id: u64, data: &str) -> Value {
    json!({"type": "message", "to": bob.id(), "id": id, "data": data})
}

/// Alice sends a message that is refused and one that is accepted, and gets neither answer.
async fn lose_refusal(cluster: &TestCluster, refusal: Refusal, acceptance: Acceptance) {
    let room = format!("{refusal:?}-{acceptance:?}");
    let others = Others::join(cluster, &room).await;
    let bob = &others.bob;
    let proxy = FaultProxy::start(cluster.nodes[0].address).await;
    let alice = join_at(cluster, &proxy, &room, refusal.sender()).await;
    bob.next_where("Alice", |frame| frame["type"] == "peer-joined" && frame["peerId"] == alice.id()).await;
    proxy.half_open_all(Direction::ToClient);
    alice.send(with_id(refusal.message(alice.id(), &others), 2)).await;
    if acceptance == Acceptance::LaterCall {
        // A message without an id: the refusal was decided in an earlier call.
        alice.send(json!({"type": "message", "to": bob.id(), "data": "between"})).await;
        assert_eq!(bob.next_message().await.data, Some("between".into()));
    }
    if acceptance == Acceptance::RoomCommit {
        alice.send(json!({"type": "update", "id": 3, "name": "accepted"})).await;
        bob.next_where("the new name", |frame| {
            frame["type"] == "peer-updated" && frame["name"] == "accepted"
        })
        .await;
    } else {
        alice.send(to_bob(bob, 3, "accepted")).await;
        assert_eq!(bob.next_message().await.data, Some("accepted".into()));
    }

    let alice = alice.disconnect().await.resume_on(cluster.nodes.last().unwrap()).await;
    let expected = json!([{"id": 2, "code": refusal.code()}]);
    assert_eq!((&alice.joined["lastId"], &alice.joined["refused"]), (&json!(3), &expected), "{refusal:?}");
    // The id stays refused, whatever the client sends under it.
    for again in [to_bob(bob, 2, "again"), json!({"type": "update", "id": 2, "name": "again"})] {
        alice.send(again).await;
        let answer = alice.reply_to(2).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(refusal.code())), "{answer}");
    }
    alice.send(to_bob(bob, 4, "after")).await;
    assert_eq!(alice.reply_to(4).await, json!({"type": "ack", "id": 4}));
    assert_eq!(bob.next_message().await.data, Some("after".into()), "{refusal:?}");
    // Another connection learns it too.
    let alice = alice.disconnect().await.resume_on(&cluster.nodes[0]).await;
    assert_eq!((&alice.joined["lastId"], &alice.joined["refused"]), (&json!(4), &expected), "{refusal:?}");
}

on_each_store! {
    async fn each_lost_refusal_is_in_the_resumed_frame(cluster,
        [super::WINDOW, ("LIMITS__BACKLOG", "8"), ("ROLES__VIEWER__ICE", "relay"), ("ROLES__GUEST__ICE", "all"), ("ROLES__HOST__ICE", "all")]) {
        for refusal in Refusal::ALL {
            for acceptance in Acceptance::ALL {
                lose_refusal(cluster, *refusal, *acceptance).await;
            }
        }
    }

    /// The rate limit refuses some messages of a flood.
    async fn a_lost_rate_limit_is_in_the_resumed_frame(cluster,
        [super::WINDOW, ("LIMITS__BURST", "20"), ("LIMITS__RATE", "20")]) {
        let bob = cluster.room("r").join("bob").await;
        let proxy = FaultProxy::start(cluster.nodes[0].address).await;
        let alice = join_at(cluster, &proxy, "r", Refusal::PeerAbsent.sender()).await;
        proxy.half_open_all(Direction::ToClient);
        for id in 1..=30 {
            alice.send(to_bob(&bob, id, "flood")).await;
        }
        let (mut received, mut sent) = (Vec::new(), 30);
        eventually_within(Duration::from_secs(10), "a later message is accepted", async || {
            received.extend(bob.take_unread().await.iter().filter_map(|frame| frame["id"].as_u64()));
            if received.last().is_some_and(|last| *last > 30) {
                return Some(());
            }
            // The time until the rate lets another message pass.
            tokio::time::sleep(Duration::from_millis(200)).await;
            sent += 1;
            alice.send(to_bob(&bob, sent, "later")).await;
            None
        })
        .await;
        let alice = alice.disconnect().await;
        // The rate limit lets the resume pass.
        let alice = eventually("a resume", async || {
            alice.try_resume(cluster.nodes.last().unwrap().address).await.ok()
        })
        .await;
        let resumed = alice.next_of_type("resumed").await;
        let last_id = resumed["lastId"].as_u64().unwrap();
        received.extend(bob.take_unread().await.iter().filter_map(|frame| frame["id"].as_u64()));
        let refused: Vec<Value> = (1..last_id)
            .filter(|id| !received.contains(id))
            .map(|id| json!({"id": id, "code": "rate_limited"}))
            .collect();
        assert!(!refused.is_empty(), "{resumed}");
        assert_eq!(resumed["refused"], Value::Array(refused), "every message that Bob did not get");
    }

    async fn a_resumed_frame_without_a_lost_refusal_has_no_list(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.message(&bob, json!(1)).await;
        let alice = alice.disconnect().await.resume_on(cluster.nodes.last().unwrap()).await;
        assert_eq!((&alice.joined["lastId"], alice.joined.get("refused")), (&json!(1), None));
    }
}

async fn until_ready_status(fleet: &Fleet, status: u16) {
    eventually_within(Duration::from_secs(10), "the node notices", async || {
        let answer = Request::get("/health/ready").send(fleet.nodes[0].process.address).await;
        (answer.status == status).then_some(())
    })
    .await;
}

async fn join_fleet(fleet: &Fleet, user: &str) -> TestPeer {
    let token = TokenBuilder::valid("r", user).sign(&fleet.secret);
    TestConnection::open(fleet.nodes[0].client_proxy.address, &token).await.into_peer().await
}

/// Redis executes the call with both messages, and its answer is lost. The client sends both again, as
/// it must after `unavailable`.
#[tokio::test]
async fn a_refusal_whose_answer_redis_lost_is_not_acknowledged_as_a_duplicate() {
    let fleet = Fleet::over_single_redis(1, &[("REDIS__DEADLINE", "500ms"), WINDOW]).await;
    let (alice, bob) = (join_fleet(&fleet, "alice").await, join_fleet(&fleet, "bob").await);
    alice.next_of_type("peer-joined").await;
    let absent = "0".repeat(alice.id().len());
    let refused = json!({"type": "message", "to": absent, "data": "refused"});
    // While the node waits for Redis, both messages come into one call.
    fleet.nodes[0].redis_proxy().set_delay(Duration::from_millis(50));
    alice.send(to_bob(&bob, 1, "the first")).await;
    fleet.nodes[0].redis_proxy().lose_answer_to("the second");
    alice.send(with_id(refused.clone(), 2)).await;
    alice.send(to_bob(&bob, 3, "the second")).await;
    assert_eq!(alice.reply_to(2).await["code"], "unavailable");
    assert_eq!(alice.reply_to(3).await["code"], "unavailable");
    assert!(fleet.nodes[0].redis_proxy().has_lost_answer());
    fleet.nodes[0].redis_proxy().heal();
    until_ready_status(&fleet, 200).await;
    let answer = eventually_within(Duration::from_secs(10), "a final answer", async || {
        // It may have been in the same call.
        alice.send(to_bob(&bob, 1, "the first")).await;
        alice.send(with_id(refused.clone(), 2)).await;
        let answer = alice.reply_to(2).await;
        (answer["code"] != "unavailable").then_some(answer)
    })
    .await;
    assert_eq!(answer["code"], "no_such_peer", "{answer}");
    alice.send(to_bob(&bob, 3, "the second")).await;
    assert_eq!(alice.reply_to(3).await["duplicate"], true);
    fleet.audit();
}

/// While Redis is unavailable, the node refuses one message and delivers a later one directly. It
/// reports both as soon as Redis answers.
#[tokio::test]
async fn a_refusal_before_a_direct_delivery_is_in_the_resumed_frame() {
    let settings = [("REDIS__DEADLINE", "300ms"), ("TIMING__RESUME_WINDOW", "10s")];
    let fleet = Fleet::over_single_redis(1, &settings).await;
    let node = &fleet.nodes[0];
    let (alice, bob) = (join_fleet(&fleet, "alice").await, join_fleet(&fleet, "bob").await);
    alice.next_of_type("peer-joined").await;
    alice.send_acked(to_bob(&bob, 1, "before")).await;
    bob.next_message().await;
    node.redis_proxy().set_new_connections(signalbox_tests::proxy::NewConnections::Reset);
    node.redis_proxy().cut(|| true);
    until_ready_status(&fleet, 503).await;
    let refused = alice.request(json!({"type": "kick", "peer": bob.id()})).await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!(2), &json!("not_permitted")));
    let direct = alice.request(json!({"type": "message", "to": bob.id(), "data": "direct"})).await;
    assert_eq!((&direct["id"], &direct["durable"]), (&json!(3), &json!(false)));
    node.redis_proxy().heal();
    until_ready_status(&fleet, 200).await;
    alice.send_until_acked(json!({"type": "message", "to": bob.id(), "data": "after"})).await;
    let alice = alice.disconnect().await.resume_at(node.client_proxy.address).await;
    assert_eq!(alice.joined["lastId"], 4, "{}", alice.joined);
    assert_eq!(alice.joined["refused"], json!([{"id": 2, "code": "not_permitted"}]), "{}", alice.joined);
    drop(bob);
    fleet.audit();
}
