//! `/auth/validate`

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_config::ServiceSettings;
use signalbox_protocol::clock;
use signalbox_token::{KeyAlgorithm, SharedSecret};

use super::{TestService, call_as_backend, member_text, random_secret};
use crate::auth::keys::{SigningKeys, operations};

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

/// What happens to the folder of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderFault {
    /// The folder is gone, as with a lost mount.
    Removed,
    /// A file is in its place.
    Replaced,
    /// It has no key any more.
    Empty,
    /// One of its files is cut off.
    TornKey,
    /// Other users may read it.
    OpenToOthers,
}

impl FolderFault {
    const ALL: [Self; 5] = [Self::Removed, Self::Replaced, Self::Empty, Self::TornKey, Self::OpenToOthers];

    fn apply(self, folder: &Path) {
        let files = || std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        match self {
            Self::Removed => std::fs::remove_dir_all(folder).unwrap(),
            Self::Replaced => {
                std::fs::remove_dir_all(folder).unwrap();
                std::fs::write(folder, "").unwrap();
            }
            Self::Empty => files().for_each(|file| std::fs::remove_file(file).unwrap()),
            Self::TornKey => files().for_each(|file| std::fs::write(file, "{").unwrap()),
            Self::OpenToOthers => {
                std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
}

/// Room tokens and a management token whose key this process has never read.
#[actix_web::test]
async fn unknown_key_is_refused_only_while_the_folder_of_keys_can_be_read() {
    let foreign_keys = tempfile::TempDir::new().unwrap();
    let issuer = service_with_key_folder(&foreign_keys.path().join("keys"));
    for fault in FolderFault::ALL.map(Some).into_iter().chain([None]) {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("keys");
        let service = service_with_key_folder(&folder);
        let (_, own) = service.request_token(r#"{"room":"r","user":"u"}"#).await;
        let (_, foreign) = issuer.request_token(r#"{"room":"r","user":"u"}"#).await;
        let management = TestRequest::post().uri("/auth/management").set_json(json!({}));
        let (_, manager) = call_as_backend(&issuer, management).await;
        if let Some(fault) = fault {
            fault.apply(&folder);
            assert!(service.state.tokens.keys.reload(clock::now_s()).is_err(), "{fault:?}");
        }
        let foreign = member_text(&foreign, "token");
        let bearer = |method: Method, uri: &str, token: &str| {
            let proof = (header::AUTHORIZATION, format!("Bearer {token}"));
            TestRequest::with_uri(uri).method(method).insert_header(proof)
        };
        let requests = || {
            [
                bearer(Method::GET, "/auth/validate", foreign),
                validate_request(&json!({ "token": foreign })),
                bearer(Method::POST, "/auth/ticket", foreign),
                bearer(Method::GET, "/auth/ice", foreign),
                bearer(Method::GET, "/api/rooms", member_text(&manager, "token")),
            ]
        };
        let expected = if fault.is_some() { (503, "unavailable") } else { (401, "token_bad_signature") };
        for (row, request) in requests().into_iter().enumerate() {
            let (status, answer) = service.call(request).await;
            assert_eq!((status, member_text(&answer, "code")), expected, "{fault:?}, row {row}: {answer}");
        }
        for request in requests() {
            assert_eq!(service.retry_after(request).await.is_some(), fault.is_some(), "{fault:?}");
        }
        assert_eq!(service.validate(member_text(&own, "token")).await.0, 200, "{fault:?}: known keys stay");
    }
}

fn service_with_key_folder(folder: &Path) -> TestService {
    operations::create_first_key(folder, KeyAlgorithm::EdDSA, clock::now_s()).unwrap();
    let auth = ServiceSettings::default().auth;
    let keys = SigningKeys::from_folder(folder.to_owned(), &auth, [], clock::now_s()).unwrap();
    TestService::with(|_| {}, |parts| parts.keys = keys)
}
