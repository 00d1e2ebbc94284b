//! The event feed from Redis: one subscription for each process, with any number of readers.
//!
//! Owns: the subscription, also after an outage. Must not: wait for a reader, or let a reader wait.
//! A line is delivered at most once: lines that are published during an outage are lost, and the
//! readers are told so. Next:
//! `event_feed.rs` reads the channel; nodes publish to `redis_keys::feed_topic`.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use signalbox_redis::{RedisClient, TopicListener, TopicProbe, redis_keys};
use signalbox_rooms::feed::{FEED_BACKLOG, FeedSender};
use tokio::{sync::broadcast, time::sleep};

use super::event_feed::SKIPPED;

/// Between two probes of a connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Starts the subscription on the client's thread. It lasts as long as the client. Call once.
pub fn subscribe_feed(client: &Arc<RedisClient>) -> FeedSender {
    let sender = broadcast::Sender::new(FEED_BACKLOG);
    client.spawn(subscribe_with_retry(Arc::downgrade(client), sender.clone()));
    sender
}

/// Tries until all topics are subscribed. After that the client keeps the subscription.
async fn subscribe_with_retry(client: Weak<RedisClient>, sender: FeedSender) {
    let mut was_logged = false;
    while let Some(client) = client.upgrade() {
        let listener = FeedListener { sender: sender.clone(), topics: redis_keys::feed_topics().collect() };
        // The user of the auth service may not publish, so it cannot publish a probe.
        match client.subscribe(listener, TopicProbe::AskRole, PROBE_INTERVAL).await {
            Ok(()) => {
                tracing::info!("the event feed is subscribed");
                if was_logged {
                    report_gap(&sender);
                }
                return;
            }
            Err(error) if !std::mem::replace(&mut was_logged, true) => {
                tracing::warn!(%error, "the event feed has no Redis and keeps trying");
            }
            Err(_) => {}
        }
        let pause = client.max_reconnect_wait();
        drop(client);
        sleep(pause).await;
    }
}

/// Tells the readers that events are missing. Their number is not known.
fn report_gap(sender: &FeedSender) {
    // An error only means that there is no reader.
    let _ = sender.send(Arc::from(format!(r#"{{"event":"{SKIPPED}"}}"#)));
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
            // An error only means that there is no reader.
            let _ = self.sender.send(Arc::from(line));
        }
    }

    fn on_gap(&self, _: &[usize]) {
        report_gap(&self.sender);
    }

    fn is_active(&self) -> bool {
        true
    }
}
