//! A resume handle says which peer a client was. What the peer may do, its token says, and only the
//! auth service can sign a token. So a session key alone opens nothing.

use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster, random_secret},
    handle_forge::{HANDLE_INFO, HandleForge},
    http::Request,
    peer::{TestConnection, TestPeer},
    token::TokenBuilder,
};

const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "2s");

const ALL_PERMISSIONS: [&str; 5] = ["publish", "message", "moderate", "admit", "end"];

/// The replication id of no store: the room may have forgotten the peer.
const OTHER_REPLICATION_ID: &str = "0000000000000000000000000000000000000000";

/// A deployment whose session key is known to an attacker.
struct LeakedCluster {
    cluster: TestCluster,
    session_key: String,
}

impl LeakedCluster {
    async fn start(session_key: &str) -> Self {
        let extra = [("SIGNALBOX_SESSION_KEY".to_owned(), session_key.to_owned())];
        let cluster = TestCluster::start_with(StoreKind::Redis(2), &[WINDOW], &extra).await;
        Self { cluster, session_key: session_key.to_owned() }
    }

    fn forge(&self) -> HandleForge {
        HandleForge::new(&self.session_key, HANDLE_INFO)
    }

    /// Creates a room with a lobby and its host, and locks the room.
    async fn lock_board(&self) -> TestPeer {
        let body = json!({"id": "board", "lobby": true});
        self.cluster.api("POST", "/api/rooms", &body).await.assert_status(201);
        let host = self.cluster.room("board").join_with(json!({"user": "boss", "role": "host"})).await;
        self.cluster.api("PATCH", "/api/rooms/board", &json!({"locked": true})).await.assert_status(200);
        host
    }

    /// Checks that each node refuses the handle as a resume and as a takeover.
    async fn assert_refused(&self, handle: &str, status: u16, code: &str) {
        for node in &self.cluster.nodes {
            for query in [format!("resume={handle}&since=0"), format!("resume={handle}")] {
                for path in ["/ws/validate", "/ws/signal"] {
                    let target = format!("{path}?{query}");
                    let request =
                        if path == "/ws/signal" { Request::upgrade(target) } else { Request::get(target) };
                    request.send(node.address).await.assert_problem(status, code);
                }
            }
        }
    }

    async fn open(&self, handle: &str, since: &str) -> TestConnection {
        let query = format!("resume={handle}{since}");
        TestConnection::open_with(self.cluster.nodes[1].address, &query).await.expect("an upgrade")
    }
}

fn random_peer() -> String {
    signalbox_protocol::id::random_hex()
}

/// The record of a handle for this peer, from before the store lost its data.
fn record(peer: &str) -> Value {
    json!({"p": peer, "e": 1, "g": 1, "b": 1, "l": OTHER_REPLICATION_ID})
}

/// A token of the user `root` with every permission, for ten years.
fn invented_token() -> TokenBuilder {
    TokenBuilder::valid("board", "root")
        .claim("role", "host")
        .claim("permissions", json!(ALL_PERMISSIONS))
        .claim("exp", clock::now_s() + 10 * 365 * 86_400)
}

all_of! {
    /// What an attacker with the session key can make. An invented member has its user, role,
    /// permissions and expiry in the handle, without a token.
    Forgery {
        InventedMember,
        InventedMemberUnderAnotherPurpose,
        NoToken,
        TokenWithoutSignature,
        TokenSignedWithTheSessionKey,
        TokenWithShortLifeSignedWithTheSessionKey,
        GenuineTokenWithOtherClaims,
    }
}

impl Forgery {
    async fn handle(self, leaked: &LeakedCluster) -> String {
        let (forge, peer) = (leaked.forge(), random_peer());
        let invented_member = json!({"r": "board", "p": peer, "e": 1, "g": 1, "b": 1, "l": OTHER_REPLICATION_ID,
            "m": {"user": "root", "role": "host", "permissions": ALL_PERMISSIONS, "token": random_peer(),
                "issued": clock::now_s(), "expires": clock::now_s() + 10 * 365 * 86_400, "caller": "app",
                "name": "Root", "metadata": {}}});
        match self {
            Self::InventedMember => forge.seal(invented_member.to_string().as_bytes()),
            Self::InventedMemberUnderAnotherPurpose => {
                HandleForge::new(&leaked.session_key, "signalbox handle v2")
                    .seal(invented_member.to_string().as_bytes())
            }
            Self::NoToken => forge.seal(record(&peer).to_string().as_bytes()),
            Self::TokenWithoutSignature => {
                let header = json!({"alg": "HS256", "typ": "signalbox-room+jwt"});
                forge.seal_with_token(&record(&peer), &invented_token().assemble(&header, ""))
            }
            Self::TokenSignedWithTheSessionKey => {
                forge.seal_with_token(&record(&peer), &invented_token().sign(&leaked.session_key))
            }
            Self::TokenWithShortLifeSignedWithTheSessionKey => {
                let token = invented_token().claim("exp", clock::now_s() + 60);
                forge.seal_with_token(&record(&peer), &token.sign(&leaked.session_key))
            }
            Self::GenuineTokenWithOtherClaims => {
                let genuine =
                    leaked.cluster.room("board").token(json!({"user": "mallory", "role": "viewer"})).await;
                let invented = invented_token().sign(&leaked.session_key);
                let (genuine, invented): (Vec<_>, Vec<_>) =
                    (genuine.split('.').collect(), invented.split('.').collect());
                forge.seal_with_token(&record(&peer), &[genuine[0], invented[1], genuine[2]].join("."))
            }
        }
    }
}

/// The host of a locked room with a lobby hears of no forged peer.
#[tokio::test]
async fn a_session_key_alone_admits_no_peer() {
    let leaked = LeakedCluster::start(&random_secret()).await;
    let host = leaked.lock_board().await;
    for forgery in Forgery::ALL {
        let handle = forgery.handle(&leaked).await;
        leaked.assert_refused(&handle, 401, "resume_invalid").await;
    }
    host.ping().await;
    let events = host.take_unread().await;
    assert!(events.iter().all(|event| event["type"] != "peer-joined"), "{events:?}");
}

/// With a genuine token, a forged handle gives what the token gives at a join: the role and the
/// permissions of the token, after the checks of the room.
#[tokio::test]
async fn a_forged_handle_with_a_genuine_token_is_a_join_with_that_token() {
    let leaked = LeakedCluster::start(&random_secret()).await;
    let host = leaked.lock_board().await;
    let room = leaked.cluster.room("board");
    let token = room.token(json!({"user": "mallory", "role": "guest"})).await;
    let mut record = record(&random_peer());
    // The record claims what a moderator might have assigned.
    record["a"] = json!(ALL_PERMISSIONS);
    let handle = leaked.forge().seal_with_token(&record, &token);
    for since in ["", "&since=0"] {
        let refused = leaked.open(&handle, since).await;
        assert_eq!(refused.next().await["code"], "room_locked");
        assert_eq!(refused.wait_closed().await.code, 4517);
    }
    leaked.cluster.api("PATCH", "/api/rooms/board", &json!({"locked": false})).await.assert_status(200);
    leaked.open(&handle, "&since=0").await.expect_waiting().await;
    host.next_of_type("knock").await;

    leaked.cluster.api("PATCH", "/api/rooms/board", &json!({"lobby": false})).await.assert_status(200);
    let eve = room.token(json!({"user": "eve", "role": "guest"})).await;
    record["p"] = random_peer().into();
    let admitted = leaked.open(&leaked.forge().seal_with_token(&record, &eve), "&since=0").await;
    let resumed = admitted.next_of_type("resumed").await;
    assert_eq!((&resumed["userId"], &resumed["role"]), (&json!("eve"), &json!("guest")), "{resumed}");
    let permissions = resumed["permissions"].as_array().unwrap();
    assert!(!permissions.contains(&json!("end")) && !permissions.contains(&json!("moderate")), "{resumed}");

    for (setting, code) in
        [("enabled", "room_disabled"), ("maxPeers", "room_full"), ("roles", "room_not_allowed")]
    {
        let value = match setting {
            "enabled" => json!(false),
            "roles" => json!(["host"]),
            _ => json!(2),
        };
        leaked.cluster.api("PATCH", "/api/rooms/board", &json!({setting: value})).await.assert_status(200);
        let token = room.token(json!({"user": "frank", "role": "guest"})).await;
        record["p"] = random_peer().into();
        let refused = leaked.open(&leaked.forge().seal_with_token(&record, &token), "&since=0").await;
        assert_eq!(refused.next().await["code"], code, "{setting}");
        let open = json!({"enabled": true, "roles": null, "maxPeers": null});
        leaked.cluster.api("PATCH", "/api/rooms/board", &open).await.assert_status(200);
    }
}

/// A known peer belongs to its user: a handle with the token of another user does not open it.
#[tokio::test]
async fn a_forged_handle_does_not_open_the_peer_of_another_user() {
    let leaked = LeakedCluster::start(&random_secret()).await;
    let host = leaked.lock_board().await;
    let token = leaked.cluster.room("board").token(json!({"user": "mallory", "role": "viewer"})).await;
    let mut record = record(host.id());
    (record["e"], record["g"]) = (json!(1_000), json!(1_000));
    let handle = leaked.forge().seal_with_token(&record, &token);
    leaked.assert_refused(&handle, 401, "resume_expired").await;
    host.ping().await;
}

/// The access rules are asked with the time at which the token was issued.
#[tokio::test]
async fn a_revocation_before_a_time_reaches_a_forged_handle() {
    let leaked = LeakedCluster::start(&random_secret()).await;
    let token = leaked.cluster.room("board").token(json!({"user": "mallory"})).await;
    let handle = leaked.forge().seal_with_token(&record(&random_peer()), &token);
    leaked.cluster.add_rule("/api/revocations", json!({"user": "mallory"})).await;
    signalbox_tests::net::eventually("the rule is known on each node", async || {
        for node in &leaked.cluster.nodes {
            let target = format!("/ws/validate?resume={handle}&since=0");
            if Request::get(target).send(node.address).await.status != 401 {
                return None;
            }
        }
        Some(())
    })
    .await;
    leaked.assert_refused(&handle, 401, "token_revoked").await;
}

/// Two deployments have the same session key, as when a configuration is copied.
#[tokio::test]
async fn a_handle_of_one_deployment_opens_nothing_in_another() {
    let session_key = random_secret();
    let (first, second) =
        (LeakedCluster::start(&session_key).await, LeakedCluster::start(&session_key).await);
    let bob = first.cluster.room("r").join_with(json!({"user": "bob", "role": "host"})).await;
    let resume_state = bob.resume_state().await;
    second.assert_refused(&resume_state.handle, 401, "resume_invalid").await;
    resume_state.resume_on(&first.cluster.nodes[1]).await;
}
