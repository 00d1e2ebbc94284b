//! `POST /auth/token`

use actix_web::{http::header, test::TestRequest};
use proptest::prelude::*;
use serde_json::{Value, json};
use signalbox_config::units::{ByteSize, TimeSpan};
use signalbox_protocol::clock;
use signalbox_token::TokenVerifier;

use super::{TestService, token_request};

#[actix_web::test]
async fn token_has_exactly_the_requested_claims() {
    let service = TestService::new();
    let body = r#"{"room":"stand-up","user":"alice@example","role":"speaker","name":"Alice","ttl":60,"metadata":{"a": 1}}"#;
    let (status, answer) = service.request_token(body).await;
    assert_eq!(status, 200, "{answer}");
    let mut members: Vec<_> = answer.as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["expiresIn", "role", "room", "token", "user"]);
    assert_eq!(answer["expiresIn"], 60);

    let now = clock::now_s();
    let token = answer["token"].as_str().unwrap();
    let claims = TokenVerifier::from_secrets([&service.token_secret]).verify_room_token(token, now).unwrap();
    assert_eq!((claims.room.as_str(), claims.sub.as_str()), ("stand-up", "alice@example"));
    assert_eq!((claims.role.as_str(), claims.name.as_deref()), ("speaker", Some("Alice")));
    assert_eq!(
        claims.permissions.iter().map(|p| &**p).collect::<Vec<_>>(),
        ["publish", "message", "share", "data"]
    );
    assert_eq!(claims.metadata.unwrap().get(), r#"{"a": 1}"#);
    assert_eq!((claims.exp - claims.iat, claims.iat - claims.nbf), (60, 10));
    assert!(now - claims.iat < 5);
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.kid, Some(service.token_secret.kid()));
    assert_eq!(service.counter_value("signalbox_auth_tokens_issued_total", "api_key"), 1.0);
}

#[actix_web::test]
async fn absent_members_use_the_configured_defaults() {
    let (_, answer) = TestService::new().request_token(r#"{"room":"r","user":"u","role":null}"#).await;
    assert_eq!((&answer["role"], &answer["expiresIn"]), (&json!("guest"), &json!(900)));
}

#[actix_web::test]
async fn each_bad_member_of_a_token_request_is_named_in_the_error() {
    let service = TestService::new();
    let token_body = |change: Value| {
        let mut token_body = json!({ "room": "r", "user": "u" });
        token_body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        token_body.to_string()
    };
    let deep_body =
        format!(r#"{{"room":"r","user":"u","metadata":{{"a":{}{}}}}}"#, "[".repeat(64), "]".repeat(64));
    for (body, status, field) in [
        (r#"{"user":"u"}"#.to_owned(), 400, "room"),
        (token_body(json!({ "room": null })), 400, "room"),
        (token_body(json!({ "room": 7 })), 400, "room"),
        (token_body(json!({ "room": "" })), 400, "room"),
        (token_body(json!({ "room": "a b" })), 400, "room"),
        (token_body(json!({ "room": "x".repeat(65) })), 400, "room"),
        (r#"{"room":"r"}"#.to_owned(), 400, "user"),
        (token_body(json!({ "user": "a b" })), 400, "user"),
        (token_body(json!({ "user": "x".repeat(129) })), 400, "user"),
        (token_body(json!({ "user": ["u"] })), 400, "user"),
        (token_body(json!({ "role": "HOST" })), 400, "role"),
        (token_body(json!({ "role": 1 })), 400, "role"),
        (token_body(json!({ "role": "emperor" })), 403, "role"),
        (token_body(json!({ "name": "x".repeat(65) })), 400, "name"),
        (token_body(json!({ "name": "a\nb" })), 400, "name"),
        (token_body(json!({ "name": "\u{202e}evil" })), 400, "name"),
        (token_body(json!({ "name": {} })), 400, "name"),
        (token_body(json!({ "ttl": 0 })), 400, "ttl"),
        (token_body(json!({ "ttl": -1 })), 400, "ttl"),
        (token_body(json!({ "ttl": 1.5 })), 400, "ttl"),
        (token_body(json!({ "ttl": "60" })), 400, "ttl"),
        (token_body(json!({ "ttl": 3601 })), 400, "ttl"),
        (r#"{"room":"r","user":"u","ttl":99999999999999999999999}"#.to_owned(), 400, "ttl"),
        (token_body(json!({ "metadata": [] })), 400, "metadata"),
        (token_body(json!({ "metadata": "x" })), 400, "metadata"),
        (token_body(json!({ "metadata": { "a": "x".repeat(4096) } })), 400, "metadata"),
        (deep_body, 400, "metadata"),
        (token_body(json!({ "rom": "r" })), 400, "rom"),
        (r#"{"room":"r","user":"u","room":"r"}"#.to_owned(), 400, "room"),
    ] {
        let (got, answer) = service.request_token(&body).await;
        let code = if status == 403 { "role_not_allowed" } else { "bad_request" };
        assert_eq!((got, &answer["code"], &answer["field"]), (status, &code.into(), &field.into()), "{body}");
        assert_eq!((&answer["type"], &answer["status"]), (&"about:blank".into(), &status.into()));
    }
    assert_eq!(service.counter_value("signalbox_auth_tokens_refused_total", "bad_request"), 28.0);
}

#[actix_web::test]
async fn body_other_than_a_json_object_is_refused() {
    let service = TestService::new();
    for body in ["", "{", "[]", r#"["r","u",null,null,null,null]"#, "null", "\u{0}"] {
        let (status, answer) = service.request_token(body).await;
        assert_eq!((status, &answer["code"]), (400, &"bad_request".into()), "{body}");
    }
    let (status, answer) = service.request_token(&format!(r#"{{"room":"{}"}}"#, "x".repeat(16 * 1024))).await;
    assert_eq!((status, &answer["code"]), (413, &"body_too_large".into()));
    let form =
        token_request(r#"{"room":"r","user":"u"}"#).insert_header((header::CONTENT_TYPE, "text/plain"));
    let (status, answer) =
        service.call(form.insert_header((header::AUTHORIZATION, service.basic_header()))).await;
    assert_eq!((status, &answer["code"]), (415, &"not_json".into()));
}

#[actix_web::test]
async fn wrong_api_key_is_refused_before_the_body_is_parsed_even_with_guests_on() {
    for (service, guests) in [(TestService::new(), false), (TestService::with_guests(), true)] {
        for proof in ["Basic YmFja2VuZDp3cm9uZw==", "Basic", "Basic ?", "Bearer x", ""] {
            for body in [r#"{"room":"r","user":"u"}"#, "nonsense"] {
                let request = token_request(body).insert_header((header::AUTHORIZATION, proof));
                let (status, answer) = service.call(request).await;
                assert_eq!((status, &answer["code"]), (401, &"caller_unknown".into()), "{proof:?}");
            }
        }
        let good = (header::AUTHORIZATION, service.basic_header());
        let (status, _) =
            service.call(token_request("{}").append_header(good.clone()).append_header(good)).await;
        assert_eq!(status, 401, "two headers prove nothing");
        let (status, answer) = service.request_token_as_guest(r#"{"room":"r"}"#).await;
        assert_eq!(status, if guests { 200 } else { 401 });
        assert_eq!(answer["code"], if guests { Value::Null } else { "guests_off".into() });
    }
}

#[actix_web::test]
async fn guest_cannot_choose_role_or_life_and_needs_no_user_name() {
    let change = |settings: &mut signalbox_config::ServiceSettings| {
        settings.auth.guest_ttl = TimeSpan::secs(120);
        settings.auth.token_ttl = TimeSpan::secs(240);
    };
    let service = TestService::with(change, |parts| parts.guests_allowed = true);
    for body in [
        r#"{"room":"r"}"#,
        r#"{"room":"r","role":"host","ttl":3000}"#,
        r#"{"room":"r","role":"emperor","ttl":-1}"#,
        r#"{"room":"r","role":7,"ttl":"x"}"#,
    ] {
        let (status, answer) = service.request_token_as_guest(body).await;
        assert_eq!((status, &answer["role"], &answer["expiresIn"]), (200, &"guest".into(), &120.into()));
        assert!(answer["user"].as_str().unwrap().starts_with("guest:"), "{answer}");
    }
    let (_, answer) = service.request_token_as_guest(r#"{"room":"r","user":"bob"}"#).await;
    assert_eq!(answer["user"], "guest:bob");
    assert_eq!(service.counter_value("signalbox_auth_tokens_issued_total", "guest"), 5.0);
}

#[actix_web::test]
async fn guest_cannot_have_the_name_of_another_source() {
    let service = TestService::with_guests();
    for name in ["bob", "guest:bob", "invite:bob", "idp:bob", "guest:guest:bob", &"x".repeat(122)] {
        let (status, answer) =
            service.request_token_as_guest(&json!({ "room": "r", "user": name }).to_string()).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["user"], format!("guest:{}", name.strip_prefix("guest:").unwrap_or(name)));
    }
    for name in [&*"x".repeat(123), "a b"] {
        let (status, answer) =
            service.request_token_as_guest(&json!({ "room": "r", "user": name }).to_string()).await;
        assert_eq!((status, &answer["field"]), (400, &"user".into()), "{name}");
    }
}

/// The operations that name a user in the request and return a token, from the API document.
#[actix_web::test]
async fn application_cannot_name_a_user_of_another_source() {
    let provider = |issuer: &str, prefix: &str, algorithm: &str| {
        serde_json::from_value(json!({ "issuer": issuer, "audience": "a", "user_prefix": prefix,
            "algorithms": [algorithm] }))
        .unwrap()
    };
    let service = TestService::with(
        |settings| {
            settings.auth.providers.push(provider("https://idp.example", "idp:", "EdDSA"));
            settings.auth.providers.push(provider("app", "own:", "HS256"));
        },
        |parts| parts.user_secret = Some(super::random_secret()),
    );
    let document = super::openapi::fetch_document().await;
    let has = |operation: &Value, place: &str, member: &str| {
        let schema = operation.pointer(place).map(|content| content["application/json"]["schema"].clone());
        schema.is_some_and(|schema| has_member(&document, &schema, member))
    };
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let post = &item["post"];
        if !has(post, "/requestBody/content", "user") || !has(post, "/responses/200/content", "token") {
            continue;
        }
        operations += 1;
        let uri = path.replace("{room}", "r");
        for (user, is_allowed) in [
            ("alice", true),
            ("own:alice", true),
            ("guests:alice", true),
            ("guest", true),
            ("guest:alice", false),
            ("guest:", false),
            ("invite:alice", false),
            ("idp:alice", false),
        ] {
            let mut body = json!({ "user": user });
            if !path.contains("{room}") {
                body["room"] = "r".into();
            }
            let request = token_request(&body.to_string()).uri(&uri);
            let (status, answer) = super::call_as_backend(&service, request).await;
            if is_allowed {
                assert_eq!((status, &answer["user"]), (200, &user.into()), "{path} {answer}");
            } else {
                assert_eq!(
                    (status, &answer["code"]),
                    (403, &"user_not_allowed".into()),
                    "{path} {user} {answer}"
                );
                assert_eq!(answer["field"], "user");
            }
        }
    }
    assert!(operations >= 2, "{operations}");
}

/// Whether a schema of the API document has a member.
fn has_member(document: &Value, schema: &Value, member: &str) -> bool {
    let target = schema["$ref"].as_str().and_then(|target| document.pointer(target.strip_prefix('#')?));
    let parts = schema["allOf"].as_array().into_iter().flatten();
    schema["properties"].get(member).is_some()
        || target.is_some_and(|schema| has_member(document, schema, member))
        || parts.into_iter().any(|part| has_member(document, part, member))
}

#[actix_web::test]
async fn foreign_origin_cannot_request_a_token() {
    let service = TestService::with_guests();
    for path in ["/auth/token", "/auth/validate"] {
        let request = TestRequest::post().uri(path).insert_header((header::HOST, "rtc.example"));
        let (status, answer) =
            service.call(request.insert_header((header::ORIGIN, "https://evil.example"))).await;
        assert_eq!((status, &answer["code"]), (403, &"origin_not_allowed".into()), "{path}");
    }
    let own = token_request(r#"{"room":"r"}"#)
        .insert_header((header::HOST, "rtc.example"))
        .insert_header((header::ORIGIN, "https://rtc.example"));
    assert_eq!(service.call(own).await.0, 200);
}

#[actix_web::test]
async fn largest_issued_token_still_verifies() {
    let service = TestService::with(|settings| settings.limits.metadata = ByteSize::kib(60), |_| {});
    let token_body = |bytes: usize| {
        json!({ "room": "r".repeat(64), "user": "u".repeat(128), "role": "host", "name": "\"".repeat(64),
            "metadata": { "a": "x".repeat(bytes - 8) } })
        .to_string()
    };
    let (status, answer) = service.request_token(&token_body(7 * 1024)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(service.validate(answer["token"].as_str().unwrap()).await.0, 200);
    let (status, answer) = service.request_token(&token_body(7 * 1024 + 1)).await;
    assert_eq!((status, &answer["field"]), (400, &"metadata".into()));
}

#[test]
fn random_bodies_never_cause_a_server_error() {
    let system = actix_web::rt::System::new();
    let service = TestService::with_guests();
    let word = prop_oneof![
        Just("\"room\"".to_owned()),
        Just("\"user\"".to_owned()),
        Just("\"ttl\"".to_owned()),
        Just("\"metadata\"".to_owned()),
        r#"[{}\[\]:,"0-9a-z\\ ]{1,4}"#,
    ];
    let almost_json = prop::collection::vec(word, 0..24).prop_map(|words| words.concat().into_bytes());
    let value = r#"("[^"\\]{0,80}"|-?[0-9]{1,25}|null|\{\}|\[\]|\{"a":[0-9]{1,3}\})"#;
    let token_body = prop::array::uniform6(value).prop_map(|[room, user, role, name, ttl, metadata]| {
        format!(
            r#"{{"room":{room},"user":{user},"role":{role},"name":{name},"ttl":{ttl},"metadata":{metadata}}}"#
        )
        .into_bytes()
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let bodies = prop_oneof![bytes, almost_json, token_body];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) };
    proptest!(config, |(body in bodies, guest in any::<bool>())| {
        let request = token_request("").set_payload(body);
        let request =
            if guest { request } else { request.insert_header((header::AUTHORIZATION, service.basic_header())) };
        let (status, answer) = system.block_on(service.call(request));
        prop_assert!(matches!(status, 200 | 400 | 403), "{status} {answer}");
        prop_assert!(answer["token"].is_string() != answer["code"].is_string());
    });
}
