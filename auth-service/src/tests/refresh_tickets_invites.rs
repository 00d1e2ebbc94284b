//! Refresh tokens, tickets and invites over HTTP.

use actix_web::{http::header, test::TestRequest};
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_token::{MemoryTicketStore, TicketRedemption, TokenVerifier, parse_ticket_digest};

use super::{TestService, token_request};
use crate::auth::credential_store::CredentialStore;

async fn refresh_token(service: &TestService, token: &str) -> (u16, Value) {
    service.call(token_request(&json!({ "refreshToken": token }).to_string()).uri("/auth/refresh")).await
}

async fn call_as_backend(service: &TestService, request: TestRequest) -> (u16, Value) {
    service.call(request.insert_header((header::AUTHORIZATION, service.basic_header()))).await
}

fn member_text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap_or_else(|| panic!("{member}: {answer}"))
}

fn grant_of_token(service: &TestService, answer: &Value) -> String {
    let claims = TokenVerifier::from_secrets([&service.token_secret])
        .verify_room_token(member_text(answer, "token"), clock::now_s())
        .unwrap();
    claims.grant().to_owned()
}

#[actix_web::test]
async fn refresh_token_gives_the_next_token_of_the_same_grant() {
    let service = TestService::new();
    let wish = r#"{"room":"r","user":"u","role":"host","name":"U","ttl":60,"metadata":{"a":1},"refresh":true,"region":"eu"}"#;
    let (status, first) = service.request_token(wish).await;
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

    // The same again: the same successor. Its own successor, then the first one: the end of all.
    let (_, again) = refresh_token(&service, member_text(&first, "refreshToken")).await;
    assert_eq!(again["refreshToken"], second["refreshToken"]);
    assert_ne!(again["token"], second["token"]);
    let (status, third) = refresh_token(&service, member_text(&second, "refreshToken")).await;
    assert_eq!(status, 200);
    for (shown, code) in [(&first, "refresh_reused"), (&third, "refresh_reused"), (&second, "refresh_reused")]
    {
        let (status, answer) = refresh_token(&service, member_text(shown, "refreshToken")).await;
        assert_eq!((status, &answer["code"]), (401, &code.into()));
    }
    assert_eq!(service.state.context.metrics.refresh_reused.get(), 1);
    assert!(service.request_token(r#"{"room":"r","user":"u"}"#).await.1.get("refreshToken").is_none());
}

#[actix_web::test]
async fn bad_refresh_token_has_its_own_error() {
    let service = TestService::new();
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u","refresh":true}"#).await;
    let good = member_text(&issued, "refreshToken");
    let stranger = signalbox_token::OpaqueToken::random();
    let stranger = stranger.to_text(signalbox_token::OpaqueTokenKind::Refresh);
    for (body, status, code, field) in [
        (json!({ "refreshToken": stranger }), 401, "refresh_invalid", None),
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
    assert_eq!(refresh_token(&service, good).await.0, 200, "none of that harmed it");
    let (status, answer) = service.request_token(r#"{"room":"r","user":"u","refresh":"yes"}"#).await;
    assert_eq!((status, &answer["field"]), (400, &"refresh".into()));
}

#[actix_web::test]
async fn ticket_redeems_to_the_claims_of_its_token() {
    let shelf = MemoryTicketStore::default();
    let kept = shelf.clone();
    let service = TestService::with(|_| {}, |parts| parts.store = CredentialStore::in_memory(kept));
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u","metadata":{"a": 1}}"#).await;
    let ticket_for = async |proof: &str| {
        let request = TestRequest::post().uri("/auth/ticket");
        service.call(request.insert_header((header::AUTHORIZATION, proof.to_owned()))).await
    };
    let (status, answer) = ticket_for(&format!("Bearer {}", member_text(&issued, "token"))).await;
    assert_eq!((status, &answer["expiresIn"]), (200, &30.into()));
    let digest = parse_ticket_digest(member_text(&answer, "ticket")).unwrap();
    let TicketRedemption::Claims(claims) = shelf.redeem_ticket(&digest, clock::now_ms()) else {
        panic!("no ticket")
    };
    assert_eq!(
        (claims.sub.as_str(), claims.room.as_str(), claims.grant()),
        ("u", "r", &*grant_of_token(&service, &issued))
    );
    assert_eq!(claims.metadata.as_ref().unwrap().get(), r#"{"a": 1}"#);
    assert!(matches!(shelf.redeem_ticket(&digest, clock::now_ms()), TicketRedemption::Used));

    for (proof, code) in [
        (service.basic_header(), "token_malformed"),
        ("Bearer x".to_owned(), "token_malformed"),
        (format!("Bearer {}", member_text(&answer, "ticket")), "token_malformed"),
    ] {
        let (status, answer) = ticket_for(&proof).await;
        assert_eq!((status, &answer["code"]), (401, &code.into()), "{proof}");
    }
    let (status, answer) = service.call(TestRequest::post().uri("/auth/ticket")).await;
    assert_eq!((status, &answer["code"]), (401, &"token_missing".into()));
}

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
    let (status, made) =
        create_invite(&service, &json!({ "role": "speaker", "maxUses": 2, "ttl": 120 })).await;
    assert_eq!((status, &made["role"], &made["uses"]), (201, &"speaker".into(), &0.into()), "{made}");
    let code = member_text(&made, "code");
    // What the wish says beyond name, metadata and region does not count.
    let more =
        json!({ "room": "other", "role": "host", "user": "boss", "ttl": 9, "name": "Bo", "refresh": true });
    let (status, issued) = use_invite(&service, code, more).await;
    assert_eq!(status, 200, "{issued}");
    assert_eq!(
        (&issued["room"], &issued["role"], &issued["expiresIn"]),
        (&"team".into(), &"speaker".into(), &120.into())
    );
    assert!(member_text(&issued, "user").starts_with("guest-"));
    let (status, next) = refresh_token(&service, member_text(&issued, "refreshToken")).await;
    assert_eq!((status, &next["user"]), (200, &issued["user"]), "it stays the same user");

    // A wish that is wrong costs no use.
    assert_eq!(use_invite(&service, code, json!({ "name": 7 })).await.0, 400);
    assert_eq!(use_invite(&service, code, json!({})).await.0, 200);
    let (status, answer) = use_invite(&service, code, json!({})).await;
    assert_eq!((status, &answer["code"]), (401, &"invite_used_up".into()));

    let (_, listed) = call_as_backend(&service, TestRequest::get().uri("/api/rooms/team/invites")).await;
    assert_eq!((listed["invites"].as_array().unwrap().len(), &listed["invites"][0]["uses"]), (1, &2.into()));
    assert!(listed["invites"][0].get("code").is_none(), "the code is shown once");
    let path = format!("/api/rooms/team/invites/{}", member_text(&made, "invite"));
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
