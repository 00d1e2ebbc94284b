//! A master behind Sentinels: it dies, it is demoted, or it loses acknowledged writes.

use std::time::{Duration, Instant};

use signalbox_redis::redis_keys::PARTITIONS;
use signalbox_tests::{
    net::eventually_within,
    redis_cluster::{key_in, topic_in},
    redis_security::RedisSecurity,
    redis_sentinel::TestSentinel,
};

use crate::test_client::{FAILOVER_DEADLINE, TestClient, TestListener};

fn all_partitions() -> Vec<usize> {
    (0..PARTITIONS).collect()
}

#[tokio::test]
async fn a_killed_master_is_replaced_and_all_partitions_resync() {
    let mut redis = TestSentinel::start(RedisSecurity::none()).await;
    let client = TestClient::connect(&redis.url("signal"), &redis.security().settings()).await;
    let listener = TestListener::open(&client).await;
    client.count(9, "before").await.unwrap();

    let start = Instant::now();
    let killed = redis.kill_master().await;
    let new_master = redis.wait_master().await;
    let failover = start.elapsed();
    assert_ne!(new_master, killed);
    client.wait_until_answered(9, "the new master").await;
    let calls_after = start.elapsed();
    listener.publish_until_received(&client, 9, "from the new master").await;
    let topics_after = start.elapsed();
    println!(
        "sentinel: new master after {failover:?}, calls after {calls_after:?}, topics after {topics_after:?}"
    );
    assert!(calls_after < failover + Duration::from_secs(2), "{calls_after:?}, failover {failover:?}");
    client.wait_for_interruption(&all_partitions()).await;
    listener.wait_for_gap(&all_partitions()).await;
    let stable_for = client.client.stable_for();
    assert!(stable_for < start.elapsed(), "{stable_for:?}");

    // The old master restarts as a replica, and the client does not use it.
    redis.servers[killed].restart().await;
    eventually_within(FAILOVER_DEADLINE, "the old master follows", async || {
        (redis.servers[killed].replication_info("role").await? == "slave").then_some(())
    })
    .await;
    assert_eq!(
        redis.servers[killed].run_text::<i64>(&format!("HEXISTS {} after", key_in(9, "counts"))).await,
        0
    );
    // On a busy machine the Sentinels may have chosen another master in the meantime, even the old one.
    eventually_within(FAILOVER_DEADLINE, "writes go to the master", async || {
        client.count(9, "after").await.ok()?;
        let master = redis.current_master().await?;
        let found: i64 =
            redis.servers[master].try_run_text(&format!("HEXISTS {} after", key_in(9, "counts"))).await?;
        (found == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn sentinels_get_the_login_that_the_url_has_for_them() {
    let redis = TestSentinel::start(RedisSecurity::acl_and_guarded_sentinels()).await;
    let (url, settings) = (redis.url("signal"), redis.security().settings());
    let client = TestClient::connect(&url, &settings).await;
    assert_eq!(client.count(9, "a").await, Ok(1));
    let (without_login, _) = url.split_once('?').unwrap();
    for refused in [without_login.to_owned(), format!("{without_login}?sentinel_pass=wrong")] {
        let problem = match TestClient::try_connect(&refused, &settings).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("a wrong login was taken"),
        };
        assert!(
            problem.contains("the Sentinel at 127.0.0.1:") && problem.contains("sentinel_pass="),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_master_behind_sentinels_is_used_with_client_certificates() {
    let redis = TestSentinel::start(RedisSecurity::mutual_tls()).await;
    let client = TestClient::connect(&redis.url("signal"), &redis.security().settings()).await;
    assert_eq!(client.count(9, "a").await, Ok(1));
}

#[tokio::test]
async fn the_client_leaves_a_master_that_was_demoted_alive() {
    let redis = TestSentinel::start(RedisSecurity::acl()).await;
    let client = TestClient::connect(&redis.url("signal"), &redis.security().settings()).await;
    let listener = TestListener::open(&client).await;
    let old = redis.wait_master().await;
    redis.sentinels[0].run_text::<()>("SENTINEL FAILOVER signalbox").await;
    let new = eventually_within(FAILOVER_DEADLINE, "another master", async || {
        redis.current_master().await.filter(|master| *master != old)
    })
    .await;
    eventually_within(FAILOVER_DEADLINE, "writes go to the new master", async || {
        client.count(4, "after").await.ok()?;
        let found: i64 = redis.servers[new].run_text(&format!("HEXISTS {} after", key_in(4, "counts"))).await;
        (found == 1).then_some(())
    })
    .await;
    // Other nodes publish on the new master.
    eventually_within(FAILOVER_DEADLINE, "messages of other nodes arrive", async || {
        redis.servers[new].run_text::<i64>(&format!("SPUBLISH {} others", topic_in(4, "me"))).await;
        listener.has_received("others").then_some(())
    })
    .await;
    listener.wait_for_gap(&all_partitions()).await;
}

#[tokio::test]
async fn writes_lost_with_their_master_are_an_interruption() {
    let mut redis = TestSentinel::start(RedisSecurity::none()).await;
    let client = TestClient::connect(&redis.url("signal"), &redis.security().settings()).await;
    redis.cut_replication().await;
    assert_eq!(client.count(2, "lost").await, Ok(1));
    redis.kill_master().await;
    client.wait_for_interruption(&all_partitions()).await;
    client.wait_until_answered(2, "the new master").await;
    assert_eq!(client.count(2, "lost").await, Ok(1), "the new master lacks the lost write");
}
