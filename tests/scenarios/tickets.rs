//! A ticket opens one connection, so a URL that leaks afterwards is useless.

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use signalbox_redis::redis_keys;
use signalbox_tests::{
    cluster::{Settings, StoreKind, TestCluster},
    fleet::Fleet,
    http::{Request, Response},
    net::{eventually, within},
    peer::TestConnection,
    process::send_signal,
    token::TokenBuilder,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind, parse_ticket_digest};

/// Stores a ticket in the same way as the auth service, valid for thirty seconds.
async fn store_ticket(connection: &mut MultiplexedConnection, token: &str) -> String {
    let ticket = OpaqueToken::random().to_text(OpaqueTokenKind::Ticket);
    let key = redis_keys::ticket_key(&parse_ticket_digest(&ticket).unwrap());
    let mut set = redis::cmd("SET");
    set.arg(key).arg(token).arg("EX").arg(30);
    set.query_async::<()>(connection).await.unwrap();
    ticket
}

fn upgrade_request(ticket: &str) -> Request {
    Request::upgrade(format!("/ws/signal?token={ticket}"))
}

fn validate_request(ticket: &str) -> Request {
    Request::get(format!("/ws/validate?token={ticket}"))
}

fn assert_refused(answer: &Response, code: &str) {
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!(code)), "{}", answer.text);
}

async fn start_cluster(settings: Settings<'_>) -> (TestCluster, MultiplexedConnection) {
    let cluster = TestCluster::start(StoreKind::Redis(2), settings).await;
    let connection = cluster.redis.as_ref().unwrap().connect().await;
    (cluster, connection)
}

on_each_store! {
    async fn a_ticket_of_the_auth_service_opens_one_connection(cluster) {
        let token = cluster.sign_token("r", "alice");
        let request = Request::post("/auth/ticket", &json!({})).header("Authorization", format!("Bearer {token}"));
        let answer = request.send(cluster.auth_address()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
        let node = cluster.nodes.last().unwrap().address;
        assert_eq!(validate_request(&ticket).send(node).await.status, 200);
        let alice = TestConnection::open(node, &ticket).await.into_peer().await;
        assert_eq!(alice.joined["userId"], "alice");
        for node in &cluster.nodes {
            assert_refused(&upgrade_request(&ticket).send(node.address).await, "ticket_used");
        }
        alice.leave().await;
    }
}

#[tokio::test]
async fn only_a_successful_upgrade_uses_a_ticket() {
    let (cluster, mut redis) = start_cluster(&[]).await;
    let (here, there) = (cluster.nodes[0].address, cluster.nodes[1].address);
    let ticket = store_ticket(
        &mut redis,
        &TokenBuilder::valid("r", "alice").claim("role", "host").sign(&cluster.secret),
    )
    .await;
    for _ in 0..3 {
        assert_eq!(validate_request(&ticket).send(there).await.status, 200);
    }
    // A request that is refused for another reason does not use the ticket.
    upgrade_request(&ticket)
        .header("Origin", "https://evil.example")
        .send(here)
        .await
        .assert_problem(403, "origin_not_allowed");
    upgrade_request(&ticket)
        .header("Host", "evil.example")
        .send(here)
        .await
        .assert_problem(403, "host_not_allowed");
    upgrade_request(&ticket)
        .header("Sec-WebSocket-Protocol", "chat")
        .send(here)
        .await
        .assert_problem(400, "bad_request");
    Request::get(format!("/ws/signal?token={ticket}"))
        .send(here)
        .await
        .assert_problem(426, "upgrade_required");
    let old_version = Request::get(format!("/ws/signal?token={ticket}"))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "8")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    old_version.send(here).await.assert_problem(426, "upgrade_required");
    let alice = TestConnection::open(here, &ticket).await.into_peer().await;
    assert_eq!((&alice.joined["userId"], &alice.joined["role"]), (&json!("alice"), &json!("host")));
    for node in [here, there] {
        assert_refused(&upgrade_request(&ticket).send(node).await, "ticket_used");
        assert_refused(&validate_request(&ticket).send(node).await, "ticket_used");
    }
    alice.leave().await;
    let ticket = store_ticket(&mut redis, &cluster.sign_token("r", "bob")).await;
    let subprotocol = Request::upgrade("/ws/signal")
        .header("Sec-WebSocket-Protocol", format!("signalbox.v1, token.{ticket}"));
    assert_eq!(subprotocol.clone().send(there).await.status, 101);
    assert_refused(&subprotocol.send(here).await, "ticket_used");
    cluster.assert_clean_logs();
}

#[tokio::test]
async fn one_of_a_hundred_concurrent_uses_of_a_ticket_succeeds() {
    let (cluster, mut redis) = start_cluster(&[]).await;
    let ticket = store_ticket(&mut redis, &cluster.sign_token("r", "bob")).await;
    let nodes: Vec<_> = (0..100).map(|n| cluster.nodes[n % 2].address).collect();
    let request = upgrade_request(&ticket);
    let attempts = nodes.into_iter().map(|node| {
        let request = request.clone();
        async move { request.send(node).await }
    });
    let answers = within("a hundred answers", join_all(attempts)).await;
    let (opened, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 101);
    assert_eq!((opened.len(), refused.len()), (1, 99));
    refused.iter().for_each(|answer| assert_refused(answer, "ticket_used"));
}

#[tokio::test]
async fn a_token_is_refused_where_tickets_are_required() {
    let (cluster, mut redis) = start_cluster(&[("AUTH__TICKETS_ONLY", "true")]).await;
    let node = cluster.nodes[0].address;
    let token = cluster.sign_token("r", "bob");
    assert_refused(&upgrade_request(&token).send(node).await, "ticket_required");
    assert_refused(&validate_request(&token).send(node).await, "ticket_required");
    assert_refused(&Request::upgrade("/ws/signal").send(node).await, "token_missing");
    let bob = TestConnection::open(node, &store_ticket(&mut redis, &cluster.sign_token("r", "bob")).await)
        .await
        .into_peer()
        .await;
    // A token on an open connection and a handle are accepted: neither is a room token in a URL.
    assert_eq!(bob.request(json!({"type": "refresh", "token": token})).await["type"], "ack");
    bob.disconnect().await.resume_on(&cluster.nodes[1]).await;
}

#[tokio::test]
async fn a_ticket_stays_valid_while_redis_is_unavailable() {
    let mut fleet = Fleet::over_single_redis(1, &[("REDIS__DEADLINE", "300ms")]).await;
    let mut redis = fleet.store.single().connect().await;
    let ticket = store_ticket(&mut redis, &TokenBuilder::valid("r", "bob").sign(&fleet.secret)).await;
    let (node, pid) = (fleet.nodes[0].process.address, fleet.store.single().pid());
    send_signal(pid, "STOP");
    for _ in 0..3 {
        upgrade_request(&ticket).send(node).await.assert_problem(503, "unavailable");
        validate_request(&ticket).send(node).await.assert_problem(503, "unavailable");
    }
    send_signal(pid, "CONT");
    let first_frame: Value = eventually("the ticket opens a connection", async || {
        let link = TestConnection::open_with(node, &format!("token={ticket}")).await.ok()?;
        Some(link.next().await)
    })
    .await;
    assert_eq!(first_frame["type"], "joined", "{first_frame}");
}
