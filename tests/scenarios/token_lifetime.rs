//! The lifetime of a token: on an open connection, for a resume, and for a second peer with the
//! same token.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::TestCluster,
    fleet::Fleet,
    http::Request,
    net::eventually,
    peer::ResumeState,
    peer::{CloseStatus, TestConnection, TestPeer},
    process::{Process, send_signal},
    proxy::NewConnections,
    token::TokenBuilder,
};

/// Longer than the lifetime of each token in this file.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "20s");

/// A token of Bob that expires after so many seconds; `exp` has whole seconds.
fn bob_token(seconds: u64) -> TokenBuilder {
    TokenBuilder::valid("r", "bob").claim("exp", clock::now_s() + seconds)
}

async fn join_with_token(cluster: &TestCluster, node: &Process, token: &TokenBuilder) -> TestPeer {
    TestConnection::open(node.address, &token.sign(&cluster.secret)).await.into_peer().await
}

fn expiry_ms(token: &TokenBuilder) -> u64 {
    token.claims["exp"].as_u64().unwrap() * 1_000
}

async fn sleep_until(wall_ms: u64) {
    tokio::time::sleep(Duration::from_millis(wall_ms.saturating_sub(clock::now_ms()))).await;
}

fn assert_expired(closed: &CloseStatus) {
    assert_eq!((closed.code, &*closed.reason), (4006, "token_expired"));
}

async fn fetch_refusal(address: std::net::SocketAddr, query: &str) -> (u16, Value) {
    let answer = Request::upgrade(format!("/ws/signal?{query}")).send(address).await;
    let validation = Request::get(format!("/ws/validate?{query}")).send(address).await;
    assert_eq!(
        (validation.status, &validation.json()["code"]),
        (answer.status, &answer.json()["code"]),
        "an upgrade and `/ws/validate` give the same answer"
    );
    (answer.status, answer.json()["code"].clone())
}

async fn assert_all_nodes_refuse(cluster: &TestCluster, resume_state: &ResumeState, code: &str) {
    let takeover = format!("resume={}", resume_state.handle);
    for node in &cluster.nodes {
        for query in [&resume_state.query(), &takeover] {
            assert_eq!(fetch_refusal(node.address, query).await, (401, json!(code)));
        }
    }
}

/// The last node: another node than the first, if the cluster has two.
fn last_node(cluster: &TestCluster) -> &Process {
    cluster.nodes.last().unwrap()
}

on_each_store! {
    async fn a_client_is_warned_once_and_closed_when_its_token_expires(cluster, [super::WINDOW]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let token = bob_token(4);
        let bob = join_with_token(cluster, last_node(cluster), &token).await;
        let resume_state = bob.resume_state().await;
        let warning = bob.next_of_type("token-expiring").await;
        let remaining_ms = expiry_ms(&token).saturating_sub(clock::now_ms());
        let expires_in = warning["expiresIn"].as_u64().unwrap();
        assert!(expires_in <= 1_000 && expires_in >= remaining_ms, "{expires_in} of {remaining_ms}");
        bob.message(&alice, json!("still here")).await;
        assert_expired(&bob.wait_closed().await);
        let delay_ms = clock::now_ms().checked_sub(expiry_ms(&token)).expect("not closed early");
        assert!(delay_ms < 1_000, "{delay_ms} ms after the end");
        let left = alice.next_of_type("peer-left").await;
        assert_eq!((&left["peerId"], &left["reason"]), (&json!(bob.id()), &json!("expired")));
        let warnings = bob.take_unread().await.into_iter().filter(|frame| frame["type"] == "token-expiring").count();
        assert_eq!(warnings, 0, "warned once");
        assert_all_nodes_refuse(cluster, &resume_state, "token_expired").await;
        assert_eq!(fetch_refusal(cluster.nodes[0].address, &format!("token={}", token.sign(&cluster.secret))).await,
            (401, json!("token_expired")));
        let again = cluster.room("r").join("bob").await;
        assert_ne!(again.id(), resume_state.peer_id);
    }

    async fn a_handle_expires_with_its_token(cluster, [("TIMING__RESUME_WINDOW", "4s")]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let token = bob_token(3);
        let lost_peer = join_with_token(cluster, last_node(cluster), &token).await.disconnect().await;
        alice.next_of_type("peer-detached").await;
        let back = lost_peer.resume_on(&cluster.nodes[0]).await;
        assert_eq!(back.joined["recovered"], true);
        let lost_peer = back.disconnect().await;
        alice.next_of_type("peer-detached").await;
        sleep_until(expiry_ms(&token)).await;
        assert_all_nodes_refuse(cluster, &lost_peer, "token_expired").await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "timeout", "the peer leaves after its window");
    }

    async fn a_refresh_keeps_the_connection_and_applies_at_once(cluster, [super::WINDOW]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let first_token = bob_token(3).claim("permissions", json!(["publish"]));
        let bob = join_with_token(cluster, last_node(cluster), &first_token).await;
        let message = json!({"type": "message", "to": alice.id(), "data": "hi"});
        assert_eq!(bob.request(message.clone()).await["code"], "not_permitted");
        let second_token = bob_token(6).claim("role", "moderator").claim("permissions", json!(["publish", "message", "moderate"]));
        let token = second_token.sign(&cluster.secret);
        // The second message is sent before the answer, so the new permissions must apply at once.
        bob.send(json!({"type": "refresh", "id": 100, "token": token})).await;
        bob.send(json!({"type": "message", "to": alice.id(), "id": 101, "data": "hi"})).await;
        assert_eq!(bob.reply_to(100).await, json!({"type": "ack", "id": 100}));
        assert_eq!(bob.reply_to(101).await, json!({"type": "ack", "id": 101}));
        let refreshed = bob.next_of_type("token-refreshed").await;
        assert_eq!((&refreshed["role"], &refreshed["permissions"]), (&json!("moderator"), &json!(["publish", "message", "moderate"])));
        let remaining_ms = expiry_ms(&second_token) - clock::now_ms();
        assert!(refreshed["expiresIn"].as_u64().unwrap().abs_diff(remaining_ms) < 1_000, "{refreshed}");
        let updated = alice.next_of_type("peer-updated").await;
        assert_eq!((&updated["peerId"], &updated["role"]), (&json!(bob.id()), &json!("moderator")));
        sleep_until(expiry_ms(&first_token) + 200).await;
        bob.ping().await;
        // Both handles of the connection are valid, because the room has stored the refresh.
        let mut resume_state = bob.resume_state().await;
        resume_state.handle = bob.joined["resume"].as_str().unwrap().to_owned();
        let back = resume_state.resume_on(&cluster.nodes[0]).await;
        assert_eq!((&back.joined["role"], &back.joined["recovered"]), (&json!("moderator"), &json!(true)));
        assert_expired(&back.wait_closed().await);
        assert!(clock::now_ms() >= expiry_ms(&second_token));
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "expired");
    }

    async fn a_refresh_with_an_unacceptable_token_changes_nothing(cluster, [super::WINDOW]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let bob = join_with_token(cluster, last_node(cluster), &bob_token(900)).await;
        let tab_token = bob_token(900);
        let tab = join_with_token(cluster, last_node(cluster), &tab_token).await;
        let sign = |token: TokenBuilder| token.sign(&cluster.secret);
        let valid = || bob_token(900);
        let tokens = [sign(TokenBuilder::valid("r", "alice")), sign(TokenBuilder::valid("other", "bob")),
            sign(valid().claim("exp", 1_700_000_000).claim("nbf", 1)), sign(valid().claim("iat", clock::now_s() - 60)),
            valid().sign(&signalbox_tests::cluster::random_secret()), sign(valid().typ(Some("signalbox-user+jwt"))),
            sign(valid().claim("aud", "signalbox-user")), sign(valid().without_claim("jti")), "x".to_owned(), "sbt_x".to_owned(),
            sign(tab_token)];
        for token in tokens {
            let answer = bob.request(json!({"type": "refresh", "token": token})).await;
            assert_eq!((&answer["code"], &answer["field"]), (&json!("bad_token"), &json!("token")), "{answer}");
            assert!(!answer["message"].as_str().unwrap().contains("eyJ"), "{answer}");
        }
        for bad in [json!({"type": "refresh"}), json!({"type": "refresh", "token": 7}), json!({"type": "refresh", "token": ""})] {
            assert_eq!(bob.expect_error(bad).await["code"], "bad_message");
        }
        let refused = bob.expect_error(json!({"type": "refresh", "token": "x".repeat(13 * 1024)})).await;
        assert_eq!(refused["code"], "too_large");
        bob.message(&alice, json!("still here")).await;
        let back = bob.disconnect().await.resume_on(&cluster.nodes[0]).await;
        assert_eq!(back.joined["role"], "guest");
        drop(tab);
    }

    async fn the_id_of_a_refresh_does_not_change_last_id(cluster, [super::WINDOW]) {
        let (alice, bob) = cluster.room("r").join2().await;
        let id = bob.message(&alice, json!("one")).await;
        let token = TokenBuilder::valid("r", "bob").sign(&cluster.secret);
        bob.send(json!({"type": "refresh", "id": 1_000, "token": token})).await;
        assert_eq!(bob.reply_to(1_000).await["type"], "ack");
        let back = bob.disconnect().await.resume_on(last_node(cluster)).await;
        assert_eq!(back.joined["lastId"], id);
    }

    async fn a_token_has_one_peer_at_a_time(cluster, [super::WINDOW, ("LIMITS__ROOM_PEERS", "2")]) {
        let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let token = bob_token(900);
        let bob = join_with_token(cluster, &cluster.nodes[0], &token).await;
        // The sibling token belongs to the same grant.
        let sibling = token.clone().claim("jti", format!("{}.1", token.claims["jti"].as_str().unwrap()));
        for (token, node) in [(&token, &cluster.nodes[0]), (&token, last_node(cluster)), (&sibling, last_node(cluster))] {
            let link = TestConnection::open(node.address, &token.sign(&cluster.secret)).await;
            assert_eq!(link.next_of_type("error").await["code"], "token_in_use");
            assert_eq!(link.wait_closed().await, CloseStatus { code: 4009, reason: "token_in_use;1000".to_owned() });
        }
        alice.next_of_type("peer-joined").await;
        bob.message(&alice, json!("undisturbed")).await;
        let lost_peer = bob.disconnect().await;
        alice.next_of_type("peer-detached").await;
        // A client without its handle joins again: one commit replaces the detached peer, also in a
        // full room.
        let again = join_with_token(cluster, last_node(cluster), &sibling).await;
        let left = alice.next_of_type("peer-left").await;
        assert_eq!((&left["peerId"], &left["reason"]), (&json!(lost_peer.peer_id), &json!("replaced")));
        let joined = alice.next_of_type("peer-joined").await;
        assert_eq!((&joined["peerId"], joined["seq"].as_u64()), (&json!(again.id()), left["seq"].as_u64().map(|seq| seq + 1)));
        for node in &cluster.nodes {
            assert_eq!(fetch_refusal(node.address, &lost_peer.query()).await.0, 401);
        }
        again.leave().await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "left");
        join_with_token(cluster, &cluster.nodes[0], &token).await;
    }

    async fn a_takeover_keeps_the_grant(cluster, [super::WINDOW]) {
        let token = bob_token(900);
        let bob = join_with_token(cluster, &cluster.nodes[0], &token).await;
        let resume_state = bob.resume_state().await;
        let new = resume_state.take_over(last_node(cluster).address).await.unwrap().into_peer().await;
        let link = TestConnection::open(cluster.nodes[0].address, &token.sign(&cluster.secret)).await;
        assert_eq!(link.wait_closed().await.code, 4009);
        new.ping().await;
    }
}

/// After a pause of the process, the node closes expired connections before it forwards their
/// messages.
#[tokio::test]
async fn a_paused_node_closes_expired_connections_at_once() {
    let cluster = TestCluster::start(
        signalbox_tests::cluster::StoreKind::Redis(2),
        &[WINDOW, ("TIMING__LEASE", "20s")],
    )
    .await;
    let alice = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
    let token = bob_token(3);
    let bob = join_with_token(&cluster, &cluster.nodes[1], &token).await;
    let pid = cluster.nodes[1].pid();
    send_signal(pid, "STOP");
    bob.send(json!({"type": "message", "to": alice.id(), "id": 1, "data": "too late"})).await;
    sleep_until(expiry_ms(&token) + 1_000).await;
    send_signal(pid, "CONT");
    let resumed_at = Instant::now();
    assert_expired(&bob.wait_closed().await);
    assert!(resumed_at.elapsed() < Duration::from_secs(1), "{:?}", resumed_at.elapsed());
    assert_eq!(alice.next_of_type("peer-left").await["reason"], "expired");
    assert!(
        alice.take_unread().await.iter().all(|frame| frame["type"] != "message"),
        "no message is forwarded"
    );
    cluster.assert_clean_logs();
}

async fn start_fleet() -> Fleet {
    let settings = [WINDOW, ("TIMING__LEASE", "500ms"), ("REDIS__DEADLINE", "300ms")];
    Fleet::over_single_redis(2, &settings).await
}

async fn join_through(fleet: &Fleet, node: usize, token: &TokenBuilder) -> TestPeer {
    TestConnection::open(fleet.nodes[node].client_proxy.address, &token.sign(&fleet.secret))
        .await
        .into_peer()
        .await
}

async fn wait_until_ready(fleet: &Fleet) {
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

/// A refresh takes effect on its connection during an outage; the node stores it in the room
/// afterwards.
#[tokio::test]
async fn a_refresh_while_redis_is_unavailable_applies_to_its_connection_and_later_to_the_room() {
    let mut fleet = start_fleet().await;
    let (first_token, second_token) = (bob_token(4), bob_token(900));
    let bob = join_through(&fleet, 0, &first_token).await;
    let pid = fleet.store.single().pid();
    send_signal(pid, "STOP");
    let token = second_token.sign(&fleet.secret);
    let answer = bob.request(json!({"type": "refresh", "token": token})).await;
    assert_eq!((&answer["type"], &answer["durable"]), (&json!("ack"), &json!(false)), "{answer}");
    let handle = bob.next_of_type("token-refreshed").await["resume"].as_str().unwrap().to_owned();
    sleep_until(expiry_ms(&first_token) + 500).await;
    bob.ping().await;
    send_signal(pid, "CONT");
    wait_until_ready(&fleet).await;
    // The room has stored the refresh, so the first handle is valid after the first token expired.
    let mut resume_state = bob.resume_state().await;
    assert_eq!(resume_state.handle, handle);
    resume_state.handle = bob.joined["resume"].as_str().unwrap().to_owned();
    let resumed = eventually("the room has stored the refresh", async || {
        resume_state.try_resume(fleet.nodes[1].client_proxy.address).await.ok()
    })
    .await;
    assert_eq!(resumed.next_of_type("resumed").await["recovered"], true);
    fleet.audit();
}

/// The node loses Redis and dies before it stores the refresh; the new handle contains the expiry.
#[tokio::test]
async fn a_handle_contains_a_refresh_that_the_room_has_not_stored() {
    let fleet = start_fleet().await;
    let (first_token, second_token) = (bob_token(5), bob_token(900).claim("iat", clock::now_s() + 1));
    let bob = join_through(&fleet, 0, &first_token).await;
    let old_state = bob.resume_state().await;
    fleet.nodes[0].redis_proxy().set_new_connections(NewConnections::Reset);
    fleet.nodes[0].redis_proxy().cut(|| true);
    let answer = bob.request(json!({"type": "refresh", "token": second_token.sign(&fleet.secret)})).await;
    assert_eq!(answer["durable"], false, "{answer}");
    bob.next_of_type("token-refreshed").await;
    let lost_peer = bob.disconnect().await;
    fleet.nodes[0].process.kill();
    sleep_until(expiry_ms(&first_token)).await;
    let address = fleet.nodes[1].client_proxy.address;
    assert_eq!(fetch_refusal(address, &old_state.query()).await, (401, json!("token_expired")));
    let back = lost_peer.resume_at(address).await;
    assert_eq!(back.joined["recovered"], true);
    // The resume stored the refresh in the room, so the expiry in the old handle no longer matters.
    let mut resume_state = back.resume_state().await;
    resume_state.handle = old_state.handle;
    assert_eq!(
        resume_state.try_resume(address).await.unwrap().next_of_type("resumed").await["recovered"],
        true
    );
}

/// Redis has lost the room, so only the handle contains the expiry.
#[tokio::test]
async fn a_handle_expires_with_its_token_after_redis_lost_its_data() {
    // Redis is killed and does not hang, so the default deadline is enough. A busy machine would
    // miss a short one.
    let mut fleet = Fleet::over_single_redis(2, &[WINDOW, ("TIMING__LEASE", "500ms")]).await;
    let (short_token, long_token) = (bob_token(4), TokenBuilder::valid("r", "carol"));
    let bob = join_through(&fleet, 0, &short_token).await;
    let carol = join_through(&fleet, 0, &long_token.clone().claim("exp", clock::now_s() + 4)).await;
    carol
        .send_acked(
            json!({"type": "refresh", "token": long_token.claim("jti", "another").sign(&fleet.secret)}),
        )
        .await;
    carol.next_of_type("token-refreshed").await;
    let (bob, carol) = (bob.disconnect().await, carol.disconnect().await);
    fleet.nodes[0].process.kill();
    fleet.store.single().kill();
    sleep_until(expiry_ms(&short_token)).await;
    fleet.store.single().restart().await;
    // Before the node is ready, it may answer 503 to each request.
    fleet.nodes[1].process.wait_ready().await;
    let address = fleet.nodes[1].client_proxy.address;
    assert_eq!(fetch_refusal(address, &bob.query()).await, (401, json!("token_expired")));
    let back = carol.resume_at(address).await;
    assert_eq!((&back.joined["userId"], &back.joined["recovered"]), (&json!("carol"), &json!(false)));
}
