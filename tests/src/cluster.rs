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
    peer::{Link, TestPeer},
    process::{Env, Process},
    redis::TestRedis,
    token::Forgery,
};

/// Where rooms live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In the all-in-one process.
    Memory,
    /// In Redis, shared by so many nodes.
    Redis(usize),
}

/// Settings as `("LIMITS__BURST", "10")`: what follows `SIGNALBOX__`.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// The resume window of a test cluster where the test names none: short, so that rooms end soon.
pub const WINDOW: Duration = Duration::from_millis(300);

/// A running deployment.
pub struct TestCluster {
    /// The signaling processes; the only one, all-in-one, without Redis.
    pub nodes: Vec<Process>,
    /// The auth service, where it is a process of its own.
    pub auth: Option<Process>,
    /// The shared store.
    pub redis: Option<TestRedis>,
    /// What tokens are signed with.
    pub secret: String,
    /// The secret of the API key `backend`.
    pub api_secret: String,
    settings: Vec<(String, String)>,
    next: AtomicUsize,
}

/// What the API key of a test cluster may do.
const EVERY_SCOPE: &str = "tokens,rooms,moderate,security,usage,events,webhooks";

/// A secret that passes the boot check.
pub fn random_secret() -> String {
    format!("{}{}", random_hex(), random_hex())
}

impl TestCluster {
    /// The all-in-one process.
    pub async fn memory() -> Self {
        Self::start(Store::Memory, &[]).await
    }

    /// An auth service, `nodes` signaling nodes and Redis.
    pub async fn redis(nodes: usize) -> Self {
        Self::start(Store::Redis(nodes), &[]).await
    }

    /// Either, with settings.
    pub async fn start(store: Store, settings: Settings<'_>) -> Self {
        Self::start_with(store, settings, &[]).await
    }

    /// Either, with settings, and more of the environment.
    pub async fn start_with(store: Store, settings: Settings<'_>, more: Env<'_>) -> Self {
        let (secret, api_secret) = (random_secret(), random_hex());
        let mut env = vec![
            ("AUTH_SECRET".to_owned(), secret.clone()),
            ("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{api_secret}")),
            ("SIGNALBOX__API_KEYS__BACKEND__SCOPES".to_owned(), EVERY_SCOPE.to_owned()),
            ("SIGNALBOX__TIMING__RESUME_WINDOW".to_owned(), format!("{}ms", WINDOW.as_millis())),
            // Deadlines count three leases after a start.
            ("SIGNALBOX__TIMING__LEASE".to_owned(), "500ms".to_owned()),
            ("SIGNALBOX__TIMING__DRAIN_SPREAD".to_owned(), "1s".to_owned()),
            ("SIGNALBOX__TIMING__DRAIN".to_owned(), "4s".to_owned()),
            ("SIGNALBOX__SERVER__WORKERS".to_owned(), "2".to_owned()),
        ];
        env.extend_from_slice(more);
        env.extend(settings.iter().map(|(name, value)| (format!("SIGNALBOX__{name}"), (*value).to_owned())));
        let mut cluster = Self {
            nodes: Vec::new(),
            auth: None,
            redis: None,
            secret,
            api_secret,
            settings: env,
            next: AtomicUsize::new(0),
        };
        match store {
            Store::Memory => cluster.nodes.push(Process::start("signalbox", &cluster.settings).await),
            Store::Redis(nodes) => cluster.start_over_redis(nodes).await,
        }
        cluster
    }

    async fn start_over_redis(&mut self, nodes: usize) {
        let redis = TestRedis::start().await;
        self.settings.push(("REDIS_URL".to_owned(), redis.url()));
        self.redis = Some(redis);
        self.auth = Some(Process::start("auth-service", &self.settings).await);
        for _ in 0..nodes {
            self.add_node().await;
        }
    }

    /// Starts another signaling node.
    pub async fn add_node(&mut self) {
        self.nodes.push(Process::start("signal-service", &self.settings).await);
    }

    /// Where tokens are issued and the event feed is.
    pub fn auth_address(&self) -> SocketAddr {
        self.auth.as_ref().unwrap_or(&self.nodes[0]).address
    }

    /// The environment of its processes.
    pub fn env(&self) -> &[(String, String)] {
        &self.settings
    }

    /// `Authorization` of the API key `backend`.
    pub fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("backend:{}", self.api_secret)))
    }

    /// Asks the auth service for a token.
    ///
    /// # Panics
    /// If it gives none.
    pub async fn issue(&self, wish: &Value) -> String {
        let request = Request::post("/auth/token", wish).header("Authorization", self.basic());
        let answer = request.send(self.auth_address()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Asks the API with the key `backend`; a null body is none.
    pub async fn api(&self, method: &'static str, path: &str, body: &Value) -> Response {
        let request = Request::call(method, path, body).header("Authorization", self.basic());
        request.send(self.auth_address()).await
    }

    /// Takes something back; the rule that came of it.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn take_back(&self, path: &str, body: Value) -> Value {
        let method = if matches!(path, "/api/shutdown" | "/api/limits") { "PUT" } else { "POST" };
        let answer = self.api(method, path, &body).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
        answer.json()
    }

    /// Lifts a rule.
    ///
    /// # Panics
    /// If there is none.
    pub async fn lift(&self, key: &str) {
        let answer =
            self.api("DELETE", &format!("/api/rules/{}", key.replace('/', "%2F")), &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// A good token made by hand.
    pub fn forge(&self, room: &str, user: &str) -> String {
        Forgery::good(room, user).sign(&self.secret)
    }

    /// A room.
    pub fn room(&self, name: &str) -> TestRoom<'_> {
        TestRoom { cluster: self, name: name.to_owned() }
    }

    /// The node that the next peer goes to: each in turn.
    pub fn next_node(&self) -> &Process {
        &self.nodes[self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }

    /// What must hold after every scenario: all processes run, no log holds a secret or a panic, and, once its peers are gone,
    /// Redis is bounded and then empty.
    ///
    /// # Panics
    /// If one does not hold.
    pub async fn audit(&self) {
        self.nodes.iter().chain(&self.auth).for_each(Process::assert_running);
        self.assert_clean_logs();
        if let Some(redis) = &self.redis {
            redis.assert_bounded(self.entry_life()).await;
            redis.assert_clean_after(2 * self.span("RESUME_WINDOW")).await;
        }
    }

    /// The longest that an entry is kept: the window, three leases and the slack, and a moment until somebody looks.
    pub fn entry_life(&self) -> Duration {
        self.span("RESUME_WINDOW") + 3 * self.span("LEASE") + Duration::from_secs(5)
    }

    /// A setting of the section `timing`; the last one stands.
    fn span(&self, name: &str) -> Duration {
        let name = format!("SIGNALBOX__TIMING__{name}");
        let (_, text) = self.settings.iter().rev().find(|(found, _)| *found == name).expect("a setting");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits.parse().expect("a whole number");
        match &text[digits.len()..] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            unit => panic!("{name}: {unit}"),
        }
    }

    /// # Panics
    /// If a log holds a secret, SDP, a candidate or a panic (I8).
    pub fn assert_clean_logs(&self) {
        let basic = self.basic();
        let secrets = [&*self.secret, &self.api_secret, &basic];
        self.nodes.iter().chain(&self.auth).for_each(|process| process.assert_clean_log(&secrets));
    }
}

/// A room of a cluster.
pub struct TestRoom<'a> {
    cluster: &'a TestCluster,
    /// Its name.
    pub name: String,
}

impl TestRoom<'_> {
    /// Joins through the next node.
    pub async fn join(&self, user: &str) -> TestPeer {
        self.join_on(self.cluster.next_node(), user).await
    }

    /// Joins through this node.
    pub async fn join_on(&self, node: &Process, user: &str) -> TestPeer {
        self.knock_on(node, user).await.into_peer().await
    }

    /// Joins with more in the token than a room and a user.
    pub async fn join_as(&self, wish: Value) -> TestPeer {
        let token = self.token(wish).await;
        Link::open(self.cluster.next_node().address, &token).await.into_peer().await
    }

    /// Connects through the next node and does not expect to be let in.
    pub async fn knock(&self, user: &str) -> Link {
        self.knock_on(self.cluster.next_node(), user).await
    }

    /// Connects through this node and does not expect to be let in.
    pub async fn knock_on(&self, node: &Process, user: &str) -> Link {
        let token = self.token(json!({"user": user})).await;
        Link::open(node.address, &token).await
    }

    /// A token for this room.
    pub async fn token(&self, mut wish: Value) -> String {
        wish["room"] = self.name.clone().into();
        self.cluster.issue(&wish).await
    }

    /// Alice and Bob, on different nodes where there are several; both know each other.
    pub async fn join2(&self) -> (TestPeer, TestPeer) {
        let mut peers = self.join_all(&["alice", "bob"]).await.into_iter();
        (peers.next().expect("alice"), peers.next().expect("bob"))
    }

    /// One peer for each user, one after the other; all know each other.
    pub async fn join_all(&self, users: &[&str]) -> Vec<TestPeer> {
        let mut peers: Vec<TestPeer> = Vec::new();
        for user in users {
            let newcomer = self.join(user).await;
            for peer in &peers {
                let heard = peer.next_of_type("peer-joined").await;
                assert_eq!(heard["peerId"], newcomer.id(), "{heard}");
            }
            peers.push(newcomer);
        }
        peers
    }
}
