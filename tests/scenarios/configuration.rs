//! A configuration cannot be misread: names of variables and settings, the sources of values,
//! missing secrets, secrets as editors write them, and the names of hosts and web sites.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use signalbox_config::{SECRET_VARIABLES, setting_names};
use signalbox_protocol::id::random_hex;
use signalbox_tests::{
    cluster::random_secret,
    http::{Request, Response},
    process::{EXIT_LIMIT, Process, ProcessOutput, run_to_exit},
    token::TokenBuilder,
};
use tempfile::TempDir;

const BINARIES: [&str; 3] = ["signalbox", "signal-service", "auth-service"];

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn check_config(binary: &str, args: &[&str], env: &[(String, String)]) -> ProcessOutput {
    run_to_exit(binary, &[args, &["--check-config"]].concat(), env, EXIT_LIMIT).await
}

fn assert_refused(ended: &ProcessOutput, words: &[&str]) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "not one line: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is missing: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_misspelt_variable_stops_every_process_with_the_right_name() {
    for binary in BINARIES {
        for (name, meant) in [
            ("SIGNALBOX_LIMITS__ROOM_PEERS", "SIGNALBOX__LIMITS__ROOM_PEERS"),
            ("SIGNALBOX_APIKEYS", "SIGNALBOX_API_KEYS"),
            ("SIGNALBOX_TURN_SECRET", "SIGNALBOX_TURN_SECRETS"),
            ("SIGNALBOX__LIMITS__BURTS", "SIGNALBOX__LIMITS__BURST"),
            ("AUTH_SECRETS", "AUTH_SECRET"),
        ] {
            let ended =
                check_config(binary, &[], &env(&[("AUTH_SECRET", &random_secret()), (name, "5")])).await;
            assert_refused(&ended, &[name, &format!("did you mean {meant}?")]);
        }
    }
    let links = env(&[
        ("AUTH_SECRET", &random_secret()),
        ("SIGNALBOX_SERVICE_HOST", "10.0.0.1"),
        ("SIGNALBOX_PORT", "tcp://10.0.0.1:8080"),
    ]);
    assert_eq!(check_config("signalbox", &[], &links).await.code, Some(0), "a Kubernetes Service");
}

#[tokio::test]
async fn a_value_of_another_kind_is_not_converted() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    let path = file.to_str().unwrap();
    for (text, named) in [
        ("[limits]\nroom_peers = \"5\"\n", "limits.room_peers must be a whole number"),
        ("[limits]\nroom_peers = 5.5\n", "limits.room_peers must be a whole number"),
        ("[limits]\nroom_peers = true\n", "limits.room_peers must be a whole number"),
        ("[auth]\ntickets_only = 1\n", "auth.tickets_only must be true or false"),
        ("[auth]\ntickets_only = \"yes\"\n", "auth.tickets_only must be true or false"),
        ("[limits]\nburts = 5\n", "did you mean limits.burst?"),
        ("[limit]\nburst = 5\n", "did you mean limits?"),
    ] {
        fs::write(&file, text).unwrap();
        assert_refused(&check_config("signalbox", &["--config", path], &[]).await, &[path, named]);
    }
    for (name, value) in [
        ("SIGNALBOX__LIMITS__ROOM_PEERS", "5.5"),
        ("SIGNALBOX__LIMITS__ROOM_PEERS", "true"),
        ("SIGNALBOX__LIMITS__ROOM_PEERS", " 5"),
        ("SIGNALBOX__AUTH__TICKETS_ONLY", "1"),
        ("SIGNALBOX__AUTH__TICKETS_ONLY", "True"),
    ] {
        assert_refused(&check_config("signalbox", &[], &env(&[(name, value)])).await, &[name]);
    }
    let two = env(&[("SIGNALBOX_LISTEN", "127.0.0.1:1"), ("SIGNALBOX__SERVER__LISTEN", "127.0.0.1:2")]);
    assert_refused(&check_config("signalbox", &[], &two).await, &["SIGNALBOX_LISTEN", "both set"]);
}

#[tokio::test]
async fn check_config_names_the_source_of_each_value() {
    let folder = TempDir::new().unwrap();
    let (file, secret_file) = (folder.path().join("config.toml"), folder.path().join("secret"));
    fs::write(&file, "[limits]\nburst = 500\nrate = 50\n[roles.guest]\npermissions = []\n").unwrap();
    fs::write(&secret_file, random_secret()).unwrap();
    let (path, secret_path) = (file.to_str().unwrap(), secret_file.to_str().unwrap());
    let variables = env(&[("AUTH_SECRET_FILE", secret_path), ("SIGNALBOX__LIMITS__RATE", "60")]);
    for binary in BINARIES {
        let args = ["--config", path, "--listen", "127.0.0.1:8080", "--workers", "3", "--guests"];
        let ended = check_config(binary, &args, &variables).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for line in [
            &format!("burst = 500  # {path}"),
            &format!("rate = 60  # SIGNALBOX__LIMITS__RATE, not {path}"),
            "room_peers = 100  # default",
            "listen = \"127.0.0.1:8080\"  # --listen",
            "workers = 3  # --workers",
            "guests = true  # --guests",
            &format!("[roles.guest]  # {path}"),
            "# AUTH_SECRET: set  (AUTH_SECRET_FILE)",
        ] {
            assert!(ended.stdout.lines().any(|found| found == line), "{line:?} is missing: {}", ended.stdout);
        }
    }
    // Each setting that has a value has a source.
    let ended = check_config("signalbox", &[], &[]).await;
    for name in setting_names() {
        let Some((_, name)) = name.split_once('.') else { continue };
        for line in ended.stdout.lines().filter(|line| line.starts_with(&format!("{name} = "))) {
            assert!(line.contains("  # ") || name == "permissions", "{line}");
        }
    }
}

#[tokio::test]
async fn check_config_reports_the_secrets_that_a_service_lacks() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    let text = "[[webhooks.endpoints]]\nurl = \"https://a.example/\"\n[[auth.providers]]\nissuer = \"app\"\naudience = \"a\"\nalgorithms = [\"HS256\"]\n";
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    for (binary, missing) in [
        ("auth-service", &["AUTH_SECRET", "SIGNALBOX_WEBHOOK_SECRETS", "SIGNALBOX_USER_SECRET"][..]),
        ("signal-service", &["AUTH_SECRET"]),
        ("signalbox", &["SIGNALBOX_WEBHOOK_SECRETS", "SIGNALBOX_USER_SECRET"]),
    ] {
        let ended = check_config(binary, &["--config", path], &[]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), missing.len(), "{ended:?}");
        for name in missing {
            assert!(ended.stderr.contains(name), "{binary}: {}", ended.stderr);
        }
        assert!(ended.stdout.contains("[limits]"), "the settings are printed, too: {ended:?}");
    }
}

/// The same secret as editors and shells write it.
fn spellings(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let utf8 = |text: String| text.into_bytes();
    vec![
        ("as it is", utf8(secret.to_owned())),
        ("with a line feed", utf8(format!("{secret}\n"))),
        ("from Windows", utf8(format!("{secret}\r\n"))),
        ("with a byte order mark", utf8(format!("\u{feff}{secret}"))),
        ("with both", utf8(format!("\u{feff}{secret}\r\n"))),
        ("with blanks", utf8(format!("  {secret}\t \n\n"))),
        ("with a no-break space", utf8(format!("{secret}\u{a0}"))),
    ]
}

/// A value that the variable accepts.
fn valid_secret(variable: &str) -> String {
    match variable {
        "SIGNALBOX_API_KEYS" => format!("shop:{}", random_hex()),
        "SIGNALBOX_WEBHOOK_SECRETS" => {
            let hex = random_secret();
            let bytes: Vec<u8> =
                (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
            format!("whsec_{}", STANDARD.encode(bytes))
        }
        "REDIS_URL" => "redis://127.0.0.1:6379/0".to_owned(),
        _ => random_secret(),
    }
}

#[tokio::test]
async fn every_secret_is_read_alike_from_a_variable_and_a_file() {
    let folder = TempDir::new().unwrap();
    let (file, config) = (folder.path().join("secret"), folder.path().join("config.toml"));
    fs::write(&config, "[[ice.turn]]\nurls = [\"turn:turn.example\"]\n").unwrap();
    for variable in SECRET_VARIABLES {
        let secret = valid_secret(variable);
        let mut args = vec![];
        let mut base = env(&[("SIGNALBOX_SESSION_KEY", &random_secret())]);
        base.retain(|(name, _)| name != variable);
        if variable == "SIGNALBOX_TURN_SECRETS" {
            args = vec!["--config", config.to_str().unwrap()];
        }
        for (spelling, bytes) in spellings(&secret) {
            fs::write(&file, &bytes).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            for (name, value) in
                [(variable.to_owned(), text), (format!("{variable}_FILE"), file.to_str().unwrap().to_owned())]
            {
                let all = [base.clone(), vec![(name.clone(), value)]].concat();
                let ended = check_config("signalbox", &args, &all).await;
                assert_eq!(ended.code, Some(0), "{name} {spelling}: {ended:?}");
            }
        }
        for (defect, bytes) in [
            ("UTF-16", secret.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
            ("a mark inside", format!("{}\u{feff}{}", &secret[..9], &secret[9..]).into_bytes()),
            ("a control character", format!("{}\u{7}{}", &secret[..9], &secret[9..]).into_bytes()),
            ("not UTF-8", [secret.as_bytes(), b"\xff"].concat()),
        ] {
            fs::write(&file, bytes).unwrap();
            let name = format!("{variable}_FILE");
            let all = [base.clone(), vec![(name.clone(), file.to_str().unwrap().to_owned())]].concat();
            let ended = check_config("signalbox", &args, &all).await;
            assert_eq!(ended.code, Some(2), "{name} {defect}: {ended:?}");
            assert!(ended.stderr.contains(&name) && !ended.stderr.contains(&secret), "{defect}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn services_with_differently_written_secrets_understand_each_other() {
    let folder = TempDir::new().unwrap();
    let (secret, key) = (random_secret(), random_hex());
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let auth_file = write("auth_secret", format!("\u{feff}{secret}\r\n"));
    let key_file = write("api_keys", format!("\u{feff}shop:{key}\r\n"));
    let auth_env = [("AUTH_SECRET_FILE", auth_file), ("SIGNALBOX_API_KEYS_FILE", key_file)];
    let auth = Process::start("auth-service", &auth_env.map(|(name, value)| (name.to_owned(), value))).await;
    let node = Process::start("signal-service", &env(&[("AUTH_SECRET", &secret)])).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("shop:{key}")));
    let request = Request::post("/auth/token", &json!({ "room": "r", "user": "u" }));
    let issued = request.header("Authorization", basic).send(auth.address).await;
    let token = issued.assert_status(200).json()["token"].as_str().unwrap().to_owned();
    let validated = Request::get("/ws/validate").header("Authorization", format!("Bearer {token}"));
    validated.send(node.address).await.assert_status(200);
}

#[tokio::test]
async fn a_list_entry_that_can_never_match_stops_every_process() {
    for binary in BINARIES {
        for (name, entry, why) in [
            ("SIGNALBOX__SERVER__ALLOWED_ORIGINS", "https://*.app.example", "list each host"),
            ("SIGNALBOX__SERVER__ALLOWED_ORIGINS", "https://app.example/", "remove the path"),
            ("SIGNALBOX__SERVER__ALLOWED_ORIGINS", "app.example", "scheme"),
            ("SIGNALBOX__SERVER__ALLOWED_ORIGINS", "wss://app.example", "https://"),
            ("SIGNALBOX__SERVER__ALLOWED_HOSTS", "*.example", "list each host"),
            ("SIGNALBOX__SERVER__ALLOWED_HOSTS", "rtc.example:443", "port"),
            ("SIGNALBOX__AUTH__GUEST_ROOMS", "..", "1 to 64"),
            ("SIGNALBOX__AUTH__GUEST_ROOMS", "b\u{fc}ro-*", "A-Z a-z 0-9 . _ ~ -"),
        ] {
            let ended =
                check_config(binary, &[], &env(&[("AUTH_SECRET", &random_secret()), (name, entry)])).await;
            assert_refused(&ended, &[why]);
        }
    }
}

#[tokio::test]
async fn every_spelling_of_a_site_is_one_site() {
    let settings = env(&[
        ("AUTH_SECRET", &random_secret()),
        ("SIGNALBOX__AUTH__GUESTS", "true"),
        ("SIGNALBOX__SERVER__ALLOWED_HOSTS", "rtc.example,2001:DB8::1,b\u{fc}ro.example"),
        (
            "SIGNALBOX__SERVER__ALLOWED_ORIGINS",
            "capacitor://localhost,tauri://localhost,https://APP.example:443,https://b\u{fc}ro.example",
        ),
    ]);
    let service = Process::start("signalbox", &settings).await;
    let secret = &settings[0].1;
    for (host, origin, is_allowed) in [
        ("rtc.example:443", "https://rtc.example", true),
        ("rtc.example", "https://rtc.example:443", true),
        ("RTC.example.", "https://rtc.example", true),
        ("rtc.example:80", "http://rtc.example", true),
        ("rtc.example:80", "https://rtc.example", false),
        ("[2001:db8:0:0::1]:443", "https://[2001:db8::1]", true),
        ("xn--bro-hoa.example", "https://xn--bro-hoa.example", true),
        ("rtc.example", "https://xn--bro-hoa.example", true),
        ("rtc.example", "https://app.example", true),
        ("rtc.example", "capacitor://localhost", true),
        ("rtc.example", "tauri://localhost", true),
        ("rtc.example", "ionic://localhost", false),
        ("rtc.example", "https://www.app.example", false),
        ("rtc.example", "null", false),
    ] {
        let request = Request::post("/auth/token", &json!({ "room": "r" }));
        let answer = request.header("Host", host).header("Origin", origin).send(service.address).await;
        let token = TokenBuilder::valid("r", "u").sign(secret);
        let upgrade = Request::upgrade(format!("/ws/signal?token={token}"));
        let upgraded = upgrade.header("Host", host).header("Origin", origin).send(service.address).await;
        if is_allowed {
            answer.assert_status(200);
            upgraded.assert_status(101);
        } else {
            answer.assert_problem(403, "origin_not_allowed");
            upgraded.assert_problem(403, "origin_not_allowed");
        }
    }
}

/// All paths that a process serves with GET: those of the API document, the files of the page and
/// of the client, and the fixed ones.
async fn served_paths(service: &Process) -> Vec<String> {
    let document = Request::get("/api/openapi.json").send(service.address).await.json();
    let documented = document["paths"].as_object().unwrap().iter();
    let documented = documented.filter(|(_, operations)| operations.get("get").is_some());
    let mut paths: Vec<String> = documented.map(|(path, _)| path.replace("{room}", "r")).collect();
    paths.extend(
        ["/", "/health/live", "/health/ready", "/ws/validate", "/ws/signal", "/ws/events"].map(str::to_owned),
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for entry in fs::read_dir(root.join("clients/js/src")).unwrap().map(Result::unwrap) {
        paths.push(format!("/client/{}", entry.file_name().to_str().unwrap()));
    }
    // The page names its other files, whose names have a hash.
    let page = Request::get("/").send(service.address).await.text;
    let quoted = page.split('"').filter(|text| text.contains('-') && text.contains('.'));
    let is_file_name =
        |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    paths.extend(quoted.filter(is_file_name).map(|name| format!("/{name}")));
    paths
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let settings = env(&[("AUTH_SECRET", &random_secret()), ("SIGNALBOX__AUTH__GUESTS", "true")]);
    let service = Process::start("signalbox", &settings).await;
    let paths = served_paths(&service).await;
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        let get = Request::get(&path).send(service.address).await;
        let head = Request::call("HEAD", &path, &Value::Null).send(service.address).await;
        assert_eq!(head.status, get.status, "{path}: {}", head.text);
        assert_ne!(head.status, 405, "{path}");
        assert_eq!(head.body(), "", "{path}");
        for name in ["content-type", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path}");
        }
    }
    let metrics = Request::call("HEAD", "/metrics", &Value::Null).send(service.metrics_address).await;
    metrics.assert_status(200);
    let refused = Request::call("DELETE", "/health/live", &Value::Null).send(service.address).await;
    refused.assert_problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
}

#[tokio::test]
async fn health_checks_answer_under_any_host() {
    for binary in BINARIES {
        let settings =
            env(&[("AUTH_SECRET", &random_secret()), ("SIGNALBOX__SERVER__ALLOWED_HOSTS", "rtc.example")]);
        let service = Process::launch(binary, &settings);
        let ask = async |path: &str, host: &str| -> Response {
            signalbox_tests::net::eventually("an answer", async || {
                Request::get(path).header("Host", host).try_send(service.address).await
            })
            .await
        };
        for host in ["localhost", "10.0.0.7:8080", "signal-1", "rtc.example", ""] {
            for path in ["/health/live", "/health/ready"] {
                ask(path, host).await.assert_status(200);
            }
        }
        ask("/nothing", "10.0.0.7").await.assert_problem(403, "host_not_allowed");
        ask("/nothing", "rtc.example:443").await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_logged_refusal_says_what_to_add_and_is_bounded() {
    let settings = env(&[
        ("AUTH_SECRET", &random_secret()),
        ("SIGNALBOX__SERVER__ALLOWED_HOSTS", "rtc.example,127.0.0.1"),
    ]);
    for binary in BINARIES {
        let service = Process::start(binary, &settings).await;
        let refused = async |host: &str, origin: &str| {
            let path = if binary == "signal-service" { "/ws/validate" } else { "/auth/token" };
            let token = TokenBuilder::valid("r", "u").sign(&settings[0].1);
            let request = Request::call(
                if binary == "signal-service" { "GET" } else { "POST" },
                path,
                &if binary == "signal-service" { Value::Null } else { json!({ "room": "r" }) },
            );
            let request = request.header("Authorization", format!("Bearer {token}"));
            request.header("Host", host).header("Origin", origin).send(service.address).await
        };
        for _ in 0..3 {
            let answer = refused("rtc.example", "https://App.example:443").await;
            answer.assert_problem(403, "origin_not_allowed");
            refused("other.example:8080", "https://rtc.example")
                .await
                .assert_problem(403, "host_not_allowed");
        }
        for number in 0..60 {
            refused("rtc.example", &format!("https://{number}.example")).await.assert_status(403);
        }
        let count = |text: &str| service.log().lines().filter(|line| line.contains(text)).count();
        // A thread writes the log, so its lines come later than the answers.
        for field in ["code=\"origin_not_allowed\"", "remedy=\"add the web site to server.allowed_origins\""]
        {
            signalbox_tests::net::eventually(field, async || (count(field) >= 63).then_some(())).await;
        }
        let origin = "origin_not_allowed origin=https://app.example (add it to server.allowed_origins; if it is the address of this server, let the proxy pass Host)";
        assert_eq!(count(origin), 1, "{binary}: {}", service.log());
        let host = "host_not_allowed host=other.example (add it to server.allowed_hosts)";
        assert_eq!(count(host), 1, "{binary}: {}", service.log());
        assert!(count("add it to server.allowed_origins") <= 20, "{binary}: not bounded");
    }
}
