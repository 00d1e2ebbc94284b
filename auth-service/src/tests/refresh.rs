//! Refresh tokens over HTTP.

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_token::TokenVerifier;

use super::{TestService, member_text, token_request};

pub(super) async fn refresh_token(service: &TestService, token: &str) -> (u16, Value) {
    service.call(token_request(&json!({ "refreshToken": token }).to_string()).uri("/auth/refresh")).await
}

pub(super) fn grant_of_token(service: &TestService, answer: &Value) -> String {
    let claims = TokenVerifier::from_secrets([&service.token_secret])
        .verify_room_token(member_text(answer, "token"), clock::now_s())
        .unwrap();
    claims.grant().to_owned()
}

#[actix_web::test]
async fn refresh_token_gives_the_next_token_of_the_same_grant() {
    let service = TestService::new();
    let body = r#"{"room":"r","user":"u","role":"host","name":"U","ttl":60,"metadata":{"a":1},"refresh":true,"region":"eu"}"#;
    let (status, first) = service.request_token(body).await;
    assert_eq!((status, &first["refreshExpiresIn"]), (200, &(7 * 24 * 60 * 60).into()));
    let (status, second) = refresh_token(&service, member_text(&first, "refreshToken")).await;
    assert_eq!(status, 200, "{second}");
    for member in ["room", "user", "role", "expiresIn"] {
        assert_eq!(first[member], second[member]);
    }
    assert_eq!(grant_of_token(&service, &first), grant_of_token(&service, &second));
    let verifier = TokenVerifier::from_secrets([&service.token_secret]);
    let claims = verifier.verify_room_token(member_text(&second, "token"), clock::now_s()).unwrap();
    assert_eq!((claims.name.as_deref(), claims.metadata.unwrap().get()), (Some("U"), r#"{"a":1}"#));
    assert_eq!((claims.caller.as_str(), claims.region.unwrap().as_str()), ("backend", "eu"));
    assert!(claims.permissions.iter().any(|permission| &**permission == "end"));

    // A repeat gets the same successor. The first token after the use of its successor revokes all.
    let (_, again) = refresh_token(&service, member_text(&first, "refreshToken")).await;
    assert_eq!(again["refreshToken"], second["refreshToken"]);
    assert_ne!(again["token"], second["token"]);
    let (status, third) = refresh_token(&service, member_text(&second, "refreshToken")).await;
    assert_eq!(status, 200);
    for (earlier, code) in
        [(&first, "refresh_reused"), (&third, "refresh_reused"), (&second, "refresh_reused")]
    {
        let (status, answer) = refresh_token(&service, member_text(earlier, "refreshToken")).await;
        assert_eq!((status, &answer["code"]), (401, &code.into()));
    }
    assert_eq!(service.state.context.metrics.refresh_reused.get(), 1);
    assert!(service.request_token(r#"{"room":"r","user":"u"}"#).await.1.get("refreshToken").is_none());
}

#[actix_web::test]
async fn token_says_when_the_last_credential_of_its_grant_expires() {
    let service = TestService::new();
    let claims_of = |answer: &Value| {
        let verifier = TokenVerifier::from_secrets([&service.token_secret]);
        verifier.verify_room_token(member_text(answer, "token"), clock::now_s()).unwrap()
    };
    let plain = service.request_token(r#"{"room":"r","user":"u","ttl":60}"#).await.1;
    let claims = claims_of(&plain);
    assert_eq!(claims.grant_exp, Some(claims.exp));
    let first = service.request_token(r#"{"room":"r","user":"u","ttl":60,"refresh":true}"#).await.1;
    let claims = claims_of(&first);
    let family_end = claims.grant_exp.unwrap() - 60;
    assert!(family_end.abs_diff(clock::now_s() + 30 * 24 * 60 * 60) < 10, "{claims:?}");
    let next = refresh_token(&service, member_text(&first, "refreshToken")).await.1;
    let renewed = claims_of(&next);
    assert!(renewed.grant_exp.unwrap().abs_diff(family_end + 60) <= 1, "{renewed:?}");
}

#[actix_web::test]
async fn user_with_many_refresh_tokens_loses_the_oldest_and_root_beyond_its_share_is_refused() {
    let service = TestService::with(
        |settings| (settings.limits.user_families, settings.limits.root_families) = (2, 3),
        |_| {},
    );
    let issue = async |user: &str, refresh: bool| {
        service.request_token(&json!({ "room": "r", "user": user, "refresh": refresh }).to_string()).await
    };
    let mut issued = Vec::new();
    for _ in 0..3 {
        let (status, answer) = issue("u", true).await;
        assert_eq!(status, 200, "{answer}");
        issued.push(member_text(&answer, "refreshToken").to_owned());
    }
    let (status, answer) = refresh_token(&service, &issued[0]).await;
    assert_eq!((status, &answer["code"]), (401, &"refresh_invalid".into()));
    for kept in &issued[1..] {
        assert_eq!(refresh_token(&service, kept).await.0, 200);
    }
    assert_eq!(issue("v", true).await.0, 200);
    let (status, answer) = issue("w", true).await;
    assert_eq!(
        (status, &answer["code"], &answer["field"]),
        (409, &"refresh_limit".into(), &"refresh".into()),
        "{answer}"
    );
    assert_eq!(issue("w", false).await.0, 200, "a token without a refresh token needs no place");
    assert_eq!(issue("u", true).await.0, 200, "a user replaces an own refresh token");
}

#[actix_web::test]
async fn bad_refresh_token_has_its_own_error() {
    let service = TestService::new();
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u","refresh":true}"#).await;
    let good = member_text(&issued, "refreshToken");
    let unknown = signalbox_token::OpaqueToken::random();
    let unknown = unknown.to_text(signalbox_token::OpaqueTokenKind::Refresh);
    for (body, status, code, field) in [
        (json!({ "refreshToken": unknown }), 401, "refresh_invalid", None),
        (json!({ "refreshToken": good.replace("sbr_", "sbt_") }), 401, "refresh_invalid", None),
        (json!({ "refreshToken": member_text(&issued, "token") }), 401, "refresh_invalid", None),
        (json!({ "refreshToken": "" }), 401, "refresh_invalid", None),
        (json!({}), 400, "bad_request", Some("refreshToken")),
        (json!({ "refreshToken": 7 }), 400, "bad_request", Some("refreshToken")),
        (json!({ "token": good }), 400, "bad_request", Some("token")),
    ] {
        let (got, answer) = service.call(token_request(&body.to_string()).uri("/auth/refresh")).await;
        assert_eq!((got, &answer["code"]), (status, &code.into()), "{body}");
        assert_eq!(answer.get("field").and_then(Value::as_str), field, "{body}");
    }
    assert_eq!(refresh_token(&service, good).await.0, 200, "the bad requests do not revoke it");
    let (status, answer) = service.request_token(r#"{"room":"r","user":"u","refresh":"yes"}"#).await;
    assert_eq!((status, &answer["field"]), (400, &"refresh".into()));
}
