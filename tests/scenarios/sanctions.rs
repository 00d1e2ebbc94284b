//! Sanctions of a room: a removal, a mute or an assigned role outlasts the peer. It has effect also
//! when the table of access rules is full, and it ends with the room or when it is lifted.

use serde_json::{Value, json};
use signalbox_protocol::id::random_hex;
use signalbox_tests::{
    cluster::{Settings, StoreKind, TestCluster, TestRoom, random_secret},
    http::{Request, Response},
    net::eventually,
    peer::{TestConnection, TestPeer},
    process::Process,
};
use signalbox_token::TokenKind;

use crate::refusals::token_defect;

fn command(kind: &str, peer: &str) -> Value {
    json!({"type": kind, "peer": peer})
}

/// A peer with all permissions keeps the room open.
async fn join_host(room: &TestRoom<'_>) -> TestPeer {
    room.join_with(json!({"user": "host", "role": "host"})).await
}

async fn join_with_token(node: &Process, token: &str) -> TestPeer {
    TestConnection::open(node.address, token).await.into_peer().await
}

fn permissions(peer: &TestPeer) -> Vec<&str> {
    peer.joined["permissions"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// The upgrade is refused, or the first frame is an error. Returns the code.
async fn join_refusal(node: &Process, token: &str) -> String {
    match TestConnection::open_with(node.address, &format!("token={token}")).await {
        Err(refused) => format!("{refused:?}"),
        Ok(connection) => {
            let first = connection.next().await;
            assert_eq!(first["type"], "error", "{first}");
            first["code"].as_str().unwrap().to_owned()
        }
    }
}

/// A user of the application joins through the API.
async fn join_through_api(cluster: &TestCluster, user: &str) -> Response {
    let token = token_defect::valid_token(TokenKind::User)
        .claim("role", "guest")
        .claim("sub", user)
        .sign(&cluster.secret);
    let request = Request::post("/api/rooms/r/join", &json!({}));
    request.header("Authorization", format!("Bearer {token}")).send(cluster.auth_address()).await
}

async fn lift_sanction(cluster: &TestCluster, user: &str) -> Response {
    cluster.api("DELETE", &format!("/api/rooms/r/sanctions/{user}"), &Value::Null).await
}

on_each_store! {
    async fn a_mute_outlasts_the_peer(cluster) {
        let room = cluster.room("r");
        let host = join_host(&room).await;
        let token = room.token(json!({"user": "mallory"})).await;
        let mallory = join_with_token(cluster.next_node(), &token).await;
        assert!(permissions(&mallory).contains(&"publish"));
        host.send_acked(command("mute", mallory.id())).await;
        mallory.leave().await;
        let again = join_with_token(cluster.next_node(), &token).await;
        assert!(!permissions(&again).contains(&"publish"), "the same token: {}", again.joined);
        let other = room.join("mallory").await;
        assert!(!permissions(&other).contains(&"publish"), "another token: {}", other.joined);
        host.send_acked(json!({"type": "mute", "peer": again.id(), "muted": false})).await;
        again.leave().await;
        let unmuted = join_with_token(cluster.next_node(), &token).await;
        assert!(permissions(&unmuted).contains(&"publish"), "unmuted: {}", unmuted.joined);
    }

    async fn a_demotion_outlasts_the_peer(cluster) {
        let room = cluster.room("r");
        let _host = join_host(&room).await;
        let token = room.token(json!({"user": "mallory", "role": "speaker"})).await;
        let mallory = join_with_token(cluster.next_node(), &token).await;
        let path = format!("/api/rooms/r/participants/{}", mallory.id());
        cluster.api("PATCH", &path, &json!({"role": "viewer"})).await.assert_status(200);
        mallory.leave().await;
        let again = join_with_token(cluster.next_node(), &token).await;
        assert_eq!((&again.joined["role"], permissions(&again).len()), (&"viewer".into(), 0), "{}", again.joined);
        lift_sanction(cluster, "mallory").await.assert_status(204);
        again.leave().await;
        let lifted = join_with_token(cluster.next_node(), &token).await;
        assert_eq!(lifted.joined["role"], "speaker", "{}", lifted.joined);
    }

    async fn a_kicked_user_returns_only_when_the_kick_is_lifted(cluster) {
        let room = cluster.room("r");
        let host = join_host(&room).await;
        let issued = join_through_api(cluster, "mallory").await.assert_status(200).json();
        let mallory = join_with_token(cluster.next_node(), issued["token"].as_str().unwrap()).await;
        host.send_acked(command("kick", mallory.id())).await;
        assert_eq!(mallory.wait_closed().await.code, 4513);
        join_through_api(cluster, "mallory").await.assert_problem(403, "removed");
        let listed = cluster.api("GET", "/api/rooms/r/sanctions", &Value::Null).await.assert_status(200).json();
        assert_eq!((&listed["sanctions"][0]["user"], &listed["sanctions"][0]["refused"]), (&"mallory".into(), &"removed".into()), "{listed}");
        lift_sanction(cluster, "mallory").await.assert_status(204);
        lift_sanction(cluster, "mallory").await.assert_problem(404, "no_such_sanction");
        join_through_api(cluster, "mallory").await.assert_status(200);
    }

    async fn the_rule_of_a_kick_ends_with_the_last_credential_of_its_grant(cluster,
        [("AUTH__REFRESH_TTL", "20m"), ("AUTH__REFRESH_TTL_MAX", "20m")]) {
        let room = cluster.room("r");
        let host = join_host(&room).await;
        // A token lives for 15 minutes, and the last one of a family may start when the family ends.
        for (count, refresh, minutes) in [(1, false, 15..=16), (2, true, 35..=36)] {
            let body = json!({"room": "r", "user": format!("u{count}"), "refresh": refresh});
            let issued = cluster.api("POST", "/auth/token", &body).await.assert_status(200).json();
            let peer = join_with_token(cluster.next_node(), issued["token"].as_str().unwrap()).await;
            host.send_acked(command("kick", peer.id())).await;
            peer.wait_closed().await;
            let longest_ms = eventually("the rule of the kick", async || {
                let answer = cluster.api("GET", "/api/rules?kind=token", &Value::Null).await.json();
                let rules = answer["rules"].as_array().unwrap().clone();
                let life_ms = |rule: &Value| rule["until"].as_u64().unwrap() - rule["at"].as_u64().unwrap();
                (rules.len() == count).then(|| rules.iter().map(life_ms).max().unwrap())
            })
            .await;
            assert!(minutes.contains(&(longest_ms / 60_000)), "refresh {refresh}: {longest_ms} ms");
        }
    }

    async fn waiting_peers_leave_the_places_of_the_room_to_its_host(cluster) {
        cluster.api("POST", "/api/rooms", &json!({"id": "r", "lobby": true, "maxPeers": 3})).await.assert_status(201);
        let room = cluster.room("r");
        let mut waiting = Vec::new();
        for user in ["a", "b", "c"] {
            let peer = room.connect(user).await;
            peer.expect_waiting().await;
            waiting.push(peer);
        }
        join_host(&room).await.leave().await;
        cluster.api("DELETE", "/api/rooms/r", &Value::Null).await.assert_status(204);
    }

    async fn a_lock_and_a_full_room_admit_a_second_host(cluster, [("LIMITS__ROOM_PEERS", "2")]) {
        let room = cluster.room("r");
        let host = join_host(&room).await;
        let alice = room.join("alice").await;
        let second = room.join_with(json!({"user": "second", "role": "moderator"})).await;
        host.send_acked(json!({"type": "lock"})).await;
        let third = room.join_with(json!({"user": "third", "role": "host"})).await;
        for peer in [third, second, alice] {
            peer.leave().await;
        }
        assert_eq!(join_refusal(cluster.next_node(), &room.token(json!({"user": "bob"})).await).await, "room_locked");
    }
}

/// The `Authorization` header of an API key, and the environment with this key beside `backend`.
fn basic_auth(id: &str, secret: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// The `Authorization` headers of two tenants.
pub(crate) struct Tenants {
    pub(crate) acme: String,
    pub(crate) globex: String,
}

/// A deployment with two tenants whose keys are limited to their own rooms.
pub(crate) async fn start_with_tenants(store: StoreKind, more: Settings<'_>) -> (TestCluster, Tenants) {
    start_with_tenants_and_env(store, more, &[]).await
}

/// As [`start_with_tenants`], with more environment variables.
pub(crate) async fn start_with_tenants_and_env(
    store: StoreKind,
    more: Settings<'_>,
    more_env: &[(String, String)],
) -> (TestCluster, Tenants) {
    let (own, secrets) = (random_secret(), [random_hex(), random_hex()]);
    let keys = format!("backend:{own},acme:{},globex:{}", secrets[0], secrets[1]);
    let mut env = more_env.to_vec();
    env.push(("SIGNALBOX_API_KEYS".to_owned(), keys));
    for tenant in ["acme", "globex"] {
        let name = tenant.to_uppercase();
        env.push((format!("SIGNALBOX__API_KEYS__{name}__SCOPES"), "tokens,rooms,moderate".to_owned()));
        env.push((format!("SIGNALBOX__API_KEYS__{name}__ROOMS"), format!("{tenant}-*")));
    }
    let settings = [
        ("LIMITS__RULES", "100"),
        ("LIMITS__KEY_RULES", "10"),
        ("LIMITS__ROOM_RULES", "5"),
        ("AUTH__GUESTS", "true"),
        ("AUTH__GUEST_TTL", "15m"),
    ];
    let settings = [&settings[..], more].concat();
    let mut cluster = TestCluster::start_with(store, &settings, &env).await;
    cluster.api_secret = own;
    let tenants =
        Tenants { acme: basic_auth("acme", &secrets[0]), globex: basic_auth("globex", &secrets[1]) };
    (cluster, tenants)
}

pub(crate) async fn ban_in_room(
    cluster: &TestCluster,
    credentials: &str,
    room: &str,
    user: &str,
) -> Response {
    let request = Request::post(format!("/api/rooms/{room}/bans"), &json!({"user": user, "for": 3600}));
    request.header("Authorization", credentials).send(cluster.auth_address()).await
}

/// The operator can still ban, deny and revoke.
async fn assert_operator_has_places(cluster: &TestCluster) {
    for (path, body) in [
        ("/api/denials", json!({"cidr": "192.0.2.1/32", "for": 60})),
        ("/api/bans", json!({"user": "eve", "for": 60})),
        ("/api/revocations", json!({"user": "eve"})),
        ("/api/revocations", json!({"key": "acme"})),
    ] {
        cluster.api("POST", path, &body).await.assert_status(200);
    }
}

async fn a_tenant_cannot_fill_the_table_of_rules(store: StoreKind) {
    let (cluster, Tenants { acme, globex }) = start_with_tenants(store, &[]).await;
    let mut written = 0;
    for n in 0..100 {
        let room = format!("acme-{}", n % 50);
        let answer = ban_in_room(&cluster, &acme, &room, &format!("u{n}")).await;
        written += usize::from(answer.status == 201);
        if answer.status != 201 {
            answer.assert_problem(409, "key_rule_limit");
        }
    }
    assert_eq!(written, 10, "limits.key_rules");
    ban_in_room(&cluster, &globex, "globex-1", "u").await.assert_status(201);
    assert_operator_has_places(&cluster).await;
    cluster.audit().await;
}

async fn fill_rules(cluster: &TestCluster) {
    for n in 0..101 {
        let answer = cluster.api("POST", "/api/bans", &json!({"user": format!("x{n}"), "for": 600})).await;
        if answer.status != 200 {
            return answer.assert_problem(409, "rule_limit");
        }
    }
    panic!("the table of rules is not full");
}

async fn a_kick_has_effect_although_the_table_of_rules_is_full(store: StoreKind) {
    let (cluster, _) = start_with_tenants(store, &[]).await;
    fill_rules(&cluster).await;
    let room = cluster.room("r");
    let host = join_host(&room).await;
    let token = room.token(json!({"user": "mallory"})).await;
    let mallory = join_with_token(cluster.next_node(), &token).await;
    host.send_acked(command("kick", mallory.id())).await;
    assert_eq!(mallory.wait_closed().await.code, 4513);
    for node in &cluster.nodes {
        let refusal = join_refusal(node, &token).await;
        // A node keeps the revoked grants of its own kicks apart from the rules of operators.
        assert!(refusal == "removed" || refusal.contains("token_revoked"), "the same token: {refusal}");
        let other = room.token(json!({"user": "mallory"})).await;
        assert_eq!(join_refusal(node, &other).await, "removed", "another token");
    }
    // A ban from the room has effect, too.
    let eve = room.token(json!({"user": "eve"})).await;
    let peer = join_with_token(cluster.next_node(), &eve).await;
    ban_in_room(&cluster, &cluster.basic_auth(), "r", "eve").await.assert_status(201);
    assert_eq!(peer.wait_closed().await.code, 4515);
    for node in &cluster.nodes {
        assert_eq!(join_refusal(node, &eve).await, "banned");
    }
    join_through_api(&cluster, "eve").await.assert_problem(403, "banned");
    ban_in_room(&cluster, &cluster.basic_auth(), "no-such-room", "eve")
        .await
        .assert_problem(409, "rule_limit");
    drop(host);
    cluster.audit().await;
}

async fn kicked_guests_cannot_fill_the_table_of_rules(store: StoreKind) {
    let (cluster, Tenants { globex, .. }) = start_with_tenants(store, &[]).await;
    let room = cluster.room("r");
    let host = join_host(&room).await;
    for n in 0..100 {
        let body = json!({"room": "r", "user": format!("g{n}")});
        let issued =
            Request::post("/auth/token", &body).send(cluster.auth_address()).await.assert_status(200).json();
        let guest = join_with_token(cluster.next_node(), issued["token"].as_str().unwrap()).await;
        host.send_acked(command("kick", guest.id())).await;
        guest.wait_closed().await;
    }
    ban_in_room(&cluster, &globex, "globex-1", "u").await.assert_status(201);
    assert_operator_has_places(&cluster).await;
    let rules = cluster.api("GET", "/api/rules?kind=token&limit=1000", &Value::Null).await.json();
    let rules = rules["rules"].as_array().unwrap().clone();
    let longest =
        rules.iter().map(|rule| rule["until"].as_u64().unwrap() - rule["at"].as_u64().unwrap()).max();
    let limit = 17 * 60 * 1_000;
    assert!(longest.is_some_and(|life| life <= limit), "a guest's token lives for 15 minutes: {longest:?}");
    drop(host);
    cluster.audit().await;
}

macro_rules! over_both_stores {
    ($($name:ident),* $(,)?) => {
        mod in_memory {$(#[tokio::test] async fn $name() { super::$name(super::StoreKind::Memory).await; })*}
        mod over_redis {$(#[tokio::test] async fn $name() { super::$name(super::StoreKind::Redis(2)).await; })*}
    };
}

over_both_stores![
    a_tenant_cannot_fill_the_table_of_rules,
    a_kick_has_effect_although_the_table_of_rules_is_full,
    kicked_guests_cannot_fill_the_table_of_rules,
];
