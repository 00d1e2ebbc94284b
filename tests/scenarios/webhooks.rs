//! What happens in rooms is told over HTTP: signed, in order, again after failures, whatever dies meanwhile.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    hook::{Answer, Hooks, Receiver, Told},
    http::Request,
    net::{eventually, eventually_within},
    peer::Link,
    process::Process,
};

const SOON: Duration = Duration::from_secs(15);
/// Long enough for a lease to run out and an attempt to be made again.
const LATER: Duration = Duration::from_secs(40);

async fn start(store: Store, hooks: &Hooks) -> TestCluster {
    TestCluster::start_with(store, &[], &hooks.env()).await
}

/// Somebody comes into a room and leaves it.
async fn visit(cluster: &TestCluster, room: &str, user: &str) {
    cluster.room(room).join(user).await.leave().await;
}

fn visit_of(room: &str, user: &str) -> Vec<String> {
    [
        format!("room-opened {room}"),
        format!("peer-joined {room} {user}"),
        format!("peer-left {room} {user}"),
        format!("room-closed {room}"),
    ]
    .into()
}

fn of_room(told: &[Told], room: &str) -> Vec<String> {
    let of_room = told.iter().filter(|told| told.event["room"] == room);
    of_room.map(Told::what).collect()
}

async fn dead(cluster: &TestCluster) -> Vec<Value> {
    let request = Request::get("/api/webhooks/dead").header("Authorization", cluster.basic());
    let answer = request.send(cluster.auth_address()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["dead"].as_array().unwrap().clone()
}

async fn replay(cluster: &TestCluster, which: Value) -> u64 {
    let request = Request::post("/api/webhooks/replay", &which).header("Authorization", cluster.basic());
    let answer = request.send(cluster.auth_address()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["replayed"].as_u64().unwrap()
}

/// Judged by other eyes than ours: Node's crypto.
fn is_signed(told: &Told, secret: &str) -> bool {
    const CHECK: &str = "
        const { createHmac, timingSafeEqual } = require('node:crypto');
        const { id, timestamp, body, signature, secret } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
        const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
        const expected = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest();
        const given = signature.split(' ').map((part) => part.split(',')).filter(([version]) => version === 'v1');
        const matches = given.some(([, text]) => timingSafeEqual(Buffer.from(text, 'base64'), expected));
        process.exit(matches ? 0 : 1);";
    let mut node = Command::new("node").args(["-e", CHECK]).stdin(Stdio::piped()).spawn().expect("node");
    let input = json!({"id": told.id, "timestamp": told.timestamp, "body": told.body,
        "signature": told.signature, "secret": secret});
    node.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    node.wait().unwrap().success()
}

#[tokio::test]
async fn what_happens_is_told_signed_and_in_order() {
    for store in [Store::Memory, Store::Redis(2)] {
        let receiver = Receiver::willing().await;
        let hooks = Hooks::new(&[&receiver], "", "");
        let cluster = start(store, &hooks).await;
        visit(&cluster, "stand-up", "alice").await;
        let told = receiver.wait_for(SOON, 4).await;
        assert_eq!(of_room(&told, "stand-up"), visit_of("stand-up", "alice"));
        for told in &told {
            assert!(is_signed(told, &hooks.secret), "{told:?}");
            assert!(!is_signed(&Told { body: format!("{} ", told.body), ..told.clone() }, &hooks.secret));
            assert_eq!(told.event["id"], *told.id);
        }
        assert_eq!(receiver.told().len(), 4, "each once");
        cluster.audit().await;
    }
}

#[tokio::test]
async fn an_endpoint_with_a_secret_of_its_own_hears_nothing_that_another_could_have_signed() {
    let (shop, other) = (Receiver::willing().await, Receiver::willing().await);
    let own = format!("[[webhooks.endpoints]]\nurl = \"{}\"\nsecrets_env = \"SHOP_HOOKS\"", shop.url());
    let hooks = Hooks::new(&[&other], &own, "");
    let shops = Hooks::new(&[], "", "").secret;
    let env = [hooks.env(), vec![("SHOP_HOOKS".to_owned(), shops.clone())]].concat();
    let cluster = TestCluster::start_with(Store::Memory, &[], &env).await;
    visit(&cluster, "stand-up", "alice").await;
    for (receiver, secret, others) in [(&shop, &shops, &hooks.secret), (&other, &hooks.secret, &shops)] {
        for told in receiver.wait_for(SOON, 4).await {
            assert!(is_signed(&told, secret) && !is_signed(&told, others), "{told:?}");
        }
    }
    cluster.audit().await;
}

#[tokio::test]
async fn an_endpoint_hears_only_what_it_wants() {
    let receiver = Receiver::willing().await;
    let hooks = Hooks::new(&[&receiver], "", "events = [\"peer-left\"]\nrooms = \"team-*\"");
    let cluster = start(Store::Redis(1), &hooks).await;
    visit(&cluster, "other", "alice").await;
    visit(&cluster, "team-1", "alice").await;
    let told = receiver.wait_for(SOON, 1).await;
    assert_eq!(of_room(&told, "team-1"), ["peer-left team-1 alice"]);
    // What nobody wants does not stay.
    let redis = cluster.redis.as_ref().unwrap();
    eventually("all is done with", async || {
        let mut connection = redis.connect().await;
        let mut left = 0;
        for key in redis.keys().await.iter().filter(|key| key.name.ends_with(":hooks")) {
            left += redis::cmd("XLEN").arg(&key.name).query_async::<u64>(&mut connection).await.unwrap();
        }
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(receiver.told().len(), 1);
    cluster.audit().await;
}

/// Every way to fail, one after the other, in one room; another room does not wait for it.
#[tokio::test]
async fn a_room_that_fails_is_told_again_in_order_and_holds_up_no_other() {
    for store in [Store::Memory, Store::Redis(2)] {
        let elsewhere = Receiver::willing().await;
        let away = elsewhere.url();
        let receiver = Receiver::start(move |told, before| {
            let times = before.iter().filter(|other| other.id == told.id).count();
            match (told.event["room"] == "sick", told.event["event"].as_str().unwrap(), times) {
                (true, "room-opened", 0) => Answer::Status(500),
                (true, "room-opened", 1) => Answer::HangUp,
                (true, "peer-joined", 0) => Answer::Hang,
                (true, "peer-joined", 1) => Answer::RetryAfter(3),
                (true, "peer-left", 0) => Answer::Redirect(away.clone()),
                (true, "peer-left", 1) => Answer::Slow(Duration::from_millis(300)),
                (true, "room-closed", 0) => Answer::Long,
                _ => Answer::Status(200),
            }
        })
        .await;
        let hooks = Hooks::new(&[&receiver], "deadline = \"500ms\"", "");
        let cluster = start(store, &hooks).await;
        visit(&cluster, "sick", "alice").await;
        eventually("it fails", async || receiver.told().first().cloned()).await;
        visit(&cluster, "well", "bob").await;
        let taken = receiver.wait_for(LATER, 8).await;
        assert_eq!(of_room(&taken, "sick"), visit_of("sick", "alice"));
        assert_eq!(of_room(&taken, "well"), visit_of("well", "bob"));
        assert_eq!(
            taken.iter().position(|told| told.what() == "room-closed well"),
            Some(3),
            "it did not wait"
        );
        assert!(elsewhere.told().is_empty(), "a redirect is not followed");
        let joined: Vec<Told> =
            receiver.told().into_iter().filter(|told| told.what() == "peer-joined sick alice").collect();
        assert_eq!(joined.len(), 3);
        assert!(joined[2].at - joined[1].at >= Duration::from_secs(3), "Retry-After");
        assert!(joined.iter().all(|told| told.id == joined[0].id && is_signed(told, &hooks.secret)));
        assert_eq!(receiver.told().len(), 8 + 2 + 2 + 1, "nothing more than its failures");
        cluster.audit().await;
    }
}

#[tokio::test]
async fn a_killed_auth_process_loses_no_event() {
    let receiver = Receiver::start(|_, _| Answer::Status(500)).await;
    let hooks = Hooks::new(&[&receiver], "", "");
    let mut cluster = start(Store::Redis(2), &hooks).await;
    for n in 0..5 {
        visit(&cluster, &format!("room-{n}"), "alice").await;
    }
    eventually("retries have begun", async || (receiver.told().len() > 8).then_some(())).await;
    cluster.auth.as_ref().unwrap().kill();
    // Nobody tells, and things go on happening.
    let token = cluster.forge("meanwhile", "bob");
    let link = Link::open(cluster.nodes[0].address, &token).await;
    link.into_peer().await.leave().await;
    receiver.change_mind(|_, _| Answer::Status(200));
    let auth = Process::start("auth-service", cluster.env()).await;
    cluster.auth = Some(auth);
    let taken = receiver.wait_for(LATER, 24).await;
    for n in 0..5 {
        let room = format!("room-{n}");
        assert_eq!(of_room(&taken, &room), visit_of(&room, "alice"));
    }
    assert_eq!(of_room(&taken, "meanwhile"), visit_of("meanwhile", "bob"));
    cluster.audit().await;
}

#[tokio::test]
async fn of_two_auth_processes_one_tells_and_the_other_takes_over() {
    let receiver = Receiver::willing().await;
    let hooks = Hooks::new(&[&receiver], "", "");
    let mut cluster = start(Store::Redis(2), &hooks).await;
    let second = Process::start("auth-service", cluster.env()).await;
    let rooms: Vec<String> = (0..12).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        visit(&cluster, room, "alice").await;
    }
    receiver.wait_for(SOON, 4 * rooms.len()).await;
    // A double would come within a look or two.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.told().len(), 4 * rooms.len(), "each once");
    let first = cluster.auth.replace(second).unwrap();
    first.terminate();
    first.wait(SOON).await;
    visit(&cluster, "after", "alice").await;
    let taken = receiver.wait_for(LATER, 4 * rooms.len() + 4).await;
    assert_eq!(of_room(&taken, "after"), visit_of("after", "alice"));
    assert_eq!(receiver.told().len(), taken.len(), "a stop leaves nothing half done");
    first.assert_clean_log(&[&hooks.secret]);
    cluster.audit().await;
}

#[tokio::test]
async fn what_waits_in_the_process_outlives_a_redis_that_is_restarted_empty() {
    let receiver = Receiver::start(|_, _| Answer::Status(500)).await;
    let hooks = Hooks::new(&[&receiver], "", "");
    let mut cluster = start(Store::Redis(1), &hooks).await;
    visit(&cluster, "before", "alice").await;
    let auth = cluster.auth.as_ref().unwrap();
    eventually("all four wait in the process", async || {
        (auth.metric("signalbox_webhooks_waiting").await == 4.0).then_some(())
    })
    .await;
    let query = format!("token={}", cluster.forge("after", "bob"));
    let redis = cluster.redis.as_mut().unwrap();
    redis.stop();
    redis.go_on().await;
    // A node that has just seen its store again may refuse once more.
    let after = eventually_within(LATER, "somebody can join again", async || {
        let link = Link::ask_in(cluster.nodes[0].address, &query).await.ok()?;
        (link.next().await["type"] == "joined").then_some(link)
    })
    .await;
    after.send(json!({"type": "leave"})).await;
    receiver.change_mind(|_, _| Answer::Status(200));
    let taken = receiver.wait_for(LATER, 8).await;
    assert_eq!(of_room(&taken, "before"), visit_of("before", "alice"));
    assert_eq!(of_room(&taken, "after"), visit_of("after", "bob"));
    cluster.audit().await;
}

#[tokio::test]
async fn what_is_given_up_is_a_dead_letter_and_can_be_told_again() {
    for store in [Store::Memory, Store::Redis(1)] {
        let receiver = Receiver::start(|told, _| {
            let is_gone = told.event["event"] == "peer-left";
            Answer::Status(if is_gone { 410 } else { 500 })
        })
        .await;
        let hooks = Hooks::new(&[&receiver], "attempts = 1", "");
        let cluster = start(store, &hooks).await;
        visit(&cluster, "a", "alice").await;
        visit(&cluster, "b", "bob").await;
        let letters = eventually_within(LATER, "all are given up", async || {
            Some(dead(&cluster).await).filter(|letters| letters.len() == 8)
        })
        .await;
        for letter in &letters {
            let is_gone = letter["event"]["event"] == "peer-left";
            assert_eq!(letter["cause"], if is_gone { "gone" } else { "attempts" });
            assert_eq!((&letter["attempts"], letter["last"] == "status 410"), (&json!(1), is_gone));
            assert_eq!(letter["host"], receiver.address.to_string());
        }
        let before = receiver.told().len();
        assert_eq!(before, 8);
        receiver.change_mind(|_, _| Answer::Status(200));
        let one = letters.iter().find(|letter| letter["event"]["event"] == "peer-left").unwrap();
        assert_eq!(replay(&cluster, json!({"id": one["event"]["id"]})).await, 1);
        let first = receiver.wait_for(SOON, 1).await;
        assert_eq!(first[0].id, one["event"]["id"], "under the same id");
        assert_eq!(replay(&cluster, json!({"room": "nobody-was-here"})).await, 0);
        assert_eq!(replay(&cluster, json!({"all": true})).await, 7);
        receiver.wait_for(SOON, 8).await;
        assert_eq!(dead(&cluster).await, Vec::<Value>::new());
        assert_eq!(replay(&cluster, json!({"all": true})).await, 0);
        cluster.audit().await;
    }
}

#[tokio::test]
async fn beyond_its_bounds_the_oldest_becomes_a_dead_letter_and_nothing_just_vanishes() {
    let receiver = Receiver::start(|_, _| Answer::Status(500)).await;
    let hooks = Hooks::new(&[&receiver], "backlog = 3\ndead = 4", "");
    let cluster = start(Store::Redis(1), &hooks).await;
    for _ in 0..4 {
        visit(&cluster, "busy", "alice").await;
        // Told of before the next: else the store's own bound would be met first.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let auth = cluster.auth.as_ref().unwrap();
    eventually_within(SOON, "all but three are given up", async || {
        let dead = auth.metric("signalbox_webhooks_dead_total{cause=\"backlog\"}").await;
        (dead >= 12.0).then_some(())
    })
    .await;
    assert_eq!(dead(&cluster).await.len(), 4);
    assert!(auth.metric("signalbox_webhooks_lost_total{cause=\"dead_letters\"}").await >= 8.0);
    assert!(auth.log().contains("webhooks_dead") && auth.log().contains("webhooks_lost"), "audited");
    cluster.audit().await;
}

#[tokio::test]
async fn only_a_backend_may_see_dead_letters_and_tell_them_again() {
    let cluster = TestCluster::memory().await;
    let address = cluster.auth_address();
    for request in [
        Request::get("/api/webhooks/dead"),
        Request::post("/api/webhooks/replay", &json!({"all": true})),
        Request::get("/api/usage"),
    ] {
        assert_eq!(request.clone().send(address).await.status, 401);
        let basic = request.header("Authorization", cluster.basic());
        assert_eq!(basic.clone().send(address).await.status, 200);
        assert_eq!(basic.header("Origin", "https://evil.example").send(address).await.status, 403);
    }
}
