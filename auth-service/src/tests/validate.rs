//! `/auth/validate`

use actix_web::{http::header, test::TestRequest};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_token::SharedSecret;

use super::{Service, random_secret};
use crate::keys::SigningKeys;

/// A token made by hand: a good one, changed.
fn forge(secret: &SharedSecret, header: impl FnOnce(&mut Header), claims: Value) -> String {
    let now = clock::now_s();
    let mut all = json!({ "iss": "signalbox", "aud": "signalbox-signal", "sub": "u", "room": "r", "role": "guest",
        "permissions": [], "iat": now, "nbf": now, "exp": now + 60, "jti": "j" });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let mut head = Header { typ: Some("signalbox-room+jwt".to_owned()), ..Header::new(Algorithm::HS256) };
    header(&mut head);
    jsonwebtoken::encode(&head, &all, &EncodingKey::from_secret(secret.expose())).unwrap()
}

fn post(body: &Value) -> TestRequest {
    TestRequest::post().uri("/auth/validate").set_json(body)
}

#[actix_web::test]
async fn a_good_token_is_answered_with_what_it_says_either_way() {
    let service = Service::new();
    let (_, issued) = service.ask(r#"{"room":"r","user":"u","metadata":{"a":1}}"#).await;
    let token = issued["token"].as_str().unwrap();
    for answer in [service.validate(token).await, service.call(post(&json!({ "token": token }))).await] {
        let (status, answer) = answer;
        assert_eq!((status, &answer["valid"]), (200, &json!(true)));
        assert_eq!((&answer["claims"]["room"], &answer["claims"]["sub"]), (&json!("r"), &json!("u")));
        assert_eq!(answer["claims"]["metadata"], json!({ "a": 1 }));
    }
    assert_eq!(service.counted("signalbox_auth_validations_total", "valid"), 2.0);
}

#[actix_web::test]
async fn each_bad_token_has_its_code() {
    let service = Service::new();
    let (secret, now) = (&service.secret, clock::now_s());
    let same = |_: &mut Header| {};
    let good = forge(secret, same, json!({}));
    assert_eq!(service.validate(&good).await.0, 200, "the forge makes good tokens");
    let unsigned = good.rsplit_once('.').unwrap().0.to_owned() + ".";
    for (token, code) in [
        (String::new(), "token_missing"),
        ("nonsense".to_owned(), "token_malformed"),
        ("a.b.c".to_owned(), "token_malformed"),
        ("x".repeat(13_000), "token_malformed"),
        (forge(secret, same, json!({ "room": "a b" })), "token_malformed"),
        (forge(secret, same, json!({ "exp": now - 1 })), "token_expired"),
        (forge(secret, same, json!({ "nbf": now + 60 })), "token_not_yet_valid"),
        (forge(&random_secret(), same, json!({})), "token_bad_signature"),
        (unsigned, "token_bad_signature"),
        (forge(secret, |head| head.kid = Some("other".to_owned()), json!({})), "token_bad_signature"),
        (forge(secret, |head| head.alg = Algorithm::HS384, json!({})), "token_wrong_algorithm"),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), "token_wrong_algorithm"),
        (forge(secret, same, json!({ "aud": "other" })), "token_wrong_audience"),
        (forge(secret, same, json!({ "iss": "other" })), "token_wrong_issuer"),
        (forge(secret, |head| head.typ = Some("JWT".to_owned()), json!({})), "token_wrong_type"),
        (forge(secret, |head| head.typ = None, json!({})), "token_wrong_type"),
    ] {
        for (status, answer) in
            [service.validate(&token).await, service.call(post(&json!({ "token": token }))).await]
        {
            assert_eq!((status, &answer["code"]), (401, &code.into()), "{token}");
            assert!(token.len() < 20 || !answer.to_string().contains(&token[..20]), "{answer}");
        }
    }
}

#[actix_web::test]
async fn no_token_another_scheme_and_a_bad_body_are_told_apart() {
    let service = Service::new();
    let get = || TestRequest::get().uri("/auth/validate");
    let header = |value: &str| get().insert_header((header::AUTHORIZATION, value));
    for (request, status, code, field) in [
        (get(), 401, "token_missing", Value::Null),
        (get().uri("/auth/validate?token=x"), 401, "token_missing", Value::Null),
        (header("Basic eDp5"), 401, "token_malformed", Value::Null),
        (header("Bearer"), 401, "token_malformed", Value::Null),
        (post(&json!({})), 400, "bad_request", json!("token")),
        (post(&json!({ "token": 7 })), 400, "bad_request", json!("token")),
        (post(&json!({ "token": "x", "more": 1 })), 400, "bad_request", json!("more")),
        (post(&json!(["x"])), 400, "bad_request", Value::Null),
        (TestRequest::delete().uri("/auth/validate"), 405, "method_not_allowed", Value::Null),
    ] {
        let (got, answer) = service.call(request).await;
        assert_eq!((got, &answer["code"], &answer["field"]), (status, &code.into(), &field), "{answer}");
    }
}

#[actix_web::test]
async fn during_a_rotation_the_previous_secret_still_verifies_and_the_current_one_signs() {
    let previous = random_secret();
    let old = forge(&previous, |head| head.kid = Some(previous.kid()), json!({}));
    let current = random_secret();
    let service = Service::with(|_| {}, |parts| parts.keys = SigningKeys::shared(&current, Some(&previous)));
    assert_eq!(service.validate(&old).await.0, 200);
    let (_, issued) = service.ask(r#"{"room":"r","user":"u"}"#).await;
    let header = jsonwebtoken::decode_header(issued["token"].as_str().unwrap()).unwrap();
    assert_eq!(header.kid, Some(current.kid()));
    assert_eq!(Service::new().validate(&old).await.1["code"], "token_bad_signature");
}
