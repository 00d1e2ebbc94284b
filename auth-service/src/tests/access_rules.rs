//! Tests of the access rules, for the caller of the API and for the users that the rules concern.

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use serde_json::{Value, json};
use signalbox_access::{RuleChange, RuleKey, RuleTerms, RuleWriteError};

use super::TestService;
use crate::router::api_paths;

const MALLORY_IN_R: &str = r#""room":"r","user":"mallory""#;

impl TestService {
    async fn call_api(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = TestRequest::default().method(method).uri(path);
        let request = request.insert_header((header::AUTHORIZATION, self.basic_header()));
        self.call(if body.is_null() { request } else { request.set_json(body) }).await
    }

    async fn post_api(&self, path: &str, body: Value) -> (u16, Value) {
        self.call_api(Method::POST, path, body).await
    }

    async fn issue_token(&self, members: &str) -> String {
        let (status, body) = self.request_token(&format!("{{{members}}}")).await;
        assert_eq!(status, 200, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    async fn validation_code(&self, token: &str) -> String {
        let (status, body) = self.validate(token).await;
        if status == 200 { "valid".to_owned() } else { body["code"].as_str().unwrap().to_owned() }
    }
}

#[actix_web::test]
async fn revoked_token_is_invalid_and_a_later_token_is_valid() {
    for by in ["token", "grant", "user", "room", "all"] {
        let service = TestService::new();
        let token = service.issue_token(MALLORY_IN_R).await;
        let other = service.issue_token(r#""room":"r2","user":"ann""#).await;
        let (_, claims) = service.validate(&token).await;
        let body = match by {
            "token" => json!({ "token": token }),
            "grant" => json!({ "grant": claims["claims"]["jti"], "reason": "lost phone" }),
            "user" => json!({ "user": "mallory" }),
            "room" => json!({ "room": "r" }),
            _ => json!({ "all": true }),
        };
        let (status, rule) = service.post_api("/api/revocations", body).await;
        assert_eq!((status, &rule["by"]), (200, &json!("backend")), "{by} {rule}");
        assert_eq!(service.validation_code(&token).await, "token_revoked", "{by}");
        let expected = if by == "all" { "token_revoked" } else { "valid" };
        assert_eq!(service.validation_code(&other).await, expected, "{by}");
        let next = service.issue_token(MALLORY_IN_R).await;
        assert_eq!(service.validation_code(&next).await, "valid", "in the same second, {by}");
    }
}

#[actix_web::test]
async fn banned_user_gets_no_token_and_its_token_is_invalid() {
    let service = TestService::new();
    let (token, elsewhere) = (
        service.issue_token(MALLORY_IN_R).await,
        service.issue_token(r#""room":"r2","user":"mallory""#).await,
    );
    let (status, rule) = service
        .post_api("/api/bans", json!({ "user": "mallory", "room": "r", "for": 60, "reason": "spam" }))
        .await;
    assert_eq!((status, &rule["key"], &rule["reason"]), (200, &json!("ban:r:mallory"), &json!("spam")));
    assert_eq!(rule["until"].as_u64().unwrap() - rule["at"].as_u64().unwrap(), 60_000);
    let (status, body) = service.request_token(&format!("{{{MALLORY_IN_R}}}")).await;
    assert_eq!((status, &body["code"]), (403, &json!("banned")));
    assert_eq!(service.validation_code(&token).await, "banned");
    assert_eq!(service.validation_code(&elsewhere).await, "valid");
    assert_eq!(service.post_api("/api/bans", json!({ "user": "mallory", "for": 60 })).await.0, 200);
    assert_eq!(service.validation_code(&elsewhere).await, "banned");
    for key in ["ban:*:mallory", "ban:r:mallory"] {
        let (status, rule) =
            service.call_api(Method::DELETE, &format!("/api/rules/{key}"), Value::Null).await;
        assert_eq!((status, &rule["lifted"]), (200, &json!(true)));
    }
    assert_eq!(service.validation_code(&token).await, "valid");
    let (status, body) = service.call_api(Method::DELETE, "/api/rules/ban:*:mallory", Value::Null).await;
    assert_eq!((status, &body["code"]), (404, &json!("no_such_rule")));
}

#[actix_web::test]
async fn denied_address_behind_a_trusted_proxy_is_refused() {
    let trusted = signalbox_config::address_ranges::parse_range("127.0.0.1").unwrap();
    let service = TestService::with(|settings| settings.server.trusted_proxies = vec![trusted], |_| {});
    let token = service.issue_token(MALLORY_IN_R).await;
    let (status, rule) =
        service.post_api("/api/denials", json!({ "cidr": "203.0.113.9/24", "for": 60 })).await;
    assert_eq!((status, &rule["key"]), (200, &json!("deny:203.0.113.0/24")));
    for (peer, forwarded, expected) in [
        ("127.0.0.1:9", "203.0.113.1", 403),
        ("127.0.0.1:9", "203.0.113.1, 198.51.100.1", 200),
        ("198.51.100.1:9", "203.0.113.1", 200),
        ("203.0.113.4:9", "198.51.100.1", 403),
    ] {
        let request = TestRequest::get().uri("/auth/validate").peer_addr(peer.parse().unwrap());
        let request = request.insert_header((header::AUTHORIZATION, format!("Bearer {token}")));
        let (status, body) = service.call(request.insert_header(("x-forwarded-for", forwarded))).await;
        assert_eq!(status, expected, "{peer} {forwarded} {body}");
        assert!(status == 200 || body["code"] == "address_denied", "{body}");
    }
}

#[actix_web::test]
async fn denied_address_may_only_read_jwks_and_lift_rules() {
    let service = TestService::new();
    let denied_request = |method: &str, path: &str| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = TestRequest::default().method(method).uri(path);
        request
            .peer_addr("203.0.113.4:9".parse().unwrap())
            .insert_header((header::AUTHORIZATION, service.basic_header()))
    };
    let rule = json!({ "cidr": "203.0.113.0/24", "for": 60 });
    assert_eq!(service.post_api("/api/denials", rule).await.0, 200);
    let mut request_count = 0;
    let served = api_paths().into_iter().map(|path| (path.pattern, path.methods));
    for (pattern, methods) in served.chain([("/ws/events", "GET")]) {
        let path = pattern
            .replace("{verb:admit|deny}", "admit")
            .replace("{verb:lock|unlock|enable|disable}", "lock")
            .replace(['{', '}'], "");
        for method in methods.split(", ") {
            let (status, problem) = service.call(denied_request(method, &path)).await;
            let open = ["/api/rules", "/api/rules/{key}", "/.well-known/jwks.json"].contains(&pattern);
            let refused = (status, &problem["code"]) == (403, &json!("address_denied"));
            assert_eq!(refused, !open, "{method} {path}: {status} {problem}");
            request_count += 1;
        }
    }
    assert!(request_count > 40, "{request_count}");
    // A caller with the scope can list the rule and lift it, even from the denied address.
    let (status, listed) = service.call(denied_request("GET", "/api/rules?kind=deny")).await;
    assert_eq!((status, &listed["rules"][0]["key"]), (200, &json!("deny:203.0.113.0/24")), "{listed}");
    let (status, _) = service.call(denied_request("DELETE", "/api/rules/deny:203.0.113.0%2F24")).await;
    assert_eq!(status, 200);
    assert_eq!(service.call(denied_request("GET", "/api/rooms")).await.0, 200);
}

#[actix_web::test]
async fn shutdown_refuses_tokens_and_can_still_be_lifted() {
    let service = TestService::new();
    let token = service.issue_token(MALLORY_IN_R).await;
    assert_eq!(service.call_api(Method::PUT, "/api/shutdown", json!({ "retry": 90 })).await.0, 200);
    assert_eq!(service.validation_code(&token).await, "shut_down");
    let (status, body) = service.request_token(&format!("{{{MALLORY_IN_R}}}")).await;
    assert_eq!((status, &body["code"]), (503, &json!("shut_down")));
    assert_eq!(service.call_api(Method::DELETE, "/api/shutdown", Value::Null).await.0, 200);
    assert_eq!(service.validation_code(&token).await, "valid");
}

#[actix_web::test]
async fn revoked_api_key_is_refused_and_its_tokens_can_be_revoked_too() {
    for issued in [false, true] {
        let service = TestService::new();
        let token = service.issue_token(MALLORY_IN_R).await;
        let body = json!({ "key": "backend", "issued": issued });
        assert_eq!(service.post_api("/api/revocations", body).await.0, 200);
        let (status, body) = service.request_token(&format!("{{{MALLORY_IN_R}}}")).await;
        assert_eq!((status, &body["code"]), (401, &json!("token_revoked")));
        assert_eq!(service.call_api(Method::GET, "/api/rules", Value::Null).await.0, 401);
        assert_eq!(service.validation_code(&token).await, if issued { "token_revoked" } else { "valid" });
    }
}

#[actix_web::test]
async fn access_rules_are_listed_page_by_page() {
    let service = TestService::new();
    for n in 0..7 {
        assert_eq!(service.post_api("/api/bans", json!({ "user": format!("u{n}"), "for": 60 })).await.0, 200);
    }
    let limits = json!({ "rate": 50, "roomPeers": 20, "for": 60 });
    let (_, rule) = service.call_api(Method::PUT, "/api/limits", limits).await;
    assert_eq!(rule["limits"], json!({ "rate": 50, "roomPeers": 20 }));
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) =
            service.call_api(Method::GET, &format!("/api/rules?limit=3{cursor}"), Value::Null).await;
        assert_eq!(status, 200, "{page}");
        found.extend(page["rules"].as_array().unwrap().iter().map(|rule| rule["key"].to_string()));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found.len(), 8, "{found:?}");
    let (_, page) = service.call_api(Method::GET, "/api/rules?kind=limits", Value::Null).await;
    assert_eq!(page["rules"].as_array().unwrap().len(), 1);
    assert_eq!(service.call_api(Method::DELETE, "/api/limits", Value::Null).await.0, 200);
}

#[actix_web::test]
async fn each_bad_rule_member_is_named_in_the_error() {
    let service = TestService::new();
    let long = "x".repeat(300);
    for (path, body, field) in [
        ("/api/revocations", json!({}), "token"),
        ("/api/revocations", json!({ "user": "a", "room": "r" }), "token"),
        ("/api/revocations", json!({ "all": false }), "all"),
        ("/api/revocations", json!({ "all": 1 }), "all"),
        ("/api/revocations", json!({ "grant": "a.1" }), "grant"),
        ("/api/revocations", json!({ "token": "nonsense" }), "token"),
        ("/api/revocations", json!({ "user": "a b" }), "user"),
        ("/api/revocations", json!({ "user": "a", "issued": true }), "issued"),
        ("/api/revocations", json!({ "user": "a", "why": 1 }), "why"),
        ("/api/revocations", json!({ "user": "a", "reason": long }), "reason"),
        ("/api/bans", json!({ "for": 60 }), "user"),
        ("/api/bans", json!({ "user": "a" }), "for"),
        ("/api/bans", json!({ "user": "a", "for": 0 }), "for"),
        ("/api/bans", json!({ "user": "a", "for": 2_678_401 }), "for"),
        ("/api/bans", json!({ "user": "a", "for": "1h" }), "for"),
        ("/api/bans", json!({ "user": "a", "for": 1, "room": "a/b" }), "room"),
        ("/api/denials", json!({ "for": 1 }), "cidr"),
        ("/api/denials", json!({ "for": 1, "cidr": "0.0.0.0/0" }), "cidr"),
        ("/api/denials", json!({ "for": 1, "cidr": "10.0.0.0/33" }), "cidr"),
        ("/api/notices", json!({ "message": "m" }), "code"),
        ("/api/notices", json!({ "code": "c" }), "message"),
        ("/api/notices", json!({ "code": "a b", "message": "m" }), "code"),
        ("/api/notices", json!({ "code": "c", "message": "\n" }), "message"),
        ("/api/notices", json!({ "code": "c", "message": "m", "room": "r", "user": "u" }), "user"),
    ] {
        let (status, problem) = service.post_api(path, body.clone()).await;
        assert_eq!(
            (status, &problem["code"], &problem["field"]),
            (400, &json!("bad_request"), &json!(field)),
            "{path} {body} {problem}"
        );
    }
    for (body, field) in [
        (json!({}), "roomPeers"),
        (json!({ "roomPeers": 0 }), "roomPeers"),
        (json!({ "roomPeers": 228 }), "roomPeers"),
        (json!({ "backlog": 7 }), "backlog"),
        (json!({ "rate": -1 }), "rate"),
        (json!({ "frame": 1 }), "frame"),
    ] {
        let (status, problem) = service.call_api(Method::PUT, "/api/limits", body.clone()).await;
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{body} {problem}");
    }
    let (status, problem) = service.call_api(Method::DELETE, "/api/rules/nonsense", Value::Null).await;
    assert_eq!((status, &problem["field"]), (400, &json!("key")));
    for query in ["kind=x", "limit=0", "limit=x", "cursor=x", "other=1"] {
        assert_eq!(
            service.call_api(Method::GET, &format!("/api/rules?{query}"), Value::Null).await.0,
            400,
            "{query}"
        );
    }
}

#[actix_web::test]
async fn access_rules_need_an_api_key() {
    let service = TestService::with_guests();
    for (method, path) in [
        (Method::GET, "/api/rules"),
        (Method::DELETE, "/api/rules/shutdown"),
        (Method::POST, "/api/revocations"),
        (Method::POST, "/api/bans"),
        (Method::POST, "/api/denials"),
        (Method::POST, "/api/notices"),
        (Method::PUT, "/api/shutdown"),
        (Method::DELETE, "/api/shutdown"),
        (Method::PUT, "/api/limits"),
        (Method::DELETE, "/api/limits"),
    ] {
        let request = TestRequest::default().method(method.clone()).uri(path);
        let (status, problem) = service.call(request.set_json(json!({}))).await;
        assert_eq!((status, &problem["code"]), (401, &json!("caller_unknown")), "{method} {path}");
    }
}

#[actix_web::test]
async fn full_rule_table_accepts_only_emergency_rules() {
    let service = TestService::new();
    for n in 0..100 {
        let key = RuleKey::Grant(signalbox_protocol::id::TokenId::parse(&format!("g{n}")).unwrap());
        let outcome = service
            .state
            .context
            .access
            .write_rule(RuleChange { key, life_ms: 60_000, terms: RuleTerms::default() })
            .await;
        assert_ne!(outcome.err(), Some(RuleWriteError::TooManyRules));
    }
    let (status, problem) = service.post_api("/api/bans", json!({ "user": "a", "for": 60 })).await;
    assert_eq!((status, &problem["code"]), (409, &json!("rule_limit")));
    assert_eq!(service.post_api("/api/revocations", json!({ "all": true })).await.0, 200);
}

#[actix_web::test]
async fn banned_user_gets_no_ticket_and_no_refresh_but_keeps_the_refresh_token() {
    let service = TestService::new();
    let (_, issued) = service.request_token(&format!("{{{MALLORY_IN_R},\"refresh\":true}}")).await;
    let token = issued["token"].as_str().unwrap().to_owned();
    let ticket = async || {
        let request = TestRequest::post().uri("/auth/ticket");
        service.call(request.insert_header((header::AUTHORIZATION, format!("Bearer {token}")))).await
    };
    let refresh =
        async || service.post_api("/auth/refresh", json!({ "refreshToken": issued["refreshToken"] })).await;
    let code = |answer: &(u16, Value)| (answer.0, answer.1["code"].as_str().unwrap_or_default().to_owned());
    let (_, rule) = service.post_api("/api/bans", json!({ "user": "mallory", "for": 60 })).await;
    assert_eq!(code(&ticket().await), (403, "banned".to_owned()));
    assert_eq!(code(&refresh().await), (403, "banned".to_owned()));
    let path = format!("/api/rules/{}", rule["key"].as_str().unwrap());
    assert_eq!(service.call_api(Method::DELETE, &path, Value::Null).await.0, 200);
    assert_eq!((ticket().await.0, refresh().await.0), (200, 200));
    service.post_api("/api/revocations", json!({ "user": "mallory" })).await;
    assert_eq!(code(&ticket().await), (401, "token_revoked".to_owned()));
    assert_eq!(code(&refresh().await), (401, "token_revoked".to_owned()));
}

#[actix_web::test]
async fn reused_refresh_token_revokes_the_whole_grant() {
    let service = TestService::new();
    let (_, first) = service.request_token(&format!("{{{MALLORY_IN_R},\"refresh\":true}}")).await;
    let refresh = async |of: &Value| {
        service.post_api("/auth/refresh", json!({ "refreshToken": of["refreshToken"] })).await.1
    };
    let second = refresh(&first).await;
    let third = refresh(&second).await;
    assert_eq!(service.validation_code(third["token"].as_str().unwrap()).await, "valid");
    assert_eq!(refresh(&first).await["code"], "refresh_reused");
    for issued in [&first, &second, &third] {
        assert_eq!(service.validation_code(issued["token"].as_str().unwrap()).await, "token_revoked");
    }
    let next = service.issue_token(MALLORY_IN_R).await;
    assert_eq!(service.validation_code(&next).await, "valid", "another grant of the same user");
}

#[actix_web::test]
async fn revoking_key_grant_or_all_revokes_the_management_token() {
    for by in ["key", "grant", "all"] {
        let service = TestService::new();
        let (_, issued) = service.post_api("/auth/management", json!({})).await;
        let bearer = format!("Bearer {}", issued["token"].as_str().unwrap());
        let rules = async || {
            let request = TestRequest::get().uri("/api/rules");
            service.call(request.insert_header((header::AUTHORIZATION, bearer.clone()))).await
        };
        assert_eq!(rules().await.0, 200);
        let body = match by {
            "key" => json!({ "key": "backend" }),
            "grant" => json!({ "token": issued["token"] }),
            _ => json!({ "all": true }),
        };
        assert_eq!(service.post_api("/api/revocations", body).await.0, 200);
        let (status, answer) = rules().await;
        assert_eq!((status, &answer["code"]), (401, &"token_revoked".into()), "{by}");
    }
}
