//! Every operation of the API document that writes, while Redis has little memory left. An operation
//! without a row fails the test.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use serde_json::{Value, json};
use signalbox_config::ProviderSettings;
use signalbox_protocol::clock;
use signalbox_redis::MemoryLevel;

use super::{
    TestService, call_as_backend, member_text, openapi::fetch_document, random_secret, token_request,
};

/// What an operation adds to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreGrowth {
    /// Nothing: it reads, moves or frees.
    Nothing,
    /// A ticket, a rule, a room, or what a moderator needs: it is accepted at every level.
    NeededForCalls,
    /// Something that calls can do without.
    Refused,
    /// Something that calls can do without, if the request has this member; else it is accepted.
    RefusedWith(&'static str),
}

use StoreGrowth::{NeededForCalls, Nothing, Refused, RefusedWith};

/// The growth by an operation, and its body; `null` is no body.
fn growth(operation: &str, credentials: &Credentials) -> Option<(StoreGrowth, Value)> {
    let wait = "POST /api/rooms/{room}/participants/{peer}/{verb}";
    Some(match operation {
        "POST /auth/token" => (RefusedWith("refresh"), json!({ "room": "r", "user": "u", "refresh": true })),
        "POST /auth/exchange" => {
            (RefusedWith("refresh"), json!({ "token": credentials.provider_token, "refresh": true }))
        }
        "POST /api/rooms/{room}/token" => (RefusedWith("refresh"), json!({ "user": "u", "refresh": true })),
        "POST /api/rooms/{room}/join" => (RefusedWith("refresh"), json!({ "refresh": true })),
        "POST /api/rooms" => (RefusedWith("metadata"), json!({ "metadata": { "a": 1 } })),
        "PATCH /api/rooms/{room}" => (RefusedWith("metadata"), json!({ "metadata": { "a": 1 } })),
        "POST /api/rooms/{room}/invites" => (Refused, json!({})),
        "POST /api/rooms/{room}/messages" => (Refused, json!({ "data": 1 })),
        "POST /auth/refresh" => (NeededForCalls, json!({ "refreshToken": credentials.refresh_token })),
        "POST /auth/ticket" => (NeededForCalls, Value::Null),
        "POST /api/bans" => (NeededForCalls, json!({ "user": "mallory", "for": 60 })),
        "POST /api/rooms/{room}/bans" => (NeededForCalls, json!({ "user": "mallory", "for": 60 })),
        "POST /api/revocations" => (NeededForCalls, json!({ "user": "mallory" })),
        "POST /api/denials" => (NeededForCalls, json!({ "cidr": "203.0.113.7", "for": 60 })),
        // Bounded in number, and kept for ten minutes.
        "POST /api/notices" => (NeededForCalls, json!({ "code": "c", "message": "m" })),
        "PUT /api/limits" => (NeededForCalls, json!({ "rate": 50 })),
        "PUT /api/shutdown" => (NeededForCalls, json!({ "for": 60 })),
        "PATCH /api/rooms/{room}/participants/{peer}" => (NeededForCalls, json!({ "muted": true })),
        "POST /api/rooms/{room}/{verb}" => (NeededForCalls, Value::Null),
        "POST /api/rooms/{room}/end" => (NeededForCalls, json!({})),
        _ if operation == wait => (NeededForCalls, Value::Null),
        "POST /auth/validate" => (Nothing, json!({ "token": credentials.room_token })),
        "POST /auth/management" => (Nothing, json!({})),
        "POST /api/webhooks/replay" => (Nothing, json!({ "room": "r" })),
        "DELETE /api/rooms/{room}"
        | "DELETE /api/rooms/{room}/invites/{invite}"
        | "DELETE /api/rooms/{room}/sanctions/{user}"
        | "DELETE /api/rooms/{room}/participants/{peer}"
        | "DELETE /api/rules/{key}"
        | "DELETE /api/limits"
        | "DELETE /api/shutdown" => (Nothing, Value::Null),
        "DELETE /api/rooms/{room}/participants" => (Nothing, Value::Null),
        _ => return None,
    })
}

/// Credentials that were issued while there was memory.
struct Credentials {
    provider_token: String,
    user_token: String,
    room_token: String,
    refresh_token: String,
    invite: String,
}

/// A service with the room `r`, whose store has little memory left when the switch is on.
async fn start_service() -> (TestService, Arc<AtomicBool>, Credentials) {
    let (is_full, secret) = (Arc::new(AtomicBool::new(false)), random_secret());
    let (switch, user_secret) = (is_full.clone(), secret.clone());
    let service = TestService::with(
        |settings| settings.auth.providers.push(ProviderSettings::application()),
        |parts| {
            parts.user_secret = Some(user_secret);
            let levels = [MemoryLevel::Normal, MemoryLevel::High];
            parts.memory_level = Arc::new(move || levels[usize::from(switch.load(Ordering::Relaxed))]);
        },
    );
    let claims = json!({ "iss": "app", "aud": "signalbox", "sub": "alice", "exp": clock::now_s() + 60 });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.expose());
    let provider_token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let post = async |path: &str, body: Value| {
        let (status, answer) = call_as_backend(&service, token_request(&body.to_string()).uri(path)).await;
        assert!(status < 300, "{path}: {answer}");
        answer
    };
    post("/api/rooms", json!({ "id": "r" })).await;
    let user = post("/auth/exchange", json!({ "token": provider_token })).await;
    let room = post("/auth/token", json!({ "room": "r", "user": "u", "refresh": true })).await;
    let invite = post("/api/rooms/r/invites", json!({})).await;
    let credentials = Credentials {
        provider_token,
        user_token: member_text(&user, "token").to_owned(),
        room_token: member_text(&room, "token").to_owned(),
        refresh_token: member_text(&room, "refreshToken").to_owned(),
        invite: member_text(&invite, "code").to_owned(),
    };
    (service, is_full, credentials)
}

async fn send(
    service: &TestService,
    credentials: &Credentials,
    (method, path): (&str, &str),
    body: &Value,
) -> (u16, Value) {
    let proof = match path {
        "/api/rooms/{room}/join" => format!("Bearer {}", credentials.user_token),
        "/auth/ticket" => format!("Bearer {}", credentials.room_token),
        _ => service.basic_header(),
    };
    let concrete = path
        .replace("{peer}/{verb}", &format!("{:032x}/admit", 7))
        .replace("{verb}", "lock")
        .replace("{room}", "r")
        .replace("{invite}", &"0".repeat(32))
        .replace("{key}", "ban:r:u")
        .replace("{user}", "u")
        .replace("{peer}", &format!("{:032x}", 7));
    let request = TestRequest::with_uri(&concrete)
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .insert_header((header::AUTHORIZATION, proof));
    let length = (header::CONTENT_LENGTH, body.to_string().len());
    service.call(if body.is_null() { request } else { request.set_json(body).insert_header(length) }).await
}

fn is_overloaded((status, answer): &(u16, Value)) -> bool {
    *status == 503 && answer["code"] == "overloaded"
}

#[actix_web::test]
async fn only_what_calls_can_do_without_is_refused_while_redis_has_little_memory_left() {
    let document = fetch_document().await;
    let mut rows = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, described) in operations.as_object().unwrap() {
            let method = &*method.to_uppercase();
            if method == "GET" {
                continue;
            }
            let operation = format!("{method} {path}");
            let (service, is_full, credentials) = start_service().await;
            let (growth, body) = growth(&operation, &credentials)
                .unwrap_or_else(|| panic!("say what {operation} adds to the store"));
            // A member that starts a refresh family is never forgotten.
            let reference =
                described["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str();
            let schema = reference.and_then(|name| document.pointer(&name[1..]));
            let has_refresh = schema.is_some_and(|schema| schema["properties"]["refresh"].is_object());
            assert_eq!(has_refresh, growth == RefusedWith("refresh"), "{operation}");

            is_full.store(true, Ordering::Relaxed);
            let answer = send(&service, &credentials, (method, path), &body).await;
            match growth {
                Nothing | NeededForCalls => assert!(!is_overloaded(&answer), "{operation}: {answer:?}"),
                Refused => assert!(is_overloaded(&answer), "{operation}: {answer:?}"),
                RefusedWith(member) => {
                    assert!(is_overloaded(&answer), "{operation}: {answer:?}");
                    assert_eq!(answer.1["field"], member, "{operation}");
                    let mut without = body.clone();
                    without.as_object_mut().unwrap().remove(member);
                    let (status, answer) = send(&service, &credentials, (method, path), &without).await;
                    assert!(status < 300, "{operation} without {member}: {answer}");
                }
            }
            is_full.store(false, Ordering::Relaxed);
            if matches!(growth, Refused | RefusedWith(_)) {
                assert_eq!(service.state.context.metrics.memory_refusals.get(), 1, "{operation}");
                let later = send(&service, &credentials, (method, path), &body).await;
                assert!(!is_overloaded(&later), "{operation} later: {later:?}");
            }
            rows += 1;
        }
    }
    assert!(rows > 25, "{rows}");
}

/// The way of a guest into a call costs no memory that is not given back.
#[actix_web::test]
async fn an_invite_is_accepted_while_redis_has_little_memory_left() {
    let (service, is_full, credentials) = start_service().await;
    is_full.store(true, Ordering::Relaxed);
    let use_invite = async |more: Value| {
        let mut body = json!({ "invite": credentials.invite });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.request_token_as_guest(&body.to_string()).await
    };
    let (status, answer) = use_invite(json!({ "refresh": true })).await;
    assert_eq!((status, &answer["code"], &answer["field"]), (503, &"overloaded".into(), &"refresh".into()));
    let (status, answer) = use_invite(json!({})).await;
    assert_eq!(status, 200, "the refusal has cost no use: {answer}");
    // Metadata may always be removed.
    let body = json!({ "metadata": {} });
    let (status, answer) = send(&service, &credentials, ("PATCH", "/api/rooms/{room}"), &body).await;
    assert_eq!(status, 200, "{answer}");
}
