//! One server: it hangs, it stops, or it loses data.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_redis::{RedisScript, RedisUnavailable, redis_keys::PARTITIONS};
use signalbox_tests::{
    net::{eventually_within, free_address},
    redis_security::RedisSecurity,
    redis_server::RedisServer,
};

use crate::{
    muting_proxy::MutingProxy,
    test_client::{TestClient, TestListener},
};

async fn start_server() -> (RedisServer, TestClient) {
    let node =
        RedisServer::start(free_address(), &RedisSecurity::none(), &["--enable-debug-command", "yes"]).await;
    let client =
        TestClient::connect(&format!("redis://{}/0", node.address), &RedisSecurity::none().settings()).await;
    (node, client)
}

fn all_partitions() -> Vec<usize> {
    (0..PARTITIONS).collect()
}

#[tokio::test]
async fn a_hanging_server_opens_the_breaker_in_time_and_recovers() {
    let (node, client) = start_server().await;
    let listener = TestListener::open(&client).await;
    node.pause();
    let start = Instant::now();
    assert_eq!(client.count(1, "hangs").await, Err(RedisUnavailable));
    eventually_within(Duration::from_secs(4), "the breaker opens", async || {
        (!client.client.is_partition_connected(1) && !client.client.is_ready()).then_some(())
    })
    .await;
    let opened = start.elapsed();
    assert!(opened < Duration::from_millis(2_700), "{opened:?}");
    let start = Instant::now();
    assert_eq!(client.count(1, "unavailable").await, Err(RedisUnavailable));
    assert!(start.elapsed() < Duration::from_millis(100), "a call to a lost server does not wait");
    assert_eq!(client.client.stable_for(), Duration::ZERO);

    node.unpause();
    let back = client.wait_until_answered(1, "the server goes on").await;
    assert!(back < Duration::from_millis(1_500), "{back:?}");
    println!("SIGSTOP: breaker open after {opened:?}, back {back:?} after SIGCONT");
    client.wait_for_interruption(&all_partitions()).await;
    assert!(client.client.stable_for() < Duration::from_secs(5));
    let counts = client.counts(1).await;
    assert!(counts.iter().all(|(id, n)| id == "again" || *n == 1), "{counts:?}");
    assert!(!counts.iter().any(|(id, _)| id == "unavailable"));
    listener.publish_until_received(&client, 3, "after the pause").await;
}

#[tokio::test]
async fn an_idle_client_notices_a_hanging_server() {
    let (node, client) = start_server().await;
    node.pause();
    eventually_within(Duration::from_secs(3), "the breaker opens", async || {
        (!client.client.is_ready()).then_some(())
    })
    .await;
    node.unpause();
    client.wait_until_answered(1, "the server goes on").await;
}

#[tokio::test]
async fn a_restarted_server_is_used_within_a_second_and_all_partitions_resync() {
    let (mut node, client) = start_server().await;
    let listener = TestListener::open(&client).await;
    node.kill();
    assert_eq!(client.count(1, "gone").await, Err(RedisUnavailable));
    eventually_within(Duration::from_secs(1), "the breaker opens", async || {
        (!client.client.is_partition_connected(1)).then_some(())
    })
    .await;
    // Long enough for the longest pause between two attempts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    node.restart().await;
    let back = client.wait_until_answered(1, "the server is back").await;
    assert!(back < Duration::from_millis(1_300), "{back:?}");
    let heard = listener.publish_until_received(&client, 5, "hello again").await;
    println!("restart: calls after {back:?}, topics {heard:?} later");
    client.wait_for_interruption(&all_partitions()).await;
    listener.wait_for_gap(&all_partitions()).await;
}

#[tokio::test]
async fn a_new_replication_id_is_noticed_without_a_reconnect() {
    let (node, client) = start_server().await;
    client.count(1, "before").await.unwrap();
    assert!(client.interrupted().is_empty());
    node.run_text::<()>("DEBUG CHANGE-REPL-ID").await;
    client.wait_for_interruption(&all_partitions()).await;
    assert!(client.client.is_ready());
    assert!(client.client.stable_for() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_demoted_master_is_no_longer_read() {
    let (node, client) = start_server().await;
    client.count(1, "before").await.unwrap();
    // No master listens at this address, so the replica answers reads from its old data.
    node.run_text::<()>("REPLICAOF 127.0.0.1 1").await;
    eventually_within(Duration::from_secs(3), "the breaker opens", async || {
        (!client.client.is_partition_connected(1)).then_some(())
    })
    .await;
    node.run_text::<()>("REPLICAOF NO ONE").await;
    client.wait_until_answered(1, "it is a master again").await;
    client.wait_for_interruption(&all_partitions()).await;
}

#[tokio::test]
async fn a_forgotten_script_is_loaded_and_runs_once() {
    let (node, client) = start_server().await;
    assert_eq!(client.count(1, "a").await, Ok(1));
    node.run_text::<()>("SCRIPT FLUSH").await;
    assert_eq!(client.count(1, "b").await, Ok(1));
    assert_eq!(client.counts(1).await, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(client.count_pooled(2, "a", &[]).await, Ok(1));
    node.run_text::<()>("SCRIPT FLUSH").await;
    assert_eq!(client.count_pooled(2, "b", &[]).await, Ok(1));
    assert_eq!(client.counts(2).await, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[tokio::test]
async fn a_client_starts_without_redis_and_connects_when_redis_comes() {
    let mut node = RedisServer::start(free_address(), &RedisSecurity::none(), &[]).await;
    node.kill();
    let settings = RedisSecurity::none().settings();
    let client = TestClient::start(&format!("redis://{}/0", node.address), &settings).unwrap();
    let limit = Duration::from_millis(300);
    let problem = client.client.wait_for_servers(limit).await.unwrap_err();
    assert!(!problem.needs_operator(), "{problem}");
    assert!(client.client.check_ready().unwrap_err().to_string().contains("refused"));
    let start = Instant::now();
    assert_eq!(client.count(1, "early").await, Err(RedisUnavailable));
    assert_eq!(client.count_pooled(1, "early", &[]).await, Err(RedisUnavailable));
    assert!(start.elapsed() < Duration::from_millis(100), "a call does not wait for the first answer");

    node.restart().await;
    client.client.wait_for_servers(Duration::from_secs(5)).await.unwrap();
    assert_eq!(client.count(1, "late").await, Ok(1));
    assert_eq!(client.count_pooled(1, "pooled", &[]).await, Ok(1));
    assert!(client.interrupted().is_empty(), "no message was missed before the start");
}

#[tokio::test]
async fn scripts_that_are_announced_late_are_loaded_on_an_open_connection() {
    static LATE: RedisScript = RedisScript::new("return 'late'");
    let (node, client) = start_server().await;
    client.client.load_scripts(&[&LATE]);
    client.client.wait_for_servers(Duration::from_secs(3)).await.unwrap();
    let hash = redis::Script::new("\nreturn 'late'").get_hash().to_owned();
    assert_eq!(node.run_text::<Vec<i64>>(&format!("SCRIPT EXISTS {hash}")).await, [1]);
}

#[tokio::test]
async fn a_cut_topic_connection_resubscribes_and_reports_the_gap() {
    let (node, client) = start_server().await;
    let listener = TestListener::open(&client).await;
    listener.publish_until_received(&client, 7, "before").await;
    node.run_text::<i64>("CLIENT KILL TYPE pubsub").await;
    listener.wait_for_gap(&all_partitions()).await;
    listener.publish_until_received(&client, 7, "after").await;
    assert!(client.interrupted().is_empty(), "commands use another connection");
}

#[tokio::test]
async fn an_executed_call_is_not_repeated_when_its_connection_breaks() {
    let (node, client) = start_server().await;
    let client = Arc::new(client);
    let mut administrator = node.connect().await;
    // The server reads the call and then the command that closes the connection of the caller, so
    // it cannot reply.
    node.pause();
    let calling = tokio::spawn({
        let client = client.clone();
        async move { client.count(1, "once").await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
    let killing = tokio::spawn(async move { kill.query_async::<i64>(&mut administrator).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.unpause();
    assert_eq!(calling.await.unwrap(), Err(RedisUnavailable));
    assert!(killing.await.unwrap().unwrap() > 0);
    client.wait_until_answered(2, "the link is back").await;
    assert_eq!(client.counts(1).await, [("once".to_owned(), 1)]);
}

#[tokio::test]
async fn a_probe_detects_a_silent_topic_connection() {
    let node = RedisServer::start(free_address(), &RedisSecurity::none(), &[]).await;
    let proxy = MutingProxy::start(node.address).await;
    let client =
        TestClient::connect(&format!("redis://{}/0", proxy.address), &RedisSecurity::none().settings()).await;
    let listener = TestListener::open(&client).await;
    listener.publish_until_received(&client, 9, "before").await;
    proxy.mute_subscribers();
    listener.wait_for_gap(&all_partitions()).await;
    listener.publish_until_received(&client, 9, "after").await;
    assert!(client.interrupted().is_empty(), "calls were not interrupted");
}
