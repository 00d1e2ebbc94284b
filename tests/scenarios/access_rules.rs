//! Access rules close open connections on each node and refuse each later connection.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signalbox_redis::redis_keys;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::Request,
    net::{eventually, eventually_within},
    peer::{ResumeState, TestConnection},
    process::Process,
    socket::UpgradeError,
    token::TokenBuilder,
};

/// Long enough that a rule and not the end of the window refuses a resume.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "5s");

on_each_store! {
    async fn a_revocation_closes_connections_on_each_node_and_refuses_each_return(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        for (round, subject) in ["token", "grant", "user", "room", "all"].into_iter().enumerate() {
            let room = cluster.room(&format!("revoked-{round}"));
            let token = room.token(json!({ "user": "alice" })).await;
            let alice = TestConnection::open(cluster.next_node().address, &token).await.into_peer().await;
            let bob = room.join("bob").await;
            let claims = read_claims(&token);
            let resume_state = alice.resume_state().await;
            let body = match subject {
                "token" => json!({ "token": sibling_token(cluster, &claims) }),
                "grant" => json!({ "grant": claims["jti"] }),
                "user" => json!({ "user": "alice" }),
                "room" => json!({ "room": claims["room"] }),
                _ => json!({ "all": true }),
            };
            cluster.add_rule("/api/revocations", body).await;
            let closed = alice.wait_closed().await;
            assert_eq!((closed.code, &*closed.reason), (4516, "revoked"), "{subject}");
            if subject == "room" || subject == "all" {
                assert_eq!(bob.wait_closed().await.code, 4516, "{subject}");
            } else {
                assert_eq!(bob.next_of_type("peer-left").await["reason"], "revoked", "{subject}");
            }
            for node in &cluster.nodes {
                assert_cannot_return(node, &resume_state, "token_revoked").await;
            }
            // A token that is issued after the revocation is valid.
            room.join("alice").await.leave().await;
            if subject != "room" && subject != "all" {
                bob.leave().await;
            }
        }
    }

    async fn a_banned_user_is_refused_with_each_credential(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        for (room_id, key) in [(None, "ban:*:mallory"), (Some("club"), "ban:club:mallory")] {
            let room = cluster.room("club");
            let mallory = room.join("mallory").await;
            let watcher = room.join("watcher").await;
            let token = room.token(json!({ "user": "mallory" })).await;
            let resume_state = mallory.resume_state().await;
            let mut ban = json!({ "user": "mallory", "for": 60 });
            if let Some(room_id) = room_id {
                ban["room"] = room_id.into();
            }
            cluster.add_rule("/api/bans", ban).await;
            assert_eq!(mallory.wait_closed().await.code, 4515);
            assert_eq!(watcher.next_of_type("peer-left").await["reason"], "banned");
            for node in &cluster.nodes {
                wait_until_refused(node, &token, "banned").await;
                assert_cannot_return(node, &resume_state, "banned").await;
            }
            let token_request = json!({ "room": "club", "user": "mallory" });
            let answer = Request::post("/auth/token", &token_request).header("Authorization", cluster.basic_auth());
            answer.send(cluster.auth_address()).await.assert_problem(403, "banned");
            cluster.lift_rule(key).await;
            for node in &cluster.nodes {
                let back = eventually("mallory may join again", async || {
                    TestConnection::open_with(node.address, &format!("token={token}")).await.ok()
                });
                back.await.into_peer().await.leave().await;
            }
            watcher.leave().await;
        }
    }

    async fn a_detached_peer_of_a_banned_user_leaves_at_once(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("r");
        let (alice, mallory) = (room.join("alice").await, room.join("mallory").await);
        let resume_state = mallory.disconnect().await;
        alice.next_of_type("peer-detached").await;
        cluster.add_rule("/api/bans", json!({ "user": "mallory", "for": 60 })).await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "banned");
        for node in &cluster.nodes {
            assert_cannot_return(node, &resume_state, "banned").await;
        }
        alice.leave().await;
        cluster.lift_rule("ban:*:mallory").await;
    }

    async fn clients_of_a_denied_address_are_closed_and_refused(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let token = room.token(json!({ "user": "alice" })).await;
        cluster.add_rule("/api/denials", json!({ "cidr": "127.0.0.0/8", "for": 60 })).await;
        for peer in [&alice, &bob] {
            let closed = peer.wait_closed().await;
            assert_eq!((closed.code, &*closed.reason), (4520, "address_denied"));
        }
        for node in &cluster.nodes {
            wait_until_refused(node, &token, "address_denied").await;
            // This client is not a trusted proxy, so the node ignores the header.
            let validate = Request::get(format!("/ws/validate?token={token}")).header("X-Forwarded-For", "192.0.2.1");
            validate.send(node.address).await.assert_problem(403, "address_denied");
        }
        cluster.lift_rule("deny:127.0.0.0/8").await;
        for node in &cluster.nodes {
            let back = eventually("the address is allowed again", async || {
                TestConnection::open_with(node.address, &format!("token={token}")).await.ok()
            });
            back.await.into_peer().await.leave().await;
        }
    }

    async fn a_shutdown_closes_all_connections_and_peers_can_resume_after_it(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let (token, resume_state) = (room.token(json!({ "user": "carol" })).await, bob.resume_state().await);
        cluster.add_rule("/api/shutdown", json!({ "retry": 90 })).await;
        for peer in [&alice, &bob] {
            let closed = peer.wait_closed().await;
            assert_eq!(closed.code, 4008);
            assert!(closed.reason.starts_with("shut_down;"), "{}", closed.reason);
        }
        for node in &cluster.nodes {
            wait_until_refused(node, &token, "shut_down").await;
            assert_eq!(refusal_code(resume_state.try_resume(node.address).await.err()), "shut_down");
        }
        cluster.lift_rule("shutdown").await;
        for node in &cluster.nodes {
            eventually("the node is open", async || {
                TestConnection::open_with(node.address, &format!("token={token}")).await.ok()
            })
            .await
            .into_peer()
            .await
            .leave()
            .await;
        }
        let bob = resume_state.resume_on(&cluster.nodes[0]).await;
        assert_eq!(bob.joined["recovered"], true, "a shutdown keeps all peers and entries");
        bob.leave().await;
    }

    async fn changed_limits_apply_to_running_nodes_until_they_are_lifted(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("small");
        let (alice, bob) = room.join2().await;
        assert_eq!(alice.joined["limits"]["roomPeers"], 100);
        cluster.add_rule("/api/limits", json!({ "roomPeers": 2, "burst": 3, "rate": 1, "connections": 500 })).await;
        for node in &cluster.nodes {
            let full = eventually("the room is full", async || {
                let link = room.connect_on(node, "carol").await;
                let first = link.next().await;
                (first["type"] == "error").then_some(link)
            });
            assert_eq!(full.await.wait_closed().await.code, 4510);
        }
        // The limits also apply to connections that were already open.
        let refused = eventually("the client is rate limited", async || {
            // Enough messages to exceed the rate, and too few to close the connection.
            let mut refused = None;
            for n in 0..5 {
                let answer = alice.request(json!({ "type": "message", "data": n })).await;
                refused = refused.or((answer["code"] == "rate_limited").then_some(()));
            }
            refused
        });
        refused.await;
        cluster.lift_rule("limits").await;
        for node in &cluster.nodes {
            eventually("the room accepts a peer again", async || {
                let link = room.connect_on(node, "carol").await;
                (link.next().await["type"] == "joined").then_some(link)
            })
            .await;
        }
        alice.close().await;
        bob.close().await;
    }

    async fn a_notice_reaches_only_its_recipients(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let (red, blue) = (cluster.room("red"), cluster.room("blue"));
        let (alice, bob) = red.join2().await;
        let carol = blue.join("carol").await;
        for (body, recipients) in [
            (json!({ "code": "maintenance", "message": "for all" }), [true, true, true]),
            (json!({ "code": "maintenance", "message": "for red", "room": "red" }), [true, true, false]),
            (json!({ "code": "maintenance", "message": "for carol", "user": "carol" }), [false, false, true]),
        ] {
            cluster.add_rule("/api/notices", body.clone()).await;
            for (peer, is_recipient) in [&alice, &bob, &carol].into_iter().zip(recipients) {
                if is_recipient {
                    let notice = peer.next_of_type("notice").await;
                    assert_eq!((&notice["message"], &notice["code"]), (&body["message"], &body["code"]));
                    assert!(notice.get("seq").is_none(), "{notice}");
                }
            }
        }
        // The next notice of each peer is the last one, so no peer received another peer's notice.
        cluster.add_rule("/api/notices", json!({ "code": "end", "message": "end" })).await;
        for peer in [alice, bob, carol] {
            assert_eq!(peer.next_of_type("notice").await["code"], "end");
            peer.leave().await;
        }
    }
}

fn read_claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).expect("the claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON")
}

/// Signs another token of the same grant.
fn sibling_token(cluster: &TestCluster, claims: &Value) -> String {
    let jti = format!("{}.7", claims["jti"].as_str().expect("a text"));
    TokenBuilder::valid("anywhere", "alice").claim("jti", jti).sign(&cluster.secret)
}

fn refusal_code(refusal: Option<UpgradeError>) -> String {
    refusal.expect("a refusal").code()
}

/// Waits until the node refuses the token with this code.
async fn wait_until_refused(node: &Process, token: &str, expected: &str) {
    eventually(&format!("the node answers {expected}"), async || {
        let outcome = TestConnection::open_with(node.address, &format!("token={token}")).await;
        outcome.err().filter(|refusal| refusal.code() == expected).map(drop)
    })
    .await;
}

/// Checks that the node refuses a resume and a takeover at once, and waits until it answers with
/// this code. The node may learn that the peer has left before it learns the rule.
async fn assert_cannot_return(node: &Process, resume_state: &ResumeState, expected: &str) {
    eventually(&format!("the node answers {expected}"), async || {
        let outcomes = [
            resume_state.try_resume(node.address).await.err(),
            resume_state.take_over(node.address).await.err(),
        ];
        let codes = outcomes.map(refusal_code);
        assert!(codes.iter().all(|code| code == expected || code == "resume_expired"), "{codes:?}");
        codes.iter().all(|code| code == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_rules_survive_a_redis_restart_without_data() {
    let mut cluster = TestCluster::start(StoreKind::Redis(2), &[WINDOW, ("TIMING__LEASE", "300ms")]).await;
    let room_token = |user: &str| cluster.sign_token("r", user);
    let (mallory, reformed) = (room_token("mallory"), room_token("reformed"));
    let alice = cluster.room("r").join("alice").await;
    let banned = TestConnection::open(cluster.nodes[0].address, &mallory).await.into_peer().await;
    let resume_state = banned.resume_state().await;
    for user in ["mallory", "reformed"] {
        cluster.add_rule("/api/bans", json!({ "user": user, "for": 600 })).await;
    }
    for node in &cluster.nodes {
        wait_until_refused(node, &mallory, "banned").await;
        wait_until_refused(node, &reformed, "banned").await;
    }
    cluster.lift_rule("ban:*:reformed").await;
    for node in &cluster.nodes {
        eventually("reformed may join", async || {
            TestConnection::open_with(node.address, &format!("token={reformed}")).await.ok()
        })
        .await
        .into_peer()
        .await
        .leave()
        .await;
    }
    let redis = cluster.redis.as_mut().expect("Redis");
    signalbox_tests::process::send_signal(redis.pid(), "KILL");
    redis.kill();
    // Without Redis: known rules apply, new joins are refused for now, open connections stay.
    for node in &cluster.nodes {
        let refusal = TestConnection::open_with(node.address, &format!("token={mallory}")).await.err();
        assert_eq!(refusal_code(refusal), "banned");
        wait_until_refused(node, &cluster.sign_token("r", "carol"), "unavailable").await;
    }
    let answer =
        Request::post("/auth/validate", &json!({ "token": mallory })).send(cluster.auth_address()).await;
    answer.assert_problem(403, "banned");
    let carol_token = cluster.issue(&json!({ "room": "r", "user": "carol" })).await;
    cluster.redis.as_mut().expect("Redis").restart().await;
    let start = Instant::now();
    // Mallory is refused at all times while the nodes recover.
    let mut attempts = 0;
    let mut joined = vec![false; cluster.nodes.len()];
    while !joined.iter().all(|joined| *joined) {
        assert!(start.elapsed() < Duration::from_secs(15), "the nodes do not accept joins in time");
        for (node, joined) in cluster.nodes.iter().zip(&mut joined) {
            for query in [format!("token={mallory}"), resume_state.query()] {
                let refusal = TestConnection::open_with(node.address, &query).await.err();
                assert!(["banned", "unavailable"].contains(&&*refusal_code(refusal)), "in {query}");
                attempts += 1;
            }
            if let Ok(link) = TestConnection::open_with(node.address, &format!("token={carol_token}")).await {
                link.into_peer().await.leave().await;
                *joined = true;
            }
        }
    }
    println!("nodes accept joins after {:?}; {attempts} attempts of mallory were refused", start.elapsed());
    let redis = cluster.redis.as_ref().expect("Redis");
    eventually_within(Duration::from_secs(5), "the rule is in Redis again", async || {
        let mut connection = redis.connect().await;
        let rule: Option<String> = redis::cmd("HGET")
            .arg(redis_keys::RULES_KEY)
            .arg("ban:*:mallory")
            .query_async(&mut connection)
            .await
            .expect("HGET");
        rule
    })
    .await;
    // A new node learns the rule from Redis.
    cluster.add_node().await;
    let newest = cluster.nodes.last().expect("a node");
    assert_eq!(
        refusal_code(TestConnection::open_with(newest.address, &format!("token={mallory}")).await.err()),
        "banned"
    );
    TestConnection::open(newest.address, &reformed).await.into_peer().await.leave().await;
    alice.next_of_type("resumed").await;
    alice.leave().await;
}

#[tokio::test]
async fn an_operator_adds_and_lifts_access_rules_with_commands() {
    let cluster = TestCluster::start(StoreKind::Memory, &[WINDOW]).await;
    let url = format!("http://{}", cluster.auth_address());
    let env = [
        ("SIGNALBOX_URL".to_owned(), url),
        ("SIGNALBOX_API_KEY".to_owned(), format!("backend:{}", cluster.api_secret)),
    ];
    let command = async |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        signalbox_tests::process::run_to_exit("signalbox", &arguments, &env, Duration::from_secs(10)).await
    };
    let token = cluster.sign_token("r", "mallory");
    for (add, lift, expected) in [
        ("ban mallory --for 10m --reason spam", "unban mallory", "banned"),
        ("ban mallory --for 10m --room r", "unban mallory --room r", "banned"),
        ("deny 127.0.0.0/8 --for 10m", "allow 127.0.0.0/8", "address_denied"),
        ("shutdown --retry 5s", "shutdown --end", "shut_down"),
        ("revoke --user mallory", "rules lift user-before:mallory", "token_revoked"),
        ("revoke --all", "rules lift all-before", "token_revoked"),
    ] {
        let ended = command(add).await;
        assert!(ended.code == Some(0), "{add}: {ended:?}");
        let answer = Request::get(format!("/ws/validate?token={token}")).send(cluster.nodes[0].address).await;
        assert_eq!(answer.json()["code"], expected, "{add}");
        let ended = command(lift).await;
        assert!(ended.code == Some(0), "{lift}: {ended:?}");
        let answer = Request::get(format!("/ws/validate?token={token}")).send(cluster.nodes[0].address).await;
        assert_eq!(answer.status, 200, "{lift}");
    }
    for arguments in
        ["limits --room-peers 5 --for 1h", "rules --kind limits", "limits --reset", "notice hello"]
    {
        let ended = command(arguments).await;
        assert!(ended.code == Some(0), "{arguments}: {ended:?}");
    }
    let ended = command("unban unknown").await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("no_such_rule"), "{ended:?}");
    cluster.audit().await;
}
