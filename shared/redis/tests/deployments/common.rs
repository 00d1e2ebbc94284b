//! A link with one script that shows how often it ran, and a listener that remembers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use redis::Value;
use signalbox_config as config;
use signalbox_redis::{Link, Listener, Proof, StartError, Subscriber, Unavailable};
use signalbox_tests::{net::eventually_within, redis_cluster::key_in};

/// Counts one id; the keys beyond the first are declared and not touched.
const COUNT: &str = "
    local n = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
    redis.call('PEXPIRE', KEYS[1], 600000)
    return n
";

/// How long a failover may take on a busy machine.
pub(crate) const FAILOVER: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    pub(crate) link: Arc<Link>,
    /// Every partition that was told to be disturbed, in order.
    pub(crate) disturbed: Arc<Mutex<Vec<usize>>>,
}

impl Client {
    pub(crate) async fn connect(url: &str, settings: &config::Redis) -> Self {
        Self::try_connect(url, settings).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn try_connect(url: &str, settings: &config::Redis) -> Result<Self, StartError> {
        let (url, settings) = (url.to_owned(), settings.clone());
        let connecting = move || Link::connect(&url, &settings, vec![redis::Script::new(COUNT)]);
        let link = tokio::task::spawn_blocking(connecting).await.unwrap()?;
        let disturbed = Arc::new(Mutex::new(Vec::new()));
        let told = disturbed.clone();
        link.on_disturbance(move |partitions| told.lock().unwrap().extend(partitions));
        Ok(Self { link, disturbed })
    }

    /// Counts an id in a partition; how often it has been counted there.
    pub(crate) async fn count(&self, partition: usize, id: &str) -> Result<i64, Unavailable> {
        self.count_with(partition, id, &[]).await
    }

    /// The same, with further declared keys, which may exist or not.
    pub(crate) async fn count_with(
        &self,
        partition: usize,
        id: &str,
        more: &[&str],
    ) -> Result<i64, Unavailable> {
        let keys: Vec<_> = ["counts"].iter().chain(more).map(|name| key_in(partition, name)).collect();
        let answer = self.link.script(partition, 0, &keys, &[id.as_bytes().to_vec()]).await?;
        Ok(redis::from_redis_value(answer).unwrap())
    }

    /// Every id that was counted in a partition, with how often.
    pub(crate) async fn counts(&self, partition: usize) -> Vec<(String, i64)> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(key_in(partition, "counts"));
        redis::from_redis_value(self.link.call(partition, &cmd).await.unwrap()).unwrap()
    }

    /// Waits until calls to a partition are answered again; how long it took.
    pub(crate) async fn until_it_works(&self, partition: usize, what: &str) -> Duration {
        let start = Instant::now();
        eventually_within(FAILOVER, what, async || self.count(partition, "again").await.ok()).await;
        start.elapsed()
    }

    pub(crate) fn disturbed(&self) -> BTreeSet<usize> {
        self.disturbed.lock().unwrap().iter().copied().collect()
    }

    pub(crate) async fn wait_disturbed(&self, partitions: &[usize]) {
        let wanted: BTreeSet<_> = partitions.iter().copied().collect();
        eventually_within(FAILOVER, "the disturbance is told", async || {
            self.disturbed().is_superset(&wanted).then_some(())
        })
        .await;
    }
}

#[derive(Default)]
struct Heard {
    messages: Vec<String>,
    again: Vec<usize>,
}

/// The topics of one node.
#[derive(Clone, Default)]
pub(crate) struct Ears {
    heard: Arc<Mutex<Heard>>,
}

impl Listener for Ears {
    fn topic(&self, partition: usize) -> String {
        key_in(partition, "node:me")
    }
    fn heard(&self, message: &[u8]) {
        self.heard.lock().unwrap().messages.push(String::from_utf8_lossy(message).into_owned());
    }
    fn heard_again(&self, partitions: &[usize]) {
        self.heard.lock().unwrap().again.extend(partitions);
    }
    fn is_there(&self) -> bool {
        true
    }
}

impl Ears {
    /// Listens on the link's thread, with probes in quick succession.
    pub(crate) async fn open(client: &Client) -> Self {
        Self::try_open(client).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn try_open(client: &Client) -> Result<Self, StartError> {
        let ears = Self::default();
        let link = &client.link;
        let every = Duration::from_secs(1);
        let proof = Proof::Publish(Arc::downgrade(link));
        let subscriber = Subscriber::new(link.topology().clone(), ears.clone(), proof, every);
        let link = link.clone();
        tokio::task::spawn_blocking(move || link.run_and_wait(subscriber.start())).await.unwrap()?;
        Ok(ears)
    }

    /// Publishes where the link publishes until it is heard; how long that took.
    pub(crate) async fn until_heard(&self, client: &Client, partition: usize, text: &str) -> Duration {
        let start = Instant::now();
        eventually_within(FAILOVER, "a message is heard", async || {
            let mut publish = redis::cmd("SPUBLISH");
            publish.arg(self.topic(partition)).arg(text);
            let published: Result<Value, _> = client.link.call(partition, &publish).await;
            published.ok()?;
            // A push comes within a moment or not at all.
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.has_heard(text).then_some(())
        })
        .await;
        start.elapsed()
    }

    pub(crate) fn has_heard(&self, text: &str) -> bool {
        self.heard.lock().unwrap().messages.iter().any(|message| message == text)
    }

    pub(crate) fn again(&self) -> BTreeSet<usize> {
        self.heard.lock().unwrap().again.iter().copied().collect()
    }

    pub(crate) async fn wait_again(&self, partitions: &[usize]) {
        let wanted: BTreeSet<_> = partitions.iter().copied().collect();
        eventually_within(FAILOVER, "the topics are heard again", async || {
            self.again().is_superset(&wanted).then_some(())
        })
        .await;
    }
}
