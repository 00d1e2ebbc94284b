//! A whole deployment: the all-in-one process, or an auth service and signaling nodes over Redis.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use signalbox_protocol::id::random_hex;

use crate::{
    http::{Request, Response},
    peer::{TestConnection, TestPeer},
    process::{Env, Process},
    test_redis::TestRedis,
    token::TokenBuilder,
};

/// Where rooms are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In the all-in-one process.
    Memory,
    /// In Redis, shared by this number of nodes.
    Redis(usize),
}

/// Settings without their prefix `SIGNALBOX__`, such as `("LIMITS__BURST", "10")`.
///
/// Scenarios change timings for these reasons. A long `TIMING__RESUME_WINDOW` keeps a detached peer
/// in its room until the test resumes it; a short one lets the test wait for its end. With a short
/// `TIMING__LEASE` the store soon counts a stopped node as dead. A long `TIMING__PING` keeps a node
/// from noticing a lost connection; a short one makes it notice soon.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// The default resume window of a test cluster: short, so that rooms end soon.
pub const RESUME_WINDOW: Duration = Duration::from_millis(300);

/// A running deployment.
pub struct TestCluster {
    /// The signaling nodes; without Redis, the all-in-one process.
    pub nodes: Vec<Process>,
    /// The auth service, if it is a separate process.
    pub auth: Option<Process>,
    /// The shared store, if it is Redis.
    pub redis: Option<TestRedis>,
    /// The secret that signs tokens.
    pub secret: String,
    /// The secret of the API key `backend`.
    pub api_secret: String,
    env: Vec<(String, String)>,
    next_node_index: AtomicUsize,
}

/// The scopes of the API key `backend`.
const ALL_SCOPES: &str = "tokens,rooms,moderate,security,usage,events,webhooks";

/// A secret that passes the check at startup.
pub fn random_secret() -> String {
    format!("{}{}", random_hex(), random_hex())
}

impl TestCluster {
    /// Starts the all-in-one process.
    pub async fn memory() -> Self {
        Self::start(StoreKind::Memory, &[]).await
    }

    /// Starts an auth service, `nodes` signaling nodes and Redis.
    pub async fn redis(nodes: usize) -> Self {
        Self::start(StoreKind::Redis(nodes), &[]).await
    }

    /// Starts a deployment with settings.
    pub async fn start(store: StoreKind, settings: Settings<'_>) -> Self {
        Self::start_with(store, settings, &[]).await
    }

    /// Starts a deployment with settings and more environment variables.
    pub async fn start_with(store: StoreKind, settings: Settings<'_>, extra_env: Env<'_>) -> Self {
        let (secret, api_secret) = (random_secret(), random_hex());
        let mut env = vec![
            ("AUTH_SECRET".to_owned(), secret.clone()),
            ("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{api_secret}")),
            ("SIGNALBOX__API_KEYS__BACKEND__SCOPES".to_owned(), ALL_SCOPES.to_owned()),
            ("SIGNALBOX__TIMING__RESUME_WINDOW".to_owned(), format!("{}ms", RESUME_WINDOW.as_millis())),
            // A short lease, because deadlines are enforced three leases after a start.
            ("SIGNALBOX__TIMING__LEASE".to_owned(), "500ms".to_owned()),
            ("SIGNALBOX__TIMING__DRAIN_SPREAD".to_owned(), "1s".to_owned()),
            ("SIGNALBOX__TIMING__DRAIN".to_owned(), "4s".to_owned()),
            ("SIGNALBOX__SERVER__WORKERS".to_owned(), "2".to_owned()),
        ];
        env.extend_from_slice(extra_env);
        env.extend(settings.iter().map(|(name, value)| (format!("SIGNALBOX__{name}"), (*value).to_owned())));
        let mut cluster = Self {
            nodes: Vec::new(),
            auth: None,
            redis: None,
            secret,
            api_secret,
            env,
            next_node_index: AtomicUsize::new(0),
        };
        match store {
            StoreKind::Memory => cluster.nodes.push(Process::start("signalbox", &cluster.env).await),
            StoreKind::Redis(nodes) => cluster.start_over_redis(nodes).await,
        }
        cluster
    }

    async fn start_over_redis(&mut self, nodes: usize) {
        // A test that shares one Redis between deployments names it.
        if !self.env.iter().any(|(name, _)| name == "REDIS_URL") {
            let redis = TestRedis::start().await;
            self.env.push(("REDIS_URL".to_owned(), redis.url()));
            self.redis = Some(redis);
        }
        self.auth = Some(Process::start("auth-service", &self.env).await);
        for _ in 0..nodes {
            self.add_node().await;
        }
    }

    /// Starts another signaling node.
    pub async fn add_node(&mut self) {
        self.nodes.push(Process::start("signal-service", &self.env).await);
    }

    /// The address that issues tokens and serves the event feed.
    pub fn auth_address(&self) -> SocketAddr {
        self.auth.as_ref().unwrap_or(&self.nodes[0]).address
    }

    /// The environment of the processes.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// The `Authorization` header of the API key `backend`.
    pub fn basic_auth(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("backend:{}", self.api_secret)))
    }

    /// Requests a token from the auth service.
    ///
    /// # Panics
    /// If the auth service rejects the request.
    pub async fn issue(&self, request_body: &Value) -> String {
        let request = Request::post("/auth/token", request_body).header("Authorization", self.basic_auth());
        let response = request.send(self.auth_address()).await;
        assert_eq!(response.status, 200, "{}", response.text);
        response.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Calls the API with the key `backend`. A null `body` sends no body.
    pub async fn api(&self, method: &'static str, path: &str, body: &Value) -> Response {
        let request = Request::call(method, path, body).header("Authorization", self.basic_auth());
        request.send(self.auth_address()).await
    }

    /// Adds an access rule, such as a ban or a revocation, and returns the rule.
    ///
    /// # Panics
    /// If the request is rejected.
    pub async fn add_rule(&self, path: &str, body: Value) -> Value {
        let method = if matches!(path, "/api/shutdown" | "/api/limits") { "PUT" } else { "POST" };
        let response = self.api(method, path, &body).await;
        assert!(matches!(response.status, 200 | 202), "{}", response.text);
        response.json()
    }

    /// Lifts an access rule.
    ///
    /// # Panics
    /// If there is no such rule.
    pub async fn lift_rule(&self, key: &str) {
        let response =
            self.api("DELETE", &format!("/api/rules/{}", key.replace('/', "%2F")), &Value::Null).await;
        assert_eq!(response.status, 200, "{}", response.text);
    }

    /// Signs a valid token without the auth service.
    pub fn sign_token(&self, room: &str, user: &str) -> String {
        TokenBuilder::valid(room, user).sign(&self.secret)
    }

    /// A room, by its name. This makes no request.
    pub fn room(&self, name: &str) -> TestRoom<'_> {
        TestRoom { cluster: self, name: name.to_owned() }
    }

    /// The node for the next peer: the nodes take turns.
    pub fn next_node(&self) -> &Process {
        &self.nodes[self.next_node_index.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }

    /// Checks what must hold after every scenario: all processes run, and no log contains a secret
    /// or a panic. In Redis, keys and entries are bounded, and no key of a room remains after its
    /// peers have left.
    ///
    /// # Panics
    /// If a check fails.
    pub async fn audit(&self) {
        self.nodes.iter().chain(&self.auth).for_each(Process::assert_running);
        self.assert_clean_logs();
        if let Some(redis) = &self.redis {
            redis.assert_bounded(self.max_entry_age()).await;
            redis.assert_clean_after(2 * self.timing_setting("RESUME_WINDOW")).await;
        }
    }

    /// The maximum age of an entry: the window, three leases, and time until the deadline is
    /// processed.
    pub fn max_entry_age(&self) -> Duration {
        self.timing_setting("RESUME_WINDOW") + 3 * self.timing_setting("LEASE") + Duration::from_secs(5)
    }

    /// A setting of the section `timing`. If it is set twice, the last value counts.
    fn timing_setting(&self, name: &str) -> Duration {
        let name = format!("SIGNALBOX__TIMING__{name}");
        let (_, text) = self.env.iter().rev().find(|(other, _)| *other == name).expect("a setting");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits.parse().expect("a whole number");
        match &text[digits.len()..] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            unit => panic!("{name}: {unit}"),
        }
    }

    /// # Panics
    /// If a log contains a secret, SDP, a candidate or a panic (I8).
    pub fn assert_clean_logs(&self) {
        let basic = self.basic_auth();
        let secrets = [&*self.secret, &self.api_secret, &basic];
        self.nodes.iter().chain(&self.auth).for_each(|process| process.assert_clean_log(&secrets));
    }
}

/// A room of a cluster.
pub struct TestRoom<'a> {
    cluster: &'a TestCluster,
    /// The name of the room.
    pub name: String,
}

impl TestRoom<'_> {
    /// Joins through the next node.
    pub async fn join(&self, user: &str) -> TestPeer {
        self.join_on(self.cluster.next_node(), user).await
    }

    /// Joins through this node.
    pub async fn join_on(&self, node: &Process, user: &str) -> TestPeer {
        self.connect_on(node, user).await.into_peer().await
    }

    /// Joins through the next node with a token that has these additional members.
    pub async fn join_with(&self, request_body: Value) -> TestPeer {
        let token = self.token(request_body).await;
        TestConnection::open(self.cluster.next_node().address, &token).await.into_peer().await
    }

    /// Connects through the next node and does not wait for `joined`.
    pub async fn connect(&self, user: &str) -> TestConnection {
        self.connect_on(self.cluster.next_node(), user).await
    }

    /// Connects through this node and does not wait for `joined`.
    pub async fn connect_on(&self, node: &Process, user: &str) -> TestConnection {
        let token = self.token(json!({"user": user})).await;
        TestConnection::open(node.address, &token).await
    }

    /// Requests a token for this room.
    pub async fn token(&self, mut request_body: Value) -> String {
        request_body["room"] = self.name.clone().into();
        self.cluster.issue(&request_body).await
    }

    /// Joins Alice and Bob, on different nodes if there are several, and waits until both know each
    /// other.
    pub async fn join2(&self) -> (TestPeer, TestPeer) {
        let mut peers = self.join_all(&["alice", "bob"]).await.into_iter();
        (peers.next().expect("alice"), peers.next().expect("bob"))
    }

    /// Joins one peer for each user, one after the other, and waits until all know each other.
    pub async fn join_all(&self, users: &[&str]) -> Vec<TestPeer> {
        let mut peers: Vec<TestPeer> = Vec::new();
        for user in users {
            let newcomer = self.join(user).await;
            for peer in &peers {
                let event = peer.next_of_type("peer-joined").await;
                assert_eq!(event["peerId"], newcomer.id(), "{event}");
            }
            peers.push(newcomer);
        }
        peers
    }
}
