//! The data in Redis and in logs, and how long it stays. Every scenario is audited for both; these
//! scenarios provoke the worst case.

use std::time::Duration;

use serde_json::json;
use signalbox_redis::redis_keys::KeyKind;
use signalbox_tests::{
    CANDIDATE, SDP,
    cluster::{StoreKind, TestCluster},
    http::Request,
    raw_socket::{RawFrame, RawSocket},
    test_redis::outlives_rooms,
};

on_each_store! {
    /// Sends secrets, SDP and candidates in valid and invalid places, at log level debug. The audit
    /// after the scenario reads the logs.
    async fn logs_never_hold_secrets_sdp_or_candidates(cluster) {
        let (alice, bob) = cluster.room("r").join2().await;
        alice.offer(&bob, SDP).await;
        alice.candidate(&bob, json!({"candidate": CANDIDATE}), 1).await;
        alice.message_room(json!({"sdp": SDP, "candidate": CANDIDATE})).await;
        alice.send_acked(json!({"type": "update", "name": "v=0", "metadata": {"sdp": SDP, "c": CANDIDATE}})).await;
        for malformed in [json!({"type": SDP}), json!({"type": "offer", "to": SDP, "sdp": SDP}), json!({"type": "offer", "to": bob.id(), "sdp": [SDP]}),
            json!({"type": "candidate", "to": bob.id(), "candidate": CANDIDATE}), json!({"type": "offer", "id": SDP})] {
            let answer = alice.expect_error(malformed).await.to_string();
            assert!(!answer.contains("v=0") && !answer.contains("candidate:"), "{answer}");
        }
        alice.send_text(SDP).await;
        alice.next_of_type("error").await;
        let node = &cluster.nodes[0];
        let token = cluster.sign_token("r", "eve");
        for request in [
            Request::get(format!("/{token}")),
            Request::get(format!("/ws/signal/{token}?token={token}")),
            Request::get(format!("/ws/validate?token={token}x")),
            Request::get("/ws/validate").header("Authorization", format!("Bearer {token}x")),
            Request::upgrade(format!("/ws/signal?token={token}")).header("Origin", format!("https://{token}.example")),
            Request::get(format!("/health/ready?token={token}")).header("Host", token.clone()),
            Request::upgrade("/ws/signal").header("Sec-WebSocket-Protocol", format!("signalbox.v1, token.{token}x")),
        ] {
            request.send(node.address).await;
        }
        let auth = cluster.auth_address();
        for request in [
            Request::post("/auth/token", &json!({"room": token, "user": SDP})).header("Authorization", cluster.basic_auth()),
            Request::post("/auth/token", &json!({"room": "r", "metadata": SDP})).header("Authorization", cluster.basic_auth()),
            Request::post("/auth/validate", &json!({"token": format!("{token}x")})),
            Request::get("/auth/validate").header("Authorization", format!("Bearer {token}")),
            Request::get("/auth/validate").header("Authorization", cluster.basic_auth()),
        ] {
            request.send(auth).await;
        }
        let mut raw = RawSocket::open(node.address, &token, None).await;
        raw.send(&RawFrame { reserved: 7, ..RawFrame::text(SDP.as_bytes()) }).await;
        raw.close_code().await;
    }
}

#[tokio::test]
async fn every_redis_key_has_a_ttl_and_an_ended_room_leaves_no_keys() {
    let cluster = TestCluster::redis(2).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    alice.offer(&bob, SDP).await;
    bob.message_room(json!(1)).await;
    bob.next_offer().await;
    alice.next_message().await;
    let keys = redis.keys().await;
    let count_keys = |kind| keys.iter().filter(|key| KeyKind::of_key(&key.name) == Some(kind)).count();
    assert_eq!((count_keys(KeyKind::Room), count_keys(KeyKind::Mailbox)), (1, 2), "{keys:?}");
    redis.assert_bounded(Duration::from_secs(40)).await;
    alice.leave().await;
    bob.leave().await;
    redis.assert_clean_after(Duration::ZERO).await;
}

/// Alice keeps sending and Bob never acknowledges. No entry may outlive its maximum age, neither
/// while newer entries arrive nor after the last one.
#[tokio::test]
async fn no_entry_outlives_its_maximum_age() {
    let cluster = TestCluster::start(StoreKind::Redis(2), &[("TIMING__PING", "60s")]).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    bob.stop_confirming();
    // The pauses between the messages and after them are the subject of this test.
    for n in 1..=20 {
        alice.message(&bob, json!({"n": n, "sdp": SDP})).await;
        bob.next_message().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        redis.assert_bounded(cluster.max_entry_age()).await;
    }
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        redis.assert_bounded(cluster.max_entry_age()).await;
    }
}

/// A killed node deletes nothing, so the TTLs must.
#[tokio::test]
async fn keys_of_a_killed_node_expire() {
    let cluster = TestCluster::start(StoreKind::Redis(2), &[("TIMING__ROOM_LIFE", "60s")]).await;
    let redis = cluster.redis.as_ref().unwrap();
    let (alice, bob) = cluster.room("r").join2().await;
    bob.offer(&alice, SDP).await;
    alice.next_offer().await;
    cluster.nodes.iter().for_each(signalbox_tests::process::Process::kill);
    signalbox_tests::net::eventually("all mailboxes have expired", async || {
        redis
            .keys()
            .await
            .iter()
            .all(|key| KeyKind::of_key(&key.name) != Some(KeyKind::Mailbox))
            .then_some(())
    })
    .await;
    for key in redis.keys().await.iter().filter(|key| !outlives_rooms(&key.name)) {
        // The room life and the window. The deadlines have the longest configurable room life.
        let is_due = KeyKind::of_key(&key.name) == Some(KeyKind::Due);
        let max_ttl_ms = if is_due { 24 * 60 * 60 * 1_000 + 300 } else { 60_300 };
        assert!((1..=max_ttl_ms).contains(&key.ttl_ms), "{key:?}");
    }
}
