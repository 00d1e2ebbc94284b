//! A rule about the root of credentials reaches all that is derived from it: live sockets, handles,
//! tickets and tokens of both nodes. And a token is for one room, not for the next with its name.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster, random_secret},
    http::Request,
    net::eventually,
    peer::{TestConnection, TestPeer},
    socket::UpgradeError,
    token::TokenBuilder,
};
use signalbox_token::TokenKind;

/// The ways by which a peer gets a token that comes from one root.
#[derive(Debug, Clone, Copy)]
enum Source {
    Key,
    InviteOfKey,
    UserOfProvider,
}

impl Source {
    const ALL: [Self; 3] = [Self::Key, Self::InviteOfKey, Self::UserOfProvider];

    fn root(self) -> &'static str {
        match self {
            Self::Key => "key:leaked",
            Self::InviteOfKey => "key:inviting",
            Self::UserOfProvider => "provider:app",
        }
    }
}

struct Deployment {
    cluster: TestCluster,
    leaked: String,
    inviting: String,
    user_secret: String,
}

async fn post(cluster: &TestCluster, path: &str, authorization: Option<String>, body: Value) -> Value {
    let request = Request::post(path, &body);
    let request = authorization.map_or(request.clone(), |value| request.header("Authorization", value));
    let response = request.send(cluster.auth_address()).await;
    assert!(response.status < 300, "{path}: {}", response.text);
    response.json()
}

fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("{member}: {answer}")).to_owned()
}

impl Deployment {
    async fn start(store: StoreKind) -> Self {
        let [own, leaked, inviting] = [(); 3].map(|()| random_hex());
        let user_secret = random_secret();
        let env = [
            ("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{own},leaked:{leaked},inviting:{inviting}")),
            ("SIGNALBOX_USER_SECRET".to_owned(), user_secret.clone()),
        ];
        let settings = [("TIMING__RESUME_WINDOW", "10s")];
        let mut cluster = TestCluster::start_with(store, &settings, &env).await;
        cluster.api_secret = own;
        Self { cluster, leaked, inviting, user_secret }
    }

    /// A token and a refresh token of this source, for the room `r`.
    async fn issue(&self, source: Source) -> (String, String) {
        let cluster = &self.cluster;
        let basic =
            |id: &str, secret: &str| Some(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))));
        let issued = match source {
            Source::Key => {
                let body = json!({ "room": "r", "user": "u", "role": "host", "refresh": true });
                post(cluster, "/auth/token", basic("leaked", &self.leaked), body).await
            }
            Source::InviteOfKey => {
                let body = json!({ "role": "host" });
                let invite =
                    post(cluster, "/api/rooms/r/invites", basic("inviting", &self.inviting), body).await;
                let body = json!({ "invite": invite["code"], "refresh": true });
                post(cluster, "/auth/token", None, body).await
            }
            Source::UserOfProvider => {
                let claims =
                    json!({ "iss": "app", "aud": "signalbox", "sub": "alice", "exp": clock::now_s() + 60 });
                let mut provided = TokenBuilder::valid("r", "alice").typ(Some("JWT"));
                provided.claims = claims;
                let body = json!({ "token": provided.sign(&self.user_secret) });
                let user = post(cluster, "/auth/exchange", None, body).await;
                let bearer = Some(format!("Bearer {}", text(&user, "token")));
                post(cluster, "/api/rooms/r/join", bearer, json!({ "refresh": true })).await
            }
        };
        (text(&issued, "token"), text(&issued, "refreshToken"))
    }

    async fn join(&self, token: &str) -> TestPeer {
        TestConnection::open(self.cluster.next_node().address, token).await.into_peer().await
    }

    async fn ticket(&self, token: &str) -> String {
        text(&post(&self.cluster, "/auth/ticket", Some(format!("Bearer {token}")), json!({})).await, "ticket")
    }
}

async fn a_revoked_root_takes_all_its_descendants_along(store: StoreKind) {
    let deployment = &Deployment::start(store).await;
    let cluster = &deployment.cluster;
    let stays = cluster.room("r").join("operator").await;
    for source in Source::ALL {
        let (token, _) = deployment.issue(source).await;
        let live = deployment.join(&token).await;
        let (token, _) = deployment.issue(source).await;
        let detached = deployment.join(&token).await.disconnect().await;
        let (token, family) = deployment.issue(source).await;
        let ticket = deployment.ticket(&token).await;
        cluster.add_rule("/api/revocations", json!({ "root": source.root(), "issued": true })).await;

        assert_eq!(live.wait_closed().await.code, 4516, "{source:?}");
        for node in &cluster.nodes {
            eventually("the node has the rule", async || {
                let request = Request::get(format!("/ws/validate?token={token}"));
                let status = request.send(node.address).await.status;
                Some(()).filter(|()| status == 401)
            })
            .await;
        }
        let node = cluster.next_node();
        for (what, attempt) in [
            ("handle", detached.try_resume(node.address).await),
            ("token", TestConnection::open_with(node.address, &format!("token={token}")).await),
            ("ticket", TestConnection::open_with(node.address, &format!("token={ticket}")).await),
        ] {
            match attempt {
                Err(UpgradeError::Rejected(answer)) => answer.assert_problem(401, "token_revoked"),
                Err(error) => panic!("{source:?} {what}: {error:?}"),
                Ok(_) => panic!("{source:?}: the {what} is accepted"),
            };
        }
        let request = Request::post("/auth/refresh", &json!({ "refreshToken": family }));
        request.send(cluster.auth_address()).await.assert_problem(401, "token_revoked");
        stays.ping().await;
    }
    stays.leave().await;
    cluster.assert_clean_logs();
}

#[tokio::test]
async fn a_revoked_root_takes_all_its_descendants_along_in_memory() {
    a_revoked_root_takes_all_its_descendants_along(StoreKind::Memory).await;
}

#[tokio::test]
async fn a_revoked_root_takes_all_its_descendants_along_over_redis() {
    a_revoked_root_takes_all_its_descendants_along(StoreKind::Redis(2)).await;
}

/// The `Authorization` header of a user with the role `host`.
fn user_bearer(cluster: &TestCluster, user: &str) -> String {
    let mut builder = TokenBuilder::valid("r", user).typ(Some(TokenKind::User.typ()));
    builder = builder.claim("aud", TokenKind::User.aud()).claim("role", "host");
    format!("Bearer {}", builder.without_claim("room").without_claim("permissions").sign(&cluster.secret))
}

on_each_store! {
    async fn a_token_of_a_deleted_room_is_void_in_the_next_room_with_its_name(cluster) {
        let create = async |user: &str, body| post(cluster, "/api/rooms", Some(user_bearer(cluster, user)), body).await;
        create("mallory", json!({ "id": "standup" })).await;
        let join = async |user: &str| {
            post(cluster, "/api/rooms/standup/join", Some(user_bearer(cluster, user)), json!({})).await
        };
        let old = text(&join("mallory").await, "token");
        cluster.api("DELETE", "/api/rooms/standup", &Value::Null).await.assert_status(204);
        // Neither in a room that a join opens, nor in one that the API creates.
        for creates in [false, true] {
            if creates {
                create("bob", json!({ "id": "standup", "lobby": true })).await;
            }
            let refused = TestConnection::open(cluster.next_node().address, &old).await;
            assert_eq!(refused.next().await["code"], "room_not_allowed", "{creates}");
            assert_eq!(refused.wait_closed().await.code, 4522);
        }
        let host = TestConnection::open(cluster.next_node().address, &text(&join("bob").await, "token")).await;
        let host = host.into_peer().await;
        assert_eq!(host.joined["role"], "host");
        // A token that names no creation, from an application that signs tokens itself, is valid.
        let own = TestConnection::open(cluster.next_node().address, &cluster.sign_token("standup", "own")).await;
        own.expect_waiting().await;
        host.leave().await;
        cluster.api("DELETE", "/api/rooms/standup", &Value::Null).await.assert_status(204);
    }
}
