//! A deployment in which only the auth service can sign: it reads private keys from a folder, and
//! the signaling nodes fetch the public keys over HTTP.

use std::{net::SocketAddr, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use signalbox_protocol::id::random_hex;
use tempfile::TempDir;

use crate::{
    cluster::{Settings, random_secret},
    http::Request,
    net::free_address,
    process::{EXIT_LIMIT, Env, Process, ProcessOutput, run_to_exit},
    test_redis::TestRedis,
};

/// A running deployment.
pub struct KeyedCluster {
    /// The signaling nodes.
    pub nodes: Vec<Process>,
    /// The auth service, while it runs.
    pub auth: Option<Process>,
    /// The address of the auth service, also while it does not run.
    pub auth_address: SocketAddr,
    /// The folder of the private keys.
    pub keys_dir: PathBuf,
    /// The store, with the users of the ACL that we ship.
    pub redis: TestRedis,
    _dir: TempDir,
    api_secret: String,
    session_key: String,
    shared_env: Vec<(String, String)>,
    auth_env: Vec<(String, String)>,
}

impl KeyedCluster {
    /// Creates the folder with a first key and starts Redis, but no service.
    ///
    /// # Panics
    /// If the key cannot be made.
    pub async fn prepare(settings: Settings<'_>) -> Self {
        let dir = TempDir::with_prefix("signalbox-keys-").expect("a temporary folder");
        let redis = TestRedis::with_acl().await;
        let auth_address = free_address();
        // A later variable of the same name wins, so `settings` may set other scopes.
        let mut shared = vec![
            ("SIGNALBOX__SERVER__WORKERS".to_owned(), "2".to_owned()),
            ("SIGNALBOX__API_KEYS__BACKEND__SCOPES".to_owned(), "tokens,rooms,security".to_owned()),
        ];
        shared
            .extend(settings.iter().map(|(name, value)| (format!("SIGNALBOX__{name}"), (*value).to_owned())));
        let cluster = Self {
            nodes: Vec::new(),
            auth: None,
            auth_address,
            keys_dir: dir.path().join("keys"),
            redis,
            _dir: dir,
            api_secret: random_hex(),
            session_key: random_secret(),
            shared_env: shared,
            auth_env: Vec::new(),
        };
        cluster.keys_command(&["new"]).await;
        cluster
    }

    /// Starts the auth service and two signaling nodes.
    pub async fn start(settings: Settings<'_>) -> Self {
        Self::start_with(settings, &[]).await
    }

    /// The same, with more environment of the auth service alone.
    pub async fn start_with(settings: Settings<'_>, auth_env: Env<'_>) -> Self {
        let mut cluster = Self::prepare(settings).await;
        cluster.auth_env = auth_env.to_vec();
        cluster.start_auth().await;
        for _ in 0..2 {
            cluster.nodes.push(Process::start("signal-service", &cluster.node_env()).await);
        }
        cluster
    }

    /// Starts the auth service, at the same address each time.
    pub async fn start_auth(&mut self) {
        let mut env = self.shared_env.clone();
        env.push(("REDIS_URL".to_owned(), self.redis.url_for("auth")));
        env.push(("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{}", self.api_secret)));
        env.push(("SIGNALBOX__AUTH__KEYS_DIR".to_owned(), self.keys_dir.display().to_string()));
        env.extend_from_slice(&self.auth_env);
        let auth = Process::launch_at("auth-service", self.auth_address, &env);
        auth.wait_ready().await;
        self.auth = Some(auth);
    }

    /// The environment of a signaling node: it holds no private key.
    pub fn node_env(&self) -> Vec<(String, String)> {
        let mut env = self.shared_env.clone();
        env.push(("REDIS_URL".to_owned(), self.redis.url_for("signal")));
        let url = format!("http://{}/.well-known/jwks.json", self.auth_address);
        env.push(("SIGNALBOX__AUTH__JWKS_URL".to_owned(), url));
        env.push(("SIGNALBOX_SESSION_KEY".to_owned(), self.session_key.clone()));
        env
    }

    /// Runs `signalbox keys …` on the folder, with the settings of the services.
    ///
    /// # Panics
    /// If the command fails.
    pub async fn keys_command(&self, args: &[&str]) -> ProcessOutput {
        let folder = self.keys_dir.display().to_string();
        let full_args = [&["keys"], args, &["--dir", &folder]].concat();
        let ended = run_to_exit("signalbox", &full_args, &self.shared_env, EXIT_LIMIT).await;
        assert_eq!(ended.code, Some(0), "{full_args:?}: {ended:?}");
        ended
    }

    /// The `Authorization` header of the API key `backend`.
    pub fn basic_auth(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("backend:{}", self.api_secret)))
    }

    /// Requests a token from the auth service. `None` if the service does not answer.
    ///
    /// # Panics
    /// If the auth service rejects the request.
    pub async fn try_issue(&self, room: &str, user: &str) -> Option<String> {
        let request_body = json!({ "room": room, "user": user });
        let request = Request::post("/auth/token", &request_body).header("Authorization", self.basic_auth());
        let response = request.try_send(self.auth_address).await?;
        assert_eq!(response.status, 200, "{}", response.text);
        Some(response.json()["token"].as_str().expect("a token").to_owned())
    }

    /// Requests a token from the auth service.
    ///
    /// # Panics
    /// If the auth service issues none.
    pub async fn issue(&self, room: &str, user: &str) -> String {
        self.try_issue(room, user).await.expect("a response of the auth service")
    }

    /// The ids of the published keys.
    ///
    /// # Panics
    /// If the key set cannot be read.
    pub async fn published_key_ids(&self) -> Vec<String> {
        let set = Request::get("/.well-known/jwks.json").send(self.auth_address).await;
        let keys = set.json()["keys"].as_array().expect("keys").clone();
        keys.iter().map(|key: &Value| key["kid"].as_str().expect("a kid").to_owned()).collect()
    }

    /// Checks that every process runs and that no log contains a secret or a private key.
    ///
    /// # Panics
    /// If a check fails.
    pub fn audit(&self) {
        let files = std::fs::read_dir(&self.keys_dir).expect("the folder of keys").map(|entry| {
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
