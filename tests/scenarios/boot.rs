//! Configurations that are refused at boot: the error is one line that names the setting and never
//! repeats a secret.

use std::{io::Write as _, net::TcpListener, time::Duration};

use serde_json::json;
use signalbox_protocol::id::random_hex;
use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    net::{free_address, within},
    process::{EXIT_LIMIT, Process, ProcessOutput, run_to_exit},
    test_redis::TestRedis,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const BINARIES: [&str; 3] = ["signalbox", "signal-service", "auth-service"];

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn assert_one_line(ended: &ProcessOutput, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let lines: Vec<_> =
        ended.stderr.lines().filter(|line| !line.contains(" WARN ") && !line.contains(" INFO ")).collect();
    assert_eq!(lines.len(), 1, "not one line: {ended:?}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is missing: {}", lines[0]);
    }
}

#[tokio::test]
async fn every_service_refuses_to_start_with_a_weak_secret() {
    let repeated = "0123456789abcdefg".repeat(2);
    let short = &random_secret()[..62];
    let ordered = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let rows = [
        (short, "32 random bytes"),
        (&repeated, "repeated"),
        ("this-is-my-super-secret-key-0123456789", "known example"),
        ("qwertyuiopasdfghjklzxcvbnm1234567890", "known example"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaabcdefghij", "32 random bytes"),
        ("our conference key, 2026: do not share it!!", "hexadecimal or base64"),
        (ordered, "order of the alphabet"),
    ];
    for binary in BINARIES {
        for name in ["AUTH_SECRET", "AUTH_SECRET_PREVIOUS"] {
            for (secret, reason) in rows {
                let listen = free_address().to_string();
                let ended =
                    run_to_exit(binary, &["--listen", &listen], &env(&[(name, secret)]), EXIT_LIMIT).await;
                assert_one_line(&ended, 2, &[name, reason, "openssl rand"]);
                let output = format!("{}{}", ended.stdout, ended.stderr);
                assert!(!output.contains(secret), "{binary} repeats the secret: {output}");
            }
        }
    }
}

#[tokio::test]
async fn the_error_for_a_weak_api_key_names_the_key_without_its_secret() {
    for binary in BINARIES {
        let ended =
            run_to_exit(binary, &[], &env(&[("SIGNALBOX_API_KEYS", "backend:hunter2hunter2")]), EXIT_LIMIT)
                .await;
        assert_one_line(&ended, 2, &["SIGNALBOX_API_KEYS", "`backend`"]);
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
}

#[tokio::test]
async fn services_do_not_start_without_a_secret() {
    for binary in ["signal-service", "auth-service"] {
        let listen = free_address().to_string();
        let ended = run_to_exit(binary, &["--listen", &listen], &[], EXIT_LIMIT).await;
        assert_one_line(&ended, 2, &["AUTH_SECRET is not set", "openssl rand"]);
    }
    let listen = format!("0.0.0.0:{}", free_address().port());
    let ended = run_to_exit("signalbox", &["--listen", &listen], &[], EXIT_LIMIT).await;
    assert_one_line(&ended, 2, &["AUTH_SECRET is not set", "loopback"]);
}

#[tokio::test]
async fn the_error_for_an_occupied_port_names_the_port() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = occupied.local_addr().unwrap().to_string();
    for binary in BINARIES {
        let secret = random_secret();
        let ended =
            run_to_exit(binary, &["--listen", &listen], &env(&[("AUTH_SECRET", &secret)]), EXIT_LIMIT).await;
        assert_one_line(&ended, 1, &[&listen, "the port is taken", "--listen"]);
    }
}

#[tokio::test]
async fn the_error_for_an_invalid_flag_or_setting_names_it() {
    for binary in BINARIES {
        let ended = run_to_exit(binary, &["--lisen", "127.0.0.1:1"], &[], EXIT_LIMIT).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("--lisen"), "{ended:?}");
        let ended = run_to_exit(binary, &[], &env(&[("SIGNALBOX__LIMITS__BURTS", "10")]), EXIT_LIMIT).await;
        assert_one_line(&ended, 2, &["burts"]);
        let ended = run_to_exit(binary, &[], &env(&[("SIGNALBOX__TIMING__PING", "25")]), EXIT_LIMIT).await;
        assert_one_line(&ended, 2, &["SIGNALBOX__TIMING__PING"]);
        let ended =
            run_to_exit(binary, &[], &env(&[("SIGNALBOX__LIMITS__ROOM_PEERS", "5000")]), EXIT_LIMIT).await;
        assert_one_line(&ended, 2, &["limits.room_peers", "1000"]);
        let ended = run_to_exit(binary, &["--config", "/nowhere/signalbox.toml"], &[], EXIT_LIMIT).await;
        assert_one_line(&ended, 2, &["/nowhere/signalbox.toml"]);
        let ended = run_to_exit(binary, &["--redis", "http://127.0.0.1:1"], &[], EXIT_LIMIT).await;
        assert_one_line(&ended, 2, &["REDIS_URL", "redis://"]);
    }
}

#[tokio::test]
async fn check_config_prints_the_effective_settings_without_secrets() {
    let (secret, previous, key, password) = (random_secret(), random_secret(), random_hex(), random_hex());
    let env = env(&[
        ("AUTH_SECRET", &secret),
        ("AUTH_SECRET_PREVIOUS", &previous),
        ("SIGNALBOX_API_KEYS", &format!("backend:{key}")),
        ("REDIS_URL", &format!("redis://user:{password}@127.0.0.1:6379/0")),
        ("SIGNALBOX__LIMITS__ROOM_PEERS", "7"),
    ]);
    for binary in BINARIES {
        let ended = run_to_exit(binary, &["--check-config"], &env, EXIT_LIMIT).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.stdout.contains("room_peers = 7") && ended.stdout.contains("AUTH_SECRET: set"),
            "{ended:?}"
        );
        let output = format!("{}{}", ended.stdout, ended.stderr);
        for value in [&secret, &previous, &key, &password] {
            assert!(!output.contains(value.as_str()), "{binary} prints a secret");
        }
    }
}

#[tokio::test]
async fn ice_servers_that_browsers_refuse_stop_every_service() {
    let rows = [
        ("servers = [{ urls = ['stun:h:3478?transport=udp'] }]", "a stun: URL has no ?transport"),
        ("servers = [{ urls = ['stun:h:0'] }]", "from 1 to 65535"),
        ("servers = [{ urls = ['stun:good', 'stun:h:99999'] }]", "from 1 to 65535"),
        ("servers = [{ urls = ['turn:h'] }]", "username and credential"),
        ("servers = [{ urls = [] }]", "without urls"),
        ("turn = [{ urls = ['turn:h?transport=sctp'] }]", "transport=udp or transport=tcp"),
        ("turn = [{ urls = ['turn:h:0'] }]", "from 1 to 65535"),
    ];
    let secret = random_secret();
    for (setting, reason) in rows {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "[ice]\n{setting}\n").unwrap();
        let config = file.path().to_str().unwrap();
        for binary in BINARIES {
            let listen = free_address().to_string();
            let arguments = ["--config", config, "--listen", &listen];
            let ended = run_to_exit(binary, &arguments, &env(&[("AUTH_SECRET", &secret)]), EXIT_LIMIT).await;
            assert_one_line(&ended, 2, &["ice.", reason]);
        }
    }
}

#[tokio::test]
async fn the_all_in_one_process_starts_without_configuration() {
    let node = Process::start("signalbox", &[]).await;
    let answer = Request::post("/auth/token", &json!({"room": "r"})).send(node.address).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let target = format!("/ws/signal?token={}", answer.json()["token"].as_str().unwrap());
    assert_eq!(Request::upgrade(target).send(node.address).await.status, 101);
    assert_eq!(Request::get("/").send(node.address).await.status, 200);
    node.assert_clean_log(&[]);
}

#[tokio::test]
async fn a_redis_server_that_evicts_keys_is_refused_at_boot() {
    let redis = TestRedis::with_policy("allkeys-lru").await;
    let secret = random_secret();
    for binary in ["signal-service", "signalbox"] {
        let listen = free_address().to_string();
        let env = env(&[("AUTH_SECRET", &secret), ("REDIS_URL", &redis.url())]);
        let ended = run_to_exit(binary, &["--listen", &listen], &env, EXIT_LIMIT).await;
        assert_one_line(&ended, 1, &["maxmemory-policy allkeys-lru", "noeviction"]);
    }
}

#[tokio::test]
async fn an_unreachable_redis_server_fails_the_boot_within_its_deadline() {
    let secret = random_secret();
    // The port is free, so every connection is refused immediately.
    let url = format!("redis://user:{}@{}/0", random_hex(), free_address());
    let env = env(&[("AUTH_SECRET", &secret), ("REDIS_URL", &url)]);
    let listen = free_address().to_string();
    let ended = run_to_exit("signal-service", &["--listen", &listen], &env, Duration::from_secs(13)).await;
    assert_one_line(&ended, 1, &["Redis did not answer", "is it running"]);
    let password = url.split(['/', ':', '@']).nth(4).unwrap();
    assert!(password.len() == 32 && !ended.stderr.contains(password), "{ended:?}");
}

#[tokio::test]
async fn metrics_have_an_address_of_their_own() {
    for binary in BINARIES {
        let secret = random_secret();
        let service = Process::start(binary, &env(&[("AUTH_SECRET", &secret)])).await;
        for path in ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/auth/../metrics"] {
            let answer = Request::get(path).send(service.address).await;
            assert!(
                answer.status >= 400 && !answer.text.contains("# TYPE"),
                "{binary} {path}: {}",
                answer.text
            );
        }
        let answer = Request::get("/metrics").send(service.metrics_address).await;
        assert!(answer.status == 200 && answer.text.contains("# TYPE"), "{binary}: {}", answer.text);
        for path in ["/", "/health/live", "/auth/token", "/ws/signal"] {
            Request::get(path).send(service.metrics_address).await.assert_problem(404, "not_found");
        }
        let foreign = Request::get("/metrics").header("Host", "rebound.example");
        foreign.send(service.metrics_address).await.assert_problem(403, "host_not_allowed");
        let taken = service.metrics_address.to_string();
        let second = env(&[("AUTH_SECRET", &secret), ("SIGNALBOX__SERVER__METRICS_LISTEN", &taken)]);
        let ended =
            run_to_exit(binary, &["--listen", &free_address().to_string()], &second, EXIT_LIMIT).await;
        assert_one_line(&ended, 1, &[&taken, "the port is taken"]);
        let same = free_address().to_string();
        let shared = env(&[("AUTH_SECRET", &secret), ("SIGNALBOX__SERVER__METRICS_LISTEN", &same)]);
        let ended = run_to_exit(binary, &["--listen", &same], &shared, EXIT_LIMIT).await;
        assert_one_line(&ended, 2, &["server.metrics_listen"]);
    }
}

/// Each header is one that a proxy on the same machine leaves.
#[tokio::test]
async fn guests_need_no_setting_only_on_this_machine() {
    let token = || Request::post("/auth/token", &json!({"room": "r"}));
    let service = Process::start("signalbox", &[]).await;
    let port = service.address.port();
    assert_eq!(token().send(service.address).await.status, 200);
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let page = token()
            .header("Host", format!("{host}:{port}"))
            .header("Origin", format!("http://{host}:{port}"));
        assert_eq!(page.send(service.address).await.status, 200, "{host}");
    }
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "rtc.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9"),
        ("Via", "1.1 edge"),
    ] {
        token().header(name, value).send(service.address).await.assert_problem(401, "guests_off");
    }
    let old =
        String::from_utf8(token().to_bytes(service.address)).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    let mut stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
    stream.write_all(old.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("guests_off"), "a proxy without settings speaks HTTP/1.0: {answer}");
    token().header("Host", "rtc.example").send(service.address).await.assert_problem(403, "host_not_allowed");

    for settings in [
        [("SIGNALBOX__SERVER__ALLOWED_HOSTS", "rtc.example,127.0.0.1")],
        [("SIGNALBOX__SERVER__ALLOWED_ORIGINS", "https://rtc.example")],
        [("SIGNALBOX__SERVER__TRUSTED_PROXIES", "127.0.0.1")],
    ] {
        let behind_proxy = Process::start("signalbox", &env(&settings)).await;
        token().send(behind_proxy.address).await.assert_problem(401, "guests_off");
        let chosen = [settings[0], ("SIGNALBOX__AUTH__GUESTS", "true")];
        let chosen = Process::start("signalbox", &env(&chosen)).await;
        let forwarded = token().header("X-Forwarded-For", "203.0.113.9");
        assert_eq!(forwarded.send(chosen.address).await.status, 200, "{settings:?}");
    }
}

#[tokio::test]
async fn a_post_that_upgrades_is_answered_at_once() {
    for binary in BINARIES {
        let secret = random_secret();
        let service = Process::start(binary, &env(&[("AUTH_SECRET", &secret)])).await;
        for upgrade in ["websocket", "WebSocket", "h2c, websocket"] {
            for path in ["/auth/token", "/ws/signal", "/nothing"] {
                let request = Request::post(path, &json!({"room": "r"}));
                let request = request.header("Connection", "Upgrade").header("Upgrade", upgrade);
                let started = std::time::Instant::now();
                let answer = request.send(service.address).await;
                assert!(started.elapsed() < Duration::from_secs(3), "{binary} {path}");
                // The head of a request for `/ws/signal` may be refused before.
                assert!([400, 401].contains(&answer.status), "{binary} {path}: {}", answer.text);
            }
        }
        let h2c = Request::post("/auth/token", &json!({"room": "r"}));
        let h2c = h2c
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("Upgrade", "h2c")
            .header("HTTP2-Settings", "");
        assert_ne!(h2c.send(service.address).await.status, 400, "{binary}: an offer of HTTP/2 is ignored");
    }
}
