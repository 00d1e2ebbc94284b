//! One tenant fills a bounded table: another tenant and the operator still get a place. A setting of
//! the section `limits` that this file does not know fails the test.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_config::LimitSettings;
use signalbox_protocol::id::RoomId;
use signalbox_redis::redis_keys::partition_of_room;
use signalbox_tests::{
    cluster::{Settings, StoreKind, TestCluster},
    http::{Request, Response},
    net::eventually_within,
    peer::TestConnection,
    webhook_receiver::{WebhookConfig, WebhookReceiver, WebhookReply},
};

use crate::sanctions::{Tenants, ban_in_room, start_with_tenants_and_env};

const SMALL_TABLES: Settings<'static> = &[
    ("LIMITS__ROOM_PEERS", "10"),
    ("LIMITS__LOBBY_PEERS", "5"),
    ("LIMITS__ROOM_SANCTIONS", "16"),
    ("LIMITS__ROOT_FAMILIES", "10"),
    ("LIMITS__USER_FAMILIES", "3"),
    ("LIMITS__KEY_INVITES", "150"),
    ("ROOMS__PER_KEY", "5"),
];

all_of!(
    /// A table of which callers take places.
    BoundedTable {
        AccessRules, RulesOfRoom, Sanctions, LobbyPlaces, RoomPlaces, Invites, InvitesOfKey, FamiliesOfRoot, FamiliesOfUser,
        CreatedRooms, DeadLetters, DeadLettersOfTenant, WebhookBacklog, WebhookBacklogOfTenant,
    }
);

/// What a setting of the section `limits` bounds.
enum LimitKind {
    /// A table, with a row in this file.
    Table(BoundedTable),
    /// A table with a table test of its own.
    TestedElsewhere,
    /// The size or the rate of one message, peer, room or socket: no caller takes it from another.
    OfOne,
}

fn limit_kind(setting: &str) -> LimitKind {
    match setting {
        "rules" | "key_rules" | "reserve" => LimitKind::Table(BoundedTable::AccessRules),
        "room_rules" => LimitKind::Table(BoundedTable::RulesOfRoom),
        "room_sanctions" => LimitKind::Table(BoundedTable::Sanctions),
        "root_families" => LimitKind::Table(BoundedTable::FamiliesOfRoot),
        "user_families" => LimitKind::Table(BoundedTable::FamiliesOfUser),
        "key_invites" => LimitKind::Table(BoundedTable::InvitesOfKey),
        "lobby_peers" => LimitKind::Table(BoundedTable::LobbyPlaces),
        "room_peers" | "extra_moderators" => LimitKind::Table(BoundedTable::RoomPlaces),
        // `room_limits.rs` of the auth service, `load_budgets.rs`, the refusals of a full node, and
        // `conformance/timeline.rs` of the store.
        "timeline_pairs"
        | "feed_readers"
        | "room_backlog_bytes"
        | "grant_backlog_bytes"
        | "node_outbox"
        | "connections" => LimitKind::TestedElsewhere,
        "frame" | "sdp" | "candidate" | "data" | "metadata" | "body" | "user_peers" | "burst" | "rate"
        | "backlog" | "backlog_bytes" | "timeline_steps" | "outbox" | "socket_buffer" => LimitKind::OfOne,
        other => panic!("name the table that limits.{other} bounds, and give it a row"),
    }
}

#[test]
fn each_setting_of_limits_names_its_table() {
    let settings = serde_json::to_value(LimitSettings::default()).unwrap();
    let kinds: Vec<_> = settings.as_object().unwrap().keys().map(|name| limit_kind(name)).collect();
    let has_setting =
        |table: &&BoundedTable| kinds.iter().any(|kind| matches!(kind, LimitKind::Table(of) if of == *table));
    let without: Vec<_> = BoundedTable::ALL.iter().filter(|table| !has_setting(table)).collect();
    use BoundedTable::{
        CreatedRooms, DeadLetters, DeadLettersOfTenant, Invites, WebhookBacklog, WebhookBacklogOfTenant,
    };
    assert_eq!(
        without,
        [
            &Invites,
            &CreatedRooms,
            &DeadLetters,
            &DeadLettersOfTenant,
            &WebhookBacklog,
            &WebhookBacklogOfTenant
        ],
        "their bounds are no settings of `limits`"
    );
}

async fn api(
    cluster: &TestCluster,
    credentials: &str,
    method: &'static str,
    path: &str,
    body: Value,
) -> Response {
    let request = Request::call(method, path, &body).header("Authorization", credentials);
    request.send(cluster.auth_address()).await
}

/// Joins the room with this role, or as a guest without credentials. Returns the first frame.
async fn join(
    cluster: &TestCluster,
    credentials: Option<&str>,
    room: &str,
    user: &str,
    role: &str,
) -> (TestConnection, Value) {
    let body = match credentials {
        Some(_) => json!({"room": room, "user": user, "role": role}),
        None => json!({"room": room}),
    };
    let request = Request::post("/auth/token", &body);
    let request = credentials.map_or(request.clone(), |value| request.header("Authorization", value));
    let issued = request.send(cluster.auth_address()).await.assert_status(200).json();
    let connection =
        TestConnection::open(cluster.next_node().address, issued["token"].as_str().unwrap()).await;
    let first = connection.next().await;
    (connection, first)
}

const WEBHOOK_DEADLINE: Duration = Duration::from_secs(15);

/// The events of one visit: `room-opened`, `peer-joined`, `peer-left`, `room-closed`.
const VISIT_EVENTS: usize = 4;

/// The settings of `[webhooks]` for a table; the endpoint accepts nothing.
fn webhook_settings(table: BoundedTable) -> &'static str {
    match table {
        BoundedTable::DeadLetters | BoundedTable::DeadLettersOfTenant => "attempts = 1\ndead = 8",
        BoundedTable::WebhookBacklog | BoundedTable::WebhookBacklogOfTenant => "backlog = 8\ndead = 1000",
        _ => "",
    }
}

/// The rooms of a tenant whose events wait in the same partition as those of `acme-1`.
fn rooms_beside_acme(tenant: &str) -> impl Iterator<Item = String> {
    let partition = |name: &str| partition_of_room(&RoomId::parse(name).unwrap());
    (0..).map(move |n| format!("{tenant}-{n}")).filter(move |name| partition(name) == partition("acme-1"))
}

fn globex_room_beside_acme() -> String {
    rooms_beside_acme("globex").next().unwrap()
}

/// A user gets a token with a refresh token.
async fn start_family(cluster: &TestCluster, credentials: &str, room: &str, user: &str) -> Response {
    let body = json!({"room": room, "user": user, "refresh": true});
    api(cluster, credentials, "POST", "/auth/token", body).await
}

/// The dead letters of the rooms whose names begin with `rooms`.
async fn dead_letters_of(cluster: &TestCluster, rooms: &str) -> Vec<Value> {
    let path = "/api/webhooks/dead?limit=500";
    let page = api(cluster, &cluster.basic_auth(), "GET", path, Value::Null).await.assert_status(200).json();
    let letters = page["dead"].as_array().unwrap().iter();
    letters.filter(|letter| letter["event"]["room"].as_str().unwrap().starts_with(rooms)).cloned().collect()
}

/// A user of the tenant visits the room. Waits until the events of this and all earlier visits wait or are dead.
async fn visit(cluster: &TestCluster, credentials: &str, (room, user): (&str, &str), visits: usize) {
    let body = json!({"room": room, "user": user});
    let issued = api(cluster, credentials, "POST", "/auth/token", body).await.assert_status(200).json();
    let token = issued["token"].as_str().unwrap();
    TestConnection::open(cluster.next_node().address, token).await.into_peer().await.leave().await;
    let process = cluster.auth.as_ref().unwrap_or(&cluster.nodes[0]);
    eventually_within(WEBHOOK_DEADLINE, &format!("the events of visit {visits}"), async || {
        let mut handled = process.metric("signalbox_webhooks_waiting").await;
        for cause in ["attempts", "backlog"] {
            handled += process.metric(&format!("signalbox_webhooks_dead_total{{cause=\"{cause}\"}}")).await;
        }
        (handled >= (visits * VISIT_EVENTS) as f64).then_some(())
    })
    .await;
}

/// One tenant, or the guests, take places until one is refused. Returns the code of the refusal.
async fn fill(
    cluster: &TestCluster,
    tenants: &Tenants,
    table: BoundedTable,
    held: &mut Vec<TestConnection>,
) -> String {
    let code = |answer: &Response| answer.json()["code"].as_str().unwrap_or_default().to_owned();
    for n in 0..300 {
        let user = format!("u{n}");
        let refused = match table {
            BoundedTable::AccessRules | BoundedTable::RulesOfRoom => {
                let room =
                    if table == BoundedTable::AccessRules { format!("acme-{n}") } else { "acme-1".into() };
                let answer = ban_in_room(cluster, &tenants.acme, &room, &user).await;
                (answer.status != 201).then(|| code(&answer))
            }
            BoundedTable::Sanctions => {
                let (peer, joined) = join(cluster, Some(&tenants.acme), "acme-1", &user, "guest").await;
                let path = format!("/api/rooms/acme-1/participants/{}", joined["peerId"].as_str().unwrap());
                held.push(peer);
                let answer = api(cluster, &tenants.acme, "DELETE", &path, Value::Null).await;
                (answer.status != 200).then(|| code(&answer))
            }
            BoundedTable::LobbyPlaces | BoundedTable::RoomPlaces => {
                let (peer, first) = join(cluster, None, "globex-1", &user, "guest").await;
                held.push(peer);
                first["code"].as_str().map(str::to_owned)
            }
            BoundedTable::Invites => {
                let answer =
                    api(cluster, &tenants.acme, "POST", "/api/rooms/acme-1/invites", json!({})).await;
                (answer.status != 201).then(|| code(&answer))
            }
            BoundedTable::InvitesOfKey => {
                // A room has at most 100.
                let path = format!("/api/rooms/acme-{}/invites", n / 60);
                let answer = api(cluster, &tenants.acme, "POST", &path, json!({})).await;
                (answer.status != 201).then(|| code(&answer))
            }
            BoundedTable::FamiliesOfRoot => {
                let answer = start_family(cluster, &tenants.acme, "acme-1", &user).await;
                (answer.status != 200).then(|| code(&answer))
            }
            // The oldest family of the same user ends.
            BoundedTable::FamiliesOfUser => {
                let answer = start_family(cluster, &tenants.acme, "acme-1", "u").await;
                let refused = (answer.status != 200).then(|| code(&answer));
                refused.or_else(|| (n == 20).then(|| "replaced".to_owned()))
            }
            BoundedTable::CreatedRooms => {
                let room = json!({"id": format!("acme-{n}")});
                let answer = api(cluster, &tenants.acme, "POST", "/api/rooms", room).await;
                (answer.status != 201).then(|| code(&answer))
            }
            // The oldest are dropped: of the tenant that fills the table.
            BoundedTable::DeadLetters | BoundedTable::WebhookBacklog => {
                visit(cluster, &tenants.acme, ("acme-1", &user), n + 2).await;
                (n == 4).then(|| "dropped".to_owned())
            }
            BoundedTable::DeadLettersOfTenant | BoundedTable::WebhookBacklogOfTenant => {
                let room = rooms_beside_acme("acme").nth(n).unwrap();
                visit(cluster, &tenants.acme, (&room, &user), n + 2).await;
                (n == 4).then(|| "dropped".to_owned())
            }
        };
        if let Some(code) = refused {
            return code;
        }
    }
    panic!("{table:?} is not full");
}

async fn assert_others_have_places(cluster: &TestCluster, tenants: &Tenants, table: BoundedTable) {
    let (globex, operator) = (&tenants.globex, &cluster.basic_auth());
    match table {
        BoundedTable::AccessRules | BoundedTable::RulesOfRoom => {
            ban_in_room(cluster, globex, "globex-1", "u").await.assert_status(201);
            let banned = ban_in_room(cluster, operator, "acme-1", "eve").await;
            assert!(banned.assert_status(201).json()["rule"].is_string(), "{table:?}: {}", banned.text);
            for (path, body) in [
                ("/api/bans", json!({"user": "eve", "for": 60})),
                ("/api/revocations", json!({"key": "acme", "issued": true})),
            ] {
                api(cluster, operator, "POST", path, body).await.assert_status(200);
            }
        }
        BoundedTable::Sanctions => {
            let (_host, _) = join(cluster, Some(globex), "globex-1", "host", "host").await;
            let (_peer, joined) = join(cluster, Some(globex), "globex-1", "u", "guest").await;
            let path = format!("/api/rooms/globex-1/participants/{}", joined["peerId"].as_str().unwrap());
            api(cluster, globex, "DELETE", &path, Value::Null).await.assert_status(200);
            // In the full room the operator lifts a sanction, or bans the user by a rule.
            let lift = "/api/rooms/acme-1/sanctions/u0";
            api(cluster, operator, "DELETE", lift, Value::Null).await.assert_status(204);
            ban_in_room(cluster, operator, "acme-1", "u1").await.assert_status(201);
        }
        BoundedTable::LobbyPlaces => {
            let (_peer, first) = join(cluster, Some(globex), "globex-1", "u", "guest").await;
            assert_eq!(first["type"], "waiting", "{first}");
            let (_host, first) = join(cluster, Some(operator), "globex-1", "host", "host").await;
            assert_eq!(first["type"], "joined", "{first}");
        }
        BoundedTable::RoomPlaces => {
            for (credentials, user, role) in [(globex, "mod", "moderator"), (operator, "host", "host")] {
                let (_peer, first) = join(cluster, Some(credentials), "globex-1", user, role).await;
                assert_eq!(first["type"], "joined", "{user}: {first}");
            }
        }
        BoundedTable::FamiliesOfRoot => {
            for (credentials, room) in [(globex, "globex-1"), (operator, "other")] {
                start_family(cluster, credentials, room, "u0").await.assert_status(200);
            }
            // Without a refresh token the tenant still gets tokens.
            let body = json!({"room": "acme-1", "user": "u99"});
            api(cluster, &tenants.acme, "POST", "/auth/token", body).await.assert_status(200);
        }
        BoundedTable::FamiliesOfUser => {
            for n in 0..7 {
                let user = format!("v{n}");
                start_family(cluster, &tenants.acme, "acme-1", &user).await.assert_status(200);
            }
        }
        BoundedTable::Invites | BoundedTable::InvitesOfKey => {
            for (credentials, room) in [(globex, "globex-1"), (operator, "other")] {
                let path = format!("/api/rooms/{room}/invites");
                api(cluster, credentials, "POST", &path, json!({})).await.assert_status(201);
            }
        }
        BoundedTable::CreatedRooms => {
            for (credentials, room) in [(globex, "globex-1"), (operator, "other")] {
                api(cluster, credentials, "POST", "/api/rooms", json!({"id": room})).await.assert_status(201);
            }
            api(cluster, &tenants.acme, "DELETE", "/api/rooms/acme-1", Value::Null).await.assert_status(204);
            let again = json!({"id": "acme-9"});
            api(cluster, &tenants.acme, "POST", "/api/rooms", again).await.assert_status(201);
        }
        BoundedTable::DeadLetters | BoundedTable::DeadLettersOfTenant => {
            let process = cluster.auth.as_ref().unwrap_or(&cluster.nodes[0]);
            eventually_within(WEBHOOK_DEADLINE, "all events are dead", async || {
                (process.metric("signalbox_webhooks_waiting").await == 0.0).then_some(())
            })
            .await;
            let kept = dead_letters_of(cluster, &globex_room_beside_acme()).await;
            assert_eq!(kept.len(), VISIT_EVENTS, "the letters of the other tenant are kept");
        }
        BoundedTable::WebhookBacklog | BoundedTable::WebhookBacklogOfTenant => {
            eventually_within(WEBHOOK_DEADLINE, "the bound of the backlog applies", async || {
                (dead_letters_of(cluster, "acme-").await.len() >= 8).then_some(())
            })
            .await;
            let dead = dead_letters_of(cluster, &globex_room_beside_acme()).await;
            assert!(dead.is_empty(), "the events of the other tenant wait: {dead:?}");
        }
    }
}

async fn no_tenant_takes_the_places_of_another(store: StoreKind) {
    for table in BoundedTable::ALL {
        let receiver = WebhookReceiver::start(|_, _| WebhookReply::Status(500)).await;
        let hooks = WebhookConfig::new(&[&receiver], webhook_settings(*table), "");
        let (cluster, tenants) = start_with_tenants_and_env(store, SMALL_TABLES, &hooks.env()).await;
        let mut held = Vec::new();
        if !webhook_settings(*table).is_empty() {
            visit(&cluster, &tenants.globex, (&globex_room_beside_acme(), "u"), 1).await;
        }
        if *table == BoundedTable::LobbyPlaces {
            let room = json!({"id": "globex-1", "lobby": true});
            api(&cluster, &tenants.globex, "POST", "/api/rooms", room).await.assert_status(201);
        }
        if *table == BoundedTable::Sanctions {
            held.push(join(&cluster, Some(&tenants.acme), "acme-1", "host", "host").await.0);
        }
        let expected = match table {
            BoundedTable::AccessRules => "key_rule_limit",
            BoundedTable::RulesOfRoom => "room_rule_limit",
            BoundedTable::Sanctions => "sanction_limit",
            BoundedTable::LobbyPlaces | BoundedTable::RoomPlaces => "room_full",
            BoundedTable::Invites => "conflict",
            BoundedTable::InvitesOfKey => "invite_limit",
            BoundedTable::FamiliesOfRoot => "refresh_limit",
            BoundedTable::FamiliesOfUser => "replaced",
            BoundedTable::CreatedRooms => "room_limit",
            BoundedTable::DeadLetters
            | BoundedTable::DeadLettersOfTenant
            | BoundedTable::WebhookBacklog
            | BoundedTable::WebhookBacklogOfTenant => "dropped",
        };
        assert_eq!(fill(&cluster, &tenants, *table, &mut held).await, expected, "{table:?}");
        assert_others_have_places(&cluster, &tenants, *table).await;
    }
}

#[tokio::test]
async fn no_tenant_takes_the_places_of_another_in_memory() {
    no_tenant_takes_the_places_of_another(StoreKind::Memory).await;
}

#[tokio::test]
async fn no_tenant_takes_the_places_of_another_over_redis() {
    no_tenant_takes_the_places_of_another(StoreKind::Redis(2)).await;
}
