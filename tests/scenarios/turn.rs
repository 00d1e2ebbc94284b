//! What clients are told of ICE: servers, credentials that end, and the policy of their role.

use std::io::Write as _;

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::{TestCluster, random_secret},
    http::Request,
    peer::Link,
    process::Process,
    token::Forgery,
};

const CONFIG: &str = r#"
[ice]
turn_ttl = "4s"
[[ice.servers]]
urls = ["stun:stun.example"]
[[ice.turn]]
urls = ["turn:eu.example?transport=udp", "turns:eu.example:5349"]
region = "eu"
[[ice.turn]]
urls = ["turn:us.example"]
region = "us"
[roles.guest]
permissions = ["message"]
[roles.host]
permissions = ["message"]
ice = "relay"
"#;

struct Place {
    node: Process,
    secret: String,
    turn: String,
    _file: tempfile::NamedTempFile,
}

async fn place() -> Place {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CONFIG.as_bytes()).unwrap();
    let (secret, turn) = (random_secret(), random_secret());
    let config = file.path().to_str().unwrap().to_owned();
    let env =
        [("--config", config), ("AUTH_SECRET", secret.clone()), ("SIGNALBOX_TURN_SECRETS", turn.clone())];
    let node = Process::start("signalbox", &env.map(|(name, value)| (name.to_owned(), value))).await;
    Place { node, secret, turn, _file: file }
}

fn urls(told: &Value) -> Vec<&str> {
    let servers = told["iceServers"].as_array().unwrap();
    servers
        .iter()
        .flat_map(|server| server["urls"].as_array().unwrap())
        .map(|url| url.as_str().unwrap())
        .collect()
}

/// Until when the credentials of the second server are good, milliseconds.
fn end(told: &Value) -> u64 {
    let name = told["iceServers"][1]["username"].as_str().unwrap();
    name.split_once(':').unwrap().0.parse::<u64>().unwrap() * 1_000
}

#[tokio::test]
async fn credentials_are_minted_at_join_and_resume_and_pushed_before_they_end() {
    let place = place().await;
    let token = Forgery::good("r", "alice").claim("region", "eu");
    let alice = Link::open(place.node.address, &token.sign(&place.secret)).await.into_peer().await;
    assert_eq!(
        urls(&alice.joined),
        ["stun:stun.example", "turn:eu.example?transport=udp", "turns:eu.example:5349"]
    );
    assert_eq!(alice.joined["icePolicy"], "all");
    let first = end(&alice.joined);
    assert!(first > clock::now_ms() && first <= clock::now_ms() + 4_000);
    let pushed = alice.next_of_type("ice-servers").await;
    assert!(clock::now_ms() < first, "before the others end");
    assert_eq!((&pushed["icePolicy"], &pushed["expiresIn"]), (&json!("all"), &json!(4_000)));
    assert!(end(&pushed) > first && urls(&pushed) == urls(&alice.joined), "{pushed}");
    assert!(end(&alice.next_of_type("ice-servers").await) > end(&pushed), "and again");
    let back = alice.lose().await.resume_on(&place.node).await;
    assert!(end(&back.joined) > end(&pushed) && urls(&back.joined) == urls(&pushed));
    back.next_of_type("ice-servers").await;
    place.node.assert_clean_log(&[
        &place.secret,
        &place.turn,
        pushed["iceServers"][1]["credential"].as_str().unwrap(),
    ]);
}

#[tokio::test]
async fn a_role_has_its_policy_also_after_a_refresh_and_over_http() {
    let place = place().await;
    let (guest, host) = (Forgery::good("r", "alice"), Forgery::good("r", "alice").claim("role", "host"));
    let alice = Link::open(place.node.address, &guest.sign(&place.secret)).await.into_peer().await;
    assert_eq!((&alice.joined["icePolicy"], urls(&alice.joined).len()), (&json!("all"), 4));
    let token = host.sign(&place.secret);
    assert_eq!(alice.ask(json!({"type": "refresh", "token": token})).await["type"], "ack");
    assert_eq!(alice.next_of_type("ice-servers").await["icePolicy"], "relay");
    let asked = Request::get("/auth/ice").header("Authorization", format!("Bearer {token}"));
    let told = asked.send(place.node.address).await;
    assert_eq!(
        (told.status, &told.json()["icePolicy"], &told.json()["expiresIn"]),
        (200, &json!("relay"), &json!(4))
    );
    assert_eq!(urls(&told.json()).len(), 4);
    let back = alice.lose().await.resume_on(&place.node).await;
    assert_eq!((&back.joined["icePolicy"], &back.joined["role"]), (&json!("relay"), &json!("host")));
}

#[tokio::test]
async fn without_turn_nothing_is_pushed() {
    let cluster = TestCluster::memory().await;
    let alice = cluster.room("r").join("alice").await;
    assert_eq!(alice.joined["iceServers"], json!([]));
    let token = cluster.forge("r", "alice");
    let asked = Request::get("/auth/ice").header("Authorization", format!("Bearer {token}"));
    let told = asked.send(cluster.auth_address()).await.json();
    assert_eq!(told, json!({"iceServers": [], "icePolicy": "all"}));
}
