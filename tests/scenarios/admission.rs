//! Which connections a node admits: origin, host name, subprotocol and number of connections.
//! Defects of tokens are tested in [`crate::refusals`].

use serde_json::json;
use signalbox_tests::{
    cluster::{Settings, StoreKind, TestCluster, random_secret},
    http::{Request, Response},
    peer::TestConnection,
    process::Process,
    token::TokenBuilder,
};

fn assert_repeats_no_token(answer: &Response, token: Option<&str>) {
    assert!(!answer.text.contains("eyJ"), "{}", answer.text);
    let repeated = token.is_some_and(|token| !token.is_empty() && answer.text.contains(token));
    assert!(!repeated, "the answer repeats the token: {}", answer.text);
}

on_each_store! {
    async fn a_foreign_origin_is_refused(cluster, [("SERVER__ALLOWED_ORIGINS", "https://app.example")]) {
        let node = &cluster.nodes[0];
        let target = |path: &str| format!("{path}?token={}", cluster.sign_token("r", "alice"));
        for (origin, allowed) in [("https://evil.example", false), ("null", false), ("https://app.example.evil", false),
            ("https://app.example", true), (&format!("http://{}", node.address), true)] {
            for (request, good) in [(Request::upgrade(target("/ws/signal")), 101), (Request::get(target("/ws/validate")), 200)] {
                let answer = request.header("Origin", origin).send(node.address).await;
                if allowed {
                    assert_eq!(answer.status, good, "{origin}: {}", answer.text);
                } else {
                    answer.assert_problem(403, "origin_not_allowed");
                    assert_repeats_no_token(&answer, None);
                }
            }
        }
    }

    /// A page that cannot read a refusal retries without end. So this holds for each operation of the
    /// OpenAPI document, and for the answers that no operation gives.
    async fn every_answer_is_readable_from_an_allowed_origin(cluster, [("SERVER__ALLOWED_ORIGINS", "https://app.example"), ("LIMITS__CONNECTIONS", "1")]) {
        let (page, auth, node) = ("https://app.example", cluster.auth_address(), cluster.nodes[0].address);
        let _only_place = cluster.room("r").join_on(&cluster.nodes[0], "alice").await;
        let document = Request::get("/api/openapi.json").send(auth).await.json();
        let mut rows = vec![
            ("GET", "/ws/validate".to_owned(), node),
            ("GET", "/ws/validate?resume=a.b&resume=c.d".to_owned(), node),
            ("GET", format!("/ws/validate?token={}", cluster.sign_token("r", "bob")), node),
            ("POST", "/ws/validate".to_owned(), node),
            ("GET", "/ws/signal".to_owned(), node),
            ("GET", "/ws/events".to_owned(), auth),
            ("GET", "/nowhere".to_owned(), node),
            ("GET", "/nowhere".to_owned(), auth),
        ];
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                if operations.get(method.to_lowercase()).is_some() {
                    rows.push((method, path.replace(['{', '}'], ""), auth));
                }
            }
        }
        assert!(rows.len() > 40, "the document lists the operations: {rows:?}");
        for (method, target, address) in rows {
            let request = || Request::call(method, &target, &serde_json::Value::Null);
            let wrong_host = request().header("Host", "evil.example");
            for (what, request) in [("answer", request()), ("answer under another host name", wrong_host)] {
                let answer = request.clone().header("Origin", page).send(address).await;
                let reader = answer.header("access-control-allow-origin").unwrap_or_default();
                assert!(reader == page || reader == "*", "{method} {target}: no page may read the {what} {}", answer.status);
                assert!(answer.header("access-control-expose-headers").unwrap_or_default().contains("Retry-After"), "{method} {target}");
                let foreign = request.header("Origin", "https://other.example").send(address).await;
                assert!(matches!(foreign.header("access-control-allow-origin"), None | Some("*")), "{method} {target}");
            }
            let preflight = async |origin: &str| {
                let request = Request::call("OPTIONS", &target, &serde_json::Value::Null).header("Access-Control-Request-Method", method);
                request.header("Access-Control-Request-Headers", "authorization").header("Origin", origin).send(address).await
            };
            let allowed = preflight(page).await;
            assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, Some(page)), "{method} {target}");
            assert!(allowed.header("access-control-allow-headers").unwrap_or_default().contains("Authorization"), "{method} {target}");
            preflight("https://other.example").await.assert_problem(403, "origin_not_allowed");
        }
        // A page of another site cannot read this, but finds out that there is an answer.
        let unread = Request::get("/ws/validate").header("Origin", "https://other.example").send(node).await;
        assert_eq!(unread.header("cross-origin-resource-policy"), Some("cross-origin"));
    }

    async fn a_foreign_host_name_that_resolves_to_loopback_is_refused(cluster) {
        let node = &cluster.nodes[0];
        let target = |path: &str| format!("{path}?token={}", cluster.sign_token("r", "alice"));
        for request in [Request::upgrade(target("/ws/signal")), Request::get(target("/ws/validate")), Request::get("/nowhere")] {
            let answer = request.clone().header("Host", "evil.example").send(node.address).await;
            answer.assert_problem(403, "host_not_allowed");
            let rebound = request.header("Host", "evil.example").header("Origin", "http://evil.example");
            rebound.send(node.address).await.assert_problem(403, "host_not_allowed");
        }
    }

    async fn a_request_without_an_upgrade_gets_upgrade_required(cluster) {
        let node = &cluster.nodes[0];
        let plain = Request::get(format!("/ws/signal?token={}", cluster.sign_token("r", "alice"))).send(node.address).await;
        plain.assert_problem(426, "upgrade_required");
        assert_eq!(plain.header("upgrade"), Some("websocket"));
        Request::post("/ws/signal", &json!({})).send(node.address).await.assert_problem(405, "method_not_allowed");
        Request::get("/nowhere").send(node.address).await.assert_problem(404, "not_found");
    }

    async fn an_upgrade_that_violates_rfc_6455_is_refused_with_the_reason(cluster) {
        let node = &cluster.nodes[0];
        let target = format!("/ws/signal?token={}", cluster.sign_token("r", "alice"));
        let base = || Request::get(&target).header("Connection", "Upgrade").header("Upgrade", "websocket");
        let no_key = base().header("Sec-WebSocket-Version", "13").send(node.address).await;
        no_key.assert_problem(400, "bad_request");
        let old_version = base().header("Sec-WebSocket-Version", "8").header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").send(node.address).await;
        old_version.assert_problem(426, "upgrade_required");
    }

    async fn an_offer_of_only_unknown_subprotocols_is_refused(cluster) {
        let node = &cluster.nodes[0];
        let token = cluster.sign_token("r", "alice");
        for offered in ["chat", "signalbox.v2, chat", &format!("token.{token}")] {
            let answer = Request::upgrade(format!("/ws/signal?token={token}"))
                .header("Sec-WebSocket-Protocol", offered)
                .send(node.address)
                .await;
            answer.assert_problem(400, "bad_request");
            assert_eq!(answer.json()["field"], "Sec-WebSocket-Protocol");
            assert_repeats_no_token(&answer, Some(&token));
        }
    }

    async fn an_invalid_resume_handle_is_refused_before_the_upgrade(cluster) {
        let node = &cluster.nodes[0];
        for target in ["/ws/signal?resume=H&since=3", "/ws/signal?resume=e30.AAAA", "/ws/validate?resume=H"] {
            Request::upgrade(target).send(node.address).await.assert_problem(401, "resume_invalid");
        }
        let offered = Request::upgrade("/ws/signal").header("Sec-WebSocket-Protocol", "signalbox.v1, resume.H");
        offered.send(node.address).await.assert_problem(401, "resume_invalid");
        let handle_and_token = format!("/ws/signal?resume=H&token={}", cluster.sign_token("r", "a"));
        for bad in [&*handle_and_token, "/ws/signal?resume=H&resume=H", "/ws/signal?resume=H&since=-1", "/ws/signal?resume=H&since=1&since=1"] {
            Request::upgrade(bad).send(node.address).await.assert_problem(400, "bad_request");
        }
    }

    async fn a_node_at_its_connection_limit_refuses_as_overloaded(cluster, [("LIMITS__CONNECTIONS", "2")]) {
        let node = &cluster.nodes[0];
        let room = cluster.room("r");
        let (first, _second) = (room.join_on(node, "a").await, room.join_on(node, "b").await);
        let upgrade = || Request::upgrade(format!("/ws/signal?token={}", cluster.sign_token("r", "c")));
        upgrade().send(node.address).await.assert_problem(503, "overloaded");
        Request::get(format!("/ws/validate?token={}", cluster.sign_token("r", "c"))).send(node.address).await.assert_problem(503, "overloaded");
        first.leave().await;
        signalbox_tests::net::eventually("the node accepts a connection again", async || (upgrade().send(node.address).await.status == 101).then_some(())).await;
    }

    async fn a_guest_takes_neither_the_name_nor_the_places_nor_the_ban_of_a_user(cluster, [("AUTH__GUESTS", "true"), ("LIMITS__USER_PEERS", "1")]) {
        let guest_token = async |user: &str| {
            let request = Request::post("/auth/token", &json!({"room": "r", "user": user, "name": "Bob (verified)"}));
            let answer = request.send(cluster.auth_address()).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            answer.json()["token"].as_str().unwrap().to_owned()
        };
        let room = cluster.room("r");
        let guest = TestConnection::open(cluster.next_node().address, &guest_token("bob").await).await.into_peer().await;
        let bob = room.join("bob").await;
        let entry = &bob.joined["peers"][0];
        assert_eq!((&entry["userId"], &entry["source"]), (&"guest:bob".into(), &"guest".into()), "{entry}");
        let event = guest.next_of_type("peer-joined").await;
        assert_eq!((&event["userId"], &event["source"]), (&"bob".into(), &"application".into()), "{event}");
        let listed = cluster.api("GET", "/api/rooms/r/participants", &serde_json::Value::Null).await.json();
        let sources: std::collections::BTreeSet<_> = listed["participants"].as_array().unwrap().iter()
            .map(|entry| format!("{} {}", entry["userId"], entry["source"])).collect();
        assert!(sources.contains(r#""guest:bob" "guest""#) && sources.contains(r#""bob" "application""#), "{listed}");
        cluster.api("POST", "/api/rooms/r/bans", &json!({"user": "guest:bob", "for": 60})).await.assert_status(201);
        assert_eq!(guest.wait_closed().await.code, 4515);
        bob.ping().await;
        bob.leave().await;
        room.join("bob").await;
        cluster.api("POST", "/auth/token", &json!({"room": "r", "user": "guest:bob"})).await.assert_problem(403, "user_not_allowed");
    }

    async fn guests_get_tokens_only_where_guests_are_enabled(cluster) {
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

#[tokio::test]
async fn tokens_of_the_previous_secret_are_accepted_during_a_rotation() {
    let (old, new) = (random_secret(), random_secret());
    let env = [("AUTH_SECRET", &new), ("AUTH_SECRET_PREVIOUS", &old)]
        .map(|(name, value)| (name.to_owned(), value.clone()));
    let node = Process::start("signalbox", &env).await;
    let upgrade = async |secret: &str, kid: Option<&str>| {
        let good = TokenBuilder::valid("r", "alice");
        let token = kid.map_or(good.clone(), |kid| good.kid(kid)).sign(secret);
        Request::upgrade(format!("/ws/signal?token={token}")).send(node.address).await
    };
    let kid = |secret: &str| {
        use signalbox_token::{SecretBytes, SharedSecret};
        SharedSecret::new(SecretBytes::new(secret)).unwrap().kid()
    };
    for secret in [&old, &new] {
        assert_eq!(upgrade(secret, None).await.status, 101);
        assert_eq!(upgrade(secret, Some(&kid(secret))).await.status, 101);
    }
    upgrade(&random_secret(), None).await.assert_problem(401, "token_bad_signature");
    // A token that names a key is verified with that key only.
    upgrade(&old, Some(&kid(&new))).await.assert_problem(401, "token_bad_signature");
    node.assert_clean_log(&[&old, &new]);
}

#[tokio::test]
async fn the_room_comes_from_the_token_and_not_from_the_request() {
    let cluster = TestCluster::start(StoreKind::Memory, NONE).await;
    let answer = Request::get(format!("/ws/validate?room=other&token={}", cluster.sign_token("r", "alice")))
        .send(cluster.nodes[0].address)
        .await;
    assert_eq!(answer.status, 200);
    let peer = cluster.room("r").join("alice").await;
    assert_eq!(peer.joined["roomId"], "r");
}

const NONE: Settings<'static> = &[];
