//! One server: it hangs, it goes, it forgets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_redis::keys::PARTITIONS;
use signalbox_redis::Unavailable;
use signalbox_tests::{
    net::{eventually_within, free_address},
    redis_guard::Guard,
    redis_node::RedisNode,
};

use crate::{
    common::{Client, Ears},
    proxy::Proxy,
};

async fn server() -> (RedisNode, Client) {
    let node = RedisNode::start(free_address(), &Guard::none(), &["--enable-debug-command", "yes"]).await;
    let client = Client::connect(&format!("redis://{}/0", node.address), &Guard::none().settings()).await;
    (node, client)
}

fn all() -> Vec<usize> {
    (0..PARTITIONS).collect()
}

#[tokio::test]
async fn a_server_that_hangs_opens_the_breaker_in_time_and_heals() {
    let (node, client) = server().await;
    let ears = Ears::open(&client).await;
    node.freeze();
    let start = Instant::now();
    assert_eq!(client.count(1, "hangs").await, Err(Unavailable));
    eventually_within(Duration::from_secs(4), "the breaker opens", async || {
        (!client.link.is_open(1) && !client.link.is_ready()).then_some(())
    })
    .await;
    let opened = start.elapsed();
    assert!(opened < Duration::from_millis(2_700), "{opened:?}");
    let start = Instant::now();
    assert_eq!(client.count(1, "away").await, Err(Unavailable));
    assert!(start.elapsed() < Duration::from_millis(100), "a call does not wait for what is known lost");
    assert_eq!(client.link.undisturbed_for(), Duration::ZERO);

    node.thaw();
    let back = client.until_it_works(1, "the server goes on").await;
    assert!(back < Duration::from_millis(1_500), "{back:?}");
    println!("SIGSTOP: breaker open after {opened:?}, back {back:?} after SIGCONT");
    client.wait_disturbed(&all()).await;
    assert!(client.link.undisturbed_for() < Duration::from_secs(5));
    let counts = client.counts(1).await;
    assert!(counts.iter().all(|(id, n)| id == "again" || *n == 1), "{counts:?}");
    assert!(!counts.iter().any(|(id, _)| id == "away"));
    ears.until_heard(&client, 3, "after the pause").await;
}

#[tokio::test]
async fn a_quiet_link_notices_a_server_that_hangs() {
    let (node, client) = server().await;
    node.freeze();
    eventually_within(Duration::from_secs(3), "the breaker opens", async || {
        (!client.link.is_ready()).then_some(())
    })
    .await;
    node.thaw();
    client.until_it_works(1, "the server goes on").await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_within_a_second_and_everybody_catches_up() {
    let (mut node, client) = server().await;
    let ears = Ears::open(&client).await;
    node.kill();
    assert_eq!(client.count(1, "gone").await, Err(Unavailable));
    eventually_within(Duration::from_secs(1), "the breaker opens", async || {
        (!client.link.is_open(1)).then_some(())
    })
    .await;
    // Long enough for the pause between attempts to be the longest.
    tokio::time::sleep(Duration::from_secs(2)).await;
    node.go_on().await;
    let back = client.until_it_works(1, "the server is back").await;
    assert!(back < Duration::from_millis(1_300), "{back:?}");
    let heard = ears.until_heard(&client, 5, "hello again").await;
    println!("restart: calls after {back:?}, topics {heard:?} later");
    client.wait_disturbed(&all()).await;
    ears.wait_again(&all()).await;
}

#[tokio::test]
async fn another_history_of_writes_is_noticed_without_a_reconnect() {
    let (node, client) = server().await;
    client.count(1, "before").await.unwrap();
    assert!(client.disturbed().is_empty());
    node.ask::<()>("DEBUG CHANGE-REPL-ID").await;
    client.wait_disturbed(&all()).await;
    assert!(client.link.is_ready());
    assert!(client.link.undisturbed_for() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_master_that_is_made_a_replica_is_not_read_from_any_more() {
    let (node, client) = server().await;
    client.count(1, "before").await.unwrap();
    // Of nobody: it answers reads from what it has.
    node.ask::<()>("REPLICAOF 127.0.0.1 1").await;
    eventually_within(Duration::from_secs(3), "the breaker opens", async || {
        (!client.link.is_open(1)).then_some(())
    })
    .await;
    node.ask::<()>("REPLICAOF NO ONE").await;
    client.until_it_works(1, "it is a master again").await;
    client.wait_disturbed(&all()).await;
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_loaded_and_called_once() {
    let (node, client) = server().await;
    assert_eq!(client.count(1, "a").await, Ok(1));
    node.ask::<()>("SCRIPT FLUSH").await;
    assert_eq!(client.count(1, "b").await, Ok(1));
    assert_eq!(client.counts(1).await, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[tokio::test]
async fn topics_whose_connection_is_cut_are_heard_again_with_a_catch_up() {
    let (node, client) = server().await;
    let ears = Ears::open(&client).await;
    ears.until_heard(&client, 7, "before").await;
    node.ask::<i64>("CLIENT KILL TYPE pubsub").await;
    ears.wait_again(&all()).await;
    ears.until_heard(&client, 7, "after").await;
    assert!(client.disturbed().is_empty(), "the commands' connection is another");
}

#[tokio::test]
async fn a_call_whose_connection_breaks_after_it_was_executed_is_not_sent_again() {
    let (node, client) = server().await;
    let client = Arc::new(client);
    let mut administrator = node.connect().await;
    // The server finds the call and behind it the order to close the caller's connection: it has no time to answer.
    node.freeze();
    let calling = tokio::spawn({
        let client = client.clone();
        async move { client.count(1, "once").await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
    let killing = tokio::spawn(async move { kill.query_async::<i64>(&mut administrator).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.thaw();
    assert_eq!(calling.await.unwrap(), Err(Unavailable));
    assert!(killing.await.unwrap().unwrap() > 0);
    client.until_it_works(2, "the link is back").await;
    assert_eq!(client.counts(1).await, [("once".to_owned(), 1)]);
}

#[tokio::test]
async fn a_topic_connection_that_hears_nothing_any_more_is_found_out_by_its_probe() {
    let node = RedisNode::start(free_address(), &Guard::none(), &[]).await;
    let proxy = Proxy::start(node.address).await;
    let client = Client::connect(&format!("redis://{}/0", proxy.address), &Guard::none().settings()).await;
    let ears = Ears::open(&client).await;
    ears.until_heard(&client, 9, "before").await;
    proxy.mute();
    ears.wait_again(&all()).await;
    ears.until_heard(&client, 9, "after").await;
    assert!(client.disturbed().is_empty(), "calls went on all the while");
}
