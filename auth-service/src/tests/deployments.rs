//! Readiness and the feed over every kind of Redis.

use std::time::Duration;

use signalbox_config as config;
use signalbox_redis::keys;
use signalbox_rooms::feed::FeedSender;
use signalbox_tests::{
    net::{eventually, eventually_within},
    redis_guard::Guard,
    redis_kinds::{KINDS, Lease},
    redis_node::RedisNode,
    redis_sentinel::TestSentinel,
};

use crate::{
    feed,
    store::{RedisStore, StoreError},
};

const FAILOVER: Duration = Duration::from_secs(30);

/// Publishes a line until it is heard.
async fn hears(feed: &FeedSender, line: &str, publish: impl AsyncFn(&redis::Cmd)) {
    let mut ear = feed.subscribe();
    for partition in [0, 63, 127] {
        let mut cmd = redis::cmd("SPUBLISH");
        cmd.arg(keys::feed_topics().nth(partition).unwrap()).arg(format!("{line} {partition}"));
        eventually_within(FAILOVER, "the feed is heard", async || {
            publish(&cmd).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            std::iter::from_fn(|| ear.try_recv().ok())
                .any(|heard| *heard == *format!("{line} {partition}"))
                .then_some(())
        })
        .await;
    }
}

async fn open(url: &str, settings: &config::Redis) -> (RedisStore, FeedSender) {
    (RedisStore::open(url, settings).unwrap(), feed::over_redis(url, settings).unwrap())
}

#[actix_web::test]
async fn readiness_and_the_feed_work_over_every_kind_of_redis() {
    for kind in KINDS {
        let redis: Lease = kind.lease().await;
        let (store, feed) = open(&redis.url_for("auth"), &redis.settings()).await;
        store.ready().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        store.ready().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        hears(&feed, "hello", async |cmd| {
            for (partition, topic) in keys::feed_topics().enumerate() {
                if cmd
                    .args_iter()
                    .any(|arg| matches!(arg, redis::Arg::Simple(arg) if arg == topic.as_bytes()))
                {
                    redis.at::<i64>(partition, cmd).await;
                }
            }
        })
        .await;
    }
}

#[actix_web::test]
async fn after_a_failover_readiness_and_the_feed_are_at_the_new_master() {
    let mut redis = TestSentinel::start(Guard::acl()).await;
    let (store, feed) = open(&redis.url("auth"), &redis.guard().settings()).await;
    store.ready().await.unwrap();
    redis.kill_master().await;
    assert!(matches!(store.ready().await, Err(StoreError::Unreachable(_))));
    let master = redis.master().await;
    eventually("it is ready again", async || store.ready().await.ok()).await;
    hears(&feed, "hello again", async |cmd| {
        redis.nodes[master].run::<i64>(cmd).await;
    })
    .await;
}

#[actix_web::test]
async fn a_store_that_was_not_there_at_boot_is_checked_when_it_comes() {
    let address = signalbox_tests::net::free_address();
    let store = RedisStore::open(&format!("redis://{address}"), &config::Redis::default()).unwrap();
    assert!(matches!(store.ready().await, Err(StoreError::Unreachable(_))));
    let node = RedisNode::start(address, &Guard::none(), &[]).await;
    node.ask::<()>("CONFIG SET maxmemory-policy allkeys-lru").await;
    assert!(matches!(store.ready().await, Err(StoreError::Unfit(why)) if why.contains("allkeys-lru")));
    node.ask::<()>("CONFIG SET maxmemory-policy noeviction").await;
    store.ready().await.unwrap();
}
