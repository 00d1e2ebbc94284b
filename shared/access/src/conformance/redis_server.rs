//! Tests that need a server: restarts, lost data, full memory, refusals.

use super::*;

async fn stored_rule(server: &TestRedis, key: &RuleKey) -> Option<String> {
    let mut connection = server.connect().await;
    ::redis::cmd("HGET")
        .arg(redis_keys::RULES_KEY)
        .arg(key.to_string())
        .query_async(&mut connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_gets_back_all_rules_except_lifted_ones() {
    let mut server = TestRedis::start().await;
    let backend = LogBackend::over_address(server.address);
    let (one, two) = (backend.start_follower(100).await, backend.start_follower(100).await);
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    one.write_rule(rule_change(ban_key("reformed"), MINUTE)).await.unwrap();
    wait_until(&two, "both bans", |rules| {
        has_ban(rules, &two, "mallory") && has_ban(rules, &two, "reformed")
    })
    .await;
    two.lift_rule(&ban_key("reformed"), RuleTerms::default()).await.unwrap();
    wait_until(&one, "the lifted ban", |rules| !has_ban(rules, &one, "reformed")).await;
    server.kill();
    assert_eq!(
        check_user(&two, "mallory"),
        Err(AccessRefusal::Banned),
        "the held rules apply while Redis is unavailable"
    );
    server.restart().await;
    let restored = async {
        while stored_rule(&server, &ban_key("mallory")).await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT_TIMEOUT, restored).await.expect("the rule is restored");
    wait_until_current(&one).await;
    wait_until_current(&two).await;
    let late = backend.start_follower(100).await;
    assert_eq!(
        (check_user(&late, "mallory"), check_user(&late, "reformed")),
        (Err(AccessRefusal::Banned), Ok(()))
    );
    assert!(
        stored_rule(&server, &ban_key("reformed")).await.unwrap().contains(" 1 "),
        "the lifted rule is restored as lifted"
    );
    // A process that missed the lifting restores its rules last.
    let written_at = late.now_ms() - 30_000;
    let stale = AccessRule::new(ban_key("reformed"), written_at, MINUTE, RuleTerms::default());
    late.log.restore_rules(&[Arc::new(stale).into()]).await.unwrap();
    assert_eq!(check_user(&*backend.start_follower(100).await, "reformed"), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_current_only_after_its_rules_are_restored() {
    let mut server = TestRedis::start().await;
    let backend = LogBackend::over_address(server.address);
    let one = AccessControl::new(backend.open_log(), RuleLimits::with_rules(100));
    let mut position = LogPositions::default();
    assert!(!one.is_current(), "before the first poll");
    one.poll_log(&mut position).await.unwrap();
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    one.poll_log(&mut position).await.unwrap();
    assert!(one.is_current());
    server.kill();
    assert!(one.poll_log(&mut position).await.is_err());
    assert!(one.is_synchronized(), "the held rules apply while Redis is unavailable");
    server.restart().await;
    let mut connection = server.connect().await;
    // The server answers and refuses writes, so no rule can be restored.
    ::redis::cmd("CONFIG")
        .arg(&["SET", "min-replicas-to-write", "1"])
        .exec_async(&mut connection)
        .await
        .unwrap();
    let refused = async { while one.poll_log(&mut position).await.is_err() && one.is_synchronized() {} };
    timeout(WAIT_TIMEOUT, refused).await.expect("the restart is noticed");
    assert!(!one.is_current() && check_user(&one, "mallory") == Err(AccessRefusal::Banned));
    ::redis::cmd("CONFIG")
        .arg(&["SET", "min-replicas-to-write", "0"])
        .exec_async(&mut connection)
        .await
        .unwrap();
    let restored = async { while one.poll_log(&mut position).await.is_err() || !one.is_current() {} };
    timeout(WAIT_TIMEOUT, restored).await.expect("the rules are restored");
    assert!(stored_rule(&server, &ban_key("mallory")).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_the_latest_rules_sees_every_confirmed_rule() {
    let server = TestRedis::start().await;
    let backend = LogBackend::over_address(server.address);
    let (writer, reader) = (
        AccessControl::new(backend.open_log(), RuleLimits::with_rules(100)),
        AccessControl::new(backend.open_log(), RuleLimits::with_rules(100)),
    );
    tokio::spawn(AccessControl::follow_log(&reader));
    reader.wait_for_latest_rules().await.unwrap();
    for n in 0..50 {
        let user = format!("u{n}");
        writer.write_rule(rule_change(ban_key(&user), MINUTE)).await.unwrap();
        reader.wait_for_latest_rules().await.unwrap();
        assert_eq!(check_user(&reader, &user), Err(AccessRefusal::Banned), "{user}");
    }
}

/// The write of the rule was confirmed, and Redis died before another process had read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_waits_for_rules_that_others_may_restore() {
    let mut server = TestRedis::start().await;
    let backend = LogBackend::over_address(server.address);
    let (writer, late) = (
        AccessControl::new(backend.open_log(), RuleLimits::with_rules(100)),
        AccessControl::new(backend.open_log(), RuleLimits::with_rules(100)),
    );
    let (mut writer_position, mut late_position) = (LogPositions::default(), LogPositions::default());
    writer.poll_log(&mut writer_position).await.unwrap();
    late.poll_log(&mut late_position).await.unwrap();
    assert!(late.is_current());
    writer.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    server.kill();
    server.restart().await;
    // The process that does not know the rule finds the empty store first. It has no rule to
    // restore.
    let first = async {
        while late.poll_log(&mut late_position).await.is_err() {
            assert!(late.is_synchronized(), "the held rules apply while Redis is unavailable");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(WAIT_TIMEOUT, first).await.expect("the new store is found");
    late.poll_log(&mut late_position).await.unwrap();
    assert!(
        !late.is_current() && check_user(&late, "mallory") == Ok(()),
        "the process has read an empty store and waits for restores"
    );
    let second = async { while writer.poll_log(&mut writer_position).await.is_err() {} };
    timeout(WAIT_TIMEOUT, second).await.expect("the rule is restored");
    let settled = async {
        while !late.is_current() {
            late.poll_log(&mut late_position).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT_TIMEOUT, settled).await.expect("the wait for restores ends");
    assert_eq!(check_user(&late, "mallory"), Err(AccessRefusal::Banned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_fell_too_far_behind_reloads_all_rules() {
    let lease = RedisKind::Standalone.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let (one, slow) = (
        backend.start_follower(100).await,
        AccessControl::new(backend.open_log(), RuleLimits::with_rules(100)),
    );
    let mut position = LogPositions::default();
    slow.poll_log(&mut position).await.unwrap();
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    for n in 0..crate::rule_log::MAX_LOG_ENTRIES {
        let notice = Notice { to: NoticeAudience::All, code: "n".into(), message: n.to_string().into() };
        one.send_notice(&notice).await.unwrap();
    }
    let length: usize = lease.run_on_partition(0, ::redis::cmd("XLEN").arg(redis_keys::RULE_LOG_KEY)).await;
    assert_eq!(length, crate::rule_log::MAX_LOG_ENTRIES, "the log is bounded");
    slow.poll_log(&mut position).await.unwrap();
    assert_eq!(check_user(&slow, "mallory"), Err(AccessRefusal::Banned));
    one.write_rule(rule_change(ban_key("eve"), MINUTE)).await.unwrap();
    slow.poll_log(&mut position).await.unwrap();
    assert_eq!(check_user(&slow, "eve"), Err(AccessRefusal::Banned), "the process follows the log again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_store_is_noticed_even_after_new_writes() {
    let lease = RedisKind::Standalone.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let (one, slow) = (
        backend.start_follower(100).await,
        AccessControl::new(backend.open_log(), RuleLimits::with_rules(100)),
    );
    let mut position = LogPositions::default();
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    slow.poll_log(&mut position).await.unwrap();
    lease.run_on_masters::<::redis::Value>(&::redis::cmd("FLUSHALL")).await;
    let other = AccessControl::new(backend.open_log(), RuleLimits::with_rules(100));
    for name in ["a", "b", "c"] {
        other.write_rule(rule_change(ban_key(name), MINUTE)).await.unwrap();
    }
    slow.poll_log(&mut position).await.unwrap();
    for name in ["mallory", "a", "b", "c"] {
        assert_eq!(check_user(&slow, name), Err(AccessRefusal::Banned), "{name}");
    }
}

/// The clock of the process is not used: the store dates the rules.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_times_come_from_the_clock_of_the_store() {
    let lease = RedisKind::Standalone.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let one = backend.start_follower(100).await;
    // The clock of the process is years behind at the start.
    *one.store_time.lock().unwrap() = crate::access_control::StoreTime {
        store_ms: 5,
        read_at: tokio::time::Instant::now(),
        is_from_store: false,
    };
    let (seconds, _): (u64, u64) = lease.run_on_partition(0, &::redis::cmd("TIME")).await;
    let rule = one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    assert!((rule.written_at / 1_000).abs_diff(seconds) < 5);
    let updated = async {
        while one.now_ms() < rule.written_at {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    };
    timeout(WAIT_TIMEOUT, updated).await.expect("the next reply corrects the time");
    assert_eq!(check_user(&one, "mallory"), Err(AccessRefusal::Banned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_gets_its_ttl_in_the_script_that_writes_it() {
    let lease = RedisKind::Standalone.acquire().await;
    let one = LogBackend::over_lease(&lease).start_follower(100).await;
    let ttl = async |key: &str| lease.run_on_partition::<i64>(0, ::redis::cmd("PTTL").arg(key)).await;
    one.send_notice(&Notice { to: NoticeAudience::All, code: "c".into(), message: "m".into() })
        .await
        .unwrap();
    for key in [redis_keys::RULES_KEY, redis_keys::RULE_LOG_KEY] {
        assert!((1..=3_600_000).contains(&ttl(key).await), "{key}");
    }
    one.write_rule(rule_change(ban_key("mallory"), u64::MAX)).await.unwrap();
    one.write_rule(rule_change(ban_key("eve"), MINUTE)).await.unwrap();
    let longest = crate::MAX_RULE_LIFE_MS as i64 + 3_600_000;
    for key in [redis_keys::RULES_KEY, redis_keys::RULE_ENDS_KEY] {
        assert!((longest - 60_000..=longest).contains(&ttl(key).await), "{key}");
    }
    assert!((1..=600_000).contains(&ttl(redis_keys::RULE_LOG_KEY).await));
    assert_eq!(lease.keys().await.len(), 3, "no other key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_accepts_rules() {
    let lease = RedisKind::Standalone.acquire().await;
    let one = LogBackend::over_lease(&lease).start_follower(100).await;
    lease.run_on_masters::<::redis::Value>(::redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"])).await;
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.expect("a full server accepts a ban");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_auth_acl_permits_all_rule_scripts() {
    let lease = RedisKind::Secured.acquire().await;
    let backend = LogBackend::Redis(lease.url_for("auth"), lease.settings());
    let one = backend.start_follower(100).await;
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    one.lift_rule(&ban_key("mallory"), RuleTerms::default()).await.unwrap();
    one.log
        .restore_rules(&one.rules().remembered_rules(0).cloned().map(RuleRepair::from).collect::<Vec<_>>())
        .await
        .unwrap();
    one.send_notice(&Notice { to: NoticeAudience::All, code: "c".into(), message: "m".into() })
        .await
        .unwrap();
}

/// The rules of a set as an attacker may leave them, who has all permissions in Redis but no key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_is_not_authentic_is_ignored_reported_and_repaired() {
    let lease = RedisKind::Standalone.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let node = AccessControl::new(backend.open_node_log(&lease), RuleLimits::with_rules(100));
    let auth = AccessControl::new(backend.open_log(), RuleLimits::with_rules(100));
    let (mut node_positions, mut auth_positions) = (LogPositions::default(), LogPositions::default());
    auth.poll_log(&mut auth_positions).await.unwrap();
    let banned = auth.write_rule(rule_change(ban_key("mallory"), 10 * MINUTE)).await.unwrap();
    let older = banned.to_stored_text();
    let banned = auth.write_rule(rule_change(ban_key("mallory"), 20 * MINUTE)).await.unwrap();
    let grant = RuleKey::Grant(TokenId::parse("g").unwrap());
    let revoked = auth.write_rule(rule_change(grant.clone(), 10 * MINUTE)).await.unwrap();
    node.poll_log(&mut node_positions).await.unwrap();
    let (ban, text) = (ban_key("mallory").to_string(), banned.to_stored_text());
    let now = node.now_ms();
    let unsigned = |key: &RuleKey, at: u64, until: u64, lifted: u8| {
        (key.to_string(), format!("{at} {until} {until} {lifted} - {{\"by\":\"room\"}}"))
    };
    let (auth_set, node_set) = (redis_keys::RULES_KEY, redis_keys::NODE_RULES_KEY);
    // What is written, and whether it is rejected as forged.
    for (what, set, (field, value), is_rejected) in [
        ("deleted", auth_set, (ban.clone(), String::new()), false),
        ("an earlier rule", auth_set, (ban.clone(), older), false),
        ("lifted", auth_set, (ban.clone(), text.replacen(" 0 ", " 1 ", 1)), true),
        ("another time", auth_set, (ban.clone(), text.replacen(' ', "0 ", 1)), true),
        ("the rule of another key", auth_set, ("ban:*:alice".to_owned(), text.clone()), true),
        ("no rule", auth_set, (ban.clone(), "x".to_owned()), true),
        ("unsigned, among signed rules", auth_set, unsigned(&grant, now, now + MINUTE, 0), true),
        ("an unsigned ban", node_set, unsigned(&ban_key("alice"), now, now + MINUTE, 0), true),
        ("an unsigned lift of a ban", node_set, unsigned(&ban_key("mallory"), now, now + MINUTE, 1), true),
        ("an unsigned lift of a grant", node_set, unsigned(&grant, now, now + MINUTE, 1), true),
        ("a shutdown", node_set, unsigned(&RuleKey::Shutdown, now, now + MINUTE, 0), true),
        ("from the future", node_set, unsigned(&grant, now + MINUTE, now + 2 * MINUTE, 0), true),
        ("for ever", node_set, unsigned(&grant, now, u64::MAX, 0), true),
        ("a shorter rule of a node", node_set, unsigned(&grant, now, now + 1, 0), false),
    ] {
        let (lost, mut write) = (node.lost_rules(), ::redis::cmd("HSET"));
        write.arg(set).arg(&field).arg(&value);
        if value.is_empty() {
            write = ::redis::cmd("HDEL");
            write.arg(set).arg(&field);
        }
        lease.run_on_partition::<::redis::Value>(0, &write).await;
        node.request_audit();
        node.poll_log(&mut node_positions).await.unwrap();
        assert_eq!(node.rejected_rules() > 0, is_rejected, "{what}");
        assert_eq!(node.lost_rules() > lost, set == auth_set && field != "ban:*:alice", "{what}");
        assert_eq!(check_user(&node, "mallory"), Err(AccessRefusal::Banned), "{what}");
        assert_eq!(check_user(&node, "alice"), Err(AccessRefusal::Revoked), "{what}: only the grant is");
        assert!(
            node.rules().rule_in_force(&grant, now).unwrap().in_force_until == revoked.in_force_until,
            "{what}"
        );
        auth.request_audit();
        auth.poll_log(&mut auth_positions).await.unwrap();
        assert_eq!(check_user(&auth, "mallory"), Err(AccessRefusal::Banned), "{what}");
        let mut get = ::redis::cmd("HGET");
        let stored: Option<String> = lease.run_on_partition(0, get.arg(auth_set).arg(&ban)).await;
        assert_eq!(stored.as_deref(), Some(&*text), "{what}: the auth service has restored the rule");
        let mut delete = ::redis::cmd("HDEL");
        delete.arg(node_set).arg(&field).arg("none");
        lease.run_on_partition::<::redis::Value>(0, &delete).await;
        if field == "ban:*:alice" {
            lease.run_on_partition::<::redis::Value>(0, ::redis::cmd("HDEL").arg(auth_set).arg(&field)).await;
        }
        node.request_audit();
        node.poll_log(&mut node_positions).await.unwrap();
        assert_eq!(node.rejected_rules(), 0, "{what}: repaired");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_of_a_node_adds_and_the_auth_service_can_lift_it() {
    let lease = RedisKind::Secured.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let (node, auth) = (
        AccessControl::new(backend.open_node_log(&lease), RuleLimits::with_rules(100)),
        backend.start_follower(100).await,
    );
    let mut positions = LogPositions::default();
    node.poll_log(&mut positions).await.unwrap();
    let grant = RuleKey::Grant(TokenId::parse("g").unwrap());
    let kicked = node.write_rule(rule_change(grant.clone(), MINUTE)).await.unwrap();
    assert!(kicked.is_from_node && kicked.signature.is_none());
    assert_eq!(check_user(&node, "u"), Err(AccessRefusal::Revoked));
    wait_until(&auth, "the kick", |rules| rules.rule_in_force(&grant, auth.now_ms()).is_some()).await;
    let lifted = auth.lift_rule(&grant, RuleTerms::default()).await.unwrap();
    assert!(lifted.is_lifted && !lifted.is_from_node && lifted.signature.is_some());
    assert_eq!(check_user(&auth, "u"), Ok(()));
    node.poll_log(&mut positions).await.unwrap();
    assert_eq!(check_user(&node, "u"), Ok(()));
    node.write_rule(rule_change(grant.clone(), MINUTE)).await.unwrap();
    assert_eq!(check_user(&node, "u"), Err(AccessRefusal::Revoked), "a later kick");
    for key in [ban_key("u"), RuleKey::Shutdown] {
        node.write_rule(rule_change(key, MINUTE)).await.unwrap();
    }
    let late = backend.start_follower(100).await;
    assert_eq!(check_user(&late, "u"), Err(AccessRefusal::Revoked), "no ban and no shutdown of a node");
    assert_eq!(late.rejected_rules(), 2);
}

/// Redis has lost everything, and the auth service does not run. A node that starts then knows the
/// rules from the copies of the other nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_restore_signed_rules_while_the_auth_service_is_away() {
    let lease = RedisKind::Secured.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let node = AccessControl::new(backend.open_node_log(&lease), RuleLimits::with_rules(100));
    let mut positions = LogPositions::default();
    let auth = AccessControl::new(backend.open_log(), RuleLimits::with_rules(100));
    auth.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    node.poll_log(&mut positions).await.unwrap();
    drop(auth);
    lease.run_on_masters::<::redis::Value>(&::redis::cmd("FLUSHALL")).await;
    node.poll_log(&mut positions).await.unwrap();
    let late = AccessControl::new(backend.open_node_log(&lease), RuleLimits::with_rules(100));
    late.poll_log(&mut LogPositions::default()).await.unwrap();
    assert_eq!(check_user(&late, "mallory"), Err(AccessRefusal::Banned));
    // The auth service reads the copy and has the rule in its own set again.
    let auth = AccessControl::new(backend.open_log(), RuleLimits::with_rules(100));
    let mut positions = LogPositions::default();
    auth.poll_log(&mut positions).await.unwrap();
    auth.request_audit();
    auth.poll_log(&mut positions).await.unwrap();
    let mut get = ::redis::cmd("HGET");
    get.arg(redis_keys::RULES_KEY).arg(ban_key("mallory").to_string());
    assert!(lease.run_on_partition::<Option<String>>(0, &get).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_signing_key_signs_the_rules_again() {
    let lease = RedisKind::Standalone.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let before = backend.start_follower(100).await;
    let old = before.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    let secret = SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex()))).unwrap();
    let client = RedisClient::connect(&lease.url_for("auth"), &lease.settings()).unwrap();
    let proof = RuleProof::Signer(Arc::new(TestSigner(secret)));
    let after =
        AccessControl::new(RuleLog::Redis(RedisRuleLog::new(client, proof)), RuleLimits::with_rules(100));
    let mut positions = LogPositions::default();
    after.poll_log(&mut positions).await.unwrap();
    assert_eq!(check_user(&after, "mallory"), Err(AccessRefusal::Banned), "the former key still verifies");
    after.request_audit();
    after.poll_log(&mut positions).await.unwrap();
    after.poll_log(&mut positions).await.unwrap();
    let new = after.rules().rule_in_force(&ban_key("mallory"), after.now_ms()).unwrap().clone();
    assert!(new.signature.is_some() && new.signature != old.signature);
    assert_eq!((new.written_at, new.in_force_until), (old.written_at, old.in_force_until));
}

/// What a node that was broken into can do to the set of the nodes stops no rule of the auth service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_set_of_the_nodes_does_not_stop_the_rules_of_the_auth_service() {
    let lease = RedisKind::Standalone.acquire().await;
    let backend = LogBackend::over_lease(&lease);
    let (node, auth) = (
        AccessControl::new(backend.open_node_log(&lease), RuleLimits::with_rules(10)),
        backend.start_follower(10).await,
    );
    let mut positions = LogPositions::default();
    node.poll_log(&mut positions).await.unwrap();
    // More grants than a process may hold.
    let mut write = ::redis::cmd("HSET");
    write.arg(redis_keys::NODE_RULES_KEY);
    let now = node.now_ms();
    for n in 0..50 {
        write.arg(format!("token:g{n}")).arg(format!("{now} {0} {0} 0 - {{\"by\":\"room\"}}", now + MINUTE));
    }
    lease.run_on_partition::<::redis::Value>(0, &write).await;
    node.request_audit();
    node.poll_log(&mut positions).await.unwrap();
    assert_eq!(node.rules().len(), 10);
    auth.request_audit();
    wait_until(&auth, "as many rules as a process may hold", |rules| rules.len() == 10).await;
    for command in [
        vec!["HSET", redis_keys::NODE_RULES_KEY, ":n", "x"],
        vec!["HSET", redis_keys::NODE_RULES_KEY, ":n", "7", ":life", "other"],
        vec!["DEL", redis_keys::NODE_RULES_KEY],
        vec!["SET", redis_keys::NODE_RULES_KEY, "x"],
    ] {
        lease.run_on_partition::<::redis::Value>(0, ::redis::cmd(command[0]).arg(&command[1..])).await;
        let user = format!("user-{}", command.len() + command[0].len());
        auth.lift_rule(&ban_key(&user), RuleTerms::default()).await.unwrap_err();
        auth.write_rule(rule_change(ban_key(&user), MINUTE)).await.unwrap();
        node.poll_log(&mut positions).await.unwrap();
        assert!(node.is_current() && check_user(&node, &user) == Err(AccessRefusal::Banned), "{command:?}");
        auth.wait_for_latest_rules().await.unwrap();
        auth.lift_rule(&ban_key(&user), RuleTerms::default()).await.unwrap();
        lease
            .run_on_partition::<::redis::Value>(0, ::redis::cmd("DEL").arg(redis_keys::NODE_RULES_KEY))
            .await;
    }
}
