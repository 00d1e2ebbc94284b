//! Refresh tokens, tickets, invites and token exchange over HTTP, with each store.

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::{TestCluster, random_secret},
    http::{Request, Response},
    process::Process,
    token::TokenBuilder,
};

async fn post(cluster: &TestCluster, path: &str, authorization: Option<&str>, body: &Value) -> Response {
    let request = Request::post(path, body);
    let request = match authorization {
        Some(authorization) => request.header("Authorization", authorization),
        None => request,
    };
    request.send(cluster.auth_address()).await
}

on_each_store! {
    async fn a_refreshed_token_joins_and_reuse_of_a_refresh_token_revokes_the_family(cluster) {
        let token_request = json!({ "room": "r", "user": "u", "refresh": true });
        let first = post(cluster, "/auth/token", Some(&cluster.basic_auth()), &token_request).await.json();
        let second = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": first["refreshToken"] })).await;
        let second = second.json();
        let validation = Request::get(format!("/ws/validate?token={}", second["token"].as_str().unwrap()));
        assert_eq!(validation.send(cluster.nodes[0].address).await.status, 200);
        let third = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": second["refreshToken"] })).await;
        assert_eq!(third.status, 200);
        let reused = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": first["refreshToken"] })).await;
        reused.assert_problem(401, "refresh_reused");
        let newest = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": third.json()["refreshToken"] })).await;
        newest.assert_problem(401, "refresh_reused");
    }

    async fn an_invited_guest_gets_a_token_without_a_key_until_the_invite_is_used_up(cluster) {
        let made = post(cluster, "/api/rooms/team/invites", Some(&cluster.basic_auth()), &json!({ "role": "speaker" })).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let token_request = json!({ "invite": made.json()["code"], "name": "Bo" });
        let issued = post(cluster, "/auth/token", None, &token_request).await.json();
        assert_eq!((&issued["room"], &issued["role"]), (&"team".into(), &"speaker".into()));
        let validation = Request::get(format!("/ws/validate?token={}", issued["token"].as_str().unwrap()));
        assert_eq!(validation.send(cluster.nodes[0].address).await.status, 200);
        post(cluster, "/auth/token", None, &token_request).await.assert_problem(401, "invite_used_up");
    }

    async fn only_a_token_is_exchanged_for_a_ticket(cluster) {
        let token = TokenBuilder::valid("r", "u").sign(&cluster.secret);
        let answer = post(cluster, "/auth/ticket", Some(&format!("Bearer {token}")), &json!({})).await;
        assert_eq!((answer.status, &answer.json()["expiresIn"]), (200, &30.into()), "{}", answer.text);
        assert!(answer.json()["ticket"].as_str().unwrap().starts_with("sbt_"));
        post(cluster, "/auth/ticket", Some(&cluster.basic_auth()), &json!({})).await.assert_problem(401, "token_malformed");
    }
}

#[tokio::test]
async fn requests_that_need_the_store_get_unavailable_during_an_outage_and_others_succeed() {
    let mut cluster = TestCluster::redis(1).await;
    let token_request = json!({ "room": "r", "user": "u", "refresh": true });
    let issued = post(&cluster, "/auth/token", Some(&cluster.basic_auth()), &token_request).await.json();
    cluster.redis.as_mut().unwrap().kill();
    let cluster = &cluster;
    let refreshed =
        post(cluster, "/auth/refresh", None, &json!({ "refreshToken": issued["refreshToken"] })).await;
    refreshed.assert_problem(503, "unavailable");
    post(cluster, "/auth/token", Some(&cluster.basic_auth()), &token_request)
        .await
        .assert_problem(503, "unavailable");
    let plain = json!({ "room": "r", "user": "u" });
    assert_eq!(post(cluster, "/auth/token", Some(&cluster.basic_auth()), &plain).await.status, 200);
}

#[tokio::test]
async fn a_user_exchanges_a_token_that_the_application_signed() {
    let secret = random_secret();
    let env = [("SIGNALBOX_USER_SECRET".to_owned(), secret.clone())];
    let server = Process::start("signalbox", &env).await;
    let claims = json!({ "iss": "app", "aud": "signalbox", "sub": "alice", "exp": clock::now_s() + 60 });
    let mut forgery = TokenBuilder::valid("r", "alice").typ(Some("JWT"));
    forgery.claims = claims;
    let token = forgery.sign(&secret);
    let answer = Request::post("/auth/exchange", &json!({ "token": token, "refresh": true }))
        .send(server.address)
        .await;
    assert_eq!((answer.status, &answer.json()["user"]), (200, &"alice".into()), "{}", answer.text);
    let other = Request::post("/auth/exchange", &json!({ "token": forgery.sign(&random_secret()) }));
    other.send(server.address).await.assert_problem(401, "exchange_refused");
    // The answer holds a user token, which does not authorize a join.
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let validation = Request::get(format!("/ws/validate?token={token}")).send(server.address).await;
    validation.assert_problem(401, "token_wrong_type");
    server.assert_clean_log(&[&secret]);
}
