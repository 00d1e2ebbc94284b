//! What was taken back stays away: on live sockets of every node, and on every way back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::Request,
    net::{eventually, eventually_within},
    peer::{Link, TestPeer},
    process::Process,
    socket::Refusal,
    ticket::Ticket,
    token::Forgery,
};

/// Long enough that a way back is closed by a rule and not by time.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "5s");

on_each_store! {
    async fn what_is_revoked_is_closed_on_every_node_and_has_no_way_back(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        for (round, by) in ["token", "grant", "user", "room", "all"].into_iter().enumerate() {
            let room = cluster.room(&format!("revoked-{round}"));
            let (alice, bob) = room.join2().await;
            let (token, claims) = alices(&alice);
            let before = alice.ticket().await;
            let body = match by {
                "token" => json!({ "token": token_of(cluster, &claims) }),
                "grant" => json!({ "grant": claims["jti"] }),
                "user" => json!({ "user": "alice" }),
                "room" => json!({ "room": claims["room"] }),
                _ => json!({ "all": true }),
            };
            drop(token);
            cluster.take_back("/api/revocations", body).await;
            let closed = alice.closed().await;
            assert_eq!((closed.code, &*closed.reason), (4516, "revoked"), "{by}");
            if by == "room" || by == "all" {
                assert_eq!(bob.closed().await.code, 4516, "{by}");
            } else {
                assert_eq!(bob.next_of_type("peer-left").await["reason"], "revoked", "{by}");
            }
            for node in &cluster.nodes {
                has_no_way_back(node, &before, "token_revoked").await;
            }
            // A token that is issued now is good.
            let again = room.join("alice").await;
            again.leave().await;
            if by != "room" && by != "all" {
                bob.leave().await;
            }
        }
    }

    async fn who_is_banned_is_refused_whatever_it_brings(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        for (place, key) in [(None, "ban:*:mallory"), (Some("club"), "ban:club:mallory")] {
            let room = cluster.room("club");
            let mallory = room.join("mallory").await;
            let watcher = room.join("watcher").await;
            let token = room.token(json!({ "user": "mallory" })).await;
            let handle = mallory.ticket().await;
            let mut ban = json!({ "user": "mallory", "for": 60 });
            if let Some(place) = place {
                ban["room"] = place.into();
            }
            cluster.take_back("/api/bans", ban).await;
            assert_eq!(mallory.closed().await.code, 4515);
            assert_eq!(watcher.next_of_type("peer-left").await["reason"], "banned");
            for node in &cluster.nodes {
                // A node is told within a poll.
                refused_soon(node, &token, "banned").await;
                has_no_way_back(node, &handle, "banned").await;
            }
            let wish = json!({ "room": "club", "user": "mallory" });
            let answer = Request::post("/auth/token", &wish).header("Authorization", cluster.basic());
            answer.send(cluster.auth_address()).await.assert_problem(403, "banned");
            cluster.lift(key).await;
            for node in &cluster.nodes {
                let back = eventually("mallory may be back", async || {
                    Link::ask_in(node.address, &format!("token={token}")).await.ok()
                });
                back.await.into_peer().await.leave().await;
            }
            watcher.leave().await;
        }
    }

    async fn a_detached_peer_of_a_banned_user_leaves_at_once(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("r");
        let (alice, mallory) = (room.join("alice").await, room.join("mallory").await);
        let ticket = mallory.lose().await;
        alice.next_of_type("peer-detached").await;
        cluster.take_back("/api/bans", json!({ "user": "mallory", "for": 60 })).await;
        assert_eq!(alice.next_of_type("peer-left").await["reason"], "banned");
        for node in &cluster.nodes {
            has_no_way_back(node, &ticket, "banned").await;
        }
        alice.leave().await;
        cluster.lift("ban:*:mallory").await;
    }

    async fn clients_of_a_denied_address_are_refused_and_closed(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let token = room.token(json!({ "user": "alice" })).await;
        cluster.take_back("/api/denials", json!({ "cidr": "127.0.0.0/8", "for": 60 })).await;
        for peer in [&alice, &bob] {
            let closed = peer.closed().await;
            assert_eq!((closed.code, &*closed.reason), (4520, "address_denied"));
        }
        for node in &cluster.nodes {
            refused_soon(node, &token, "address_denied").await;
            // Nobody trusts this client to say where it is.
            let validate = Request::get(format!("/ws/validate?token={token}")).header("X-Forwarded-For", "192.0.2.1");
            validate.send(node.address).await.assert_problem(403, "address_denied");
        }
        cluster.lift("deny:127.0.0.0/8").await;
        for node in &cluster.nodes {
            let back = eventually("the address is allowed again", async || {
                Link::ask_in(node.address, &format!("token={token}")).await.ok()
            });
            back.await.into_peer().await.leave().await;
        }
    }

    async fn in_a_shutdown_everybody_goes_and_may_come_back_after_it(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let (token, ticket) = (room.token(json!({ "user": "carol" })).await, bob.ticket().await);
        cluster.take_back("/api/shutdown", json!({ "retry": 90 })).await;
        for peer in [&alice, &bob] {
            let closed = peer.closed().await;
            assert_eq!(closed.code, 4008);
            assert!(closed.reason.starts_with("shut_down;"), "{}", closed.reason);
        }
        for node in &cluster.nodes {
            refused_soon(node, &token, "shut_down").await;
            assert_eq!(code(ticket.try_at(node.address).await.err()), "shut_down");
        }
        cluster.lift("shutdown").await;
        for node in &cluster.nodes {
            eventually("the node is open", async || {
                Link::ask_in(node.address, &format!("token={token}")).await.ok()
            })
            .await
            .into_peer()
            .await
            .leave()
            .await;
        }
        let bob = ticket.resume_on(&cluster.nodes[0]).await;
        assert_eq!(bob.joined["recovered"], true, "a shutdown takes nothing from who was there");
        bob.leave().await;
    }

    async fn limits_change_on_live_nodes_and_go_back(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let room = cluster.room("small");
        let (alice, bob) = room.join2().await;
        assert_eq!(alice.joined["limits"]["roomPeers"], 100);
        cluster.take_back("/api/limits", json!({ "roomPeers": 2, "burst": 3, "rate": 1, "connections": 500 })).await;
        for node in &cluster.nodes {
            let full = eventually("the room is full", async || {
                let link = room.knock_on(node, "carol").await;
                let first = link.next().await;
                (first["type"] == "error").then_some(link)
            });
            assert_eq!(full.await.closed().await.code, 4510);
        }
        // On connections that were there before, too.
        let refused = eventually("it is too fast", async || {
            // One more than passes, and fewer than close the connection.
            let mut refused = None;
            for n in 0..5 {
                let answer = alice.ask(json!({ "type": "message", "data": n })).await;
                refused = refused.or((answer["code"] == "rate_limited").then_some(()));
            }
            refused
        });
        refused.await;
        cluster.lift("limits").await;
        for node in &cluster.nodes {
            eventually("there is a place again", async || {
                let link = room.knock_on(node, "carol").await;
                (link.next().await["type"] == "joined").then_some(link)
            })
            .await;
        }
        alice.close().await;
        bob.close().await;
    }

    async fn a_notice_reaches_those_it_is_for(cluster, [("TIMING__RESUME_WINDOW", "5s")]) {
        let (red, blue) = (cluster.room("red"), cluster.room("blue"));
        let (alice, bob) = red.join2().await;
        let carol = blue.join("carol").await;
        for (body, heard) in [
            (json!({ "code": "maintenance", "message": "for all" }), [true, true, true]),
            (json!({ "code": "maintenance", "message": "for red", "room": "red" }), [true, true, false]),
            (json!({ "code": "maintenance", "message": "for carol", "user": "carol" }), [false, false, true]),
        ] {
            cluster.take_back("/api/notices", body.clone()).await;
            for (peer, hears) in [&alice, &bob, &carol].into_iter().zip(heard) {
                if hears {
                    let notice = peer.next_of_type("notice").await;
                    assert_eq!((&notice["message"], &notice["code"]), (&body["message"], &body["code"]));
                    assert!(notice.get("seq").is_none(), "{notice}");
                }
            }
        }
        // The next one that each hears is the last: none heard what was not for it.
        cluster.take_back("/api/notices", json!({ "code": "end", "message": "end" })).await;
        for peer in [alice, bob, carol] {
            assert_eq!(peer.next_of_type("notice").await["code"], "end");
            peer.leave().await;
        }
    }
}

/// What a peer's handle says of its token: its claims, as far as they are known.
fn alices(peer: &TestPeer) -> (String, Value) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let handle = peer.joined["resume"].as_str().expect("a handle");
    let json = URL_SAFE_NO_PAD.decode(handle.split('.').next().expect("a body")).expect("base64url");
    let claims: Value = serde_json::from_slice(&json).expect("JSON");
    let text = claims.to_string();
    let jti = find(&claims, "token").expect("its token");
    (text, json!({ "jti": jti, "room": peer.joined["roomId"] }))
}

fn find(value: &Value, name: &str) -> Option<Value> {
    match value {
        Value::Object(members) => {
            members.get(name).cloned().or_else(|| members.values().find_map(|member| find(member, name)))
        }
        _ => None,
    }
}

/// Another token of the same grant.
fn token_of(cluster: &TestCluster, claims: &Value) -> String {
    let jti = format!("{}.7", claims["jti"].as_str().expect("a text"));
    Forgery::good("anywhere", "alice").claim("jti", jti).sign(&cluster.secret)
}

fn code(refusal: Option<Refusal>) -> String {
    refusal.expect("a refusal").code()
}

/// The node refuses the token with this code as soon as it has heard.
async fn refused_soon(node: &Process, token: &str, expected: &str) {
    eventually(&format!("{expected} is known"), async || {
        let outcome = Link::ask_in(node.address, &format!("token={token}")).await;
        outcome.err().filter(|refusal| refusal.code() == expected).map(drop)
    })
    .await;
}

/// A handle brings nobody back, neither by a resume nor by a takeover, from the first moment on; and with this code as soon as the node has
/// heard. Before that it may hear that the peer has left.
async fn has_no_way_back(node: &Process, ticket: &Ticket, expected: &str) {
    eventually(&format!("{expected} is known"), async || {
        let outcomes = [ticket.try_at(node.address).await.err(), ticket.take_over(node.address).await.err()];
        let codes = outcomes.map(code);
        assert!(codes.iter().all(|code| code == expected || code == "resume_expired"), "{codes:?}");
        codes.iter().all(|code| code == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_survives_a_redis_that_is_killed_and_comes_back_empty() {
    let mut cluster = TestCluster::start(Store::Redis(2), &[WINDOW, ("TIMING__LEASE", "300ms")]).await;
    let room_token = |user: &str| cluster.forge("r", user);
    let (mallory, reformed) = (room_token("mallory"), room_token("reformed"));
    let alice = cluster.room("r").join("alice").await;
    let banned = Link::open(cluster.nodes[0].address, &mallory).await.into_peer().await;
    let handle = banned.ticket().await;
    for user in ["mallory", "reformed"] {
        cluster.take_back("/api/bans", json!({ "user": user, "for": 600 })).await;
    }
    for node in &cluster.nodes {
        refused_soon(node, &mallory, "banned").await;
        refused_soon(node, &reformed, "banned").await;
    }
    cluster.lift("ban:*:reformed").await;
    for node in &cluster.nodes {
        eventually("reformed may join", async || {
            Link::ask_in(node.address, &format!("token={reformed}")).await.ok()
        })
        .await
        .into_peer()
        .await
        .leave()
        .await;
    }
    let redis = cluster.redis.as_mut().expect("Redis");
    signalbox_tests::process::signal(redis.pid(), "KILL");
    redis.stop();
    // Redis away: what is held is decided on, new joins wait, live sockets stay.
    for node in &cluster.nodes {
        let refusal = Link::ask_in(node.address, &format!("token={mallory}")).await.err();
        assert_eq!(code(refusal), "banned");
        refused_soon(node, &cluster.forge("r", "carol"), "unavailable").await;
    }
    let verdict =
        Request::post("/auth/validate", &json!({ "token": mallory })).send(cluster.auth_address()).await;
    verdict.assert_problem(403, "banned");
    let issued = cluster.issue(&json!({ "room": "r", "user": "carol" })).await;
    cluster.redis.as_mut().expect("Redis").go_on().await;
    let start = Instant::now();
    // From the first moment on: whoever is let in is not mallory.
    let mut attempts = 0;
    let mut open = vec![false; cluster.nodes.len()];
    while !open.iter().all(|open| *open) {
        assert!(start.elapsed() < Duration::from_secs(15), "not open in time");
        for (node, open) in cluster.nodes.iter().zip(&mut open) {
            for query in [format!("token={mallory}"), handle.query()] {
                let refusal = Link::ask_in(node.address, &query).await.err();
                assert!(["banned", "unavailable"].contains(&&*code(refusal)), "in {query}");
                attempts += 1;
            }
            if let Ok(link) = Link::ask_in(node.address, &format!("token={issued}")).await {
                link.into_peer().await.leave().await;
                *open = true;
            }
        }
    }
    println!("open again after {:?}, {attempts} attempts refused meanwhile", start.elapsed());
    let redis = cluster.redis.as_ref().expect("Redis");
    eventually_within(Duration::from_secs(5), "the rule is back", async || {
        let mut connection = redis.connect().await;
        let rule: Option<String> = redis::cmd("HGET")
            .arg("sb:{control}:rules")
            .arg("ban:*:mallory")
            .query_async(&mut connection)
            .await
            .expect("HGET");
        rule
    })
    .await;
    // Nor on a node that has never heard of it but from Redis.
    cluster.add_node().await;
    let newest = cluster.nodes.last().expect("a node");
    assert_eq!(code(Link::ask_in(newest.address, &format!("token={mallory}")).await.err()), "banned");
    Link::open(newest.address, &reformed).await.into_peer().await.leave().await;
    alice.next_of_type("resumed").await;
    alice.leave().await;
}

/// Each is one command.
#[tokio::test]
async fn an_operator_takes_back_by_commands() {
    let cluster = TestCluster::start(Store::Memory, &[WINDOW]).await;
    let url = format!("http://{}", cluster.auth_address());
    let env = [
        ("SIGNALBOX_URL".to_owned(), url),
        ("SIGNALBOX_API_KEY".to_owned(), format!("backend:{}", cluster.api_secret)),
    ];
    let command = async |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        signalbox_tests::process::run("signalbox", &words, &env, Duration::from_secs(10)).await
    };
    let token = cluster.forge("r", "mallory");
    for (taking, back, expected) in [
        ("ban mallory --for 10m --reason spam", "unban mallory", "banned"),
        ("ban mallory --for 10m --room r", "unban mallory --room r", "banned"),
        ("deny 127.0.0.0/8 --for 10m", "allow 127.0.0.0/8", "address_denied"),
        ("shutdown --retry 5s", "shutdown --end", "shut_down"),
        ("revoke --user mallory", "rules lift user-before:mallory", "token_revoked"),
        ("revoke --all", "rules lift all-before", "token_revoked"),
    ] {
        let done = command(taking).await;
        assert!(done.code == Some(0), "{taking}: {done:?}");
        let verdict =
            Request::get(format!("/ws/validate?token={token}")).send(cluster.nodes[0].address).await;
        assert_eq!(verdict.json()["code"], expected, "{taking}");
        let done = command(back).await;
        assert!(done.code == Some(0), "{back}: {done:?}");
        let verdict =
            Request::get(format!("/ws/validate?token={token}")).send(cluster.nodes[0].address).await;
        assert_eq!(verdict.status, 200, "{back}");
    }
    for words in ["limits --room-peers 5 --for 1h", "rules --kind limits", "limits --reset", "notice hello"] {
        let done = command(words).await;
        assert!(done.code == Some(0), "{words}: {done:?}");
    }
    let done = command("unban nobody").await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("no_such_rule"), "{done:?}");
    cluster.audit().await;
}
