//! `/api/rooms` over rooms in this process.

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use serde_json::{Value, json};
use signalbox_access::{LimitChanges, RuleChange, RuleKey, RuleTerms};
use signalbox_config::TurnServer;
use signalbox_protocol::{
    clock,
    id::{RegionId, Role, TokenId, UserId},
};
use signalbox_token::{ISSUER, TokenKind, UserClaims};

use super::TestService;

impl TestService {
    async fn call_as_backend(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(&self.basic_header(), method, path, body).await
    }

    async fn call_as(&self, credentials: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request =
            TestRequest::with_uri(path).method(method).insert_header((header::AUTHORIZATION, credentials));
        let length = (header::CONTENT_LENGTH, body.to_string().len());
        let request = if body.is_null() { request } else { request.set_json(body).insert_header(length) };
        self.call(request).await
    }

    /// Puts limits in force by an access rule.
    async fn set_limits(&self, limits: LimitChanges) {
        let terms = RuleTerms { limits: Some(limits), ..RuleTerms::default() };
        let change = RuleChange { key: RuleKey::Limits, life_ms: 60_000, terms };
        self.state.context.access.write_rule(change).await.unwrap();
    }

    /// The `Authorization` header of a user with this role.
    pub(super) fn user_header(&self, user: &str, role: &str) -> String {
        let now = clock::now_s();
        let claims = UserClaims {
            iss: ISSUER.to_owned(),
            aud: TokenKind::User.aud().to_owned(),
            sub: UserId::parse(user).unwrap(),
            role: Role::parse(role).unwrap(),
            name: None,
            root: None,
            iat: now,
            nbf: now - 1,
            exp: now + 60,
            jti: TokenId::random(),
        };
        format!("Bearer {}", self.state.tokens.keys.sign(&claims).unwrap())
    }
}

#[actix_web::test]
async fn room_is_created_changed_and_deleted() {
    let service = TestService::new();
    let body = json!({"id": "r", "name": "Stand-up", "maxPeers": 5, "metadata": {"k": 1}});
    let (status, room) = service.call_as_backend("POST", "/api/rooms", body.clone()).await;
    assert_eq!((status, &room["name"], &room["maxPeers"]), (201, &"Stand-up".into(), &5.into()), "{room}");
    assert_eq!(room["createdBy"], json!({"kind": "key", "id": "backend"}));
    assert_eq!(service.call_as_backend("POST", "/api/rooms", body).await.1["code"], "room_exists");
    let (status, changed) =
        service.call_as_backend("PATCH", "/api/rooms/r", json!({"maxPeers": 0, "lobby": true})).await;
    assert_eq!((status, changed.get("maxPeers"), &changed["lobby"]), (200, None, &true.into()), "{changed}");
    for (verb, member, value) in [
        ("lock", "locked", true),
        ("unlock", "locked", false),
        ("disable", "enabled", false),
        ("enable", "enabled", true),
    ] {
        let (status, room) =
            service.call_as_backend("POST", &format!("/api/rooms/r/{verb}"), Value::Null).await;
        assert_eq!((status, &room[member]), (200, &value.into()), "{verb}: {room}");
    }
    let (status, ended) = service.call_as_backend("POST", "/api/rooms/r/end", json!({"lock": true})).await;
    assert_eq!((status, &ended["locked"], &ended["removed"]), (200, &true.into(), &0.into()), "{ended}");
    // A content type without a body, as `curl -X POST` sends it if a script always sets the header.
    let bare = TestRequest::post().uri("/api/rooms/r/end").insert_header(header::ContentType::json());
    let (status, ended) =
        service.call(bare.insert_header((header::AUTHORIZATION, service.basic_header()))).await;
    assert_eq!((status, &ended["locked"]), (200, &true.into()), "{ended}");
    assert_eq!(service.call_as_backend("DELETE", "/api/rooms/r", Value::Null).await.0, 204);
    for (method, path) in [("GET", "/api/rooms/r"), ("DELETE", "/api/rooms/r"), ("POST", "/api/rooms/r/lock")]
    {
        let (status, problem) = service.call_as_backend(method, path, Value::Null).await;
        assert_eq!((status, &problem["code"]), (404, &"no_such_room".into()), "{method} {path}");
    }
}

#[actix_web::test]
async fn each_bad_room_setting_is_named_in_the_error() {
    let service = TestService::new();
    for (member, value) in [
        ("id", json!("a b")),
        ("name", json!("a\u{7}")),
        ("metadata", json!([])),
        ("maxPeers", json!(101)),
        ("maxDuration", json!(12 * 60 * 60 + 1)),
        ("startsAt", json!(u64::from(u32::MAX) * 1_000)),
        ("enabled", json!("yes")),
        ("e2ee", json!("maybe")),
        ("locked", json!(1)),
        ("roles", json!("guest")),
        ("roles", json!(["emperor"])),
        ("roles", json!(vec!["guest"; 33])),
        ("colour", json!("red")),
    ] {
        let (status, problem) = service.call_as_backend("POST", "/api/rooms", json!({member: value})).await;
        assert_eq!((status, &problem["field"]), (400, &member.into()), "{problem}");
    }
    let (status, problem) = service.call_as_backend("POST", "/api/rooms", json!({"e2ee": "required"})).await;
    assert_eq!((status, &problem["code"], &problem["field"]), (409, &"conflict".into(), &"e2ee".into()));
    assert!(
        problem["detail"].as_str().unwrap().contains("the role viewer"),
        "the detail names the reason: {problem}"
    );
}

#[actix_web::test]
async fn user_creates_rooms_with_permission_and_up_to_its_limit() {
    let service = TestService::with(|settings| settings.rooms.per_user = 2, |_| {});
    let (host, guest) = (service.user_header("alice", "host"), service.user_header("bob", "guest"));
    let (status, problem) = service.call_as(&guest, "POST", "/api/rooms", json!({})).await;
    assert_eq!((status, &problem["code"]), (403, &"not_permitted".into()));
    for name in ["a", "b"] {
        assert_eq!(service.call_as(&host, "POST", "/api/rooms", json!({"id": name})).await.0, 201);
    }
    let (status, problem) = service.call_as(&host, "POST", "/api/rooms", json!({"id": "c"})).await;
    assert_eq!((status, &problem["code"]), (409, &"room_limit".into()));
    assert_eq!(service.call_as_backend("DELETE", "/api/rooms/a", Value::Null).await.0, 204);
    assert_eq!(service.call_as(&host, "POST", "/api/rooms", json!({"id": "c"})).await.0, 201);
    // A user may do nothing else with a room.
    assert_eq!(service.call_as(&host, "GET", "/api/rooms/b", Value::Null).await.0, 200);
    for (method, path) in [("GET", "/api/rooms"), ("DELETE", "/api/rooms/b"), ("POST", "/api/rooms/b/lock")] {
        assert_eq!(service.call_as(&host, method, path, Value::Null).await.0, 401, "{method} {path}");
    }
}

#[actix_web::test]
async fn user_token_joins_a_room_that_admits_it() {
    let service = TestService::new();
    let (host, guest) = (service.user_header("alice", "host"), service.user_header("bob", "guest"));
    service.call_as(&host, "POST", "/api/rooms", json!({"id": "r", "lobby": true})).await;
    let (status, own) = service.call_as(&host, "POST", "/api/rooms/r/join", json!({})).await;
    assert_eq!((status, &own["role"], &own["lobby"]), (200, &"host".into(), &false.into()), "{own}");
    let (status, issued) = service.call_as(&guest, "POST", "/api/rooms/r/join", json!({"name": "Bob"})).await;
    assert_eq!(
        (status, &issued["role"], &issued["lobby"], &issued["url"]),
        (200, &"guest".into(), &true.into(), &"/ws/signal".into())
    );
    assert_eq!(service.validate(issued["token"].as_str().unwrap()).await.0, 200);
    for (change, status, code) in [
        (json!({"locked": true}), 403, "room_locked"),
        (json!({"locked": false, "enabled": false}), 403, "room_disabled"),
        (json!({"enabled": true, "startsAt": clock::now_ms() + 60_000}), 403, "room_not_started"),
    ] {
        assert_eq!(service.call_as_backend("PATCH", "/api/rooms/r", change).await.0, 200);
        let answer = service.call_as(&guest, "POST", "/api/rooms/r/join", json!({})).await;
        assert_eq!((answer.0, &answer.1["code"]), (status, &code.into()), "{}", answer.1);
    }
    // Each route takes its own kind of credentials.
    assert_eq!(service.call_as(&guest, "POST", "/api/rooms/r/token", json!({"user": "u"})).await.0, 401);
    let (status, _) =
        service.call_as_backend("POST", "/api/rooms/r/token", json!({"user": "u", "role": "viewer"})).await;
    assert_eq!(status, 200);
    assert_eq!(
        service.call_as_backend("POST", "/api/rooms/r/join", json!({})).await.1["code"],
        "token_missing"
    );
}

#[actix_web::test]
async fn room_token_and_join_responses_hold_url_ice_and_refresh_token() {
    let service = TestService::with(
        |settings| {
            settings.ice.turn = ["eu", "us"]
                .map(|region| TurnServer {
                    urls: vec![format!("turn:{region}.turn.example:3478")],
                    region: Some(RegionId::parse(region).unwrap()),
                })
                .to_vec();
        },
        |_| {},
    );
    let guest = service.user_header("bob", "guest");
    let key = service.basic_header();
    for (credentials, path, body) in [
        (&guest, "/api/rooms/r/join", json!({"refresh": true, "region": "eu"})),
        (&key, "/api/rooms/r/token", json!({"user": "bob", "refresh": true, "region": "eu"})),
    ] {
        let (status, entry) = service.call_as(credentials, "POST", path, body).await;
        assert_eq!((status, &entry["url"], &entry["icePolicy"]), (200, &"/ws/signal".into(), &"all".into()));
        let servers = entry["iceServers"].as_array().unwrap();
        assert_eq!(
            (servers.len(), &servers[0]["urls"][0]),
            (1, &"turn:eu.turn.example:3478".into()),
            "{path}"
        );
        assert!(servers[0]["credential"].is_string());
        assert_eq!(entry["refreshExpiresIn"], 7 * 24 * 60 * 60);
        let (status, claims) = service.validate(entry["token"].as_str().unwrap()).await;
        assert_eq!((status, &claims["claims"]["region"]), (200, &"eu".into()));
        // The next token has the same room, user and region.
        let body = json!({"refreshToken": entry["refreshToken"]});
        let (status, next) = service.call_as(credentials, "POST", "/auth/refresh", body).await;
        assert_eq!((status, &next["room"], &next["user"]), (200, &"r".into(), &"bob".into()), "{next}");
        assert_eq!(service.validate(next["token"].as_str().unwrap()).await.1["claims"]["region"], "eu");
        for (member, value) in [("refresh", json!("yes")), ("region", json!("Europe!"))] {
            let mut body = if path.ends_with("token") { json!({"user": "bob"}) } else { json!({}) };
            body[member] = value;
            let (status, problem) = service.call_as(credentials, "POST", path, body).await;
            assert_eq!((status, &problem["field"]), (400, &member.into()), "{path} {problem}");
        }
    }
    // Without `refresh` the response has no refresh token.
    let (_, entry) = service.call_as(&guest, "POST", "/api/rooms/r/join", json!({})).await;
    assert_eq!((entry.get("refreshToken"), entry.get("refreshExpiresIn")), (None, None));
}

#[actix_web::test]
async fn without_auto_create_an_absent_room_cannot_be_joined() {
    let service = TestService::with(|settings| settings.rooms.implicit = false, |_| {});
    let guest = service.user_header("bob", "guest");
    let (status, problem) = service.call_as(&guest, "POST", "/api/rooms/r/join", json!({})).await;
    assert_eq!((status, &problem["code"]), (403, &"room_not_allowed".into()));
    let (status, problem) = service.call_as_backend("POST", "/api/rooms/r/token", json!({"user": "u"})).await;
    assert_eq!((status, &problem["code"]), (404, &"no_such_room".into()));
}

#[actix_web::test]
async fn room_list_has_each_room_once_while_other_rooms_change() {
    let service = TestService::new();
    let name = |n: u32| format!("room-{n}");
    for n in 0..25 {
        service.call_as_backend("POST", "/api/rooms", json!({"id": name(n)})).await;
    }
    let (mut seen, mut cursor, mut page) = (Vec::new(), String::new(), 0);
    loop {
        let (status, list) =
            service.call_as_backend("GET", &format!("/api/rooms?limit=4{cursor}"), Value::Null).await;
        assert_eq!(status, 200, "{list}");
        let rooms = list["rooms"].as_array().unwrap();
        seen.extend(rooms.iter().map(|room| room["id"].as_str().unwrap().to_owned()));
        // A room is created and a room is deleted between two pages.
        service.call_as_backend("POST", "/api/rooms", json!({"id": format!("new-{page}")})).await;
        service.call_as_backend("DELETE", &format!("/api/rooms/new-{}", page / 2), Value::Null).await;
        page += 1;
        match list["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    for n in 0..25 {
        assert_eq!(seen.iter().filter(|id| **id == name(n)).count(), 1, "{seen:?}");
    }
    for bad in ["limit=0", "limit=101", "cursor=x", "limit=x", "page=1"] {
        assert_eq!(
            service.call_as_backend("GET", &format!("/api/rooms?{bad}"), Value::Null).await.0,
            400,
            "{bad}"
        );
    }
}

#[actix_web::test]
async fn absent_peer_gives_no_such_peer() {
    let service = TestService::new();
    service.call_as_backend("POST", "/api/rooms", json!({"id": "r"})).await;
    let absent_peer = format!("/api/rooms/r/participants/{:032x}", 7);
    for (method, path, body) in [
        ("PATCH", absent_peer.clone(), json!({"role": "host"})),
        ("DELETE", absent_peer.clone(), Value::Null),
        ("POST", format!("{absent_peer}/admit"), Value::Null),
        ("POST", format!("{absent_peer}/deny"), Value::Null),
        ("DELETE", "/api/rooms/r/participants/x".to_owned(), Value::Null),
        ("POST", "/api/rooms/r/messages".to_owned(), json!({"to": format!("{:032x}", 7), "data": 1})),
    ] {
        // The created room exists and has no members.
        let (status, problem) = service.call_as_backend(method, &path, body).await;
        assert_eq!((status, &problem["code"]), (404, &"no_such_peer".into()), "{method} {path}");
    }
    assert_eq!(service.call_as_backend("PATCH", &absent_peer, json!({})).await.0, 400);
    assert_eq!(service.call_as_backend("DELETE", "/api/rooms/r/participants", Value::Null).await.0, 400);
    assert_eq!(
        service.call_as_backend("DELETE", "/api/rooms/r/participants?role=guest", Value::Null).await.1["removed"],
        0
    );
    assert_eq!(
        service.call_as_backend("POST", "/api/rooms/r/messages", json!({"data": {"a": 1}})).await.0,
        202
    );
    let (status, banned) =
        service.call_as_backend("POST", "/api/rooms/r/bans", json!({"user": "mallory", "for": 60})).await;
    assert_eq!((status, &banned["rule"]), (201, &"ban:r:mallory".into()), "{banned}");
}

#[actix_web::test]
async fn required_e2ee_needs_roles_whose_messages_are_not_read() {
    let service = TestService::new();
    let room_request = |roles: Value| json!({"id": "r", "e2ee": "required", "roles": roles});
    for read in [json!([]), json!(["guest", "viewer"])] {
        let (status, problem) = service.call_as_backend("POST", "/api/rooms", room_request(read)).await;
        assert_eq!((status, &problem["code"], &problem["field"]), (409, &"conflict".into(), &"e2ee".into()));
    }
    let (status, room) =
        service.call_as_backend("POST", "/api/rooms", room_request(json!(["guest", "host"]))).await;
    assert_eq!((status, &room["roles"], &room["e2ee"]), (201, &json!(["guest", "host"]), &"required".into()));
    for (role, status, code) in [("guest", 200, Value::Null), ("viewer", 403, "role_not_allowed".into())] {
        let user = service.user_header("bob", role);
        let answer = service.call_as(&user, "POST", "/api/rooms/r/join", json!({})).await;
        assert_eq!((answer.0, &answer.1["code"]), (status, &code), "{role}: {}", answer.1);
    }
    let patch = |change| service.call_as_backend("PATCH", "/api/rooms/r", change);
    assert_eq!(
        patch(json!({"roles": []})).await.1["code"],
        "conflict",
        "every role may join, and the messages of one role are inspected"
    );
    let (status, room) = patch(json!({"e2ee": "off", "roles": []})).await;
    assert_eq!((status, room.get("roles")), (200, None), "{room}");
}

#[actix_web::test]
async fn room_size_is_checked_against_the_limits_in_force() {
    let service = TestService::with(|settings| settings.limits.room_peers = 10, |_| {});
    let create = |peers: u32| service.call_as_backend("POST", "/api/rooms", json!({"maxPeers": peers}));
    let in_force = |peers: u32| LimitChanges { room_peers: Some(peers), ..LimitChanges::default() };
    assert_eq!((create(10).await.0, create(11).await.0), (201, 400));
    service.set_limits(in_force(20)).await;
    assert_eq!((create(20).await.0, create(21).await.0), (201, 400));
    service.set_limits(in_force(5)).await;
    assert_eq!((create(5).await.0, create(6).await.0), (201, 400));
    service.set_limits(in_force(1_000_000)).await;
    assert_eq!(create(228).await.0, 400, "the first frame of a peer must hold the list of all peers");
}
