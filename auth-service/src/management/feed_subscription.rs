//! The operators' events out of Redis: one subscription per process, however many readers.
//!
//! Owns: the subscription and its return after an outage. Must not: hold a reader up, or be held up by one. At most once:
//! what is published during an outage is not heard. Next: `event_feed.rs` reads the channel, the signal service
//! publishes to `keys::feed_topic`; `signalbox-redis` finds out where.

use std::{sync::Arc, time::Duration};

use signalbox_config as config;
use signalbox_redis::{
    RedisStartError, RedisTarget, RedisTopology, TopicListener, TopicProbe, TopicSubscriber, redis_keys,
};
use signalbox_rooms::feed::{FEED_BACKLOG, FeedSender};
use tokio::{sync::broadcast, time::sleep};

/// How often a subscription's connection is asked whether it still is one to a master.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Starts the subscription, which lasts as long as the process. Call once, inside a runtime.
///
/// # Errors
/// A URL or certificates that will not do. A server that does not answer is no error: the task goes on trying.
pub fn subscribe_feed(url: &str, settings: &config::RedisSettings) -> Result<FeedSender, RedisStartError> {
    let target = RedisTarget::new(url, settings)?;
    let sender = broadcast::Sender::new(FEED_BACKLOG);
    tokio::spawn(subscribe_with_retry(target, sender.clone(), settings.reconnect.0));
    Ok(sender)
}

/// Tries until it is subscribed everywhere; from then on the subscription looks after itself. Without jitter: the auth processes of a
/// deployment are few.
async fn subscribe_with_retry(target: RedisTarget, sender: FeedSender, pause: Duration) {
    let mut told = false;
    loop {
        match try_subscribe(&target, &sender).await {
            Ok(()) => return tracing::info!("the event feed is subscribed"),
            // Once: it may be Redis that is not there, or a permission that lacks for good.
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(%error, "the event feed has no Redis and keeps trying");
            }
            Err(_) => {}
        }
        sleep(pause).await;
    }
}

async fn try_subscribe(target: &RedisTarget, sender: &FeedSender) -> Result<(), RedisStartError> {
    let topology = RedisTopology::discover(target).await?;
    let feed = FeedListener { sender: sender.clone(), topics: redis_keys::feed_topics().collect() };
    // It may not publish, so a probe cannot be its proof.
    TopicSubscriber::new(topology, feed, TopicProbe::AskRole, PROBE_INTERVAL).subscribe_all().await
}

struct FeedListener {
    sender: FeedSender,
    topics: Vec<String>,
}

impl TopicListener for FeedListener {
    fn topic_name(&self, partition: usize) -> String {
        self.topics.get(partition).cloned().unwrap_or_default()
    }

    fn on_message(&self, message: &[u8]) {
        if let Ok(line) = std::str::from_utf8(message) {
            // An error only says that nobody listens.
            let _ = self.sender.send(Arc::from(line));
        }
    }

    fn on_gap(&self, _: &[usize]) {}

    fn is_active(&self) -> bool {
        true
    }
}
