//! Tests of scopes, room limits of API keys, and management tokens.

use actix_web::{http::header, test::TestRequest};
use serde_json::{Value, json};
use signalbox_config::ApiKeySettings;
use signalbox_protocol::id::CallerId;
use signalbox_token::scope::Scope;

use super::{TestService, token_request};

const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// A service whose key has these scopes, for these rooms.
fn service_with_scopes(scopes: &[&str], rooms: Option<&str>) -> TestService {
    let table: ApiKeySettings = serde_json::from_value(json!({ "scopes": scopes, "rooms": rooms })).unwrap();
    TestService::with(
        move |settings| {
            settings.api_keys.insert(CallerId::parse("backend").unwrap(), table);
        },
        |_| {},
    )
}

async fn post(service: &TestService, path: &str, proof: &str, body: &Value) -> (u16, Value) {
    let request = TestRequest::post().uri(path).insert_header(JSON).set_payload(body.to_string());
    service.call(request.insert_header((header::AUTHORIZATION, proof))).await
}

async fn request_management_token(service: &TestService, body: &Value) -> (u16, Value) {
    post(service, "/auth/management", &service.basic_header(), body).await
}

#[actix_web::test]
async fn api_key_without_the_scope_gets_403_naming_the_scope() {
    for scope in Scope::ALL {
        let service = service_with_scopes(&[scope.as_str()], None);
        let (status, answer) = service.request_token(r#"{"room":"r","user":"u"}"#).await;
        let (status2, answer2) =
            post(&service, "/api/rooms/r/invites", &service.basic_header(), &json!({})).await;
        if scope == Scope::Tokens {
            assert_eq!((status, status2), (200, 201));
            continue;
        }
        for (status, answer) in [(status, answer), (status2, answer2)] {
            assert_eq!(
                (status, &answer["code"], &answer["field"]),
                (403, &"scope_missing".into(), &"tokens".into())
            );
        }
        assert_eq!(service.counter_value("signalbox_auth_failures_total", "scope_missing"), 2.0);
    }
}

#[actix_web::test]
async fn room_limited_api_key_is_refused_in_other_rooms() {
    let service = service_with_scopes(&["tokens"], Some("acme-*"));
    assert_eq!(service.request_token(r#"{"room":"acme-1","user":"u"}"#).await.0, 200);
    let (status, answer) = service.request_token(r#"{"room":"other","user":"u"}"#).await;
    assert_eq!(
        (status, &answer["code"], &answer["field"]),
        (403, &"room_not_allowed".into(), &"room".into())
    );
    let token = request_management_token(&service, &json!({})).await.1["token"].as_str().unwrap().to_owned();
    for (room, expected) in [("acme-1", 201), ("other", 403)] {
        let path = format!("/api/rooms/{room}/invites");
        for proof in [service.basic_header(), format!("Bearer {token}")] {
            assert_eq!(post(&service, &path, &proof, &json!({})).await.0, expected, "{room}");
        }
    }
}

#[actix_web::test]
async fn guests_get_tokens_only_for_configured_rooms() {
    let rooms = |settings: &mut signalbox_config::ServiceSettings| {
        settings.auth.guest_rooms = ["lobby", "open-*"]
            .map(|text| signalbox_token::scope::RoomPattern::try_from(text.to_owned()).unwrap())
            .to_vec();
    };
    let service = TestService::with(rooms, |parts| parts.guests_allowed = true);
    for (room, expected) in [("lobby", 200), ("open-1", 200), ("lobby2", 403), ("private", 403)] {
        let body = json!({ "room": room }).to_string();
        let (status, answer) = service.request_token_as_guest(&body).await;
        assert_eq!(status, expected, "{room}");
        assert!(status == 200 || answer["code"] == "room_not_allowed", "{answer}");
        let body = json!({ "room": room, "user": "u" }).to_string();
        assert_eq!(service.request_token(&body).await.0, 200, "a backend may anywhere: {room}");
    }
    let (status, answer) = service.request_token_as_guest(r#"{"room":"lobby","refresh":true}"#).await;
    assert_eq!((status, &answer["code"]), (403, &"not_permitted".into()));
}

#[actix_web::test]
async fn management_token_has_the_requested_scopes_of_its_api_key_only() {
    let service = service_with_scopes(&["tokens", "rooms"], None);
    let (status, answer) =
        request_management_token(&service, &json!({ "scopes": ["tokens"], "ttl": 60 })).await;
    assert_eq!((status, &answer["scopes"], &answer["expiresIn"]), (200, &json!(["tokens"]), &60.into()));
    let (_, all) = request_management_token(&service, &json!({})).await;
    assert_eq!((&all["scopes"], &all["expiresIn"]), (&json!(["tokens", "rooms"]), &3600.into()));
    for (body, status, code, field) in [
        (json!({ "scopes": ["security"] }), 403, "scope_missing", "security"),
        (json!({ "scopes": ["nonsense"] }), 400, "bad_request", "scopes"),
        (json!({ "scopes": [] }), 400, "bad_request", "scopes"),
        (json!({ "scopes": "tokens" }), 400, "bad_request", "scopes"),
        (json!({ "ttl": 0 }), 400, "bad_request", "ttl"),
        (json!({ "ttl": 14 * 24 * 60 * 60 + 1 }), 400, "bad_request", "ttl"),
        (json!({ "key": 1 }), 400, "bad_request", "key"),
    ] {
        let (got, answer) = request_management_token(&service, &body).await;
        assert_eq!((got, &answer["code"], &answer["field"]), (status, &code.into(), &field.into()), "{body}");
    }
    assert_eq!(request_management_token(&service, &json!({ "ttl": 14 * 24 * 60 * 60 })).await.0, 200);
    let token = format!("Bearer {}", answer["token"].as_str().unwrap());
    assert_eq!(post(&service, "/api/rooms/r/invites", &token, &json!({})).await.0, 201);
    let (status, _) = post(&service, "/auth/management", &token, &json!({})).await;
    assert_eq!(status, 401, "a management token cannot issue another one");
}

#[actix_web::test]
async fn bad_or_doubled_credentials_are_never_treated_as_absent() {
    let service = TestService::with_guests();
    let management =
        request_management_token(&service, &json!({})).await.1["token"].as_str().unwrap().to_owned();
    let room =
        service.request_token(r#"{"room":"r","user":"u"}"#).await.1["token"].as_str().unwrap().to_owned();
    let (basic, bearer) = (service.basic_header(), format!("Bearer {management}"));
    let invites = || token_request("{}").uri("/api/rooms/r/invites");
    for (proofs, status, code) in [
        (vec![&*basic], 201, ""),
        (vec![&*bearer], 201, ""),
        (vec![], 401, "caller_unknown"),
        (vec!["Basic eDp5"], 401, "caller_unknown"),
        (vec!["Digest x"], 401, "caller_unknown"),
        (vec!["Bearer"], 401, "caller_unknown"),
        (vec!["Bearer x"], 401, "token_malformed"),
        (vec![&*format!("Bearer {room}")], 401, "token_wrong_type"),
        (vec![&*basic, &*bearer], 401, "caller_unknown"),
        (vec![&*bearer, &*bearer], 401, "caller_unknown"),
        (vec![&*basic, &*basic], 401, "caller_unknown"),
    ] {
        let request = proofs.iter().fold(invites(), |request, proof| {
            request.append_header((header::AUTHORIZATION, (*proof).to_owned()))
        });
        let (got, answer) = service.call(request).await;
        assert_eq!(got, status, "{proofs:?}");
        assert!(status == 201 || answer["code"] == code, "{proofs:?} {answer}");
    }
    // Even if guests are allowed, a management token is no API key.
    let (status, answer) =
        service.call(token_request(r#"{"room":"r"}"#).append_header((header::AUTHORIZATION, bearer))).await;
    assert_eq!((status, &answer["code"]), (401, &"caller_unknown".into()));
}

#[actix_web::test]
async fn room_limited_api_key_sees_and_changes_only_its_rooms() {
    let table: ApiKeySettings =
        serde_json::from_value(json!({ "scopes": ["rooms", "moderate", "tokens"], "rooms": "acme-*" }))
            .unwrap();
    let secret = signalbox_protocol::id::random_hex();
    let keys = format!("all:{secret},acme:{secret}");
    let every = ApiKeySettings { scopes: Some(Scope::ALL.to_vec()), ..ApiKeySettings::default() };
    let service = TestService::with(
        move |settings| {
            settings.api_keys.insert(CallerId::parse("acme").unwrap(), table);
            settings.api_keys.insert(CallerId::parse("all").unwrap(), every);
        },
        |parts| parts.api_keys = signalbox_config::ApiKeys::parse(&keys).unwrap(),
    );
    let proof = |id: &str| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
    };
    let (all, acme) = (proof("all"), proof("acme"));
    for room in ["acme-1", "other"] {
        assert_eq!(post(&service, "/api/rooms", &all, &json!({ "id": room })).await.0, 201);
    }
    let get = async |path: &str, proof: &str| {
        let request = TestRequest::get().uri(path).insert_header((header::AUTHORIZATION, proof.to_owned()));
        service.call(request).await
    };
    let names = |listed: &Value| {
        let rooms = listed["rooms"].as_array().unwrap();
        rooms.iter().map(|room| room["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&get("/api/rooms", &acme).await.1), ["acme-1"]);
    assert_eq!(names(&get("/api/rooms", &all).await.1).len(), 2);
    assert_eq!(get("/api/rooms/acme-1", &acme).await.0, 200);
    assert_eq!(get("/api/rooms/other", &acme).await.1["code"], "room_not_allowed");
    for (path, body) in [
        ("/api/rooms", json!({ "id": "mine" })),
        ("/api/rooms/other/lock", json!({})),
        ("/api/rooms/other/token", json!({ "user": "u" })),
        ("/api/rooms/other/messages", json!({ "data": 1 })),
        ("/api/rooms/other/bans", json!({ "user": "u", "for": 1 })),
        ("/api/rooms/other/invites", json!({})),
    ] {
        let (status, answer) = post(&service, path, &acme, &body).await;
        assert_eq!((status, &answer["code"]), (403, &"room_not_allowed".into()), "{path}");
    }
}
