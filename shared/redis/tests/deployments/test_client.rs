//! A client with one script that counts its calls, and a listener that keeps its messages.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use signalbox_config as config;
use signalbox_redis::{
    KeyCommand, RedisClient, RedisCommand, RedisScript, RedisStartError, RedisUnavailable, ScriptCall,
    TopicListener, TopicProbe,
};
use signalbox_tests::{
    net::eventually_within,
    redis_cluster::{key_in, topic_in},
};

/// Counts one id. The keys after the first are declared and not used.
pub(crate) static COUNT: RedisScript = RedisScript::new(
    "
    local n = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
    redis.call('PEXPIRE', KEYS[1], 600000)
    return n
",
);

/// How long a failover may take on a busy machine.
pub(crate) const FAILOVER_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct TestClient {
    pub(crate) client: Arc<RedisClient>,
    /// Every partition that was reported as interrupted, in order.
    pub(crate) interrupted_partitions: Arc<Mutex<Vec<usize>>>,
}

impl TestClient {
    pub(crate) async fn connect(url: &str, settings: &config::RedisSettings) -> Self {
        Self::try_connect(url, settings).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn try_connect(
        url: &str,
        settings: &config::RedisSettings,
    ) -> Result<Self, RedisStartError> {
        let (url, settings) = (url.to_owned(), settings.clone());
        let connecting = move || {
            let client = Self::start(&url, &settings)?;
            client.client.wait_until_ready().map(|()| client)
        };
        tokio::task::spawn_blocking(connecting).await.unwrap()
    }

    /// Starts a client and does not wait for Redis.
    pub(crate) fn start(url: &str, settings: &config::RedisSettings) -> Result<Self, RedisStartError> {
        let client = RedisClient::start(url, settings)?;
        client.load_scripts(&[&COUNT]);
        let interrupted = Arc::new(Mutex::new(Vec::new()));
        let partitions_of_listener = interrupted.clone();
        client.on_interruption(move |partitions| partitions_of_listener.lock().unwrap().extend(partitions));
        Ok(Self { client, interrupted_partitions: interrupted })
    }

    /// Whether the client sends this command, directly or in its script.
    pub(crate) fn needs(&self, command: RedisCommand) -> bool {
        command.is_direct() || matches!(command, RedisCommand::HIncrBy | RedisCommand::PExpire)
    }

    /// Counts an id in a partition. Returns how often it was counted there.
    pub(crate) async fn count(&self, partition: usize, id: &str) -> Result<i64, RedisUnavailable> {
        self.count_with(partition, id, &[]).await
    }

    /// Counts an id, with further declared keys, which may exist or not.
    pub(crate) async fn count_with(
        &self,
        partition: usize,
        id: &str,
        more: &[&str],
    ) -> Result<i64, RedisUnavailable> {
        let answer = self.client.run_script(&COUNT, &count_call(partition, id, more)).await?;
        Ok(redis::from_redis_value(answer).unwrap())
    }

    /// Counts an id over a pooled connection.
    pub(crate) async fn count_pooled(
        &self,
        partition: usize,
        id: &str,
        more: &[&str],
    ) -> Result<i64, RedisUnavailable> {
        let answer = self.client.run_pooled_script(&COUNT, &count_call(partition, id, more)).await?;
        Ok(redis::from_redis_value(answer).unwrap())
    }

    /// Every id that was counted in a partition, with its count.
    pub(crate) async fn counts(&self, partition: usize) -> Vec<(String, i64)> {
        let read = KeyCommand::new(RedisCommand::HGetAll, key_in(partition, "counts"));
        redis::from_redis_value(self.client.run_command(&read).await.unwrap()).unwrap()
    }

    /// Waits until calls to a partition are answered again. Returns how long that took.
    pub(crate) async fn wait_until_answered(&self, partition: usize, what: &str) -> Duration {
        let start = Instant::now();
        eventually_within(FAILOVER_DEADLINE, what, async || self.count(partition, "again").await.ok()).await;
        start.elapsed()
    }

    pub(crate) fn interrupted(&self) -> BTreeSet<usize> {
        self.interrupted_partitions.lock().unwrap().iter().copied().collect()
    }

    pub(crate) async fn wait_for_interruption(&self, partitions: &[usize]) {
        let wanted: BTreeSet<_> = partitions.iter().copied().collect();
        eventually_within(FAILOVER_DEADLINE, "the interruption is reported", async || {
            self.interrupted().is_superset(&wanted).then_some(())
        })
        .await;
    }
}

fn count_call(partition: usize, id: &str, more: &[&str]) -> ScriptCall {
    let mut call = ScriptCall::in_partition(partition);
    call.add_key(key_in(partition, "counts")).add_arg(id);
    for name in more {
        call.add_key(key_in(partition, name));
    }
    call
}

#[derive(Default)]
struct ReceivedMessages {
    messages: Vec<String>,
    gap_partitions: Vec<usize>,
}

/// The topics of one node.
#[derive(Clone)]
pub(crate) struct TestListener {
    name: &'static str,
    received: Arc<Mutex<ReceivedMessages>>,
}

impl TopicListener for TestListener {
    fn topic_name(&self, partition: usize) -> String {
        topic_in(partition, self.name)
    }
    fn on_message(&self, message: &[u8]) {
        self.received.lock().unwrap().messages.push(String::from_utf8_lossy(message).into_owned());
    }
    fn on_gap(&self, partitions: &[usize]) {
        self.received.lock().unwrap().gap_partitions.extend(partitions);
    }
    fn is_active(&self) -> bool {
        true
    }
}

impl TestListener {
    /// Subscribes to all topics, with probes in quick succession.
    pub(crate) async fn open(client: &TestClient) -> Self {
        Self::try_open(client).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn try_open(client: &TestClient) -> Result<Self, RedisStartError> {
        Self::try_open_as(client, TopicProbe::PublishProbe, "me").await
    }

    /// Subscribes to the topics of a node with this name.
    pub(crate) async fn open_as(client: &TestClient, probe: TopicProbe, name: &'static str) -> Self {
        Self::try_open_as(client, probe, name).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_open_as(
        client: &TestClient,
        probe: TopicProbe,
        name: &'static str,
    ) -> Result<Self, RedisStartError> {
        let listener = Self { name, received: Arc::default() };
        let probe_interval = Duration::from_secs(1);
        client.client.subscribe(listener.clone(), probe, probe_interval).await?;
        Ok(listener)
    }

    /// Publishes as the client publishes, until the message arrives. Returns how long that took.
    pub(crate) async fn publish_until_received(
        &self,
        client: &TestClient,
        partition: usize,
        text: &str,
    ) -> Duration {
        let start = Instant::now();
        eventually_within(FAILOVER_DEADLINE, "a message arrives", async || {
            client.client.publish(&self.topic_name(partition), text.as_bytes()).await.ok()?;
            // A push that comes later is seen by the next try.
            self.has_received(text).then_some(())
        })
        .await;
        start.elapsed()
    }

    pub(crate) fn has_received(&self, text: &str) -> bool {
        self.received.lock().unwrap().messages.iter().any(|message| message == text)
    }

    pub(crate) fn partitions_with_gap(&self) -> BTreeSet<usize> {
        self.received.lock().unwrap().gap_partitions.iter().copied().collect()
    }

    pub(crate) async fn wait_for_gap(&self, partitions: &[usize]) {
        let wanted: BTreeSet<_> = partitions.iter().copied().collect();
        eventually_within(FAILOVER_DEADLINE, "the gap is reported", async || {
            self.partitions_with_gap().is_superset(&wanted).then_some(())
        })
        .await;
    }
}
