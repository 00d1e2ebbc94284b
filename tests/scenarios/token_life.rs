//! How long a token counts: on a live socket, for a peer that comes back, and for a second peer that shows it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::TestCluster,
    fleet::Fleet,
    http::Request,
    net::eventually,
    peer::{Closed, Link, TestPeer},
    process::{Process, signal},
    proxy::Arrivals,
    ticket::Ticket,
    token::Forgery,
};

/// Longer than any life here.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "20s");

/// A token of Bob's that ends in so many seconds, whole ones of the wall clock.
fn lives(seconds: u64) -> Forgery {
    Forgery::good("r", "bob").claim("exp", clock::now_s() + seconds)
}

async fn join(cluster: &TestCluster, node: &Process, token: &Forgery) -> TestPeer {
    Link::open(node.address, &token.sign(&cluster.secret)).await.into_peer().await
}

fn end_of(token: &Forgery) -> u64 {
    token.claims["exp"].as_u64().unwrap() * 1_000
}

async fn until(wall_ms: u64) {
    tokio::time::sleep(Duration::from_millis(wall_ms.saturating_sub(clock::now_ms()))).await;
}

fn assert_expired(closed: &Closed) {
    assert_eq!((closed.code, &*closed.reason), (4006, "token_expired"));
}

async fn refusal(address: std::net::SocketAddr, query: &str) -> (u16, Value) {
    let answer = Request::upgrade(format!("/ws/signal?{query}")).send(address).await;
    let asked = Request::get(format!("/ws/validate?{query}")).send(address).await;
    assert_eq!(
        (asked.status, &asked.json()["code"]),
        (answer.status, &answer.json()["code"]),
        "the same verdict"
    );
    (answer.status, answer.json()["code"].clone())
}

async fn assert_all_refuse(cluster: &TestCluster, ticket: &Ticket, code: &str) {
    let takeover = format!("resume={}", ticket.handle);
    for node in &cluster.nodes {
        for query in [&ticket.query(), &takeover] {
            assert_eq!(refusal(node.address, query).await, (401, json!(code)));
        }
    }
}

/// The last node: not the first one's, where there are two.
fn elsewhere(cluster: &TestCluster) -> &Process {
    cluster.nodes.last().unwrap()
}

on_each_store! {
    async fn a_client_is_warned_once_and_closed_at_the_end_of_its_token_and_not_before(cluster, [super::WINDOW]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let token = lives(4);
        let bob = join(cluster, elsewhere(cluster), &token).await;
        let ticket = bob.ticket().await;
        let warning = bob.next_of_type("token-expiring").await;
        let left = end_of(&token).saturating_sub(clock::now_ms());
        let said = warning["expiresIn"].as_u64().unwrap();
        assert!(said <= 1_000 && said >= left, "{said} of {left}");
        bob.message(&alice, json!("still here")).await;
        assert_expired(&bob.closed().await);
        let late = clock::now_ms().checked_sub(end_of(&token)).expect("not closed early");
        assert!(late < 1_000, "{late} ms after the end");
        let gone = alice.next_of_type("peer-left").await;
        assert_eq!((&gone["peerId"], &gone["reason"]), (&json!(bob.id()), &json!("expired")));
        let warnings = bob.rest().await.into_iter().filter(|frame| frame["type"] == "token-expiring").count();
        assert_eq!(warnings, 0, "warned once");
        assert_all_refuse(cluster, &ticket, "token_expired").await;
        assert_eq!(refusal(cluster.nodes[0].address, &format!("token={}", token.sign(&cluster.secret))).await,
            (401, json!("token_expired")));
        let again = cluster.room("r").join("bob").await;
        assert_ne!(again.id(), ticket.peer_id);
    }

    async fn a_handle_ends_with_its_token(cluster, [("TIMING__RESUME_WINDOW", "4s")]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let token = lives(3);
        let lost = join(cluster, elsewhere(cluster), &token).await.lose().await;
        alice.next_of_type("peer-detached").await;
        let back = lost.resume_on(&cluster.nodes[0]).await;
        assert_eq!(back.joined["recovered"], true);
        let lost = back.lose().await;
        alice.next_of_type("peer-detached").await;
        until(end_of(&token)).await;
        assert_all_refuse(cluster, &lost, "token_expired").await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "timeout", "it goes when its window is over");
    }

    async fn a_refresh_keeps_the_socket_and_what_it_brings_counts_at_once(cluster, [super::WINDOW]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let first = lives(3).claim("permissions", json!(["publish"]));
        let bob = join(cluster, elsewhere(cluster), &first).await;
        let talk = json!({"type": "message", "to": alice.id(), "data": "hi"});
        assert_eq!(bob.ask(talk.clone()).await["code"], "not_permitted");
        let second = lives(6).claim("role", "moderator").claim("permissions", json!(["publish", "message", "moderate"]));
        let token = second.sign(&cluster.secret);
        // In one write: what comes after it is judged by it.
        bob.send(json!({"type": "refresh", "id": 100, "token": token})).await;
        bob.send(json!({"type": "message", "to": alice.id(), "id": 101, "data": "hi"})).await;
        assert_eq!(bob.answer(100).await, json!({"type": "ack", "id": 100}));
        assert_eq!(bob.answer(101).await, json!({"type": "ack", "id": 101}));
        let told = bob.next_of_type("token-refreshed").await;
        assert_eq!((&told["role"], &told["permissions"]), (&json!("moderator"), &json!(["publish", "message", "moderate"])));
        let left = end_of(&second) - clock::now_ms();
        assert!(told["expiresIn"].as_u64().unwrap().abs_diff(left) < 1_000, "{told}");
        let updated = alice.next_of_type("peer-updated").await;
        assert_eq!((&updated["peerId"], &updated["role"]), (&json!(bob.id()), &json!("moderator")));
        until(end_of(&first) + 200).await;
        bob.ping().await;
        // Both handles of the socket are good: the room knows of the token.
        let mut old = bob.ticket().await;
        old.handle = bob.joined["resume"].as_str().unwrap().to_owned();
        let back = old.resume_on(&cluster.nodes[0]).await;
        assert_eq!((&back.joined["role"], &back.joined["recovered"]), (&json!("moderator"), &json!(true)));
        assert_expired(&back.closed().await);
        assert!(clock::now_ms() >= end_of(&second));
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "expired");
    }

    async fn a_token_that_will_not_do_is_refused_and_changes_nothing(cluster, [super::WINDOW]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let bob = join(cluster, elsewhere(cluster), &lives(900)).await;
        let twin = lives(900);
        let tab = join(cluster, elsewhere(cluster), &twin).await;
        let sign = |token: Forgery| token.sign(&cluster.secret);
        let good = || lives(900);
        let tokens = [sign(Forgery::good("r", "alice")), sign(Forgery::good("other", "bob")),
            sign(good().claim("exp", 1_700_000_000).claim("nbf", 1)), sign(good().claim("iat", clock::now_s() - 60)),
            good().sign(&signalbox_tests::cluster::random_secret()), sign(good().typ(Some("signalbox-user+jwt"))),
            sign(good().claim("aud", "signalbox-user")), sign(good().without("jti")), "x".to_owned(), "sbt_x".to_owned(),
            sign(twin)];
        for token in tokens {
            let answer = bob.ask(json!({"type": "refresh", "token": token})).await;
            assert_eq!((&answer["code"], &answer["field"]), (&json!("bad_token"), &json!("token")), "{answer}");
            assert!(!answer["message"].as_str().unwrap().contains("eyJ"), "{answer}");
        }
        for bad in [json!({"type": "refresh"}), json!({"type": "refresh", "token": 7}), json!({"type": "refresh", "token": ""})] {
            assert_eq!(bob.refused(bad).await["code"], "bad_message");
        }
        let huge = bob.refused(json!({"type": "refresh", "token": "x".repeat(13 * 1024)})).await;
        assert_eq!(huge["code"], "too_large");
        bob.message(&alice, json!("still here")).await;
        let back = bob.lose().await.resume_on(&cluster.nodes[0]).await;
        assert_eq!(back.joined["role"], "guest");
        drop(tab);
    }

    /// D5: an id of a refresh is not one of those that the room counts.
    async fn a_refresh_is_outside_last_id(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let id = bob.message(&alice, json!("one")).await;
        let token = Forgery::good("r", "bob").sign(&cluster.secret);
        bob.send(json!({"type": "refresh", "id": 1_000, "token": token})).await;
        assert_eq!(bob.answer(1_000).await["type"], "ack");
        let back = bob.lose().await.resume_on(elsewhere(cluster)).await;
        assert_eq!(back.joined["lastId"], id);
    }

    async fn a_token_has_one_peer_at_a_time(cluster, [super::WINDOW, ("LIMITS__ROOM_PEERS", "2")]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let token = lives(900);
        let bob = join(cluster, &cluster.nodes[0], &token).await;
        // A sibling is of the same grant.
        let sibling = token.clone().claim("jti", format!("{}.1", token.claims["jti"].as_str().unwrap()));
        for (token, node) in [(&token, &cluster.nodes[0]), (&token, elsewhere(cluster)), (&sibling, elsewhere(cluster))] {
            let link = Link::open(node.address, &token.sign(&cluster.secret)).await;
            assert_eq!(link.next_of_type("error").await["code"], "token_in_use");
            assert_eq!(link.closed().await, Closed { code: 4009, reason: "token_in_use;1000".to_owned() });
        }
        alice.next_of_type("peer-joined").await;
        bob.message(&alice, json!("undisturbed")).await;
        let lost = bob.lose().await;
        alice.next_of_type("peer-detached").await;
        // Its client has lost its handle: in one step the old one goes and the new one comes, also in a full room.
        let again = join(cluster, elsewhere(cluster), &sibling).await;
        let left = alice.next_of_type("peer-left").await;
        assert_eq!((&left["peerId"], &left["reason"]), (&json!(lost.peer_id), &json!("replaced")));
        let joined = alice.next_of_type("peer-joined").await;
        assert_eq!((&joined["peerId"], joined["seq"].as_u64()), (&json!(again.id()), left["seq"].as_u64().map(|seq| seq + 1)));
        for node in &cluster.nodes {
            assert_eq!(refusal(node.address, &lost.query()).await.0, 401);
        }
        again.leave().await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "left");
        join(cluster, &cluster.nodes[0], &token).await;
    }

    async fn a_takeover_keeps_the_grant(cluster, [super::WINDOW]) {
        let token = lives(900);
        let bob = join(cluster, &cluster.nodes[0], &token).await;
        let ticket = bob.ticket().await;
        let new = ticket.take_over(elsewhere(cluster).address).await.unwrap().into_peer().await;
        let link = Link::open(cluster.nodes[0].address, &token.sign(&cluster.secret)).await;
        assert_eq!(link.closed().await.code, 4009);
        new.ping().await;
    }
}

/// A node that hung closes at once what ended meanwhile, and forwards nothing of it.
#[tokio::test]
async fn a_node_that_slept_over_the_end_of_a_token_closes_at_once() {
    let cluster =
        TestCluster::start(signalbox_tests::cluster::Store::Redis(2), &[WINDOW, ("TIMING__LEASE", "20s")])
            .await;
    let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
    let token = lives(3);
    let bob = join(&cluster, &cluster.nodes[1], &token).await;
    let pid = cluster.nodes[1].pid();
    signal(pid, "STOP");
    bob.send(json!({"type": "message", "to": alice.id(), "id": 1, "data": "too late"})).await;
    until(end_of(&token) + 1_000).await;
    signal(pid, "CONT");
    let woken = Instant::now();
    assert_expired(&bob.closed().await);
    assert!(woken.elapsed() < Duration::from_secs(1), "{:?}", woken.elapsed());
    assert_eq!(alice.next_of_type("peer-left").await["reason"], "expired");
    assert!(alice.rest().await.iter().all(|frame| frame["type"] != "message"), "nothing of it is forwarded");
    cluster.assert_clean_logs();
}

async fn fleet() -> Fleet {
    let settings = [WINDOW, ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
    Fleet::single(2, &settings).await
}

async fn join_fleet(fleet: &Fleet, node: usize, token: &Forgery) -> TestPeer {
    Link::open(fleet.nodes[node].front.address, &token.sign(&fleet.secret)).await.into_peer().await
}

async fn until_ready(fleet: &Fleet) {
    eventually("all nodes are ready", async || {
        for node in &fleet.nodes {
            if Request::get("/health/ready").send(node.process.address).await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// An outage of the store is no reason to be closed: a good token counts on the connection, and the room learns of it later.
#[tokio::test]
async fn while_redis_is_away_a_refresh_counts_on_its_connection_and_later_everywhere() {
    let mut fleet = fleet().await;
    let (first, second) = (lives(4), lives(900));
    let bob = join_fleet(&fleet, 0, &first).await;
    let pid = fleet.store.single().pid();
    signal(pid, "STOP");
    let token = second.sign(&fleet.secret);
    let answer = bob.ask(json!({"type": "refresh", "token": token})).await;
    assert_eq!((&answer["type"], &answer["durable"]), (&json!("ack"), &json!(false)), "{answer}");
    let handle = bob.next_of_type("token-refreshed").await["resume"].as_str().unwrap().to_owned();
    until(end_of(&first) + 500).await;
    bob.ping().await;
    signal(pid, "CONT");
    until_ready(&fleet).await;
    // The room has been told: the handle that the client joined with is good beyond the first token's end.
    let mut old = bob.ticket().await;
    assert_eq!(old.handle, handle);
    old.handle = bob.joined["resume"].as_str().unwrap().to_owned();
    let resumed =
        eventually("the room knows", async || old.try_at(fleet.nodes[1].front.address).await.ok()).await;
    assert_eq!(resumed.next_of_type("resumed").await["recovered"], true);
    fleet.audit();
}

/// The node is cut off and dies before the room could be told: the handle tells.
#[tokio::test]
async fn a_refresh_that_the_room_never_heard_of_is_in_the_handle() {
    let fleet = fleet().await;
    let (first, second) = (lives(5), lives(900).claim("iat", clock::now_s() + 1));
    let bob = join_fleet(&fleet, 0, &first).await;
    let old = bob.ticket().await;
    fleet.nodes[0].store().arrivals(Arrivals::Refused);
    fleet.nodes[0].store().cut(|| true);
    let answer = bob.ask(json!({"type": "refresh", "token": second.sign(&fleet.secret)})).await;
    assert_eq!(answer["durable"], false, "{answer}");
    bob.next_of_type("token-refreshed").await;
    let lost = bob.lose().await;
    fleet.nodes[0].process.kill();
    until(end_of(&first)).await;
    let address = fleet.nodes[1].front.address;
    assert_eq!(refusal(address, &old.query()).await, (401, json!("token_expired")));
    let back = lost.resume_at(address).await;
    assert_eq!(back.joined["recovered"], true);
    // From now on the room knows: the handle of before is not looked at for that.
    let mut known = back.ticket().await;
    known.handle = old.handle;
    assert_eq!(known.try_at(address).await.unwrap().next_of_type("resumed").await["recovered"], true);
}

/// Redis has forgotten the room: a handle says itself until when it is good.
#[tokio::test]
async fn after_redis_forgot_a_handle_ends_with_its_token_too() {
    // Redis is killed and does not hang: no call needs a short deadline, which a busy machine would miss.
    let mut fleet = Fleet::single(2, &[WINDOW, ("TIMING__LEASE", "500ms")]).await;
    let (short, long) = (lives(4), Forgery::good("r", "carol"));
    let bob = join_fleet(&fleet, 0, &short).await;
    let carol = join_fleet(&fleet, 0, &long.clone().claim("exp", clock::now_s() + 4)).await;
    carol.must(json!({"type": "refresh", "token": long.claim("jti", "another").sign(&fleet.secret)})).await;
    carol.next_of_type("token-refreshed").await;
    let (bob, carol) = (bob.lose().await, carol.lose().await);
    fleet.nodes[0].process.kill();
    fleet.store.single().stop();
    until(end_of(&short)).await;
    fleet.store.single().go_on().await;
    // Before it is ready it may refuse anything for the time being.
    fleet.nodes[1].process.until_ready().await;
    let address = fleet.nodes[1].front.address;
    assert_eq!(refusal(address, &bob.query()).await, (401, json!("token_expired")));
    let back = carol.resume_at(address).await;
    assert_eq!((&back.joined["userId"], &back.joined["recovered"]), (&json!("carol"), &json!(false)));
}
