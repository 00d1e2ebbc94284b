//! A master behind Sentinels: it dies, it is demoted, it loses what it acknowledged.

use std::time::{Duration, Instant};

use signalbox_redis::keys::PARTITIONS;
use signalbox_tests::{
    net::eventually_within, redis_cluster::key_in, redis_guard::Guard, redis_sentinel::TestSentinel,
};

use crate::common::{Client, Ears, FAILOVER};

fn all() -> Vec<usize> {
    (0..PARTITIONS).collect()
}

#[tokio::test]
async fn a_killed_master_is_replaced_and_everybody_catches_up() {
    let mut redis = TestSentinel::start(Guard::none()).await;
    let client = Client::connect(&redis.url("signal"), &redis.guard().settings()).await;
    let ears = Ears::open(&client).await;
    client.count(9, "before").await.unwrap();

    let start = Instant::now();
    let killed = redis.kill_master().await;
    let place = redis.master().await;
    let failover = start.elapsed();
    assert_ne!(place, killed);
    client.until_it_works(9, "the new master").await;
    let works = start.elapsed();
    ears.until_heard(&client, 9, "from the new master").await;
    let heard = start.elapsed();
    println!("sentinel: new master after {failover:?}, calls after {works:?}, topics after {heard:?}");
    assert!(works < failover + Duration::from_secs(2), "{works:?}, failover {failover:?}");
    client.wait_disturbed(&all()).await;
    ears.wait_again(&all()).await;
    let undisturbed = client.link.undisturbed_for();
    assert!(undisturbed < start.elapsed(), "{undisturbed:?}");

    // The old master comes back as a replica, and nobody goes to it.
    redis.nodes[killed].go_on().await;
    eventually_within(FAILOVER, "the old master follows", async || {
        (redis.nodes[killed].replication("role").await? == "slave").then_some(())
    })
    .await;
    assert_eq!(redis.nodes[killed].ask::<i64>(&format!("HEXISTS {} after", key_in(9, "counts"))).await, 0);
    // The Sentinels may have changed their mind once more meanwhile.
    eventually_within(FAILOVER, "writes go to the master", async || {
        client.count(9, "after").await.ok()?;
        let master = redis.master_now().await.filter(|master| *master != killed)?;
        let found: i64 =
            redis.nodes[master].try_ask(&format!("HEXISTS {} after", key_in(9, "counts"))).await?;
        (found == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_sits_on_a_master_that_was_demoted_alive() {
    let redis = TestSentinel::start(Guard::acl()).await;
    let client = Client::connect(&redis.url("signal"), &redis.guard().settings()).await;
    let ears = Ears::open(&client).await;
    let old = redis.master().await;
    redis.sentinels[0].ask::<()>("SENTINEL FAILOVER signalbox").await;
    let new = eventually_within(FAILOVER, "another master", async || {
        redis.master_now().await.filter(|place| *place != old)
    })
    .await;
    eventually_within(FAILOVER, "writes go to the new master", async || {
        client.count(4, "after").await.ok()?;
        let found: i64 = redis.nodes[new].ask(&format!("HEXISTS {} after", key_in(4, "counts"))).await;
        (found == 1).then_some(())
    })
    .await;
    // What others publish is published there.
    eventually_within(FAILOVER, "what others publish is heard", async || {
        redis.nodes[new].ask::<i64>(&format!("SPUBLISH {} others", key_in(4, "node:me"))).await;
        ears.has_heard("others").then_some(())
    })
    .await;
    ears.wait_again(&all()).await;
}

#[tokio::test]
async fn writes_that_are_lost_with_their_master_are_a_disturbance() {
    let mut redis = TestSentinel::start(Guard::none()).await;
    let client = Client::connect(&redis.url("signal"), &redis.guard().settings()).await;
    redis.cut_replication().await;
    assert_eq!(client.count(2, "lost").await, Ok(1));
    redis.kill_master().await;
    client.wait_disturbed(&all()).await;
    client.until_it_works(2, "the new master").await;
    assert_eq!(client.count(2, "lost").await, Ok(1), "the new master has never heard of it");
}
