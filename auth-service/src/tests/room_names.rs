//! A room name is not the room: credentials are for one room, names may be reserved, and a user sees
//! the rooms that the user may join.

use std::time::Duration;

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use serde_json::{Value, json};
use signalbox_config::units::TimeSpan;
use signalbox_tests::net::eventually_within;

use super::{TestService, member_text, refresh::refresh_token};

async fn call(service: &TestService, proof: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = TestRequest::with_uri(path).method(method).insert_header((header::AUTHORIZATION, proof));
    let length = (header::CONTENT_LENGTH, body.to_string().len());
    service.call(if body.is_null() { request } else { request.set_json(body).insert_header(length) }).await
}

/// Deletes a room and lets another user create it again, with a lobby.
async fn create_again(service: &TestService, room: &str) {
    let key = service.basic_header();
    let path = format!("/api/rooms/{room}");
    assert_eq!(call(service, &key, "DELETE", &path, Value::Null).await.0, 204);
    let (bob, body) = (service.user_header("bob", "host"), json!({ "id": room, "lobby": true }));
    assert_eq!(call(service, &bob, "POST", "/api/rooms", body).await.0, 201);
}

#[actix_web::test]
async fn credentials_of_a_deleted_room_are_void_in_the_next_room_with_its_name() {
    let service = TestService::new();
    let (key, mallory) = (service.basic_header(), service.user_header("mallory", "host"));
    assert_eq!(call(&service, &mallory, "POST", "/api/rooms", json!({ "id": "standup" })).await.0, 201);
    let joined =
        call(&service, &mallory, "POST", "/api/rooms/standup/join", json!({ "refresh": true })).await.1;
    assert_eq!(joined["role"], "host", "{joined}");
    let body = json!({ "room": "standup", "user": "u", "refresh": true }).to_string();
    let issued = service.request_token(&body).await.1;
    let families = [member_text(&joined, "refreshToken"), member_text(&issued, "refreshToken")];
    create_again(&service, "standup").await;
    for family in families {
        let (status, answer) = refresh_token(&service, family).await;
        assert_eq!((status, &answer["code"]), (403, &"room_not_allowed".into()), "{answer}");
    }
    // In the new room the user has the role of its user token.
    let bob = service.user_header("bob", "host");
    let (_, own) = call(&service, &bob, "POST", "/api/rooms/standup/join", json!({ "refresh": true })).await;
    assert_eq!(refresh_token(&service, member_text(&own, "refreshToken")).await.0, 200);
    let path = "/api/rooms/standup/invites";
    let invite = call(&service, &key, "POST", path, json!({ "maxUses": 9 })).await.1;
    let use_invite = async |invite: &Value| {
        let body = json!({ "invite": member_text(invite, "code") }).to_string();
        service.request_token_as_guest(&body).await
    };
    assert_eq!(use_invite(&invite).await.0, 200);
    create_again(&service, "standup").await;
    assert_eq!(use_invite(&invite).await.1["code"], "invite_invalid");
}

/// The room ends by itself: its retention is over.
#[actix_web::test]
async fn invite_to_a_room_that_has_run_out_is_void_in_the_next_room_with_its_name() {
    let service = TestService::with(|settings| settings.rooms.kept = TimeSpan::millis(200), |_| {});
    let key = service.basic_header();
    let create = || call(&service, &key, "POST", "/api/rooms", json!({ "id": "short" }));
    assert_eq!(create().await.0, 201);
    let body = json!({ "maxUses": 9 });
    let (status, invite) = call(&service, &key, "POST", "/api/rooms/short/invites", body).await;
    assert_eq!(status, 201, "{invite}");
    let created = eventually_within(Duration::from_secs(5), "the room has run out", async || {
        Some(create().await.0).filter(|status| *status == 201)
    });
    created.await;
    let body = json!({ "invite": member_text(&invite, "code") }).to_string();
    let (status, answer) = service.request_token_as_guest(&body).await;
    assert_eq!((status, &answer["code"]), (401, &"invite_invalid".into()), "{answer}");
    let (_, listed) = call(&service, &key, "GET", "/api/rooms/short/invites", Value::Null).await;
    assert_eq!(listed["invites"], json!([]), "the new room has no invite");
}

#[actix_web::test]
async fn user_sees_of_a_room_only_what_a_peer_of_it_may_see() {
    let service = TestService::new();
    let key = service.basic_header();
    let settings = json!({ "name": "Merger", "metadata": { "dial": "+1", "pin": "4711" } });
    let mut rows = Vec::new();
    for (room, change, status, has_metadata) in [
        ("open", json!({}), 200, true),
        ("hosts", json!({ "roles": ["host"] }), 403, false),
        ("off", json!({ "enabled": false }), 403, false),
        ("lobby", json!({ "lobby": true }), 200, false),
        ("locked", json!({ "locked": true }), 200, false),
    ] {
        let mut body = settings.clone();
        body["id"] = room.into();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(call(&service, &key, "POST", "/api/rooms", body).await.0, 201);
        let user = service.user_header("alice", "guest");
        let path = format!("/api/rooms/{room}");
        let (got, answer) = call(&service, &user, "GET", &path, Value::Null).await;
        let shown = ["name", "metadata", "createdBy"].map(|member| answer.get(member).is_some());
        rows.push((room, got, shown));
        assert_eq!((got, shown), (status, [has_metadata; 3]), "{room}: {answer}");
        let (_, full) = call(&service, &key, "GET", &path, Value::Null).await;
        assert_eq!(full["metadata"], settings["metadata"], "{room}");
    }
    assert_eq!(rows.len(), 5);
    let host = service.user_header("boss", "host");
    assert_eq!(call(&service, &host, "GET", "/api/rooms/hosts", Value::Null).await.1["name"], "Merger");
}

#[actix_web::test]
async fn reserved_name_is_for_its_application_alone() {
    let service = TestService::with(
        |settings| {
            let table = json!({ "rooms": "acme-*", "reserved": true, "scopes": ["rooms", "tokens"] });
            let id = "backend".to_owned().try_into().unwrap();
            settings.api_keys.insert(id, serde_json::from_value(table).unwrap());
        },
        |parts| parts.guests_allowed = true,
    );
    let (key, mallory) = (service.basic_header(), service.user_header("mallory", "host"));
    let create = |proof, room: &str| call(&service, proof, "POST", "/api/rooms", json!({ "id": room }));
    let (status, answer) = create(&mallory, "acme-board").await;
    assert_eq!((status, &answer["code"]), (403, &"room_reserved".into()), "{answer}");
    assert_eq!(create(&mallory, "acme").await.0, 201, "another name");
    let join = || call(&service, &mallory, "POST", "/api/rooms/acme-board/join", json!({}));
    assert_eq!(join().await.1["code"], "room_reserved", "a join does not open the room");
    let guest = || service.request_token_as_guest(r#"{"room":"acme-board"}"#);
    assert_eq!(guest().await.1["code"], "room_not_allowed");
    assert_eq!(create(&key, "acme-board").await.0, 201);
    assert_eq!(join().await.0, 200, "a user joins the room of the application");
    assert_eq!(guest().await.1["code"], "room_not_allowed");
}

/// The rule is the same wherever a name of a room is read, and the refusal says which characters
/// are allowed.
#[actix_web::test]
async fn name_that_is_no_room_is_refused_with_the_rule_on_every_path() {
    let service = TestService::with_guests();
    let key = service.basic_header();
    for (name, encoded) in [
        ("B\u{fc}ro", "B%C3%BCro"),
        (".", "%2E"),
        ("..", "%2e%2e"),
        ("..", ".."),
        ("a b", "a%20b"),
        ("a:b", "a:b"),
    ] {
        let mut answers = vec![
            call(&service, &key, "POST", "/auth/token", json!({ "room": name, "user": "u" })).await,
            service.request_token_as_guest(&json!({ "room": name }).to_string()).await,
            call(&service, &key, "POST", "/api/rooms", json!({ "id": name })).await,
            call(&service, &key, "POST", "/api/bans", json!({ "user": "u", "room": name, "for": 60 })).await,
            call(&service, &key, "POST", "/api/revocations", json!({ "room": name })).await,
            call(&service, &key, "POST", "/api/notices", json!({ "message": "m", "room": name })).await,
            call(&service, &key, "POST", "/api/webhooks/replay", json!({ "room": name })).await,
        ];
        for path in crate::router::api_paths().iter().filter(|path| path.pattern.contains("{room}")) {
            let concrete = path.pattern.replace("{room}", encoded);
            let concrete = concrete.split('{').enumerate().map(|(index, part)| match index {
                0 => part.to_owned(),
                _ => format!("lock{}", part.split_once('}').unwrap().1),
            });
            let concrete: String = concrete.collect();
            for method in path.methods.split(", ") {
                let body = if method == "GET" || method == "DELETE" { Value::Null } else { json!({}) };
                let found = call(&service, &key, method, &concrete, body).await;
                // Other parts of these paths were made up, and some need a user.
                let is_read = found.0 != 401 && !found.1.is_null();
                if is_read {
                    answers.push(found);
                }
            }
        }
        assert!(answers.len() > 15, "{}", answers.len());
        for (status, answer) in answers {
            assert_eq!((status, &answer["code"]), (400, &"bad_request".into()), "{name}: {answer}");
            let rule = "1 to 64 characters of A-Z a-z 0-9 . _ ~ -, and not . or ..";
            assert!(answer["detail"].as_str().unwrap().contains(rule), "{name}: {answer}");
        }
    }
}
