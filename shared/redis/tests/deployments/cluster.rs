//! A Cluster: a master dies, a slot moves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use signalbox_config::{self as config, units::TimeSpan};
use signalbox_redis::{KeyCommand, RedisCommand, RedisUnavailable, ScriptCall, redis_keys, value_text};
use signalbox_tests::{
    net::{eventually_within, within},
    redis_cluster::{TestRedisCluster, key_in},
    redis_security::RedisSecurity,
};

use crate::test_client::{COUNT, FAILOVER_DEADLINE, TestClient, TestListener};

async fn start_cluster(guard: RedisSecurity) -> (TestRedisCluster, Arc<TestClient>) {
    let redis = TestRedisCluster::start(guard).await;
    let client = TestClient::connect(&redis.url("signal"), &redis.security().settings()).await;
    (redis, Arc::new(client))
}

/// The outcome of each id, and the duration of the longest call.
type CallOutcomes = (BTreeMap<String, Result<i64, RedisUnavailable>>, Duration);

/// The kind of connection that a flow uses.
#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Shared,
    Pooled,
}

/// Makes one call after another until it is stopped.
struct CallFlow {
    stop: Arc<AtomicBool>,
    /// The number of calls that have ended.
    ended_calls: tokio::sync::watch::Receiver<usize>,
    task: tokio::task::JoinHandle<CallOutcomes>,
}

impl CallFlow {
    fn start_calls(
        (client, lane): (&Arc<TestClient>, Lane),
        name: &'static str,
        partition: usize,
        more: &'static [&'static str],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, stopped) = (client.clone(), stop.clone());
        let (calls, ended_calls) = tokio::sync::watch::channel(0);
        let task = tokio::spawn(async move {
            let (mut outcomes, mut longest) = (BTreeMap::new(), Duration::ZERO);
            for n in 0.. {
                let start = Instant::now();
                let id = format!("{name}-{n}");
                let outcome = match lane {
                    Lane::Shared => client.count_with(partition, &id, more).await,
                    Lane::Pooled => client.count_pooled(partition, &id, more).await,
                };
                longest = longest.max(start.elapsed());
                outcomes.insert(id, outcome);
                calls.send_replace(outcomes.len());
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (outcomes, longest)
        });
        Self { stop, ended_calls, task }
    }

    /// Waits until so many more calls have begun and ended.
    async fn wait_for_calls(&mut self, more: usize) {
        // The call that is running has begun before.
        let target = *self.ended_calls.borrow() + 1 + more;
        let reached = self.ended_calls.wait_for(|calls| *calls >= target);
        within("the flow makes calls", reached).await.unwrap();
    }

    async fn stop_calls(self) -> CallOutcomes {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn a_killed_master_interrupts_only_its_own_partitions() {
    let (mut redis, client) = start_cluster(RedisSecurity::none()).await;
    let listener = TestListener::open(&client).await;
    let killed = redis.master_of(0).await;
    let (lost, others) = {
        let lost = redis.partitions_of(killed).await;
        let others: Vec<_> = (0..128).filter(|partition| !lost.contains(partition)).collect();
        (lost, others)
    };
    assert!(lost.len() > 40 && others.len() > 80);
    let flows: Vec<_> = [others[0], others[others.len() - 1]]
        .map(|partition| CallFlow::start_calls((&client, Lane::Shared), "flow", partition, &[]))
        .into();

    let start = Instant::now();
    redis.kill_master_of(0).await;
    client.wait_until_answered(0, "the replica takes over").await;
    let calls_after = start.elapsed();
    listener.publish_until_received(&client, 0, "from the new master").await;
    println!("cluster: calls after {calls_after:?}, topics after {:?}", start.elapsed());
    assert!(client.client.is_partition_connected(0));
    listener.wait_for_gap(&lost).await;
    client.wait_for_interruption(&lost).await;

    for flow in flows {
        let (outcomes, longest) = flow.stop_calls().await;
        assert!(outcomes.len() > 100, "the flow made {} calls", outcomes.len());
        assert!(outcomes.values().all(|outcome| *outcome == Ok(1)), "no call to another shard fails");
        assert!(longest < Duration::from_millis(500), "no call to another shard waits: {longest:?}");
    }
    for partition in &others {
        assert!(!client.interrupted().contains(partition), "{partition} has its master");
        assert!(!listener.partitions_with_gap().contains(partition), "{partition} has its topic");
    }
}

#[tokio::test]
async fn a_moving_slot_loses_no_call_and_repeats_none() {
    let redis = TestRedisCluster::start(RedisSecurity::acl()).await;
    // A call waits until the slot has moved, however slowly the machine runs.
    let settings = config::RedisSettings { deadline: TimeSpan::secs(30), ..redis.security().settings() };
    let client = Arc::new(TestClient::connect(&redis.url("signal"), &settings).await);
    let listener = TestListener::open(&client).await;
    // Another node without calls: only the server informs it.
    let quiet = TestClient::connect(&redis.url("signal"), &settings).await;
    let quiet_listener = TestListener::open(&quiet).await;
    let from = redis.master_of(5).await;
    // The last partition, so that no probe reaches its topic soon.
    let partition = *redis.partitions_of(from).await.last().unwrap();
    let to = *redis.masters().await.iter().find(|master| **master != from).unwrap();
    // Some of the declared keys exist and some do not.
    let other = key_in(partition, "exists");
    redis.servers[from].run_text::<i64>(&format!("HINCRBY {other} f 1")).await;
    let mut many = CallFlow::start_calls((&client, Lane::Shared), "many", partition, &["exists", "absent"]);
    let mut single = CallFlow::start_calls((&client, Lane::Shared), "one", partition, &[]);
    let auth = Arc::new(TestClient::connect(&redis.url("auth"), &settings).await);
    let mut pooled = CallFlow::start_calls((&auth, Lane::Pooled), "pooled", partition, &["exists", "absent"]);
    for flow in [&mut many, &mut single, &mut pooled] {
        flow.wait_for_calls(5).await;
    }

    // From here to the last step, neither server has all keys of a call with several keys, so such a
    // call waits. One server always has the key of a call with one key.
    redis.start_slot_move(partition, to).await;
    single.wait_for_calls(5).await;
    while redis.move_slot_keys(partition, from, to, 1).await > 0 {
        single.wait_for_calls(5).await;
    }
    // The new master has all keys and not yet the slot: a caller must send ASKING.
    single.wait_for_calls(20).await;
    let moved = Instant::now();
    redis.finish_slot_move(partition, from, to).await;
    listener.wait_for_gap(&[partition]).await;
    listener.publish_until_received(&client, partition, "from the new master").await;
    println!("slot moved: topics {:?} after the last step", moved.elapsed());
    client.wait_for_interruption(&[partition]).await;
    quiet_listener.wait_for_gap(&[partition]).await;
    println!("slot moved: topics of a node that does nothing, {:?}", moved.elapsed());
    for flow in [&mut many, &mut single, &mut pooled] {
        flow.wait_for_calls(5).await;
    }
    let ((many, longest), (one, longest_of_one)) = (many.stop_calls().await, single.stop_calls().await);
    let (pooled, _) = pooled.stop_calls().await;
    println!(
        "slot moved: {} calls, the longest {longest:?}, of one key {longest_of_one:?}; {} of the pool",
        many.len() + one.len(),
        pooled.len()
    );

    let counts: BTreeMap<String, i64> = client.counts(partition).await.into_iter().collect();
    for (id, outcome) in many.iter().chain(&one).chain(&pooled) {
        match outcome {
            Ok(n) => assert_eq!((*n, counts.get(id)), (1, Some(&1)), "{id}"),
            Err(RedisUnavailable) => panic!("{id} failed before its deadline"),
        }
    }
    assert_eq!(counts.len(), many.len() + one.len() + pooled.len());
    assert_eq!(redis.master_of(partition).await, to);
    let neighbours: Vec<_> = client.interrupted().into_iter().filter(|p| *p != partition).collect();
    assert!(neighbours.is_empty(), "{neighbours:?}");
}

#[tokio::test]
async fn a_multi_key_call_to_a_moving_slot_fails_at_its_deadline() {
    let (redis, client) = start_cluster(RedisSecurity::none()).await;
    let partition = 77;
    client.count(partition, "before").await.unwrap();
    let from = redis.master_of(partition).await;
    let to = *redis.masters().await.iter().find(|master| **master != from).unwrap();
    redis.servers[from].run_text::<i64>(&format!("HINCRBY {} f 1", key_in(partition, "exists"))).await;
    redis.start_slot_move(partition, to).await;
    // One of two keys has moved, and the other has not.
    assert_eq!(redis.move_slot_keys(partition, from, to, 1).await, 1);
    let start = Instant::now();
    let torn = client.count_with(partition, "torn", &["exists"]).await;
    let waited = start.elapsed();
    assert_eq!(torn, Err(RedisUnavailable));
    assert!((Duration::from_millis(1_500)..Duration::from_millis(2_300)).contains(&waited), "{waited:?}");
    assert!(client.client.is_partition_connected(partition), "the server is connected");
    while redis.move_slot_keys(partition, from, to, 10).await > 0 {}
    redis.finish_slot_move(partition, from, to).await;
    assert_eq!(
        client.count_with(partition, "torn", &["exists"]).await,
        Ok(1),
        "the failed call was not executed"
    );
}

#[tokio::test]
async fn a_key_outside_the_partitions_is_found_on_any_master() {
    let (_redis, client) = start_cluster(RedisSecurity::none()).await;
    for key in [redis_keys::NODES_KEY, redis_keys::PARTITION_COUNT_KEY, "a", "b", "c"] {
        let mut call = ScriptCall::on_key(key.to_owned());
        call.add_arg("f");
        let reply = client.client.run_script(&COUNT, &call).await;
        assert_eq!(reply, Ok(redis::Value::Int(1)), "{key}");
        let get = KeyCommand::new(RedisCommand::HGet, key).arg("f");
        assert_eq!(client.client.run_command(&get).await.map(value_text), Ok(Some("1".to_owned())), "{key}");
    }
    assert!(client.interrupted().is_empty());
}

#[tokio::test]
async fn a_cluster_that_requires_client_certificates_is_used_also_after_a_failover() {
    let (mut redis, client) = start_cluster(RedisSecurity::mutual_tls()).await;
    for partition in [0, 63, 127] {
        assert_eq!(client.count(partition, "a").await, Ok(1));
    }
    TestListener::open(&client).await.publish_until_received(&client, 3, "hello").await;
    redis.kill_master_of(3).await;
    eventually_within(FAILOVER_DEADLINE, "the new master answers", async || client.count(3, "b").await.ok())
        .await;
}
