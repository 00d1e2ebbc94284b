//! The playbook "a leaked API key" of SECURITY.md, word by word: `signalbox revoke --key ID --issued`,
//! then the line of the key is removed from `api_keys` and the auth service is restarted.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use signalbox_protocol::id::random_hex;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::{Request, Response},
    net::{eventually, within},
    peer::{ResumeState, TestConnection, TestPeer},
    process::{Process, run_to_exit},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

/// The name of the setting with one line for each API key.
const API_KEYS: &str = "SIGNALBOX_API_KEYS";

all_of!(
    /// What the attacker can present.
    Credential {
        Key,
        KeyAtFeed,
        ManagementToken,
        Token,
        GuestToken,
        Ticket,
        NewTicket,
        Handle,
        GuestHandle,
        Family,
        GuestFamily,
        Invite,
    }
);

/// What the attacker has made with the leaked key.
struct Loot {
    key: String,
    management: String,
    token: String,
    guest_token: String,
    ticket: String,
    family: String,
    guest_family: String,
    invite: String,
    peer: TestPeer,
    guest: TestPeer,
    handle: ResumeState,
    guest_handle: ResumeState,
    feed: WebSocketStream<TcpStream>,
}

fn basic(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(key))
}

async fn call(
    cluster: &TestCluster,
    key: Option<&str>,
    method: &'static str,
    path: &str,
    body: Value,
) -> Response {
    let request = Request::call(method, path, &body);
    let request = key.map_or(request.clone(), |key| request.header("Authorization", basic(key)));
    request.send(cluster.auth_address()).await
}

fn text(answer: &Response, member: &str) -> String {
    let answer = answer.json();
    answer[member].as_str().unwrap_or_else(|| panic!("{member}: {answer}")).to_owned()
}

async fn open_feed(cluster: &TestCluster, key: &str) -> WebSocketStream<TcpStream> {
    let address = cluster.auth_address();
    let mut request = format!("ws://{address}/ws/events").into_client_request().unwrap();
    request.headers_mut().insert("Authorization", basic(key).parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    within("an upgrade", client_async(request, stream)).await.unwrap().0
}

/// The code with which a feed is closed; 1006 if it ends without one.
async fn feed_close_code(feed: &mut WebSocketStream<TcpStream>) -> u16 {
    within("the end of the feed", async {
        loop {
            match feed.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return 1006,
            }
        }
    })
    .await
}

impl Loot {
    /// The attacker makes the room `lair`, brings a peer and a guest into it, reads the feed, and bans
    /// a user from a room of another tenant.
    async fn gather(cluster: &TestCluster, key: &str) -> Self {
        let post = async |key: Option<&str>, path: &str, body: Value| {
            let answer = call(cluster, key, "POST", path, body).await;
            assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
            answer
        };
        let join = async |node: &Process, token: &str| {
            TestConnection::open(node.address, token).await.into_peer().await
        };
        post(Some(key), "/api/rooms", json!({"id": "lair"})).await;
        let issue = async |user: &str| {
            let body = json!({"room": "lair", "user": user, "role": "host", "refresh": true});
            post(Some(key), "/auth/token", body).await
        };
        let invite = post(Some(key), "/api/rooms/lair/invites", json!({"maxUses": 9})).await;
        let invite = text(&invite, "code");
        let invited = async || post(None, "/auth/token", json!({"invite": invite, "refresh": true})).await;
        let peer = join(&cluster.nodes[0], &text(&issue("mallory").await, "token")).await;
        let guest = join(&cluster.nodes[1], &text(&invited().await, "token")).await;
        let (issued, by_invite) = (issue("mallory-2").await, invited().await);
        let management = post(Some(key), "/auth/management", json!({})).await;
        post(Some(key), "/api/rooms/shop/bans", json!({"user": "victim", "for": 3600})).await;
        let bearer = format!("Bearer {}", text(&issued, "token"));
        let ticket = Request::post("/auth/ticket", &json!({})).header("Authorization", bearer);
        let ticket = text(&ticket.send(cluster.auth_address()).await, "ticket");
        Self {
            key: key.to_owned(),
            management: text(&management, "token"),
            token: text(&issued, "token"),
            guest_token: text(&by_invite, "token"),
            ticket,
            family: text(&issued, "refreshToken"),
            guest_family: text(&by_invite, "refreshToken"),
            handle: peer.resume_state().await,
            guest_handle: guest.resume_state().await,
            invite,
            peer,
            guest,
            feed: open_feed(cluster, key).await,
        }
    }

    /// Presents a credential where it would open something, at each node if it is for nodes.
    async fn present(&self, cluster: &TestCluster, credential: Credential) -> Vec<(u16, String)> {
        let refresh = |token: &str| Request::post("/auth/refresh", &json!({"refreshToken": token}));
        let bearer = |token: &str| format!("Bearer {token}");
        let upgrade = |query: String| Request::upgrade(format!("/ws/signal?{query}"));
        let (request, at_nodes) = match credential {
            Credential::Key => {
                let request = Request::post("/auth/token", &json!({"room": "lair", "user": "mallory"}));
                (request.header("Authorization", basic(&self.key)), false)
            }
            Credential::KeyAtFeed => {
                (Request::upgrade("/ws/events").header("Authorization", basic(&self.key)), false)
            }
            Credential::ManagementToken => {
                let request =
                    Request::get("/api/rooms/lair").header("Authorization", bearer(&self.management));
                (request, false)
            }
            Credential::Token => (upgrade(format!("token={}", self.token)), true),
            Credential::GuestToken => (upgrade(format!("token={}", self.guest_token)), true),
            Credential::Ticket => (upgrade(format!("token={}", self.ticket)), true),
            Credential::NewTicket => {
                let request = Request::post("/auth/ticket", &json!({}));
                (request.header("Authorization", bearer(&self.token)), false)
            }
            Credential::Handle => (upgrade(self.handle.query()), true),
            Credential::GuestHandle => (upgrade(self.guest_handle.query()), true),
            Credential::Family => (refresh(&self.family), false),
            Credential::GuestFamily => (refresh(&self.guest_family), false),
            Credential::Invite => (Request::post("/auth/token", &json!({"invite": self.invite})), false),
        };
        let nodes: Vec<_> = cluster.nodes.iter().map(|node| node.address).collect();
        let mut answers = Vec::new();
        for address in if at_nodes { nodes } else { vec![cluster.auth_address()] } {
            let answer = request.send(address).await;
            let code = match answer.status {
                101 | 200 | 201 => String::new(),
                _ => text(&answer, "code"),
            };
            answers.push((answer.status, code));
        }
        answers
    }

    async fn assert_opens_nothing(&self, cluster: &TestCluster, is_removed: bool) {
        let mut unexpected = Vec::new();
        for credential in Credential::ALL {
            let code = match credential {
                Credential::Key | Credential::KeyAtFeed if is_removed => "caller_unknown",
                Credential::Invite => "invite_invalid",
                _ => "token_revoked",
            };
            for (status, answered) in self.present(cluster, *credential).await {
                // A ticket lives for thirty seconds.
                let is_expired = *credential == Credential::Ticket && answered == "ticket_invalid";
                if status != 401 || answered != code && !is_expired {
                    unexpected.push(format!("{credential:?}: {status} {answered}, not {code}"));
                }
            }
        }
        assert!(unexpected.is_empty(), "removed: {is_removed}: {unexpected:#?}");
    }
}

/// A deployment with the API keys `backend` of the operator, `leaked` and `shop`.
struct Deployment {
    cluster: TestCluster,
    leaked: String,
    shop: String,
}

impl Deployment {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let [own, leaked, shop] = [(); 3].map(|()| random_hex());
        let lines = format!("backend:{own}\nleaked:{leaked}\nshop:{shop}");
        let env = [(API_KEYS.to_owned(), lines)];
        // A node that does not run for a lease counts as dead, and other peers are told that its peers
        // are detached. That is right, and not what the playbook is about.
        let settings = [settings, &[("TIMING__RESUME_WINDOW", "10s"), ("TIMING__LEASE", "10s")]].concat();
        let mut cluster = TestCluster::start_with(StoreKind::Redis(2), &settings, &env).await;
        cluster.api_secret = own;
        eventually("the auth service has subscribed to the events", async || {
            cluster.auth.as_ref()?.log().contains("the event feed is subscribed").then_some(())
        })
        .await;
        Self { cluster, leaked: format!("leaked:{leaked}"), shop: format!("shop:{shop}") }
    }

    /// Runs a command of the operator.
    async fn run(&self, key: &str, command: &str) {
        let env = [
            ("SIGNALBOX_URL".to_owned(), format!("http://{}", self.cluster.auth_address())),
            ("SIGNALBOX_API_KEY".to_owned(), key.to_owned()),
        ];
        let args: Vec<&str> = command.split(' ').collect();
        let ended = run_to_exit("signalbox", &args, &env, Duration::from_secs(10)).await;
        assert_eq!(ended.code, Some(0), "{command}: {ended:?}");
    }

    fn operator_key(&self) -> String {
        format!("backend:{}", self.cluster.api_secret)
    }

    /// Removes the line of the leaked key, adds another one, and restarts the auth service.
    async fn restart_auth(&mut self, added: &str) {
        let mut env = self.cluster.env().to_vec();
        for (_, lines) in env.iter_mut().filter(|(name, _)| name == API_KEYS) {
            let kept = lines.lines().filter(|line| !line.starts_with("leaked:")).chain([added]);
            *lines = kept.collect::<Vec<_>>().join("\n");
        }
        let auth = self.cluster.auth.take().unwrap();
        auth.terminate();
        auth.wait_exit(Duration::from_secs(15)).await;
        let auth = Process::launch_at("auth-service", auth.address, &env);
        auth.wait_ready().await;
        self.cluster.auth = Some(auth);
    }
}

async fn issue_for_shop(deployment: &Deployment, user: &str) -> Response {
    let body = json!({"room": "shop", "user": user});
    call(&deployment.cluster, Some(&deployment.shop), "POST", "/auth/token", body).await
}

#[tokio::test]
async fn the_playbook_of_a_leaked_api_key_leaves_the_attacker_nothing() {
    let mut deployment = Deployment::start(&[]).await;
    let cluster = &deployment.cluster;
    let mut innocent = Vec::new();
    for (node, user) in cluster.nodes.iter().zip(["alice", "bob"]) {
        let token = text(&issue_for_shop(&deployment, user).await, "token");
        innocent.push(TestConnection::open(node.address, &token).await.into_peer().await);
    }
    let (alice, bob) = (&innocent[0], &innocent[1]);
    alice.next_of_type("peer-joined").await;
    let mut loot = Loot::gather(cluster, &deployment.leaked).await;
    // Before: the key and the management token open what they are for, and the ban is in force.
    for credential in [Credential::Key, Credential::ManagementToken, Credential::KeyAtFeed] {
        assert!(loot.present(cluster, credential).await[0].0 < 300, "{credential:?}");
    }
    issue_for_shop(&deployment, "victim").await.assert_problem(403, "banned");

    // Word by word.
    deployment.run(&deployment.operator_key(), "revoke --key leaked --issued").await;
    assert_eq!(loot.peer.wait_closed().await.code, 4516);
    assert_eq!(loot.guest.wait_closed().await.code, 4516);
    assert_eq!(feed_close_code(&mut loot.feed).await, 4516);
    for node in &cluster.nodes {
        eventually("the node has the rule", async || {
            let request = Request::get(format!("/ws/validate?token={}", loot.token));
            (request.send(node.address).await.status == 401).then_some(())
        })
        .await;
    }
    loot.assert_opens_nothing(cluster, false).await;
    deployment.restart_auth("").await;
    let cluster = &deployment.cluster;
    loot.assert_opens_nothing(cluster, true).await;

    // The innocent peers noticed nothing.
    for peer in [alice, bob] {
        peer.ping().await;
        let unread = peer.take_unread().await;
        assert!(unread.is_empty(), "{unread:?}");
    }
    alice.send_acked(json!({"type": "message", "to": bob.id(), "data": "undisturbed"})).await;
    assert_eq!(bob.next_message().await.data, Some(json!("undisturbed")));
    issue_for_shop(&deployment, "carol").await.assert_status(200);
    // The operator can write rules.
    deployment.run(&deployment.operator_key(), "ban mallory --for 10m").await;

    // What stays, because it is no credential: the rooms and the bans that the key has made. Only
    // the operator can tell which of them to keep.
    let lair = cluster.api("GET", "/api/rooms/lair", &Value::Null).await;
    assert_eq!(lair.assert_status(200).json()["createdBy"]["id"], "leaked", "{}", lair.text);
    let listed = cluster.api("GET", "/api/rules?kind=ban", &Value::Null).await.json();
    let left = listed["rules"].as_array().unwrap().iter().find(|rule| rule["by"] == "leaked");
    assert_eq!(left.map(|rule| &rule["key"]), Some(&json!("ban:shop:victim")), "{listed}");
    issue_for_shop(&deployment, "victim").await.assert_problem(403, "banned");
    deployment.run(&deployment.operator_key(), "unban victim --room shop").await;
    issue_for_shop(&deployment, "victim").await.assert_status(200);
    cluster.api("DELETE", "/api/rooms/lair", &Value::Null).await.assert_status(204);
    cluster.api("GET", "/api/rooms/lair", &Value::Null).await.assert_problem(404, "no_such_room");
    for peer in innocent {
        peer.leave().await;
    }
    cluster.audit().await;
}

/// A key with the scope `security` can also revoke the key of the operator. A new key, which is added
/// at the same restart, lets the operator in again.
#[tokio::test]
async fn an_operator_whose_key_was_revoked_by_a_leaked_key_continues_with_a_new_key() {
    let scopes = [
        ("API_KEYS__LEAKED__SCOPES", "tokens,rooms,moderate,security"),
        ("API_KEYS__RESCUE__SCOPES", "tokens,rooms,security"),
    ];
    let mut deployment = Deployment::start(&scopes).await;
    deployment.run(&deployment.leaked, "revoke --key backend --issued").await;
    let refused = deployment.cluster.api("GET", "/api/rules", &Value::Null).await;
    refused.assert_problem(401, "token_revoked");
    let rescue = format!("rescue:{}", random_hex());
    deployment.restart_auth(&rescue).await;
    deployment.run(&rescue, "revoke --key leaked --issued").await;
    deployment.run(&rescue, "rules lift key:backend").await;
    deployment.run(&deployment.operator_key(), "ban mallory --for 10m").await;
    deployment.cluster.audit().await;
}
