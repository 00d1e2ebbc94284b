//! `/auth/validate`

use actix_web::{http::header, test::TestRequest};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_token::SharedSecret;

use super::{TestService, random_secret};
use crate::auth::keys::SigningKeys;

/// A valid token with changes to its header and claims.
fn forge_token(secret: &SharedSecret, header: impl FnOnce(&mut Header), claims: Value) -> String {
    let now = clock::now_s();
    let mut all = json!({ "iss": "signalbox", "aud": "signalbox-signal", "sub": "u", "room": "r", "role": "guest",
        "permissions": [], "iat": now, "nbf": now, "exp": now + 60, "jti": "j" });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let mut head = Header { typ: Some("signalbox-room+jwt".to_owned()), ..Header::new(Algorithm::HS256) };
    header(&mut head);
    jsonwebtoken::encode(&head, &all, &EncodingKey::from_secret(secret.expose())).unwrap()
}

fn validate_request(body: &Value) -> TestRequest {
    TestRequest::post().uri("/auth/validate").set_json(body)
}

#[actix_web::test]
async fn valid_token_returns_its_claims_by_header_and_by_body() {
    let service = TestService::new();
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u","metadata":{"a":1}}"#).await;
    let token = issued["token"].as_str().unwrap();
    for answer in
        [service.validate(token).await, service.call(validate_request(&json!({ "token": token }))).await]
    {
        let (status, answer) = answer;
        assert_eq!((status, &answer["valid"]), (200, &json!(true)));
        assert_eq!((&answer["claims"]["room"], &answer["claims"]["sub"]), (&json!("r"), &json!("u")));
        assert_eq!(answer["claims"]["metadata"], json!({ "a": 1 }));
    }
    assert_eq!(service.counter_value("signalbox_auth_validations_total", "valid"), 2.0);
}

#[actix_web::test]
async fn each_bad_token_has_its_error_code() {
    let service = TestService::new();
    let (secret, now) = (&service.token_secret, clock::now_s());
    let same = |_: &mut Header| {};
    let good = forge_token(secret, same, json!({}));
    assert_eq!(service.validate(&good).await.0, 200, "an unchanged token is valid");
    let unsigned = good.rsplit_once('.').unwrap().0.to_owned() + ".";
    for (token, code) in [
        (String::new(), "token_missing"),
        ("nonsense".to_owned(), "token_malformed"),
        ("a.b.c".to_owned(), "token_malformed"),
        ("x".repeat(13_000), "token_malformed"),
        (forge_token(secret, same, json!({ "room": "a b" })), "token_malformed"),
        (forge_token(secret, same, json!({ "exp": now - 1 })), "token_expired"),
        (forge_token(secret, same, json!({ "nbf": now + 60 })), "token_not_yet_valid"),
        (forge_token(&random_secret(), same, json!({})), "token_bad_signature"),
        (unsigned, "token_bad_signature"),
        (forge_token(secret, |head| head.kid = Some("other".to_owned()), json!({})), "token_bad_signature"),
        (forge_token(secret, |head| head.alg = Algorithm::HS384, json!({})), "token_wrong_algorithm"),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), "token_wrong_algorithm"),
        (forge_token(secret, same, json!({ "aud": "other" })), "token_wrong_audience"),
        (forge_token(secret, same, json!({ "iss": "other" })), "token_wrong_issuer"),
        (forge_token(secret, |head| head.typ = Some("JWT".to_owned()), json!({})), "token_wrong_type"),
        (forge_token(secret, |head| head.typ = None, json!({})), "token_wrong_type"),
    ] {
        for (status, answer) in
            [service.validate(&token).await, service.call(validate_request(&json!({ "token": token }))).await]
        {
            assert_eq!((status, &answer["code"]), (401, &code.into()), "{token}");
            assert!(token.len() < 20 || !answer.to_string().contains(&token[..20]), "{answer}");
        }
    }
}

#[actix_web::test]
async fn missing_token_other_scheme_and_bad_body_have_different_errors() {
    let service = TestService::new();
    let get = || TestRequest::get().uri("/auth/validate");
    let header = |value: &str| get().insert_header((header::AUTHORIZATION, value));
    for (request, status, code, field) in [
        (get(), 401, "token_missing", Value::Null),
        (get().uri("/auth/validate?token=x"), 401, "token_missing", Value::Null),
        (header("Basic eDp5"), 401, "token_malformed", Value::Null),
        (header("Bearer"), 401, "token_malformed", Value::Null),
        (validate_request(&json!({})), 400, "bad_request", json!("token")),
        (validate_request(&json!({ "token": 7 })), 400, "bad_request", json!("token")),
        (validate_request(&json!({ "token": "x", "more": 1 })), 400, "bad_request", json!("more")),
        (validate_request(&json!(["x"])), 400, "bad_request", Value::Null),
        (TestRequest::delete().uri("/auth/validate"), 405, "method_not_allowed", Value::Null),
    ] {
        let (got, answer) = service.call(request).await;
        assert_eq!((got, &answer["code"], &answer["field"]), (status, &code.into(), &field), "{answer}");
    }
}

#[actix_web::test]
async fn previous_secret_verifies_and_current_secret_signs_during_rotation() {
    let previous = random_secret();
    let old = forge_token(&previous, |head| head.kid = Some(previous.kid()), json!({}));
    let current = random_secret();
    let service =
        TestService::with(|_| {}, |parts| parts.keys = SigningKeys::from_secret(&current, Some(&previous)));
    assert_eq!(service.validate(&old).await.0, 200);
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u"}"#).await;
    let header = jsonwebtoken::decode_header(issued["token"].as_str().unwrap()).unwrap();
    assert_eq!(header.kid, Some(current.kid()));
    assert_eq!(TestService::new().validate(&old).await.1["code"], "token_bad_signature");
}
