//! A ticket opens one connection: whatever stands in a URL is worth nothing afterwards.

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use signalbox_redis::redis_keys;
use signalbox_tests::{
    cluster::{Settings, Store, TestCluster},
    fleet::Fleet,
    http::{Request, Response},
    net::{eventually, within},
    peer::Link,
    process::signal,
    token::Forgery,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind, parse_ticket_digest};

/// Puts a ticket where the auth service puts it, good for thirty seconds.
async fn ticket(connection: &mut MultiplexedConnection, token: &Forgery) -> String {
    let text = OpaqueToken::random().to_text(OpaqueTokenKind::Ticket);
    let key = redis_keys::ticket_key(&parse_ticket_digest(&text).unwrap());
    let mut set = redis::cmd("SET");
    set.arg(key).arg(token.claims.to_string()).arg("EX").arg(30);
    set.query_async::<()>(connection).await.unwrap();
    text
}

fn upgrade(text: &str) -> Request {
    Request::upgrade(format!("/ws/signal?token={text}"))
}

fn validate(text: &str) -> Request {
    Request::get(format!("/ws/validate?token={text}"))
}

fn assert_refused(answer: &Response, code: &str) {
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!(code)), "{}", answer.text);
}

async fn cluster(settings: Settings<'_>) -> (TestCluster, MultiplexedConnection) {
    let cluster = TestCluster::start(Store::Redis(2), settings).await;
    let connection = cluster.redis.as_ref().unwrap().connect().await;
    (cluster, connection)
}

on_each_store! {
    async fn what_the_auth_service_gives_for_a_token_opens_one_connection(cluster) {
        let token = cluster.forge("r", "alice");
        let asked = Request::post("/auth/ticket", &json!({})).header("Authorization", format!("Bearer {token}"));
        let answer = asked.send(cluster.auth_address()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let text = answer.json()["ticket"].as_str().unwrap().to_owned();
        let node = cluster.nodes.last().unwrap().address;
        assert_eq!(validate(&text).send(node).await.status, 200);
        let alice = Link::open(node, &text).await.into_peer().await;
        assert_eq!(alice.joined["userId"], "alice");
        for node in &cluster.nodes {
            assert_refused(&upgrade(&text).send(node.address).await, "ticket_used");
        }
        alice.leave().await;
    }
}

#[tokio::test]
async fn a_ticket_opens_one_connection_and_is_used_by_nothing_else() {
    let (cluster, mut redis) = cluster(&[]).await;
    let (here, there) = (cluster.nodes[0].address, cluster.nodes[1].address);
    let text = ticket(&mut redis, &Forgery::good("r", "alice").claim("role", "host")).await;
    for _ in 0..3 {
        assert_eq!(validate(&text).send(there).await.status, 200);
    }
    // Whatever is refused for another reason leaves it as it was.
    upgrade(&text)
        .header("Origin", "https://evil.example")
        .send(here)
        .await
        .assert_problem(403, "origin_not_allowed");
    upgrade(&text).header("Host", "evil.example").send(here).await.assert_problem(403, "host_not_allowed");
    upgrade(&text)
        .header("Sec-WebSocket-Protocol", "chat")
        .send(here)
        .await
        .assert_problem(400, "bad_request");
    Request::get(format!("/ws/signal?token={text}")).send(here).await.assert_problem(426, "upgrade_required");
    let old = Request::get(format!("/ws/signal?token={text}"))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "8")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    old.send(here).await.assert_problem(426, "upgrade_required");
    let alice = Link::open(here, &text).await.into_peer().await;
    assert_eq!((&alice.joined["userId"], &alice.joined["role"]), (&json!("alice"), &json!("host")));
    for node in [here, there] {
        assert_refused(&upgrade(&text).send(node).await, "ticket_used");
        assert_refused(&validate(&text).send(node).await, "ticket_used");
    }
    alice.leave().await;
    let text = ticket(&mut redis, &Forgery::good("r", "bob")).await;
    let offered = Request::upgrade("/ws/signal")
        .header("Sec-WebSocket-Protocol", format!("signalbox.v1, token.{text}"));
    assert_eq!(offered.clone().send(there).await.status, 101);
    assert_refused(&offered.send(here).await, "ticket_used");
    cluster.assert_clean_logs();
}

#[tokio::test]
async fn of_a_hundred_who_show_one_ticket_at_once_one_gets_in() {
    let (cluster, mut redis) = cluster(&[]).await;
    let text = ticket(&mut redis, &Forgery::good("r", "bob")).await;
    let nodes: Vec<_> = (0..100).map(|n| cluster.nodes[n % 2].address).collect();
    let request = upgrade(&text);
    let knocks = nodes.into_iter().map(|node| {
        let request = request.clone();
        async move { request.send(node).await }
    });
    let answers = within("a hundred answers", join_all(knocks)).await;
    let (opened, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 101);
    assert_eq!((opened.len(), refused.len()), (1, 99));
    refused.iter().for_each(|answer| assert_refused(answer, "ticket_used"));
}

#[tokio::test]
async fn where_only_tickets_are_taken_a_token_is_not() {
    let (cluster, mut redis) = cluster(&[("AUTH__TICKETS_ONLY", "true")]).await;
    let node = cluster.nodes[0].address;
    let token = cluster.forge("r", "bob");
    assert_refused(&upgrade(&token).send(node).await, "ticket_required");
    assert_refused(&validate(&token).send(node).await, "ticket_required");
    assert_refused(&Request::upgrade("/ws/signal").send(node).await, "token_missing");
    let bob = Link::open(node, &ticket(&mut redis, &Forgery::good("r", "bob")).await).await.into_peer().await;
    // A token on the open connection, and a handle, stand in no URL that a ticket would protect.
    assert_eq!(bob.ask(json!({"type": "refresh", "token": token})).await["type"], "ack");
    bob.lose().await.resume_on(&cluster.nodes[1]).await;
}

#[tokio::test]
async fn a_ticket_outlasts_an_outage_of_the_store() {
    let mut fleet = Fleet::single(1, &[("REDIS__DEADLINE", "300ms")]).await;
    let mut redis = fleet.store.single().connect().await;
    let text = ticket(&mut redis, &Forgery::good("r", "bob")).await;
    let (node, pid) = (fleet.nodes[0].process.address, fleet.store.single().pid());
    signal(pid, "STOP");
    for _ in 0..3 {
        upgrade(&text).send(node).await.assert_problem(503, "unavailable");
        validate(&text).send(node).await.assert_problem(503, "unavailable");
    }
    signal(pid, "CONT");
    let opened: Value = eventually("it opens a connection then", async || {
        let link = Link::ask_in(node, &format!("token={text}")).await.ok()?;
        Some(link.next().await)
    })
    .await;
    assert_eq!(opened["type"], "joined", "{opened}");
}
