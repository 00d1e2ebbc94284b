//! A room-limited API key at every operation of the API document. An operation without an
//! expectation fails the test.

use std::{sync::Arc, time::Duration};

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use signalbox_config::{
    ApiKeySettings, ApiKeys, EndpointSecrets, ServiceSettings, WebhookEndpoint, WebhookSecrets,
};
use signalbox_protocol::{
    clock,
    id::{CallerId, RoomId, random_hex},
};
use signalbox_rooms::{
    feed::FeedSender,
    usage::{MemoryUsageStore, UsageAmount, UtcDay},
};
use signalbox_tests::{
    net::eventually_within,
    webhook_receiver::{WebhookConfig, WebhookReceiver, WebhookReply},
};
use signalbox_token::scope::Scope;

use super::TestService;
use crate::{
    AuthParts,
    management::{
        usage_reader::UsageReader,
        webhooks::{WebhookEventSource, WebhookLauncher},
    },
};

/// What a limited key may do with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    /// In its rooms only: 403 `room_not_allowed` in another room.
    OwnRooms,
    /// As `OwnRooms`; without a room the request concerns the whole server: 403 `room_limited`.
    OwnRoomsOrRefused,
    /// A list or a selection without the other rooms.
    Filtered,
    /// 403 `room_limited`.
    Refused,
    /// The new credential has the same limit.
    PassesLimitOn,
    /// The operation takes no API key.
    TakesNoKey,
}

use Expectation::{Filtered, OwnRooms, OwnRoomsOrRefused, PassesLimitOn, Refused, TakesNoKey};

/// The expectation of an operation, and its body for a room; `null` is no body.
pub(super) fn expectation(operation: &str, room: &str) -> Option<(Expectation, Value)> {
    Some(match operation {
        "POST /auth/token" => (OwnRooms, json!({ "room": room, "user": "u" })),
        "POST /api/rooms" => (OwnRooms, json!({ "id": room })),
        "GET /api/rooms/{room}"
        | "DELETE /api/rooms/{room}"
        | "GET /api/rooms/{room}/invites"
        | "DELETE /api/rooms/{room}/invites/{invite}"
        | "GET /api/rooms/{room}/sanctions"
        | "DELETE /api/rooms/{room}/sanctions/{user}"
        | "GET /api/rooms/{room}/participants"
        | "GET /api/rooms/{room}/timeline"
        | "DELETE /api/rooms/{room}/participants"
        | "DELETE /api/rooms/{room}/participants/{peer}"
        | "POST /api/rooms/{room}/participants/{peer}/{verb}"
        | "POST /api/rooms/{room}/{verb}" => (OwnRooms, Value::Null),
        "PATCH /api/rooms/{room}" | "POST /api/rooms/{room}/invites" | "POST /api/rooms/{room}/end" => {
            (OwnRooms, json!({}))
        }
        "PATCH /api/rooms/{room}/participants/{peer}" => (OwnRooms, json!({ "muted": true })),
        "POST /api/rooms/{room}/token" => (OwnRooms, json!({ "user": "u" })),
        "POST /api/rooms/{room}/messages" => (OwnRooms, json!({ "data": 1 })),
        "POST /api/rooms/{room}/bans" => (OwnRooms, json!({ "user": "u", "for": 60 })),
        "POST /api/bans" => (OwnRoomsOrRefused, json!({ "user": "u", "room": room, "for": 60 })),
        "POST /api/revocations" => (OwnRoomsOrRefused, json!({ "room": room })),
        "POST /api/notices" => (OwnRoomsOrRefused, json!({ "room": room, "code": "c", "message": "m" })),
        "DELETE /api/rules/{key}" => (OwnRoomsOrRefused, Value::Null),
        "GET /api/rooms" | "GET /api/rules" | "GET /api/usage" | "GET /api/webhooks/dead" => {
            (Filtered, Value::Null)
        }
        "POST /api/webhooks/replay" => (OwnRooms, json!({ "room": room })),
        "POST /api/denials" => (Refused, json!({ "cidr": "203.0.113.7", "for": 60 })),
        "PUT /api/limits" => (Refused, json!({ "rate": 50 })),
        "PUT /api/shutdown" => (Refused, json!({ "for": 60 })),
        "DELETE /api/limits" | "DELETE /api/shutdown" => (Refused, Value::Null),
        "POST /auth/management" => (PassesLimitOn, json!({})),
        "POST /api/rooms/{room}/join"
        | "POST /auth/exchange"
        | "POST /auth/refresh"
        | "POST /auth/ticket"
        | "GET /auth/validate"
        | "POST /auth/validate"
        | "GET /auth/ice"
        | "GET /.well-known/jwks.json"
        | "GET /api/openapi.json" => (TakesNoKey, Value::Null),
        _ => return None,
    })
}

/// The body of a request that concerns the whole server.
fn whole_server_body(operation: &str) -> Value {
    match operation {
        "POST /api/bans" => json!({ "user": "u", "for": 60 }),
        "POST /api/revocations" => json!({ "all": true }),
        "POST /api/notices" => json!({ "code": "c", "message": "m" }),
        _ => Value::Null,
    }
}

/// A service with the key `backend` for all rooms and `acme` for `acme-*`, both with all scopes.
fn service_of_two_tenants() -> (TestService, String) {
    service_of_two_tenants_with(|_| {})
}

fn service_of_two_tenants_with(change: impl FnOnce(&mut AuthParts)) -> (TestService, String) {
    let (all, acme) = (random_hex(), random_hex());
    let keys = format!("backend:{all},acme:{acme}");
    let mut service = TestService::with(
        |settings| {
            let rooms = Some("acme-*".to_owned().try_into().unwrap());
            let table = ApiKeySettings { scopes: Some(Scope::ALL.to_vec()), rooms, reserved: false };
            settings.api_keys.insert(CallerId::parse("acme").unwrap(), table);
        },
        |parts| {
            parts.api_keys = ApiKeys::parse(&keys).unwrap();
            change(parts);
        },
    );
    service.api_secret = all;
    (service, format!("Basic {}", STANDARD.encode(format!("acme:{acme}"))))
}

async fn call(service: &TestService, proof: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = TestRequest::with_uri(path).method(method).insert_header((header::AUTHORIZATION, proof));
    let length = (header::CONTENT_LENGTH, body.to_string().len());
    service.call(if body.is_null() { request } else { request.set_json(body).insert_header(length) }).await
}

pub(super) fn concrete_path(path: &str, room: &str) -> String {
    path.replace("{peer}/{verb}", &format!("{:032x}/admit", 7))
        .replace("{verb}", "lock")
        .replace("{room}", room)
        .replace("{invite}", &"0".repeat(32))
        .replace("{key}", &format!("ban:{room}:u"))
        .replace("{peer}", &format!("{:032x}", 7))
}

#[actix_web::test]
async fn limited_api_key_reaches_only_its_rooms_in_every_operation() {
    let (status, document) = TestService::new().call(TestRequest::get().uri("/api/openapi.json")).await;
    assert_eq!(status, 200);
    let (mut rows, mut wrong) = (0, Vec::new());
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let operation = format!("{method} {path}");
            let send = async |room: &str, body: &Value| {
                let (service, acme) = service_of_two_tenants();
                for made in ["acme-1", "globex-1"] {
                    let made = json!({ "id": made });
                    if operation != "POST /api/rooms" {
                        call(&service, &service.basic_header(), "POST", "/api/rooms", &made).await;
                    }
                }
                call(&service, &acme, &method, &concrete_path(path, room), body).await
            };
            let expected = expectation(&operation, "globex-1");
            let (expected, body) = expected.unwrap_or_else(|| panic!("{operation} has no expectation"));
            let mut check = |what: &str, (status, answer): (u16, Value), wanted: Option<&str>| {
                let is_right = match wanted {
                    Some(code) => status == 403 && answer["code"] == code,
                    None => !["room_not_allowed", "room_limited"].iter().any(|code| answer["code"] == *code),
                };
                if !is_right {
                    wrong.push(format!("{operation} {what}: {status} {answer}"));
                }
                rows += 1;
            };
            let own = expectation(&operation, "acme-1").unwrap().1;
            match expected {
                OwnRooms | OwnRoomsOrRefused => {
                    check("another room", send("globex-1", &body).await, Some("room_not_allowed"));
                    check("own room", send("acme-1", &own).await, None);
                    if expected == OwnRoomsOrRefused && !body.is_null() {
                        let whole = whole_server_body(&operation);
                        check("all rooms", send("acme-1", &whole).await, Some("room_limited"));
                    }
                }
                Filtered | PassesLimitOn => check("any", send("acme-1", &own).await, None),
                Refused => check("any", send("acme-1", &own).await, Some("room_limited")),
                TakesNoKey => {
                    let (status, answer) = send("globex-1", &body).await;
                    let is_public = operation.ends_with(".json");
                    check("no key", (if is_public { 200 } else { status }, answer), None);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows > 50, "{rows}");
}

#[actix_web::test]
async fn usage_of_a_limited_api_key_is_that_of_its_rooms() {
    let usage = Arc::new(MemoryUsageStore::new(100, 24 * 60 * 60 * 1_000));
    let pair = |room: &str| (CallerId::parse("backend").unwrap(), RoomId::parse(room).unwrap());
    let amount = UsageAmount { joins: 1, connected_ms: 60_000 };
    usage.add_usage(
        UtcDay::from_ms(clock::now_ms()),
        &[(pair("acme-1"), amount), (pair("globex-merger"), amount)],
    );
    let (service, acme) = service_of_two_tenants_with(|parts| parts.usage = UsageReader::Book(usage));
    for (query, rows) in [("", 1), ("?room=acme-1", 1), ("?room=globex-merger", 0), ("?limit=1", 1)] {
        let path = format!("/api/usage{query}");
        let (status, answer) = call(&service, &acme, "GET", &path, &Value::Null).await;
        assert_eq!((status, answer["days"].as_array().unwrap().len()), (200, rows), "{path}: {answer}");
        assert!(!answer.to_string().contains("globex"), "{path}: {answer}");
    }
    let (_, answer) = call(&service, &service.basic_header(), "GET", "/api/usage", &Value::Null).await;
    assert_eq!(answer["days"].as_array().unwrap().len(), 2, "{answer}");
}

#[actix_web::test]
async fn dead_letters_of_other_rooms_are_neither_listed_nor_replayed_by_a_limited_api_key() {
    let receiver = WebhookReceiver::start(|_, _| WebhookReply::Status(500)).await;
    let mut settings = ServiceSettings::default();
    settings.webhooks.attempts = 1;
    settings.webhooks.endpoints = vec![WebhookEndpoint {
        url: receiver.url(),
        events: vec![],
        rooms: None,
        insecure: false,
        secrets_env: None,
    }];
    let shared_secrets = WebhookSecrets::parse(&WebhookConfig::new(&[], "", "").secret).unwrap();
    let secrets = EndpointSecrets { shared_secrets, ..EndpointSecrets::default() };
    let feed = FeedSender::new(8);
    let webhooks = WebhookLauncher::start(&settings, &secrets, WebhookEventSource::Feed, &feed).unwrap();
    let (service, acme) = service_of_two_tenants_with(|parts| parts.webhooks = webhooks.running());
    let all = service.basic_header();
    for room in ["acme-1", "globex-1", "globex-2"] {
        let line = format!(
            r#"{{"id":"evt_{}","event":"room-opened","at":1,"room":"{room}","node":"x"}}"#,
            room.replace('-', "")
        );
        feed.send(line.into()).unwrap();
    }
    let dead = async |proof: &str, query: &str| {
        let path = format!("/api/webhooks/dead{query}");
        call(&service, proof, "GET", &path, &Value::Null).await.1
    };
    eventually_within(Duration::from_secs(20), "all events are dead letters", async || {
        let answer = dead(&all, "").await;
        Some(()).filter(|()| answer["dead"].as_array().is_some_and(|dead| dead.len() == 3))
    })
    .await;
    for query in ["", "?limit=1"] {
        let answer = dead(&acme, query).await;
        assert_eq!(answer["dead"].as_array().unwrap().len(), 1, "{answer}");
        assert!(!answer.to_string().contains("globex"), "{answer}");
    }
    receiver.set_reply(|_, _| WebhookReply::Status(200));
    for (body, replayed) in [(json!({ "id": "evt_globex1" }), 0), (json!({ "all": true }), 1)] {
        let (status, answer) = call(&service, &acme, "POST", "/api/webhooks/replay", &body).await;
        assert_eq!((status, &answer["replayed"]), (200, &replayed.into()), "{body}: {answer}");
    }
    let left = dead(&all, "").await;
    assert_eq!(left["dead"].as_array().unwrap().len(), 2, "the other letters stay: {left}");
}

/// What the filtered operations answer.
#[actix_web::test]
async fn lists_of_a_limited_api_key_hold_nothing_of_other_rooms() {
    let (service, acme) = service_of_two_tenants();
    let all = service.basic_header();
    for room in ["acme-1", "globex-1"] {
        call(&service, &all, "POST", "/api/rooms", &json!({ "id": room })).await;
        call(&service, &all, "POST", "/api/bans", &json!({ "user": "u", "room": room, "for": 60 })).await;
    }
    call(&service, &all, "POST", "/api/bans", &json!({ "user": "mallory", "for": 60 })).await;
    for (path, count_for_all) in [("/api/rooms", 2), ("/api/rules", 3)] {
        let (_, everything) = call(&service, &all, "GET", path, &Value::Null).await;
        let (status, answer) = call(&service, &acme, "GET", path, &Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        let list = |answer: &Value| answer["rooms"].as_array().or(answer["rules"].as_array()).unwrap().len();
        assert_eq!((list(&everything), list(&answer)), (count_for_all, 1), "{path}: {answer}");
        assert!(
            !answer.to_string().contains("globex") && !answer.to_string().contains("mallory"),
            "{answer}"
        );
    }
    let management = call(&service, &acme, "POST", "/auth/management", &json!({})).await.1;
    let bearer = format!("Bearer {}", management["token"].as_str().unwrap());
    let (status, answer) = call(&service, &bearer, "GET", "/api/rooms/globex-1", &Value::Null).await;
    assert_eq!((status, &answer["code"]), (403, &"room_not_allowed".into()));
}
