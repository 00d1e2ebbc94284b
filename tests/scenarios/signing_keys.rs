//! Rotation of signing keys, and an outage of the auth service. Neither closes a socket or refuses
//! a valid token.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use signalbox_config::LoadedConfig;
use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    keyed_cluster::KeyedCluster,
    net::{eventually, free_address},
    peer::{TestConnection, TestPeer},
    process::{EXIT_LIMIT, Process, run_to_exit},
    test_pki::TestPki,
    tls_front::TlsFront,
    token::TokenBuilder,
};

fn kid_of(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

async fn join(node: &Process, token: &str) -> TestPeer {
    TestConnection::open(node.address, token).await.into_peer().await
}

/// Two peers on different nodes exchange messages in order until `stop` is set. Returns the number
/// of messages.
async fn exchange_until(cluster: &KeyedCluster, stop: &AtomicBool) -> u64 {
    let alice = join(&cluster.nodes[0], &cluster.issue("talk", "alice").await).await;
    let bob = join(&cluster.nodes[1], &cluster.issue("talk", "bob").await).await;
    alice.next_of_type("peer-joined").await;
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        alice.message(&bob, json!(count)).await;
        assert_eq!(bob.next_message().await.data, Some(json!(count)));
        count += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count
}

/// Joins and leaves with a new token each time, until `stop` is set. Returns the key ids of the
/// tokens.
async fn join_and_leave_until(cluster: &KeyedCluster, number: usize, stop: &AtomicBool) -> Vec<String> {
    let mut kids = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let token = cluster.issue(&format!("room-{number}"), &format!("user-{number}")).await;
        kids.push(kid_of(&token));
        join(&cluster.nodes[kids.len() % 2], &token).await.leave().await;
    }
    kids
}

async fn refused_upgrades(cluster: &KeyedCluster) -> String {
    let mut refused = String::new();
    for node in &cluster.nodes {
        let text = Request::get("/metrics").send(node.metrics_address).await.text;
        let lines = text.lines().filter(|line| line.starts_with("signalbox_refused_upgrades_total{"));
        refused.extend(lines.map(|line| format!("{line}\n")));
    }
    refused
}

#[tokio::test]
async fn rotating_the_signing_key_under_load_closes_no_socket_and_refuses_no_token() {
    let cluster = KeyedCluster::start(&[("AUTH__JWKS_TTL", "1s")]).await;
    let stop = AtomicBool::new(false);
    let before = cluster.issue("before", "zoe").await;
    let rotations = async {
        let mut kid = kid_of(&before);
        for alg in ["ES256", "EdDSA"] {
            cluster.keys_command(&["rotate", "--alg", alg]).await;
            eventually("another key signs", async || {
                let now = kid_of(&cluster.issue("probe", "probe").await);
                (now != kid).then(|| kid = now)
            })
            .await;
            // A node might not have loaded a new key when its first tokens arrive.
            for number in 0..20 {
                let token = cluster.issue("fresh", &format!("fresh-{number}")).await;
                join(&cluster.nodes[number % 2], &token).await.leave().await;
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (messages, kids, ()) = tokio::join!(
        exchange_until(&cluster, &stop),
        join_all((0..4).map(|number| join_and_leave_until(&cluster, number, &stop))),
        rotations
    );
    let joins: usize = kids.iter().map(Vec::len).sum();
    let kids: BTreeSet<_> = kids.into_iter().flatten().collect();
    assert_eq!(kids.len(), 3, "each of the three keys has signed: {kids:?}");
    assert!(messages > 100 && joins > 100, "not enough load: {messages} messages, {joins} joins");
    for node in &cluster.nodes {
        join(node, &before).await.leave().await;
    }
    assert_eq!(refused_upgrades(&cluster).await, "");
    assert_eq!(cluster.published_key_ids().await.len(), 3);
    let list = cluster.keys_command(&["list"]).await.stdout;
    let states = ["retiring", "retiring", "signing"];
    assert!(list.lines().skip(1).zip(states).all(|(line, state)| line.contains(state)), "{list}");
    cluster.audit();
}

/// Sends an upgrade with a token of an unknown key while the keys cannot be fetched: the token may be
/// valid. Returns the time until the answer.
async fn time_answer_to_unknown_key(node: &Process) -> Duration {
    let token = TokenBuilder::valid("r", "mallory").kid("unknown").sign_ed25519();
    let start = Instant::now();
    Request::upgrade(format!("/ws/signal?token={token}"))
        .send(node.address)
        .await
        .assert_problem(503, "unavailable");
    start.elapsed()
}

#[tokio::test]
async fn during_an_auth_outage_sockets_work_known_keys_join_and_unknown_keys_are_told_to_retry() {
    let long = LoadedConfig::read_environment().contains_key("SIGNALBOX_TEST_LONG");
    let outage = Duration::from_secs(if long { 30 } else { 6 });
    let mut cluster = KeyedCluster::start(&[("AUTH__JWKS_TTL", "2s")]).await;
    let alice = join(&cluster.nodes[0], &cluster.issue("talk", "alice").await).await;
    let bob = join(&cluster.nodes[1], &cluster.issue("talk", "bob").await).await;
    alice.next_of_type("peer-joined").await;
    let tokens: Vec<_> =
        join_all((0..100).map(|user| cluster.issue("late", Box::leak(format!("u{user}").into_boxed_str()))))
            .await;
    drop(cluster.auth.take());

    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    while start.elapsed() < outage {
        alice.message(&bob, json!("still here")).await;
        assert_eq!(bob.next_message().await.data, Some(json!("still here")));
        // Many concurrent upgrades, because they share one throttled refresh of the key set.
        let upgrades = (0..20).map(|number| time_answer_to_unknown_key(&cluster.nodes[number % 2]));
        slowest = slowest.max(join_all(upgrades).await.into_iter().max().unwrap());
    }
    assert!(slowest < Duration::from_secs(1), "an unknown key was answered after {slowest:?}");
    let peers =
        join_all(tokens.iter().enumerate().map(|(number, token)| join(&cluster.nodes[number % 2], token)));
    assert_eq!(peers.await.len(), 100);
    let age_s = cluster.nodes[0].metric("signalbox_jwks_age_seconds").await;
    assert!(age_s >= outage.as_secs_f64() - 2.0, "{age_s}");
    for node in &cluster.nodes {
        assert_eq!(Request::get("/health/ready").send(node.address).await.status, 200);
        let warnings = node.log().lines().filter(|line| line.contains("jwks_unavailable")).count();
        assert_eq!(warnings, 1, "one warning for each change of state");
    }

    cluster.start_auth().await;
    eventually("the nodes have loaded the key set again", async || {
        let mut fresh = true;
        for node in &cluster.nodes {
            fresh &= node.metric("signalbox_jwks_age_seconds").await < 2.0;
        }
        fresh.then_some(())
    })
    .await;
    cluster.audit();
}

#[tokio::test]
async fn the_first_token_of_a_key_rotated_without_delay_is_accepted() {
    let cluster = KeyedCluster::start(&[("AUTH__JWKS_TTL", "1h")]).await;
    let old = kid_of(&cluster.issue("r", "alice").await);
    // Wait until the throttle lets the nodes load the key set again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.keys_command(&["rotate", "--now"]).await;
    let token = eventually("the new key signs", async || {
        let token = cluster.issue("r", "alice").await;
        (kid_of(&token) != old).then_some(token)
    })
    .await;
    for node in &cluster.nodes {
        join(node, &token).await.leave().await;
    }
    assert_eq!(refused_upgrades(&cluster).await, "");
    cluster.audit();
}

#[tokio::test]
async fn a_node_without_keys_becomes_ready_when_it_has_loaded_them() {
    let mut cluster = KeyedCluster::prepare(&[("AUTH__JWKS_TTL", "2s")]).await;
    let node = Process::launch("signal-service", &cluster.node_env());
    eventually("the node answers", async || {
        let ready = Request::get("/health/ready").try_send(node.address).await?;
        ready.assert_problem(503, "unavailable");
        Some(())
    })
    .await;
    let token = TokenBuilder::valid("r", "alice").kid("any").sign_ed25519();
    let upgrade = Request::upgrade(format!("/ws/signal?token={token}"));
    eventually("the node waits only for its keys", async || {
        let answer = upgrade.send(node.address).await;
        answer.assert_problem(503, "unavailable");
        answer.text.contains("keys").then_some(())
    })
    .await;
    cluster.start_auth().await;
    node.wait_ready().await;
    join(&node, &cluster.issue("r", "alice").await).await.leave().await;
    upgrade.send(node.address).await.assert_problem(401, "token_bad_signature");
    cluster.nodes.push(node);
    cluster.audit();
}

#[tokio::test]
async fn a_key_set_behind_a_private_authority_is_trusted_only_with_its_ca_file() {
    let mut cluster = KeyedCluster::prepare(&[("AUTH__JWKS_TTL", "2s")]).await;
    cluster.start_auth().await;
    let pki = TestPki::generate();
    let front = TlsFront::start(&pki, cluster.auth_address).await;
    let mut env = cluster.node_env();
    env.push(("SIGNALBOX__AUTH__JWKS_URL".to_owned(), format!("{}/.well-known/jwks.json", front.url)));
    let without = Process::launch("signal-service", &env);
    eventually("the node says what is missing", async || {
        let log = without.log();
        (log.contains("jwks_unavailable") && log.contains("http_client.ca_file")).then_some(())
    })
    .await;
    Request::get("/health/ready").send(without.address).await.assert_problem(503, "unavailable");
    env.push(("SIGNALBOX__HTTP_CLIENT__CA_FILE".to_owned(), pki.file("ca.crt").display().to_string()));
    let node = Process::start("signal-service", &env).await;
    join(&node, &cluster.issue("r", "alice").await).await.leave().await;
    cluster.nodes.extend([without, node]);
    cluster.audit();
}

#[tokio::test]
async fn a_token_signed_with_a_shared_secret_is_refused_where_none_is_configured() {
    let cluster = KeyedCluster::start(&[]).await;
    for secret in [random_secret(), cluster.published_key_ids().await.remove(0)] {
        let token = TokenBuilder::valid("r", "mallory").sign(&secret);
        for node in &cluster.nodes {
            let answer = Request::upgrade(format!("/ws/signal?token={token}")).send(node.address).await;
            answer.assert_problem(401, "token_wrong_algorithm");
        }
    }
    cluster.audit();
}

#[tokio::test]
async fn the_all_in_one_process_signs_with_a_folder_of_keys() {
    let cluster = KeyedCluster::prepare(&[]).await;
    let secret = random_secret();
    for (has_secret, status) in [(false, 401), (true, 101)] {
        let mut env = vec![
            ("SIGNALBOX__AUTH__KEYS_DIR".to_owned(), cluster.keys_dir.display().to_string()),
            ("SIGNALBOX__AUTH__GUESTS".to_owned(), "true".to_owned()),
        ];
        if has_secret {
            env.push(("AUTH_SECRET".to_owned(), secret.clone()));
        }
        let process = Process::start("signalbox", &env).await;
        let answer = Request::post("/auth/token", &json!({ "room": "r" })).send(process.address).await;
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        let key_set = Request::get("/.well-known/jwks.json").send(process.address).await;
        assert_eq!(key_set.json()["keys"][0]["kid"], kid_of(&token));
        join(&process, &token).await.leave().await;
        let by_secret = TokenBuilder::valid("r", "app").sign(&secret);
        let answer = Request::upgrade(format!("/ws/signal?token={by_secret}")).send(process.address).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}

#[tokio::test]
async fn errors_in_the_key_settings_are_reported_at_boot() {
    let cluster = KeyedCluster::prepare(&[]).await;
    let folder = cluster.keys_dir.display().to_string();
    let run_and_fail = async |binary: &str, pairs: &[(&str, &str)]| {
        let env: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let listen = free_address().to_string();
        let ended = run_to_exit(binary, &["--listen", &listen], &env, EXIT_LIMIT).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        ended.stderr
    };
    let url = ("SIGNALBOX__AUTH__JWKS_URL", "http://127.0.0.1:1/.well-known/jwks.json");
    let stderr = run_and_fail("signal-service", &[url]).await;
    assert!(stderr.contains("SIGNALBOX_SESSION_KEY is not set"), "{stderr}");
    let stderr = run_and_fail("signal-service", &[url, ("SIGNALBOX__AUTH__JWKS_FILE", "/x")]).await;
    assert!(stderr.contains("auth.jwks_file are both set"), "{stderr}");
    let stderr = run_and_fail("signal-service", &[(url.0, "ftp://x")]).await;
    assert!(stderr.contains("auth.jwks_url must be like"), "{stderr}");
    let stderr = run_and_fail("signalbox", &[url]).await;
    assert!(stderr.contains("auth.keys_dir"), "{stderr}");

    let keys = ("SIGNALBOX__AUTH__KEYS_DIR", folder.as_str());
    std::fs::set_permissions(&cluster.keys_dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    for binary in ["auth-service", "signalbox"] {
        let stderr = run_and_fail(binary, &[keys]).await;
        assert!(stderr.contains("open to others (mode 755)") && stderr.contains("chmod 700"), "{stderr}");
    }
    std::fs::set_permissions(&cluster.keys_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(&cluster.keys_dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let stderr = run_and_fail("auth-service", &[keys]).await;
    assert!(stderr.contains("signalbox keys new"), "{stderr}");
}
