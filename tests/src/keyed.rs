//! A deployment whose auth service alone can sign: private keys in a folder there, public ones over HTTP at the signaling nodes.

use std::{net::SocketAddr, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use signalbox_protocol::id::random_hex;
use tempfile::TempDir;

use crate::{
    cluster::{Settings, random_secret},
    http::Request,
    net::free_address,
    process::{AT_ONCE, Ended, Process, run},
    redis::TestRedis,
};

/// A running deployment.
pub struct KeyedCluster {
    /// The signaling processes.
    pub nodes: Vec<Process>,
    /// The auth service, while it runs.
    pub auth: Option<Process>,
    /// Where it is, whether it runs or not.
    pub auth_address: SocketAddr,
    /// The folder of the private keys.
    pub keys: PathBuf,
    _redis: TestRedis,
    _dir: TempDir,
    api_secret: String,
    session_key: String,
    shared: Vec<(String, String)>,
}

impl KeyedCluster {
    /// The folder with its first key, Redis, and nothing else yet.
    ///
    /// # Panics
    /// If the key cannot be made.
    pub async fn prepare(settings: Settings<'_>) -> Self {
        let dir = TempDir::with_prefix("signalbox-keys-").expect("a temporary folder");
        let redis = TestRedis::start().await;
        let auth_address = free_address();
        let mut shared = vec![
            ("REDIS_URL".to_owned(), redis.url()),
            ("SIGNALBOX__SERVER__WORKERS".to_owned(), "2".to_owned()),
        ];
        shared
            .extend(settings.iter().map(|(name, value)| (format!("SIGNALBOX__{name}"), (*value).to_owned())));
        let cluster = Self {
            nodes: Vec::new(),
            auth: None,
            auth_address,
            keys: dir.path().join("keys"),
            _redis: redis,
            _dir: dir,
            api_secret: random_hex(),
            session_key: random_secret(),
            shared,
        };
        cluster.command(&["new"]).await;
        cluster
    }

    /// All of it, with two signaling nodes.
    pub async fn start(settings: Settings<'_>) -> Self {
        let mut cluster = Self::prepare(settings).await;
        cluster.start_auth().await;
        for _ in 0..2 {
            cluster.nodes.push(Process::start("signal-service", &cluster.node_env()).await);
        }
        cluster
    }

    /// Starts the auth service, at the same address each time.
    pub async fn start_auth(&mut self) {
        let mut env = self.shared.clone();
        env.push(("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{}", self.api_secret)));
        env.push(("SIGNALBOX__AUTH__KEYS_DIR".to_owned(), self.keys.display().to_string()));
        let auth = Process::launch_at("auth-service", self.auth_address, &env);
        auth.until_ready().await;
        self.auth = Some(auth);
    }

    /// The environment of a signaling node: it has no secret that signs.
    pub fn node_env(&self) -> Vec<(String, String)> {
        let mut env = self.shared.clone();
        let url = format!("http://{}/.well-known/jwks.json", self.auth_address);
        env.push(("SIGNALBOX__AUTH__JWKS_URL".to_owned(), url));
        env.push(("SIGNALBOX_SESSION_KEY".to_owned(), self.session_key.clone()));
        env
    }

    /// `signalbox keys …` on the folder, with the settings of the services.
    ///
    /// # Panics
    /// If it fails.
    pub async fn command(&self, args: &[&str]) -> Ended {
        let folder = self.keys.display().to_string();
        let all = [&["keys"], args, &["--dir", &folder]].concat();
        let ended = run("signalbox", &all, &self.shared, AT_ONCE).await;
        assert_eq!(ended.code, Some(0), "{all:?}: {ended:?}");
        ended
    }

    /// Asks the auth service for a token. None where it does not answer.
    ///
    /// # Panics
    /// If it answers and gives none.
    pub async fn try_issue(&self, room: &str, user: &str) -> Option<String> {
        let basic = format!("Basic {}", STANDARD.encode(format!("backend:{}", self.api_secret)));
        let wish = json!({ "room": room, "user": user });
        let request = Request::post("/auth/token", &wish).header("Authorization", basic);
        let answer = request.try_send(self.auth_address).await?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Some(answer.json()["token"].as_str().expect("a token").to_owned())
    }

    /// Asks the auth service for a token.
    ///
    /// # Panics
    /// If it gives none.
    pub async fn issue(&self, room: &str, user: &str) -> String {
        self.try_issue(room, user).await.expect("an answer of the auth service")
    }

    /// The names of the published keys.
    ///
    /// # Panics
    /// If the set is not there.
    pub async fn published(&self) -> Vec<String> {
        let set = Request::get("/.well-known/jwks.json").send(self.auth_address).await;
        let keys = set.json()["keys"].as_array().expect("keys").clone();
        keys.iter().map(|key: &Value| key["kid"].as_str().expect("a kid").to_owned()).collect()
    }

    /// Checks that every process runs and that no log holds a secret or the private part of a key.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn audit(&self) {
        let files = std::fs::read_dir(&self.keys).expect("the folder of keys").map(|entry| {
            let text = std::fs::read(entry.expect("an entry").path()).expect("a key");
            let key: Value = serde_json::from_slice(&text).expect("a JWK");
            key["d"].as_str().expect("a private part").to_owned()
        });
        let mut secrets: Vec<String> = files.collect();
        secrets.extend([self.api_secret.clone(), self.session_key.clone()]);
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        for process in self.nodes.iter().chain(&self.auth) {
            process.assert_running();
            process.assert_clean_log(&secrets);
        }
    }
}
