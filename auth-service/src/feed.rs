//! The operators' events out of Redis: one task and one connection per process, however many readers.
//!
//! Owns: the subscription and its return after an outage. Must not: hold a reader up, or be held up by one. At most once:
//! what is published during an outage is not heard. Next: `routes/events.rs` reads the channel, the signal service
//! publishes to `keys::feed_topic`.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisResult, Value, cmd, pipe,
};
use signalbox_shared::{
    config,
    feed::{FEED_BACKLOG, FeedSender},
    keys,
};
use tokio::{
    sync::{Notify, broadcast},
    time::{Instant, sleep, timeout},
};

/// How often the subscription's connection is asked whether it still is one.
const PROBE: Duration = Duration::from_secs(5);

/// The first wait before a new connection; doubled up to `redis.reconnect`.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Starts the subscription, which lasts as long as the process. Call once, inside a runtime.
///
/// # Errors
/// A URL the driver does not take. A server that does not answer is no error: the task goes on trying.
pub fn over_redis(url: &str, settings: &config::Redis) -> RedisResult<FeedSender> {
    let info = Client::open(url)?.get_connection_info().clone();
    // Pushes beside answers on one connection are RESP3's.
    let resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.set_redis_settings(resp3))?;
    let sender = broadcast::Sender::new(FEED_BACKLOG);
    tokio::spawn(keep_watching(client, sender.clone(), settings.deadline.0, settings.reconnect.0));
    Ok(sender)
}

/// Without jitter: the auth processes of a deployment are few.
async fn keep_watching(client: Client, sender: FeedSender, deadline: Duration, longest: Duration) {
    let mut wait = FIRST_WAIT;
    let mut told = false;
    loop {
        let start = Instant::now();
        let outcome = watch(&client, &sender, deadline).await;
        if start.elapsed() > PROBE {
            (wait, told) = (FIRST_WAIT, false);
        }
        // Once per outage.
        if let Err(error) = outcome
            && !std::mem::replace(&mut told, true)
        {
            tracing::warn!(%error, "the event feed has lost Redis and keeps trying");
        }
        sleep(wait.min(longest)).await;
        wait = (wait * 2).min(longest);
    }
}

/// Subscribes and stays until the connection is lost.
async fn watch(client: &Client, sender: &FeedSender, deadline: Duration) -> RedisResult<()> {
    let lost = Arc::new(Notify::new());
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(deadline))
        .set_response_timeout(Some(deadline))
        .set_push_sender(forward(sender.clone(), Arc::clone(&lost)));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // One command per topic in one round trip: each then has exactly one answer, which one command for all has not.
    let mut subscribe = pipe();
    keys::feed_topics().for_each(|topic| {
        subscribe.cmd("SSUBSCRIBE").arg(topic);
    });
    subscribe.exec_async(&mut connection).await?;
    tracing::info!("the event feed is subscribed");
    loop {
        // A half-open connection is silent for good; only an answer proves it.
        match timeout(PROBE, lost.notified()).await {
            Ok(()) => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
            Err(_) => cmd("PING").exec_async(&mut connection).await?,
        }
    }
}

/// Called by the driver for each push; must not wait.
fn forward(
    sender: FeedSender,
    lost: Arc<Notify>,
) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> {
    move |push| {
        match (push.kind, push.data.as_slice()) {
            (PushKind::SMessage, [_topic, Value::BulkString(line)]) => {
                if let Ok(line) = std::str::from_utf8(line) {
                    // An error only says that nobody listens.
                    let _ = sender.send(Arc::from(line));
                }
            }
            (PushKind::Disconnection, _) => lost.notify_one(),
            _ => {}
        }
        Ok(())
    }
}
