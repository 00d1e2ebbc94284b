//! Invites over HTTP.

use actix_web::test::TestRequest;
use serde_json::{Value, json};

use super::{TestService, call_as_backend, member_text, refresh::refresh_token, token_request};

async fn create_invite(service: &TestService, body: &Value) -> (u16, Value) {
    call_as_backend(service, token_request(&body.to_string()).uri("/api/rooms/team/invites")).await
}

async fn use_invite(service: &TestService, code: &str, more: Value) -> (u16, Value) {
    let mut body = json!({ "invite": code });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service.request_token_as_guest(&body.to_string()).await
}

#[actix_web::test]
async fn invite_gives_a_guest_a_token_for_its_room_and_role() {
    let service = TestService::new();
    let (status, invite) =
        create_invite(&service, &json!({ "role": "speaker", "maxUses": 2, "ttl": 120 })).await;
    assert_eq!((status, &invite["role"], &invite["uses"]), (201, &"speaker".into(), &0.into()), "{invite}");
    let code = member_text(&invite, "code");
    assert_eq!(member_text(&invite, "link"), format!("/?room=team&invite={code}"));
    // With an invite only name, metadata, region and refresh of the request count.
    let more =
        json!({ "room": "other", "role": "host", "user": "boss", "ttl": 9, "name": "Bo", "refresh": true });
    let (status, issued) = use_invite(&service, code, more).await;
    assert_eq!(status, 200, "{issued}");
    assert_eq!(
        (&issued["room"], &issued["role"], &issued["expiresIn"]),
        (&"team".into(), &"speaker".into(), &120.into())
    );
    assert!(member_text(&issued, "user").starts_with("invite:"));
    let (status, next) = refresh_token(&service, member_text(&issued, "refreshToken")).await;
    assert_eq!((status, &next["user"]), (200, &issued["user"]), "the next token is for the same user");

    // A bad request costs no use.
    assert_eq!(use_invite(&service, code, json!({ "name": 7 })).await.0, 400);
    assert_eq!(use_invite(&service, code, json!({})).await.0, 200);
    let (status, answer) = use_invite(&service, code, json!({})).await;
    assert_eq!((status, &answer["code"]), (401, &"invite_used_up".into()));

    let (_, listed) = call_as_backend(&service, TestRequest::get().uri("/api/rooms/team/invites")).await;
    assert_eq!((listed["invites"].as_array().unwrap().len(), &listed["invites"][0]["uses"]), (1, &2.into()));
    for secret in ["code", "link"] {
        assert!(listed["invites"][0].get(secret).is_none(), "the {secret} is shown once");
    }
    let path = format!("/api/rooms/team/invites/{}", member_text(&invite, "invite"));
    assert_eq!(call_as_backend(&service, TestRequest::delete().uri(&path)).await.0, 204);
    let (status, answer) = call_as_backend(&service, TestRequest::delete().uri(&path)).await;
    assert_eq!((status, &answer["code"]), (404, &"no_such_invite".into()));
    let (status, answer) = use_invite(&service, code, json!({})).await;
    assert_eq!((status, &answer["code"]), (401, &"invite_invalid".into()));
}

#[actix_web::test]
async fn each_bad_invite_has_its_own_error() {
    let service = TestService::new();
    for (body, status, field) in [
        (json!({ "role": "emperor" }), 403, "role"),
        (json!({ "role": 1 }), 400, "role"),
        (json!({ "maxUses": 0 }), 400, "maxUses"),
        (json!({ "maxUses": 10_001 }), 400, "maxUses"),
        (json!({ "expiresIn": 0 }), 400, "expiresIn"),
        (json!({ "expiresIn": 30 * 24 * 60 * 60 + 1 }), 400, "expiresIn"),
        (json!({ "ttl": 3601 }), 400, "ttl"),
        (json!({ "room": "x" }), 400, "room"),
    ] {
        let (got, answer) = create_invite(&service, &body).await;
        assert_eq!((got, &answer["field"]), (status, &field.into()), "{body}");
    }
    let (status, answer) =
        call_as_backend(&service, token_request("{}").uri("/api/rooms/a%20b/invites")).await;
    assert_eq!((status, &answer["field"]), (400, &"room".into()));
    for code in ["", "sbi_x", "sbi_x.team", &format!("sbi_{}.team", "A".repeat(43))] {
        let (status, answer) = use_invite(&service, code, json!({})).await;
        assert_eq!((status, &answer["code"]), (401, &"invite_invalid".into()), "{code}");
    }
    let (status, answer) = use_invite(&service, "x", json!({ "invite": 7 })).await;
    assert_eq!((status, &answer["field"]), (400, &"invite".into()));
    for _ in 0..100 {
        assert_eq!(create_invite(&service, &json!({})).await.0, 201);
    }
    let (status, answer) = create_invite(&service, &json!({})).await;
    assert_eq!((status, &answer["code"]), (409, &"conflict".into()));
}
