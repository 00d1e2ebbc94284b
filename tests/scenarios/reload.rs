//! A changed configuration is applied at SIGHUP, as a whole or not at all, and the process goes on.

use std::{cell::Cell, fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_protocol::id::random_hex;
use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    net::eventually,
    peer::TestConnection,
    process::{Process, send_signal},
    provider::{ProviderKey, TestProvider},
    test_redis::TestRedis,
    token::TokenBuilder,
    webhook_receiver::{WebhookConfig, WebhookReceiver},
};
use tempfile::TempDir;

const BINARIES: [&str; 3] = ["signalbox", "signal-service", "auth-service"];

/// A process whose configuration and secrets are files in a folder.
struct FileDeployment {
    process: Process,
    folder: TempDir,
    token_secret: String,
    api_secret: String,
}

impl FileDeployment {
    async fn start(binary: &str, config: &str) -> Self {
        Self::start_with((random_secret(), random_hex()), binary, config, &[]).await
    }

    /// Starts a process with these secrets for tokens and the API, and more variables.
    async fn start_with(
        (token_secret, api_secret): (String, String),
        binary: &str,
        config: &str,
        more: &[(&str, String)],
    ) -> Self {
        let folder = TempDir::with_prefix("signalbox-reload-").unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("config.toml"), config).unwrap();
        fs::write(path("auth_secret"), &token_secret).unwrap();
        fs::write(path("api_keys"), format!("backend:{api_secret}\n")).unwrap();
        fs::write(path("turn_secrets"), "").unwrap();
        fs::write(path("webhook_secrets"), "").unwrap();
        let env = [
            ("--config", path("config.toml")),
            ("AUTH_SECRET_FILE", path("auth_secret")),
            ("SIGNALBOX_API_KEYS_FILE", path("api_keys")),
            ("SIGNALBOX_TURN_SECRETS_FILE", path("turn_secrets")),
            ("SIGNALBOX_WEBHOOK_SECRETS_FILE", path("webhook_secrets")),
        ];
        let env = env.into_iter().chain(more.iter().cloned());
        let env: Vec<_> = env.map(|(name, value)| (name.to_owned(), value)).collect();
        let process = Process::start(binary, &env).await;
        Self { process, folder, token_secret, api_secret }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn lines_with(&self, event: &str) -> Vec<String> {
        let log = self.process.log();
        log.lines().filter(|line| line.contains(event)).map(str::to_owned).collect()
    }

    /// Sends SIGHUP and returns the new line of the log with this event.
    async fn reload(&self, event: &str) -> String {
        let before = self.lines_with(event).len();
        send_signal(self.process.pid(), "HUP");
        eventually(event, async || {
            self.process.assert_running();
            self.lines_with(event).get(before).cloned()
        })
        .await
    }

    fn basic_auth(&self, id: &str, secret: &str) -> (&'static str, String) {
        ("Authorization", format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
    }

    /// The status of a request for a token, with more headers.
    async fn token_status(&self, headers: &[(&str, String)], body: &Value) -> u16 {
        let request = Request::post("/auth/token", body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send(self.process.address).await.status
    }
}

all_of! {
    /// What a reload can change. Each has a setting or a secret that shows it.
    ChangedPart { Origins, Hosts, Proxies, ApiKeys, ApiKeyTables, Guests, Providers, Turn, Limits, Webhooks }
}

/// A part of the configuration: what is written, and how the change is seen from outside.
struct PartChange {
    config: String,
    files: Vec<(&'static str, String)>,
    receiver: Option<WebhookReceiver>,
    seen_events: Cell<usize>,
    provider_token: Option<(TestProvider, String)>,
}

const ALL_SCOPES: &str = "scopes = [\"tokens\", \"rooms\", \"moderate\", \"security\"]\n";

async fn change_of(part: ChangedPart, second_key: &str) -> PartChange {
    let mut change = PartChange {
        config: String::new(),
        files: vec![],
        receiver: None,
        seen_events: Cell::new(0),
        provider_token: None,
    };
    let table = format!("[api_keys.backend]\n{ALL_SCOPES}");
    change.config = match part {
        ChangedPart::Origins => format!("[server]\nallowed_origins = [\"https://app.example\"]\n{table}"),
        ChangedPart::Hosts => format!("[server]\nallowed_hosts = [\"rtc.example\", \"127.0.0.1\"]\n{table}"),
        ChangedPart::Proxies => format!("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n{table}"),
        ChangedPart::ApiKeys => {
            change.files.push(("api_keys", format!("second:{second_key}\n")));
            "[api_keys.second]\n".to_owned()
        }
        ChangedPart::ApiKeyTables => format!("{table}rooms = \"acme-*\"\n"),
        ChangedPart::Guests => format!("[auth]\nguests = false\n{table}"),
        ChangedPart::Providers => {
            let provider = TestProvider::start().await;
            let key = ProviderKey::new("one", Algorithm::EdDSA);
            provider.publish(&[&key]);
            let token = key.sign(&provider.claims("alice"));
            let issuer = provider.issuer.clone();
            change.provider_token = Some((provider, token));
            format!(
                "{table}[[auth.providers]]\nissuer = \"{issuer}\"\naudience = \"signalbox\"\nuser_prefix = \"idp:\"\n"
            )
        }
        ChangedPart::Turn => {
            change.files.push(("turn_secrets", random_secret()));
            format!("{table}[[ice.turn]]\nurls = [\"turn:turn.example:3478\"]\n")
        }
        ChangedPart::Limits => format!("{table}[limits]\nroom_peers = 7\ndata = \"1KiB\"\n"),
        ChangedPart::Webhooks => {
            let receiver = WebhookReceiver::accepting().await;
            change.files.push(("webhook_secrets", WebhookConfig::new(&[], "", "").secret));
            let url = receiver.url();
            change.receiver = Some(receiver);
            format!("{table}[[webhooks.endpoints]]\nurl = \"{url}\"\n")
        }
    };
    change
}

/// Whether the change of a part is in force.
async fn is_in_force(
    part: ChangedPart,
    deployment: &FileDeployment,
    change: &PartChange,
    second_key: &str,
) -> bool {
    let (address, room) = (deployment.process.address, json!({ "room": "r", "user": "u" }));
    let key = deployment.basic_auth("backend", &deployment.api_secret);
    match part {
        ChangedPart::Origins => {
            let origin = ("Origin", "https://app.example".to_owned());
            deployment.token_status(&[key, origin], &room).await == 200
        }
        ChangedPart::Hosts => {
            let request = Request::get("/api/openapi.json").header("Host", "rtc.example:443");
            request.send(address).await.status == 200
        }
        ChangedPart::Proxies => {
            let forwarded = ("X-Forwarded-For", "203.0.113.9".to_owned());
            deployment.token_status(&[key, forwarded], &room).await == 403
        }
        ChangedPart::ApiKeys => {
            let second = deployment.basic_auth("second", second_key);
            let (old, new) = (
                deployment.token_status(&[key], &room).await,
                deployment.token_status(&[second], &room).await,
            );
            (old, new) == (401, 200)
        }
        ChangedPart::ApiKeyTables => deployment.token_status(&[key], &room).await == 403,
        ChangedPart::Guests => deployment.token_status(&[], &json!({ "room": "r" })).await == 401,
        ChangedPart::Providers => {
            let (_, token) = change.provider_token.as_ref().unwrap();
            let request = Request::post("/auth/exchange", &json!({ "token": token }));
            request.send(address).await.status == 200
        }
        ChangedPart::Turn => {
            let token = TokenBuilder::valid("r", "u").sign(&deployment.token_secret);
            let request = Request::get("/auth/ice").header("Authorization", format!("Bearer {token}"));
            request.send(address).await.text.contains("turn:turn.example:3478")
        }
        ChangedPart::Limits => {
            let user = random_hex();
            let token = TokenBuilder::valid(&format!("limits-{user}"), &user).sign(&deployment.token_secret);
            let joined = TestConnection::open(address, &token).await.into_peer().await.joined.clone();
            let limits = &joined["limits"];
            limits["roomPeers"] == 7 && limits["dataBytes"] == 1024
        }
        ChangedPart::Webhooks => {
            let room = format!("hooks-{}", random_hex());
            let token = TokenBuilder::valid(&room, "u").sign(&deployment.token_secret);
            let peer = TestConnection::open(address, &token).await.into_peer().await;
            drop(peer);
            // Whether events have come since the last look.
            let count = change.receiver.as_ref().unwrap().requests().len();
            change.seen_events.replace(count) < count
        }
    }
}

#[tokio::test]
async fn every_part_that_can_change_is_changed_by_a_reload_and_back() {
    for part in ChangedPart::ALL.iter().copied() {
        let before = format!("[auth]\nguests = true\n[api_keys.backend]\n{ALL_SCOPES}");
        let deployment = FileDeployment::start("signalbox", &before).await;
        let second_key = random_hex();
        let change = change_of(part, &second_key).await;
        let denied = Request::post("/api/denials", &json!({ "cidr": "203.0.113.9", "for": 600 }));
        let (name, key) = deployment.basic_auth("backend", &deployment.api_secret);
        denied.header(name, key).send(deployment.process.address).await.assert_status(200);

        assert!(!is_in_force(part, &deployment, &change, &second_key).await, "{part:?} before the reload");
        deployment.write("config.toml", &change.config);
        change.files.iter().for_each(|(name, text)| deployment.write(name, text));
        let line = deployment.reload("configuration_reloaded").await;
        assert!(!line.contains("changed=\"\""), "{part:?}: {line}");
        eventually(&format!("{part:?} is in force"), async || {
            is_in_force(part, &deployment, &change, &second_key).await.then_some(())
        })
        .await;

        deployment.write("config.toml", &before);
        deployment.write("api_keys", &format!("backend:{}\n", deployment.api_secret));
        change
            .files
            .iter()
            .filter(|(name, _)| *name != "api_keys")
            .for_each(|(name, _)| deployment.write(name, ""));
        deployment.reload("configuration_reloaded").await;
        eventually(&format!("{part:?} is changed back"), async || {
            (!is_in_force(part, &deployment, &change, &second_key).await).then_some(())
        })
        .await;
        deployment.process.assert_clean_log(&[&deployment.api_secret, &deployment.token_secret]);
    }
}

/// In a deployment of several services, each of them is reloaded.
#[tokio::test]
async fn every_service_of_a_deployment_changes_its_part() {
    let origin = "[server]\nallowed_origins = [\"https://app.example\"]\n[limits]\nroom_peers = 7\n";
    let auth = FileDeployment::start("auth-service", "").await;
    let node = FileDeployment::start("signal-service", "").await;
    let key = auth.basic_auth("backend", &auth.api_secret);
    let site = ("Origin", "https://app.example".to_owned());
    let room = json!({ "room": "r", "user": "u" });
    let upgrade = async || {
        let token = TokenBuilder::valid("r", &random_hex()).sign(&node.token_secret);
        let request =
            Request::upgrade(format!("/ws/signal?token={token}")).header("Origin", "https://app.example");
        request.send(node.process.address).await.status
    };
    assert_eq!((auth.token_status(&[key.clone(), site.clone()], &room).await, upgrade().await), (403, 403));
    for service in [&auth, &node] {
        service.write("config.toml", origin);
        service.reload("configuration_reloaded").await;
    }
    assert_eq!((auth.token_status(&[key, site], &room).await, upgrade().await), (200, 101));
    eventually("the limit is in force", async || {
        let user = random_hex();
        let token = TokenBuilder::valid(&user, &user).sign(&node.token_secret);
        let peer = TestConnection::open(node.process.address, &token).await.into_peer().await;
        (peer.joined["limits"]["roomPeers"] == 7).then_some(())
    })
    .await;
}

/// The auth service decides by its own copy of the limits whether a room has a place.
#[tokio::test]
async fn services_over_redis_change_the_limits_of_a_room_together_and_not_with_a_wrong_configuration() {
    let redis = TestRedis::start().await;
    let secrets = (random_secret(), random_hex());
    let config = |peers: u32| {
        format!("[limits]\nroom_peers = {peers}\nextra_moderators = 0\n[api_keys.backend]\n{ALL_SCOPES}")
    };
    let more = [("REDIS_URL", redis.url())];
    let auth = FileDeployment::start_with(secrets.clone(), "auth-service", &config(2), &more).await;
    let node = FileDeployment::start_with(secrets.clone(), "signal-service", &config(2), &more).await;
    let call = async |path: &str, body: &Value| {
        let (name, key) = auth.basic_auth("backend", &auth.api_secret);
        Request::call("POST", path, body).header(name, key).send(auth.process.address).await
    };
    call("/api/rooms", &json!({ "id": "r", "lobby": true })).await.assert_status(201);
    let open = async |user: &str, role: &str| {
        let body = json!({ "room": "r", "user": user, "role": role });
        let issued = call("/auth/token", &body).await;
        TestConnection::open(node.process.address, issued.json()["token"].as_str().unwrap()).await
    };
    let host = open("host", "host").await.into_peer().await;
    let mut waiting = Vec::new();
    for user in ["alice", "bob"] {
        let connection = open(user, "guest").await;
        waiting.push((connection.expect_waiting().await, connection));
    }
    let admit = async |peer: &str| {
        let answer = call(&format!("/api/rooms/r/participants/{peer}/admit"), &Value::Null).await;
        let code = if answer.status < 300 { Value::Null } else { answer.json()["code"].clone() };
        (answer.status, code.as_str().unwrap_or_default().to_owned())
    };
    let (alice, bob) = (&waiting[0].0, &waiting[1].0);
    assert!(admit(alice).await.0 < 300);
    let full = (409, "room_full".to_owned());
    assert_eq!(admit(bob).await, full);

    for service in [&auth, &node] {
        service.write("config.toml", &config(5_000));
        let line = service.reload("reload_refused").await;
        assert!(line.contains("limits.room_peers"), "{line}");
        assert_eq!(Request::get("/health/ready").send(service.process.address).await.status, 200);
    }
    assert_eq!(admit(bob).await, full, "the old limit is in force");

    for service in [&auth, &node] {
        service.write("config.toml", &config(3));
        let line = service.reload("configuration_reloaded").await;
        assert!(line.contains("limits.room_peers"), "{line}");
    }
    // The node puts limits in force a moment later.
    eventually("limits_changed", async || node.lines_with("limits_changed").pop()).await;
    assert!(admit(bob).await.0 < 300, "the new limit is in force");
    let (_, connection) = waiting.remove(1);
    let bob = connection.into_peer().await;
    assert_eq!((&bob.joined["limits"]["roomPeers"], host.id().is_empty()), (&json!(3), false));
}

#[tokio::test]
async fn a_wrong_configuration_changes_nothing_and_is_named() {
    for binary in BINARIES {
        let good = "[server]\nallowed_origins = [\"https://old.example\"]\n";
        let deployment = FileDeployment::start(binary, good).await;
        for (config, named) in [
            ("[limits]\nbursts = 1\n", "limits.burst"),
            ("[limits]\nburst = \"1\"\n", "limits.burst must be a whole number"),
            ("[limits\n", "line 1"),
            ("[limits]\nroom_peers = 5000\n", "limits.room_peers"),
            ("[server]\nallowed_origins = [\"https://*.app.example\"]\n", "server.allowed_origins"),
            ("[[ice.turn]]\nurls = [\"turn:turn.example\"]\n", "SIGNALBOX_TURN_SECRETS"),
            // What needs a restart must be right, too.
            ("[timing]\nping = \"1h\"\n", "timing.ping"),
        ] {
            deployment.write("config.toml", config);
            let line = deployment.reload("reload_refused").await;
            assert!(line.contains(named), "{binary}: {line}");
        }
        deployment.write("config.toml", good);
        deployment.write("api_keys", "backend:weak\n");
        let line = deployment.reload("reload_refused").await;
        assert!(line.contains("SIGNALBOX_API_KEYS"), "{binary}: {line}");
        deployment.write("api_keys", &format!("backend:{}\n", deployment.api_secret));
        fs::remove_file(deployment.folder.path().join("config.toml")).unwrap();
        let line = deployment.reload("reload_refused").await;
        assert!(line.contains("config.toml"), "{binary}: {line}");
        let live = Request::get("/health/ready").send(deployment.process.address).await;
        assert_eq!(live.status, 200, "{binary}");
    }
}

#[tokio::test]
async fn a_reload_lists_what_needs_a_restart() {
    for binary in BINARIES {
        let deployment = FileDeployment::start(binary, "").await;
        deployment.write(
            "config.toml",
            "[timing]\nping = \"20s\"\n[limits]\nburst = 500\n[log]\nformat = \"json\"\n",
        );
        deployment.write("auth_secret", &random_secret());
        let line = deployment.reload("restart_needed").await;
        for name in ["timing.ping", "log.format", "AUTH_SECRET"] {
            assert!(line.contains(name), "{binary}: {line}");
        }
        assert!(!line.contains("limits.burst"), "{binary}: {line}");
        let changed = deployment.lines_with("configuration_reloaded");
        assert!(changed[0].contains("limits.burst") && !changed[0].contains("timing"), "{changed:?}");
        // Nothing new: the list stays, and the process goes on.
        deployment.reload("restart_needed").await;
        deployment.process.assert_clean_log(&[&deployment.token_secret]);
    }
}

#[tokio::test]
async fn many_signals_while_the_process_starts_and_stops_do_not_end_it_early() {
    for binary in BINARIES {
        let secret = random_secret();
        let process = Process::launch(binary, &[("AUTH_SECRET".to_owned(), secret)]);
        // As soon as the process listens for the signal, it does not end it any more.
        eventually("the process handles SIGHUP", async || {
            let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
            (u64::from_str_radix(&caught, 16).ok()? & 1 == 1).then_some(())
        })
        .await;
        for _ in 0..20 {
            send_signal(process.pid(), "HUP");
        }
        process.wait_ready().await;
        send_signal(process.pid(), "HUP");
        process.terminate();
        let status = process.wait_exit(Duration::from_secs(20)).await;
        assert_eq!(status.code(), Some(0), "{binary}: {}", process.log());
    }
}
