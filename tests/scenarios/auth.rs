//! Tokens that follow one another, tickets and invites, over HTTP and over Redis.

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::{TestCluster, random_secret},
    http::{Request, Response},
    process::Process,
    token::Forgery,
};

async fn post(cluster: &TestCluster, path: &str, proof: Option<&str>, body: &Value) -> Response {
    let request = Request::post(path, body);
    let request = match proof {
        Some(proof) => request.header("Authorization", proof),
        None => request,
    };
    request.send(cluster.auth_address()).await
}

on_each_store! {
    async fn a_refreshed_token_joins_and_a_token_used_twice_ends_its_family(cluster) {
        let wish = json!({ "room": "r", "user": "u", "refresh": true });
        let first = post(cluster, "/auth/token", Some(&cluster.basic()), &wish).await.json();
        let second = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": first["refreshToken"] })).await;
        let second = second.json();
        let verdict = Request::get(format!("/ws/validate?token={}", second["token"].as_str().unwrap()));
        assert_eq!(verdict.send(cluster.nodes[0].address).await.status, 200);
        let third = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": second["refreshToken"] })).await;
        assert_eq!(third.status, 200);
        let again = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": first["refreshToken"] })).await;
        again.assert_problem(401, "refresh_reused");
        let newest = post(cluster, "/auth/refresh", None, &json!({ "refreshToken": third.json()["refreshToken"] })).await;
        newest.assert_problem(401, "refresh_reused");
    }

    async fn somebody_invited_joins_without_a_key_as_often_as_the_invite_says(cluster) {
        let made = post(cluster, "/api/rooms/team/invites", Some(&cluster.basic()), &json!({ "role": "speaker" })).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let wish = json!({ "invite": made.json()["code"], "name": "Bo" });
        let issued = post(cluster, "/auth/token", None, &wish).await.json();
        assert_eq!((&issued["room"], &issued["role"]), (&"team".into(), &"speaker".into()));
        let verdict = Request::get(format!("/ws/validate?token={}", issued["token"].as_str().unwrap()));
        assert_eq!(verdict.send(cluster.nodes[0].address).await.status, 200);
        post(cluster, "/auth/token", None, &wish).await.assert_problem(401, "invite_used_up");
    }

    async fn a_token_is_changed_for_a_ticket_and_nothing_else_is(cluster) {
        let token = Forgery::good("r", "u").sign(&cluster.secret);
        let answer = post(cluster, "/auth/ticket", Some(&format!("Bearer {token}")), &json!({})).await;
        assert_eq!((answer.status, &answer.json()["expiresIn"]), (200, &30.into()), "{}", answer.text);
        assert!(answer.json()["ticket"].as_str().unwrap().starts_with("sbt_"));
        post(cluster, "/auth/ticket", Some(&cluster.basic()), &json!({})).await.assert_problem(401, "token_malformed");
    }
}

#[tokio::test]
async fn while_the_store_is_away_what_needs_it_says_so_and_the_rest_goes_on() {
    let mut held = TestCluster::redis(1).await;
    let wish = json!({ "room": "r", "user": "u", "refresh": true });
    let issued = post(&held, "/auth/token", Some(&held.basic()), &wish).await.json();
    held.redis.as_mut().unwrap().stop();
    let cluster = &held;
    let refreshed =
        post(cluster, "/auth/refresh", None, &json!({ "refreshToken": issued["refreshToken"] })).await;
    refreshed.assert_problem(503, "unavailable");
    post(cluster, "/auth/token", Some(&cluster.basic()), &wish).await.assert_problem(503, "unavailable");
    let plain = json!({ "room": "r", "user": "u" });
    assert_eq!(post(cluster, "/auth/token", Some(&cluster.basic()), &plain).await.status, 200);
}

#[tokio::test]
async fn a_user_comes_with_a_token_that_the_application_has_signed() {
    let secret = random_secret();
    let env = [("SIGNALBOX_USER_SECRET".to_owned(), secret.clone())];
    let server = Process::start("signalbox", &env).await;
    let claims = json!({ "iss": "app", "aud": "signalbox", "sub": "alice", "exp": clock::now_s() + 60 });
    let mut forgery = Forgery::good("r", "alice").typ(Some("JWT"));
    forgery.claims = claims;
    let token = forgery.sign(&secret);
    let answer = Request::post("/auth/exchange", &json!({ "token": token, "refresh": true }))
        .send(server.address)
        .await;
    assert_eq!((answer.status, &answer.json()["user"]), (200, &"alice".into()), "{}", answer.text);
    let other = Request::post("/auth/exchange", &json!({ "token": forgery.sign(&random_secret()) }));
    other.send(server.address).await.assert_problem(401, "exchange_refused");
    // What it gives is no room token.
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let verdict = Request::get(format!("/ws/validate?token={token}")).send(server.address).await;
    verdict.assert_problem(401, "token_wrong_type");
    server.assert_clean_log(&[&secret]);
}
