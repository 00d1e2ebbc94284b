//! Readiness and the feed over every kind of Redis.

use std::{sync::Arc, time::Duration};

use signalbox_config as config;
use signalbox_redis::{RedisClient, RedisStartError, redis_keys};
use signalbox_rooms::feed::FeedSender;
use signalbox_tests::{
    net::{eventually, eventually_within},
    redis_kind::{ExclusiveRedis, REDIS_KINDS},
    redis_security::RedisSecurity,
    redis_sentinel::TestSentinel,
    redis_server::RedisServer,
};

use crate::management::feed_subscription;

const FAILOVER_DEADLINE: Duration = Duration::from_secs(30);

/// Publishes a line until the feed delivers it.
async fn publish_until_received(feed: &FeedSender, line: &str, publish: impl AsyncFn(&redis::Cmd)) {
    let mut reader = feed.subscribe();
    for partition in [0, 63, 127] {
        let mut cmd = redis::cmd("SPUBLISH");
        cmd.arg(redis_keys::feed_topics().nth(partition).unwrap()).arg(format!("{line} {partition}"));
        eventually_within(FAILOVER_DEADLINE, "the feed delivers the line", async || {
            publish(&cmd).await;
            std::iter::from_fn(|| reader.try_recv().ok())
                .any(|received| *received == *format!("{line} {partition}"))
                .then_some(())
        })
        .await;
    }
}

fn start_client_and_feed(url: &str, settings: &config::RedisSettings) -> (Arc<RedisClient>, FeedSender) {
    let client = RedisClient::start(url, settings).unwrap();
    let feed = feed_subscription::subscribe_feed(&client);
    (client, feed)
}

/// Waits until the client reports a problem that `is_expected`.
async fn wait_for_problem(client: &RedisClient, what: &str, is_expected: impl Fn(&RedisStartError) -> bool) {
    eventually(what, async || client.check_ready().err().filter(&is_expected)).await;
}

#[actix_web::test]
async fn readiness_and_the_feed_work_over_every_kind_of_redis() {
    for kind in REDIS_KINDS {
        let redis: ExclusiveRedis = kind.acquire().await;
        let (client, feed) = start_client_and_feed(&redis.url_for("auth"), &redis.settings());
        let ready = client.wait_for_servers(Duration::from_secs(5)).await;
        ready.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        client.check_ready().unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        publish_until_received(&feed, "hello", async |cmd| {
            for (partition, topic) in redis_keys::feed_topics().enumerate() {
                if cmd
                    .args_iter()
                    .any(|arg| matches!(arg, redis::Arg::Simple(arg) if arg == topic.as_bytes()))
                {
                    redis.run_on_partition::<i64>(partition, cmd).await;
                }
            }
        })
        .await;
    }
}

#[actix_web::test]
async fn readiness_and_the_feed_use_the_new_master_after_a_failover() {
    let mut redis = TestSentinel::start(RedisSecurity::acl()).await;
    let (client, feed) = start_client_and_feed(&redis.url("auth"), &redis.security().settings());
    client.wait_for_servers(Duration::from_secs(5)).await.unwrap();
    redis.kill_master().await;
    wait_for_problem(&client, "it is not ready", |error| !error.needs_operator()).await;
    let master = redis.wait_master().await;
    eventually("it is ready again", async || client.check_ready().ok()).await;
    publish_until_received(&feed, "hello again", async |cmd| {
        redis.servers[master].run::<i64>(cmd).await;
    })
    .await;
}

#[actix_web::test]
async fn redis_absent_at_boot_is_checked_when_it_appears() {
    let address = signalbox_tests::net::free_address();
    let client =
        RedisClient::start(&format!("redis://{address}"), &config::RedisSettings::default()).unwrap();
    wait_for_problem(&client, "Redis is missing", |error| !error.needs_operator()).await;
    let node =
        RedisServer::start(address, &RedisSecurity::none(), &["--maxmemory-policy", "allkeys-lru"]).await;
    let evicts = |error: &RedisStartError| matches!(error, RedisStartError::EvictsKeys(policy) if policy == "allkeys-lru");
    wait_for_problem(&client, "the server is refused", evicts).await;
    node.run_text::<()>("CONFIG SET maxmemory-policy noeviction").await;
    eventually("the server is accepted", async || client.check_ready().ok()).await;
}
