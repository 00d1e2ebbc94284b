//! What only a server can do: restart, forget, be full, refuse.

use super::*;

async fn held_in(server: &TestRedis, key: &RuleKey) -> Option<String> {
    let mut connection = server.connect().await;
    ::redis::cmd("HGET").arg(keys::RULES).arg(key.to_string()).query_async(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_was_restarted_empty_gets_back_what_two_processes_hold_and_nothing_that_was_lifted() {
    let mut server = TestRedis::start().await;
    let backend = Backend::at(server.address);
    let (one, two) = (backend.process(100).await, backend.process(100).await);
    one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    one.apply(change(ban("reformed"), MINUTE)).await.unwrap();
    until(&two, "both", |rules| bans(rules, &two, "mallory") && bans(rules, &two, "reformed")).await;
    two.lift(&ban("reformed"), Terms::default()).await.unwrap();
    until(&one, "the end of one", |rules| !bans(rules, &one, "reformed")).await;
    server.stop();
    assert_eq!(judge(&two, "mallory"), Err(Verdict::Banned), "while it is away what is held is decided on");
    server.go_on().await;
    let restored = async {
        while held_in(&server, &ban("mallory")).await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, restored).await.expect("written back");
    until_current(&one).await;
    until_current(&two).await;
    let late = backend.process(100).await;
    assert_eq!((judge(&late, "mallory"), judge(&late, "reformed")), (Err(Verdict::Banned), Ok(())));
    assert!(
        held_in(&server, &ban("reformed")).await.unwrap().contains(" 1 {"),
        "that it was lifted is known too"
    );
    // A process that missed the lifting comes back last.
    let at = late.now_ms() - 30_000;
    let stale = Rule::new(ban("reformed"), at, MINUTE, Terms::default());
    late.log.restore(&[Arc::new(stale)]).await.unwrap();
    assert_eq!(judge(&*backend.process(100).await, "reformed"), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_current_again_only_when_the_store_has_what_it_holds() {
    let mut server = TestRedis::start().await;
    let backend = Backend::at(server.address);
    let one = Control::new(backend.log(), 100);
    let mut place: Option<Place> = None;
    assert!(!one.is_current(), "before it has read anything");
    one.look(&mut place).await.unwrap();
    one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    one.look(&mut place).await.unwrap();
    assert!(one.is_current());
    server.stop();
    assert!(one.look(&mut place).await.is_err());
    assert!(one.is_settled(), "Redis away: decide on what is held");
    server.go_on().await;
    let mut connection = server.connect().await;
    // It answers, and takes no write: nothing can be written back.
    ::redis::cmd("CONFIG")
        .arg(&["SET", "min-replicas-to-write", "1"])
        .exec_async(&mut connection)
        .await
        .unwrap();
    let refused = async { while one.look(&mut place).await.is_err() && one.is_settled() {} };
    timeout(SOON, refused).await.expect("the restart is noticed");
    assert!(!one.is_current() && judge(&one, "mallory") == Err(Verdict::Banned));
    ::redis::cmd("CONFIG")
        .arg(&["SET", "min-replicas-to-write", "0"])
        .exec_async(&mut connection)
        .await
        .unwrap();
    let healed = async { while one.look(&mut place).await.is_err() || !one.is_current() {} };
    timeout(SOON, healed).await.expect("it heals");
    assert!(held_in(&server, &ban("mallory")).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_catches_up_knows_what_was_answered_before() {
    let server = TestRedis::start().await;
    let backend = Backend::at(server.address);
    let (writer, reader) = (Control::new(backend.log(), 100), Control::new(backend.log(), 100));
    tokio::spawn(Control::follow(&reader));
    reader.catch_up().await.unwrap();
    for n in 0..50 {
        let user = format!("u{n}");
        writer.apply(change(ban(&user), MINUTE)).await.unwrap();
        reader.catch_up().await.unwrap();
        assert_eq!(judge(&reader, &user), Err(Verdict::Banned), "{user}");
    }
}

/// It was answered that the rule is in force, and Redis died before others had heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_was_lost_with_the_store_before_all_had_heard_of_it_is_waited_for() {
    let mut server = TestRedis::start().await;
    let backend = Backend::at(server.address);
    let (writer, late) = (Control::new(backend.log(), 100), Control::new(backend.log(), 100));
    let (mut place, mut lates) = (None::<Place>, None::<Place>);
    writer.look(&mut place).await.unwrap();
    late.look(&mut lates).await.unwrap();
    assert!(late.is_current());
    writer.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    server.stop();
    server.go_on().await;
    // The one that has not heard of the rule finds the empty store first, and knows nothing that it would write back.
    let first = async {
        while late.look(&mut lates).await.is_err() {
            assert!(late.is_settled(), "Redis away: decide on what is held");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, first).await.expect("it is found");
    late.look(&mut lates).await.unwrap();
    assert!(!late.is_current() && judge(&late, "mallory") == Ok(()), "it has read an empty store, and waits");
    let second = async { while writer.look(&mut place).await.is_err() {} };
    timeout(SOON, second).await.expect("it is written back");
    let settled = async {
        while !late.is_current() {
            late.look(&mut lates).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, settled).await.expect("it waits no longer than it must");
    assert_eq!(judge(&late, "mallory"), Err(Verdict::Banned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_missed_more_than_the_log_holds_reads_all_rules() {
    let lease = Kind::Standalone.lease().await;
    let backend = Backend::of(&lease);
    let (one, slow) = (backend.process(100).await, Control::new(backend.log(), 100));
    let mut place: Option<Place> = None;
    slow.look(&mut place).await.unwrap();
    one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    for n in 0..crate::log::ENTRIES {
        let word = Word { to: Audience::All, code: "n".into(), message: n.to_string().into() };
        one.say(&word).await.unwrap();
    }
    let length: usize = lease.at(0, ::redis::cmd("XLEN").arg(keys::CONTROL_LOG)).await;
    assert_eq!(length, crate::log::ENTRIES, "the log is bounded");
    slow.look(&mut place).await.unwrap();
    assert_eq!(judge(&slow, "mallory"), Err(Verdict::Banned));
    one.apply(change(ban("eve"), MINUTE)).await.unwrap();
    slow.look(&mut place).await.unwrap();
    assert_eq!(judge(&slow, "eve"), Err(Verdict::Banned), "and follows from there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_flushed_and_has_grown_past_is_noticed() {
    let lease = Kind::Standalone.lease().await;
    let backend = Backend::of(&lease);
    let (one, slow) = (backend.process(100).await, Control::new(backend.log(), 100));
    let mut place: Option<Place> = None;
    one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    slow.look(&mut place).await.unwrap();
    lease.everywhere::<::redis::Value>(&::redis::cmd("FLUSHALL")).await;
    let other = Control::new(backend.log(), 100);
    for name in ["a", "b", "c"] {
        other.apply(change(ban(name), MINUTE)).await.unwrap();
    }
    slow.look(&mut place).await.unwrap();
    for name in ["mallory", "a", "b", "c"] {
        assert_eq!(judge(&slow, name), Err(Verdict::Banned), "{name}");
    }
}

/// The clock of a process counts for nothing: what it holds is dated by the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_the_stores() {
    let lease = Kind::Standalone.lease().await;
    let backend = Backend::of(&lease);
    let one = backend.process(100).await;
    // As if the clock of the process were years behind when it started.
    *one.heard.lock().unwrap() =
        crate::follower::Heard { store_ms: 5, at: tokio::time::Instant::now(), told: false };
    let (seconds, _): (u64, u64) = lease.at(0, &::redis::cmd("TIME")).await;
    let rule = one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    assert!((rule.at / 1_000).abs_diff(seconds) < 5);
    let told = async {
        while one.now_ms() < rule.at {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    };
    timeout(SOON, told).await.expect("the next answer puts it right");
    assert_eq!(judge(&one, "mallory"), Err(Verdict::Banned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_has_a_ttl_from_the_step_that_wrote_it() {
    let lease = Kind::Standalone.lease().await;
    let one = Backend::of(&lease).process(100).await;
    let ttl = async |key: &str| lease.at::<i64>(0, ::redis::cmd("PTTL").arg(key)).await;
    one.say(&Word { to: Audience::All, code: "c".into(), message: "m".into() }).await.unwrap();
    for key in [keys::RULES, keys::CONTROL_LOG] {
        assert!((1..=3_600_000).contains(&ttl(key).await), "{key}");
    }
    one.apply(change(ban("mallory"), u64::MAX)).await.unwrap();
    one.apply(change(ban("eve"), MINUTE)).await.unwrap();
    let longest = crate::LONGEST_MS as i64 + 3_600_000;
    for key in [keys::RULES, keys::RULE_ENDS] {
        assert!((longest - 60_000..=longest).contains(&ttl(key).await), "{key}");
    }
    assert!((1..=600_000).contains(&ttl(keys::CONTROL_LOG).await));
    assert_eq!(lease.keys().await.len(), 3, "no other key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_takes_rules() {
    let lease = Kind::Standalone.lease().await;
    let one = Backend::of(&lease).process(100).await;
    lease.everywhere::<::redis::Value>(::redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"])).await;
    one.apply(change(ban("mallory"), MINUTE)).await.expect("what is taken back is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_acl_of_the_auth_service_is_enough() {
    let lease = Kind::Guarded.lease().await;
    let backend = Backend::Redis(lease.url_for("auth"), lease.settings());
    let one = backend.process(100).await;
    one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    one.lift(&ban("mallory"), Terms::default()).await.unwrap();
    one.log.restore(&one.rules().remembered(0).cloned().collect::<Vec<_>>()).await.unwrap();
    one.say(&Word { to: Audience::All, code: "c".into(), message: "m".into() }).await.unwrap();
}
