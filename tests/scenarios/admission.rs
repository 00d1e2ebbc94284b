//! Who is let in: from which sites, under which names, with which subprotocols, and how many. What is wrong with a token is in
//! [`crate::refused`].

use serde_json::json;
use signalbox_tests::{
    cluster::{Settings, Store, TestCluster, random_secret},
    http::{Request, Response},
    process::Process,
    token::Forgery,
};

fn assert_tells_nothing(answer: &Response, token: Option<&str>) {
    assert!(!answer.text.contains("eyJ"), "{}", answer.text);
    let told = token.is_some_and(|token| !token.is_empty() && answer.text.contains(token));
    assert!(!told, "the answer repeats the token: {}", answer.text);
}

on_each_store! {
    async fn a_web_site_that_is_not_ours_is_refused(cluster, [("SERVER__ALLOWED_ORIGINS", "https://app.example")]) {
        let node = &cluster.nodes[0];
        let target = |path: &str| format!("{path}?token={}", cluster.forge("r", "alice"));
        for (origin, allowed) in [("https://evil.example", false), ("null", false), ("https://app.example.evil", false),
            ("https://app.example", true), (&format!("http://{}", node.address), true)] {
            for (request, good) in [(Request::upgrade(target("/ws/signal")), 101), (Request::get(target("/ws/validate")), 200)] {
                let answer = request.header("Origin", origin).send(node.address).await;
                if allowed {
                    assert_eq!(answer.status, good, "{origin}: {}", answer.text);
                } else {
                    answer.assert_problem(403, "origin_not_allowed");
                    assert_tells_nothing(&answer, None);
                }
            }
        }
    }

    async fn a_name_that_was_pointed_at_loopback_is_refused(cluster) {
        let node = &cluster.nodes[0];
        let target = |path: &str| format!("{path}?token={}", cluster.forge("r", "alice"));
        for request in [Request::upgrade(target("/ws/signal")), Request::get(target("/ws/validate")), Request::get("/health/live")] {
            let answer = request.clone().header("Host", "evil.example").send(node.address).await;
            answer.assert_problem(403, "host_not_allowed");
            let rebound = request.header("Host", "evil.example").header("Origin", "http://evil.example");
            rebound.send(node.address).await.assert_problem(403, "host_not_allowed");
        }
    }

    async fn a_plain_request_is_told_to_upgrade(cluster) {
        let node = &cluster.nodes[0];
        let plain = Request::get(format!("/ws/signal?token={}", cluster.forge("r", "alice"))).send(node.address).await;
        plain.assert_problem(426, "upgrade_required");
        assert_eq!(plain.header("upgrade"), Some("websocket"));
        Request::post("/ws/signal", &json!({})).send(node.address).await.assert_problem(405, "method_not_allowed");
        Request::get("/nowhere").send(node.address).await.assert_problem(404, "not_found");
    }

    async fn an_upgrade_that_is_none_of_rfc_6455_is_refused_and_told_why(cluster) {
        let node = &cluster.nodes[0];
        let target = format!("/ws/signal?token={}", cluster.forge("r", "alice"));
        let base = || Request::get(&target).header("Connection", "Upgrade").header("Upgrade", "websocket");
        let no_key = base().header("Sec-WebSocket-Version", "13").send(node.address).await;
        no_key.assert_problem(400, "bad_request");
        let old = base().header("Sec-WebSocket-Version", "8").header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").send(node.address).await;
        old.assert_problem(426, "upgrade_required");
    }

    async fn subprotocols_without_ours_are_refused(cluster) {
        let node = &cluster.nodes[0];
        let token = cluster.forge("r", "alice");
        for offered in ["chat", "signalbox.v2, chat", &format!("token.{token}")] {
            let answer = Request::upgrade(format!("/ws/signal?token={token}"))
                .header("Sec-WebSocket-Protocol", offered)
                .send(node.address)
                .await;
            answer.assert_problem(400, "bad_request");
            assert_eq!(answer.json()["field"], "Sec-WebSocket-Protocol");
            assert_tells_nothing(&answer, Some(&token));
        }
    }

    async fn a_handle_that_is_not_ours_is_refused_before_the_upgrade(cluster) {
        let node = &cluster.nodes[0];
        for target in ["/ws/signal?resume=H&since=3", "/ws/signal?resume=e30.AAAA", "/ws/validate?resume=H"] {
            Request::upgrade(target).send(node.address).await.assert_problem(401, "resume_invalid");
        }
        let offered = Request::upgrade("/ws/signal").header("Sec-WebSocket-Protocol", "signalbox.v1, resume.H");
        offered.send(node.address).await.assert_problem(401, "resume_invalid");
        let both = format!("/ws/signal?resume=H&token={}", cluster.forge("r", "a"));
        for bad in [&*both, "/ws/signal?resume=H&resume=H", "/ws/signal?resume=H&since=-1", "/ws/signal?resume=H&since=1&since=1"] {
            Request::upgrade(bad).send(node.address).await.assert_problem(400, "bad_request");
        }
    }

    async fn beyond_its_connections_a_node_says_when_to_come_back(cluster, [("LIMITS__CONNECTIONS", "2")]) {
        let node = &cluster.nodes[0];
        let room = cluster.room("r");
        let (first, _second) = (room.join_on(node, "a").await, room.join_on(node, "b").await);
        let knock = || Request::upgrade(format!("/ws/signal?token={}", cluster.forge("r", "c")));
        knock().send(node.address).await.assert_problem(503, "overloaded");
        Request::get(format!("/ws/validate?token={}", cluster.forge("r", "c"))).send(node.address).await.assert_problem(503, "overloaded");
        first.leave().await;
        signalbox_tests::net::eventually("a place is free again", async || (knock().send(node.address).await.status == 101).then_some(())).await;
    }

    async fn guests_get_tokens_only_where_they_are_on(cluster) {
        let answer = Request::post("/auth/token", &json!({"room": "r", "role": "host"})).send(cluster.auth_address()).await;
        if cluster.auth.is_some() {
            answer.assert_problem(401, "guests_off");
        } else {
            assert_eq!((answer.status, answer.json()["role"].as_str()), (200, Some("guest")), "{}", answer.text);
        }
        let wrong = Request::post("/auth/token", &json!({"room": "r", "user": "u"})).header("Authorization", "Basic YmFja2VuZDp3cm9uZw==");
        wrong.send(cluster.auth_address()).await.assert_problem(401, "caller_unknown");
    }
}

/// A rotation: the old secret still verifies, a third one does not.
#[tokio::test]
async fn during_a_rotation_tokens_of_the_previous_secret_are_good() {
    let (old, new) = (random_secret(), random_secret());
    let env = [("AUTH_SECRET", &new), ("AUTH_SECRET_PREVIOUS", &old)]
        .map(|(name, value)| (name.to_owned(), value.clone()));
    let node = Process::start("signalbox", &env).await;
    let knock = async |secret: &str, kid: Option<&str>| {
        let good = Forgery::good("r", "alice");
        let token = kid.map_or(good.clone(), |kid| good.kid(kid)).sign(secret);
        Request::upgrade(format!("/ws/signal?token={token}")).send(node.address).await
    };
    let kid = |secret: &str| {
        use signalbox_token::{SecretBytes, SharedSecret};
        SharedSecret::new(SecretBytes::new(secret)).unwrap().kid()
    };
    for secret in [&old, &new] {
        assert_eq!(knock(secret, None).await.status, 101);
        assert_eq!(knock(secret, Some(&kid(secret))).await.status, 101);
    }
    knock(&random_secret(), None).await.assert_problem(401, "token_bad_signature");
    // The key that is named is the key that is tried.
    knock(&old, Some(&kid(&new))).await.assert_problem(401, "token_bad_signature");
    node.assert_clean_log(&[&old, &new]);
}

/// A token for one room opens no other: its room is in the token, not in the request.
#[tokio::test]
async fn the_room_is_the_tokens() {
    let cluster = TestCluster::start(Store::Memory, NONE).await;
    let answer = Request::get(format!("/ws/validate?room=other&token={}", cluster.forge("r", "alice")))
        .send(cluster.nodes[0].address)
        .await;
    assert_eq!(answer.status, 200);
    let peer = cluster.room("r").join("alice").await;
    assert_eq!(peer.joined["roomId"], "r");
}

const NONE: Settings<'static> = &[];
