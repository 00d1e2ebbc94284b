//! The ICE configuration of a client: servers, TURN credentials that expire, and the policy of its
//! role.

use std::io::Write as _;

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::{TestCluster, random_secret},
    http::Request,
    peer::TestConnection,
    process::Process,
    token::TokenBuilder,
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

struct TurnDeployment {
    node: Process,
    secret: String,
    turn_secret: String,
    _file: tempfile::NamedTempFile,
}

async fn start_node() -> TurnDeployment {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CONFIG.as_bytes()).unwrap();
    let (secret, turn_secret) = (random_secret(), random_secret());
    let config = file.path().to_str().unwrap().to_owned();
    let env = [
        ("--config", config),
        ("AUTH_SECRET", secret.clone()),
        ("SIGNALBOX_TURN_SECRETS", turn_secret.clone()),
    ];
    let node = Process::start("signalbox", &env.map(|(name, value)| (name.to_owned(), value))).await;
    TurnDeployment { node, secret, turn_secret, _file: file }
}

fn ice_urls(message: &Value) -> Vec<&str> {
    let servers = message["iceServers"].as_array().unwrap();
    servers
        .iter()
        .flat_map(|server| server["urls"].as_array().unwrap())
        .map(|url| url.as_str().unwrap())
        .collect()
}

/// Expiry of the credentials of the second server, in milliseconds since 1970.
fn credentials_expiry(message: &Value) -> u64 {
    let name = message["iceServers"][1]["username"].as_str().unwrap();
    name.split_once(':').unwrap().0.parse::<u64>().unwrap() * 1_000
}

#[tokio::test]
async fn turn_credentials_are_issued_at_join_and_resume_and_renewed_before_they_expire() {
    let deployment = start_node().await;
    let token = TokenBuilder::valid("r", "alice").claim("region", "eu");
    let alice = TestConnection::open(deployment.node.address, &token.sign(&deployment.secret))
        .await
        .into_peer()
        .await;
    assert_eq!(
        ice_urls(&alice.joined),
        ["stun:stun.example", "turn:eu.example?transport=udp", "turns:eu.example:5349"]
    );
    assert_eq!(alice.joined["icePolicy"], "all");
    let first_expiry = credentials_expiry(&alice.joined);
    assert!(first_expiry > clock::now_ms() && first_expiry <= clock::now_ms() + 4_000);
    let pushed = alice.next_of_type("ice-servers").await;
    assert!(clock::now_ms() < first_expiry, "before the previous credentials expire");
    assert_eq!((&pushed["icePolicy"], &pushed["expiresIn"]), (&json!("all"), &json!(4_000)));
    assert!(
        credentials_expiry(&pushed) > first_expiry && ice_urls(&pushed) == ice_urls(&alice.joined),
        "{pushed}"
    );
    assert!(
        credentials_expiry(&alice.next_of_type("ice-servers").await) > credentials_expiry(&pushed),
        "and again"
    );
    let back = alice.disconnect().await.resume_on(&deployment.node).await;
    assert!(
        credentials_expiry(&back.joined) > credentials_expiry(&pushed)
            && ice_urls(&back.joined) == ice_urls(&pushed)
    );
    back.next_of_type("ice-servers").await;
    deployment.node.assert_clean_log(&[
        &deployment.secret,
        &deployment.turn_secret,
        pushed["iceServers"][1]["credential"].as_str().unwrap(),
    ]);
}

#[tokio::test]
async fn the_ice_policy_of_a_role_applies_after_a_refresh_and_over_http() {
    let deployment = start_node().await;
    let (guest, host) =
        (TokenBuilder::valid("r", "alice"), TokenBuilder::valid("r", "alice").claim("role", "host"));
    let alice = TestConnection::open(deployment.node.address, &guest.sign(&deployment.secret))
        .await
        .into_peer()
        .await;
    assert_eq!((&alice.joined["icePolicy"], ice_urls(&alice.joined).len()), (&json!("all"), 4));
    let token = host.sign(&deployment.secret);
    assert_eq!(alice.request(json!({"type": "refresh", "token": token})).await["type"], "ack");
    assert_eq!(alice.next_of_type("ice-servers").await["icePolicy"], "relay");
    let request = Request::get("/auth/ice").header("Authorization", format!("Bearer {token}"));
    let answer = request.send(deployment.node.address).await;
    assert_eq!(
        (answer.status, &answer.json()["icePolicy"], &answer.json()["expiresIn"]),
        (200, &json!("relay"), &json!(4))
    );
    assert_eq!(ice_urls(&answer.json()).len(), 4);
    let back = alice.disconnect().await.resume_on(&deployment.node).await;
    assert_eq!((&back.joined["icePolicy"], &back.joined["role"]), (&json!("relay"), &json!("host")));
}

#[tokio::test]
async fn without_turn_the_list_of_ice_servers_is_empty() {
    let cluster = TestCluster::memory().await;
    let alice = cluster.room("r").join("alice").await;
    assert_eq!(alice.joined["iceServers"], json!([]));
    let token = cluster.sign_token("r", "alice");
    let request = Request::get("/auth/ice").header("Authorization", format!("Bearer {token}"));
    let answer = request.send(cluster.auth_address()).await.json();
    assert_eq!(answer, json!({"iceServers": [], "icePolicy": "all"}));
}
