//! The store is not an authority: what a process reads from Redis grants nothing without a proof.
//!
//! Only the auth service can sign here, and Redis has the users that we ship. The attacker first has
//! the password of the user `signal`, as a node that was broken into has it, then all permissions.

use redis::{RedisResult, Value as RedisValue, aio::MultiplexedConnection, cmd};
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_redis::redis_keys;
use signalbox_tests::{
    http::{Request, Response},
    keyed_cluster::KeyedCluster,
    net::eventually_within,
    peer::TestConnection,
    token::TokenBuilder,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

/// A connection with the password of a signaling node.
async fn connect_as_node(cluster: &KeyedCluster) -> MultiplexedConnection {
    let client = redis::Client::open(cluster.redis.url_for("signal")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn is_denied(result: RedisResult<RedisValue>) -> bool {
    result.is_err_and(|error| error.to_string().contains("NOPERM") || error.to_string().contains("NoPerm"))
}

async fn add_rule(cluster: &KeyedCluster, path: &str, body: &Value) {
    let request = Request::post(path, body).header("Authorization", cluster.basic_auth());
    request.send(cluster.auth_address).await.assert_status(200);
}

async fn refresh(cluster: &KeyedCluster, token: &str) -> Response {
    Request::post("/auth/refresh", &json!({ "refreshToken": token })).send(cluster.auth_address).await
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_forged_ticket_opens_no_connection() {
    let cluster = KeyedCluster::start(&[]).await;
    let mut attacker = connect_as_node(&cluster).await;
    let host = TokenBuilder::valid("board", "ceo").claim("role", "host").claim("caller", "backend");
    for forged in [host.claims.to_string(), host.sign("x".repeat(64).as_str()), host.sign_ed25519()] {
        let ticket = OpaqueToken::random();
        let mut set = cmd("SET");
        set.arg(redis_keys::ticket_key(&ticket.digest())).arg(forged).arg("PX").arg(30_000);
        set.query_async::<()>(&mut attacker).await.unwrap();
        let query = format!("token={}", ticket.to_text(OpaqueTokenKind::Ticket));
        let opened = TestConnection::open_with(cluster.nodes[1].address, &query).await;
        assert!(opened.is_err(), "a ticket that a node has written opened a connection");
    }
}

#[tokio::test]
async fn a_forged_refresh_family_brings_no_token() {
    let cluster = KeyedCluster::start(&[]).await;
    let what = json!({ "room": { "room": "board", "user": "ceo", "role": "host", "name": "CEO", "metadata": null,
        "caller": "backend", "region": null, "ttl_s": 3600 } });
    let now = clock::now_ms();
    let forge = |token: &OpaqueToken| {
        let mut hset = cmd("HSET");
        hset.arg(redis_keys::refresh_family_key(&to_hex(&token.expose()[..16])));
        hset.arg(&["salt", &"0".repeat(64), "now", &token.digest(), "what", &what.to_string(), "grant", "g"]);
        hset.arg(&["uses", "0", "born", &now.to_string()]);
        hset.arg(&["till", &(now + 60_000).to_string(), "end", &(now + 60_000).to_string()]);
        hset
    };
    let token = OpaqueToken::random();
    let written = forge(&token).query_async(&mut connect_as_node(&cluster).await).await;
    let answer = refresh(&cluster, &token.to_text(OpaqueTokenKind::Refresh)).await;
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("refresh_invalid")), "{}", answer.text);
    assert!(is_denied(written), "a node may write refresh families");
    // With all permissions in Redis the family is written, and brings nothing either.
    let mut admin = cluster.redis.connect().await;
    forge(&token).query_async::<()>(&mut admin).await.unwrap();
    let answer = refresh(&cluster, &token.to_text(OpaqueTokenKind::Refresh)).await;
    answer.assert_problem(401, "refresh_invalid");
    // A family that the auth service has made, under another name.
    let request = Request::post("/auth/token", &json!({ "room": "r", "user": "alice", "refresh": true }));
    let issued = request.header("Authorization", cluster.basic_auth()).send(cluster.auth_address).await;
    let own = issued.json()["refreshToken"].as_str().unwrap().to_owned();
    let own_id = to_hex(&OpaqueToken::parse(OpaqueTokenKind::Refresh, &own).unwrap().expose()[..16]);
    let other = OpaqueToken::random();
    let family: Vec<(String, String)> =
        cmd("HGETALL").arg(redis_keys::refresh_family_key(&own_id)).query_async(&mut admin).await.unwrap();
    let mut copy = cmd("HSET");
    copy.arg(redis_keys::refresh_family_key(&to_hex(&other.expose()[..16])));
    for (field, value) in &family {
        copy.arg(field).arg(if field == "now" { other.digest() } else { value.clone() });
    }
    copy.query_async::<()>(&mut admin).await.unwrap();
    let answer = refresh(&cluster, &other.to_text(OpaqueTokenKind::Refresh)).await;
    answer.assert_problem(401, "refresh_invalid");
    // The digest of a token of the attacker's choice, in the family of another user.
    let mut stolen = *other.expose();
    stolen[..16].copy_from_slice(&OpaqueToken::parse(OpaqueTokenKind::Refresh, &own).unwrap().expose()[..16]);
    let stolen = OpaqueToken::from_bytes(stolen);
    let key = redis_keys::refresh_family_key(&own_id);
    cmd("HSET").arg(&key).arg("now").arg(stolen.digest()).query_async::<()>(&mut admin).await.unwrap();
    let answer = refresh(&cluster, &stolen.to_text(OpaqueTokenKind::Refresh)).await;
    assert_eq!(answer.status, 401, "{}", answer.text);
    // A family that is left alone brings its token.
    let request = Request::post("/auth/token", &json!({ "room": "r", "user": "bob", "refresh": true }));
    let issued = request.header("Authorization", cluster.basic_auth()).send(cluster.auth_address).await;
    assert_eq!(refresh(&cluster, issued.json()["refreshToken"].as_str().unwrap()).await.status, 200);
    cluster.audit();
}

#[tokio::test]
async fn a_ban_cannot_be_deleted_altered_or_forged_in_the_store() {
    let cluster = KeyedCluster::start(&[]).await;
    let mallory = cluster.issue("r", "mallory").await;
    let alice = cluster.issue("r", "alice").await;
    add_rule(&cluster, "/api/bans", &json!({ "user": "mallory", "for": 600 })).await;
    let (key, field) = (redis_keys::RULES_KEY, "ban:*:mallory");
    let mut admin = cluster.redis.connect().await;
    let stored: String = cmd("HGET").arg(key).arg(field).query_async(&mut admin).await.unwrap();
    let mut node = connect_as_node(&cluster).await;
    let deleted = cmd("HDEL").arg(key).arg(field).query_async(&mut node).await;
    assert!(is_denied(deleted), "a node may delete a ban");
    assert!(is_denied(cmd("HSET").arg(key).arg(field).arg("x").query_async(&mut node).await));
    let still_there = async |what: &str| {
        let mut admin = cluster.redis.connect().await;
        eventually_within(std::time::Duration::from_secs(30), what, async || {
            let now: Option<String> = cmd("HGET").arg(key).arg(field).query_async(&mut admin).await.unwrap();
            now.filter(|now| *now == stored)
        })
        .await;
        for node in &cluster.nodes {
            let query = format!("token={mallory}");
            assert!(TestConnection::open_with(node.address, &query).await.is_err(), "{what}");
        }
    };
    // With all permissions: every process keeps the ban, and the auth service writes it back.
    cmd("HDEL").arg(key).arg(field).query_async::<()>(&mut admin).await.unwrap();
    still_there("a deleted ban is restored").await;
    let lifted = stored.replacen(" 0 ", " 1 ", 1);
    assert_ne!(lifted, stored);
    cmd("HSET").arg(key).arg(field).arg(&lifted).query_async::<()>(&mut admin).await.unwrap();
    still_there("an altered ban is restored").await;
    // A rule under the name of another user, and a rule without a signature, ban no user.
    let forged = stored.clone();
    cmd("HSET").arg(key).arg("ban:*:alice").arg(&forged).query_async::<()>(&mut admin).await.unwrap();
    eventually_within(std::time::Duration::from_secs(30), "every process reports it", async || {
        let mut reported = Vec::new();
        for process in cluster.nodes.iter().chain(&cluster.auth) {
            reported.push(process.log().contains("access_rule_rejected"));
        }
        reported.iter().all(|reported| *reported).then_some(())
    })
    .await;
    TestConnection::open(cluster.nodes[0].address, &alice).await.into_peer().await.leave().await;
    cluster.audit();
}

/// A leaked key is replaced at once, its file is removed, and no rule is lost.
#[tokio::test]
async fn records_and_rules_outlive_the_rotation_of_the_signing_key() {
    let mut cluster = KeyedCluster::start(&[]).await;
    let mallory = cluster.issue("r", "mallory").await;
    let issue_family = async |user: &str| {
        let request = Request::post("/auth/token", &json!({ "room": "r", "user": user, "refresh": true }));
        let issued = request.header("Authorization", cluster.basic_auth()).send(cluster.auth_address).await;
        issued.json()["refreshToken"].as_str().unwrap().to_owned()
    };
    let (kept, lost) = (issue_family("alice").await, issue_family("bob").await);
    add_rule(&cluster, "/api/bans", &json!({ "user": "mallory", "for": 600 })).await;
    let stored = async || {
        let mut get = cmd("HGET");
        get.arg(redis_keys::RULES_KEY).arg("ban:*:mallory");
        get.query_async::<String>(&mut cluster.redis.connect().await).await.unwrap()
    };
    let (before, old_kid) = (stored().await, cluster.published_key_ids().await.remove(0));
    assert!(before.contains(&old_kid));
    cluster.keys_command(&["rotate", "--now"]).await;
    let after =
        eventually_within(std::time::Duration::from_secs(20), "the ban has a new signature", async || {
            Some(stored().await).filter(|after| !after.contains(&old_kid))
        })
        .await;
    assert_eq!(after.split(' ').take(4).collect::<Vec<_>>(), before.split(' ').take(4).collect::<Vec<_>>());
    assert_eq!(refresh(&cluster, &kept).await.status, 200, "the former key opens the record");
    std::fs::remove_file(cluster.keys_dir.join(format!("{old_kid}.json"))).unwrap();
    eventually_within(std::time::Duration::from_secs(5), "the key is not published", async || {
        (!cluster.published_key_ids().await.contains(&old_kid)).then_some(())
    })
    .await;
    refresh(&cluster, &lost).await.assert_problem(401, "refresh_invalid");
    let env = cluster.node_env();
    cluster.nodes.push(signalbox_tests::process::Process::start("signal-service", &env).await);
    for node in &cluster.nodes {
        let query = format!("token={mallory}");
        assert!(TestConnection::open_with(node.address, &query).await.is_err(), "banned, or a removed key");
    }
    let newest = cluster.nodes.last().unwrap();
    let reissued = Request::get("/metrics").send(newest.metrics_address).await.text;
    assert!(reissued.contains("signalbox_rules{kind=\"ban\"} 1"), "{reissued}");
    assert!(reissued.contains("signalbox_rules_rejected 0"), "{reissued}");
    cluster.audit();
}
