//! Webhooks report room events over HTTP: signed, in order, and retried after failures and
//! restarts.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::Request,
    net::{eventually, eventually_within},
    peer::TestConnection,
    process::Process,
    webhook_receiver::{WebhookConfig, WebhookReceiver, WebhookReply, WebhookRequest},
};

const SHORT_LIMIT: Duration = Duration::from_secs(15);
/// Long enough for a lease to expire and for another attempt.
const LONG_LIMIT: Duration = Duration::from_secs(40);

async fn start(store: StoreKind, hooks: &WebhookConfig) -> TestCluster {
    TestCluster::start_with(store, &[], &hooks.env()).await
}

/// A user joins a room and leaves it.
async fn join_and_leave(cluster: &TestCluster, room: &str, user: &str) {
    cluster.room(room).join(user).await.leave().await;
}

fn expected_visit(room: &str, user: &str) -> Vec<String> {
    [
        format!("room-opened {room}"),
        format!("peer-joined {room} {user}"),
        format!("peer-left {room} {user}"),
        format!("room-closed {room}"),
    ]
    .into()
}

fn events_of_room(received: &[WebhookRequest], room: &str) -> Vec<String> {
    let events = received.iter().filter(|received| received.event["room"] == room);
    events.map(WebhookRequest::summary).collect()
}

async fn fetch_dead_letters(cluster: &TestCluster) -> Vec<Value> {
    let request = Request::get("/api/webhooks/dead").header("Authorization", cluster.basic_auth());
    let answer = request.send(cluster.auth_address()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["dead"].as_array().unwrap().clone()
}

async fn replay_dead_letters(cluster: &TestCluster, selection: Value) -> u64 {
    let request =
        Request::post("/api/webhooks/replay", &selection).header("Authorization", cluster.basic_auth());
    let answer = request.send(cluster.auth_address()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["replayed"].as_u64().unwrap()
}

/// Verifies the signature with Node's crypto module, an independent implementation.
fn has_valid_signature(received: &WebhookRequest, secret: &str) -> bool {
    const CHECK: &str = "
        const { createHmac, timingSafeEqual } = require('node:crypto');
        const { id, timestamp, body, signature, secret } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
        const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
        const expected = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest();
        const given = signature.split(' ').map((part) => part.split(',')).filter(([version]) => version === 'v1');
        const matches = given.some(([, text]) => timingSafeEqual(Buffer.from(text, 'base64'), expected));
        process.exit(matches ? 0 : 1);";
    let mut node = Command::new("node").args(["-e", CHECK]).stdin(Stdio::piped()).spawn().expect("node");
    let input = json!({"id": received.id, "timestamp": received.timestamp, "body": received.body,
        "signature": received.signature, "secret": secret});
    node.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    node.wait().unwrap().success()
}

#[tokio::test]
async fn events_are_sent_signed_and_in_order() {
    for store in [StoreKind::Memory, StoreKind::Redis(2)] {
        let receiver = WebhookReceiver::accepting().await;
        let hooks = WebhookConfig::new(&[&receiver], "", "");
        let cluster = start(store, &hooks).await;
        join_and_leave(&cluster, "stand-up", "alice").await;
        let received = receiver.wait_for_events(SHORT_LIMIT, 4).await;
        assert_eq!(events_of_room(&received, "stand-up"), expected_visit("stand-up", "alice"));
        for received in &received {
            assert!(has_valid_signature(received, &hooks.secret), "{received:?}");
            assert!(!has_valid_signature(
                &WebhookRequest { body: format!("{} ", received.body), ..received.clone() },
                &hooks.secret
            ));
            assert_eq!(received.event["id"], *received.id);
        }
        assert_eq!(receiver.requests().len(), 4, "each event arrives once");
        cluster.audit().await;
    }
}

#[tokio::test]
async fn an_endpoint_with_its_own_secret_receives_only_events_signed_with_it() {
    let (shop, other) = (WebhookReceiver::accepting().await, WebhookReceiver::accepting().await);
    let shop_config =
        format!("[[webhooks.endpoints]]\nurl = \"{}\"\nsecrets_env = \"SHOP_HOOKS\"", shop.url());
    let hooks = WebhookConfig::new(&[&other], &shop_config, "");
    let shop_secret = WebhookConfig::new(&[], "", "").secret;
    let env = [hooks.env(), vec![("SHOP_HOOKS".to_owned(), shop_secret.clone())]].concat();
    let cluster = TestCluster::start_with(StoreKind::Memory, &[], &env).await;
    join_and_leave(&cluster, "stand-up", "alice").await;
    for (receiver, secret, other_secret) in
        [(&shop, &shop_secret, &hooks.secret), (&other, &hooks.secret, &shop_secret)]
    {
        for received in receiver.wait_for_events(SHORT_LIMIT, 4).await {
            assert!(
                has_valid_signature(&received, secret) && !has_valid_signature(&received, other_secret),
                "{received:?}"
            );
        }
    }
    cluster.audit().await;
}

#[tokio::test]
async fn an_endpoint_receives_only_the_selected_events() {
    let receiver = WebhookReceiver::accepting().await;
    let hooks = WebhookConfig::new(&[&receiver], "", "events = [\"peer-left\"]\nrooms = \"team-*\"");
    let cluster = start(StoreKind::Redis(1), &hooks).await;
    join_and_leave(&cluster, "other", "alice").await;
    join_and_leave(&cluster, "team-1", "alice").await;
    let received = receiver.wait_for_events(SHORT_LIMIT, 1).await;
    assert_eq!(events_of_room(&received, "team-1"), ["peer-left team-1 alice"]);
    // The store does not keep an event that no endpoint has selected.
    let redis = cluster.redis.as_ref().unwrap();
    eventually("the queues are empty", async || {
        let mut connection = redis.connect().await;
        let mut queued = 0;
        for key in redis.keys().await.iter().filter(|key| key.name.ends_with(":hooks")) {
            queued += redis::cmd("XLEN").arg(&key.name).query_async::<u64>(&mut connection).await.unwrap();
        }
        (queued == 0).then_some(())
    })
    .await;
    assert_eq!(receiver.requests().len(), 1);
    cluster.audit().await;
}

/// The endpoint fails in each possible way for one room; another room does not wait.
#[tokio::test]
async fn failed_events_of_a_room_are_retried_in_order_and_block_no_other_room() {
    for store in [StoreKind::Memory, StoreKind::Redis(2)] {
        let redirect_target = WebhookReceiver::accepting().await;
        let redirect_url = redirect_target.url();
        let receiver = WebhookReceiver::start(move |received, earlier| {
            let attempts = earlier.iter().filter(|other| other.id == received.id).count();
            match (received.event["room"] == "failing", received.event["event"].as_str().unwrap(), attempts) {
                (true, "room-opened", 0) => WebhookReply::Status(500),
                (true, "room-opened", 1) => WebhookReply::Disconnect,
                (true, "peer-joined", 0) => WebhookReply::NoReply,
                (true, "peer-joined", 1) => WebhookReply::RetryAfter(3),
                (true, "peer-left", 0) => WebhookReply::Redirect(redirect_url.clone()),
                (true, "peer-left", 1) => WebhookReply::Delayed(Duration::from_millis(300)),
                (true, "room-closed", 0) => WebhookReply::LargeBody,
                _ => WebhookReply::Status(200),
            }
        })
        .await;
        let hooks = WebhookConfig::new(&[&receiver], "deadline = \"500ms\"", "");
        let cluster = start(store, &hooks).await;
        join_and_leave(&cluster, "failing", "alice").await;
        eventually("an attempt fails", async || receiver.requests().first().cloned()).await;
        join_and_leave(&cluster, "healthy", "bob").await;
        let accepted = receiver.wait_for_events(LONG_LIMIT, 8).await;
        assert_eq!(events_of_room(&accepted, "failing"), expected_visit("failing", "alice"));
        assert_eq!(events_of_room(&accepted, "healthy"), expected_visit("healthy", "bob"));
        assert_eq!(
            accepted.iter().position(|received| received.summary() == "room-closed healthy"),
            Some(3),
            "the other room did not wait"
        );
        assert!(redirect_target.requests().is_empty(), "a redirect is not followed");
        let joined: Vec<WebhookRequest> = receiver
            .requests()
            .into_iter()
            .filter(|received| received.summary() == "peer-joined failing alice")
            .collect();
        assert_eq!(joined.len(), 3);
        assert!(joined[2].received_at - joined[1].received_at >= Duration::from_secs(3), "Retry-After");
        assert!(
            joined
                .iter()
                .all(|received| received.id == joined[0].id && has_valid_signature(received, &hooks.secret))
        );
        assert_eq!(receiver.requests().len(), 8 + 2 + 2 + 1, "each failure and each event once");
        cluster.audit().await;
    }
}

#[tokio::test]
async fn a_killed_auth_process_loses_no_event() {
    let receiver = WebhookReceiver::start(|_, _| WebhookReply::Status(500)).await;
    let hooks = WebhookConfig::new(&[&receiver], "", "");
    let mut cluster = start(StoreKind::Redis(2), &hooks).await;
    for n in 0..5 {
        join_and_leave(&cluster, &format!("room-{n}"), "alice").await;
    }
    eventually("retries have begun", async || (receiver.requests().len() > 8).then_some(())).await;
    cluster.auth.as_ref().unwrap().kill();
    // Rooms continue while no process sends webhooks.
    let token = cluster.sign_token("meanwhile", "bob");
    let link = TestConnection::open(cluster.nodes[0].address, &token).await;
    link.into_peer().await.leave().await;
    receiver.set_reply(|_, _| WebhookReply::Status(200));
    let auth = Process::start("auth-service", cluster.env()).await;
    cluster.auth = Some(auth);
    let accepted = receiver.wait_for_events(LONG_LIMIT, 24).await;
    for n in 0..5 {
        let room = format!("room-{n}");
        assert_eq!(events_of_room(&accepted, &room), expected_visit(&room, "alice"));
    }
    assert_eq!(events_of_room(&accepted, "meanwhile"), expected_visit("meanwhile", "bob"));
    cluster.audit().await;
}

#[tokio::test]
async fn one_of_two_auth_processes_sends_the_events_and_the_other_replaces_it() {
    let receiver = WebhookReceiver::accepting().await;
    let hooks = WebhookConfig::new(&[&receiver], "", "");
    let mut cluster = start(StoreKind::Redis(2), &hooks).await;
    let second = Process::start("auth-service", cluster.env()).await;
    let rooms: Vec<String> = (0..12).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        join_and_leave(&cluster, room, "alice").await;
    }
    receiver.wait_for_events(SHORT_LIMIT, 4 * rooms.len()).await;
    // A repeated event would arrive within two polls; there is no event to wait for.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.requests().len(), 4 * rooms.len(), "each event arrives once");
    let first = cluster.auth.replace(second).unwrap();
    first.terminate();
    first.wait_exit(SHORT_LIMIT).await;
    join_and_leave(&cluster, "after", "alice").await;
    let accepted = receiver.wait_for_events(LONG_LIMIT, 4 * rooms.len() + 4).await;
    assert_eq!(events_of_room(&accepted, "after"), expected_visit("after", "alice"));
    assert_eq!(receiver.requests().len(), accepted.len(), "a stopped process leaves no event to repeat");
    first.assert_clean_log(&[&hooks.secret]);
    cluster.audit().await;
}

#[tokio::test]
async fn pending_events_survive_a_redis_restart_without_data() {
    let receiver = WebhookReceiver::start(|_, _| WebhookReply::Status(500)).await;
    let hooks = WebhookConfig::new(&[&receiver], "", "");
    let mut cluster = start(StoreKind::Redis(1), &hooks).await;
    join_and_leave(&cluster, "before", "alice").await;
    let auth = cluster.auth.as_ref().unwrap();
    eventually("all four events wait in the process", async || {
        (auth.metric("signalbox_webhooks_waiting").await == 4.0).then_some(())
    })
    .await;
    let query = format!("token={}", cluster.sign_token("after", "bob"));
    let redis = cluster.redis.as_mut().unwrap();
    redis.kill();
    redis.restart().await;
    // Right after the restart the node may refuse a join once more.
    let after = eventually_within(LONG_LIMIT, "a user can join again", async || {
        let link = TestConnection::open_with(cluster.nodes[0].address, &query).await.ok()?;
        (link.next().await["type"] == "joined").then_some(link)
    })
    .await;
    after.send(json!({"type": "leave"})).await;
    receiver.set_reply(|_, _| WebhookReply::Status(200));
    let accepted = receiver.wait_for_events(LONG_LIMIT, 8).await;
    assert_eq!(events_of_room(&accepted, "before"), expected_visit("before", "alice"));
    assert_eq!(events_of_room(&accepted, "after"), expected_visit("after", "bob"));
    cluster.audit().await;
}

#[tokio::test]
async fn an_abandoned_event_becomes_a_dead_letter_and_can_be_replayed() {
    for store in [StoreKind::Memory, StoreKind::Redis(1)] {
        let receiver = WebhookReceiver::start(|received, _| {
            let is_gone = received.event["event"] == "peer-left";
            WebhookReply::Status(if is_gone { 410 } else { 500 })
        })
        .await;
        let hooks = WebhookConfig::new(&[&receiver], "attempts = 1", "");
        let cluster = start(store, &hooks).await;
        join_and_leave(&cluster, "a", "alice").await;
        join_and_leave(&cluster, "b", "bob").await;
        let letters = eventually_within(LONG_LIMIT, "all events are abandoned", async || {
            Some(fetch_dead_letters(&cluster).await).filter(|letters| letters.len() == 8)
        })
        .await;
        for letter in &letters {
            let is_gone = letter["event"]["event"] == "peer-left";
            assert_eq!(letter["cause"], if is_gone { "gone" } else { "attempts" });
            assert_eq!((&letter["attempts"], letter["last"] == "status 410"), (&json!(1), is_gone));
            assert_eq!(letter["host"], receiver.address.to_string());
        }
        let before = receiver.requests().len();
        assert_eq!(before, 8);
        receiver.set_reply(|_, _| WebhookReply::Status(200));
        let one = letters.iter().find(|letter| letter["event"]["event"] == "peer-left").unwrap();
        assert_eq!(replay_dead_letters(&cluster, json!({"id": one["event"]["id"]})).await, 1);
        let first = receiver.wait_for_events(SHORT_LIMIT, 1).await;
        assert_eq!(first[0].id, one["event"]["id"], "under the same id");
        assert_eq!(replay_dead_letters(&cluster, json!({"room": "never-used"})).await, 0);
        assert_eq!(replay_dead_letters(&cluster, json!({"all": true})).await, 7);
        receiver.wait_for_events(SHORT_LIMIT, 8).await;
        assert_eq!(fetch_dead_letters(&cluster).await, Vec::<Value>::new());
        assert_eq!(replay_dead_letters(&cluster, json!({"all": true})).await, 0);
        cluster.audit().await;
    }
}

#[tokio::test]
async fn the_oldest_event_beyond_the_backlog_becomes_a_dead_letter() {
    let receiver = WebhookReceiver::start(|_, _| WebhookReply::Status(500)).await;
    let hooks = WebhookConfig::new(&[&receiver], "backlog = 3\ndead = 4", "");
    let cluster = start(StoreKind::Redis(1), &hooks).await;
    let auth = cluster.auth.as_ref().unwrap();
    let abandoned = async || auth.metric("signalbox_webhooks_dead_total{cause=\"backlog\"}").await;
    for round in 1..=4 {
        join_and_leave(&cluster, "busy", "alice").await;
        // Each round has four events. The worker must have them before the next round, or the bound
        // of the store applies first.
        eventually_within(SHORT_LIMIT, "the worker has the events of the round", async || {
            let waiting = auth.metric("signalbox_webhooks_waiting").await;
            (abandoned().await + waiting >= f64::from(4 * round)).then_some(())
        })
        .await;
    }
    eventually_within(SHORT_LIMIT, "all events but three are abandoned", async || {
        (abandoned().await >= 12.0).then_some(())
    })
    .await;
    assert_eq!(fetch_dead_letters(&cluster).await.len(), 4);
    assert!(auth.metric("signalbox_webhooks_lost_total{cause=\"dead_letters\"}").await >= 8.0);
    eventually("both are logged", async || {
        let log = auth.log();
        (log.contains("webhooks_dead") && log.contains("webhooks_lost")).then_some(())
    })
    .await;
    cluster.audit().await;
}

#[tokio::test]
async fn only_an_application_can_list_and_replay_dead_letters() {
    let cluster = TestCluster::memory().await;
    let address = cluster.auth_address();
    for request in [
        Request::get("/api/webhooks/dead"),
        Request::post("/api/webhooks/replay", &json!({"all": true})),
        Request::get("/api/usage"),
    ] {
        assert_eq!(request.clone().send(address).await.status, 401);
        let basic = request.header("Authorization", cluster.basic_auth());
        assert_eq!(basic.clone().send(address).await.status, 200);
        assert_eq!(basic.header("Origin", "https://evil.example").send(address).await.status, 403);
    }
}
