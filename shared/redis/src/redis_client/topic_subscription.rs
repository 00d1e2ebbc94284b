//! The topics of one server, on one connection: subscribed, heard, proven live.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{sync::Notify, time::timeout};

use crate::{
    redis_address::RedisAddress,
    redis_client::redis_request::RequestFailure,
    redis_client::topic_listener::{TopicListener, TopicProbe},
    redis_error::RedisStartError,
    redis_topology::RedisTopology,
    reply_outcome::ReplyOutcome,
    server_info,
};

/// What a probe begins with; what a listener is sent must not.
const PROBE_MESSAGE: &[u8] = b" probe";

/// What a connection has told by itself.
#[derive(Default)]
struct PushedEvents {
    /// Topics that the server has taken from us, because their slot has gone.
    removed_topics: Mutex<Vec<Vec<u8>>>,
    is_broken: AtomicBool,
    changed: Notify,
    probe_received: Notify,
}

pub(crate) struct TopicSubscription {
    address: RedisAddress,
    connection: MultiplexedConnection,
    pushed_events: Arc<PushedEvents>,
    /// The partitions whose topics are heard here.
    subscribed_partitions: BTreeSet<usize>,
    /// The next to be probed.
    next_probe: usize,
}

impl TopicSubscription {
    pub(crate) async fn open_for_listener<L: TopicListener>(
        topology: &RedisTopology,
        address: &RedisAddress,
        listener: &Arc<L>,
    ) -> Result<Self, RedisStartError> {
        let told = Arc::new(PushedEvents::default());
        let (teller, listener) = (told.clone(), listener.clone());
        // Handled where it is read: no queue in between that could overflow.
        let receive = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            match (push.kind, push.data.as_slice()) {
                (PushKind::SMessage, [_, Value::BulkString(message)])
                    if message.starts_with(PROBE_MESSAGE) =>
                {
                    teller.probe_received.notify_one();
                }
                (PushKind::SMessage, [_, Value::BulkString(message)]) => listener.on_message(message),
                (PushKind::SUnsubscribe, [Value::BulkString(topic), ..]) => {
                    teller.removed_topics.lock().unwrap_or_else(PoisonError::into_inner).push(topic.clone());
                    teller.changed.notify_one();
                }
                (PushKind::Disconnection, _) => {
                    teller.is_broken.store(true, Ordering::Relaxed);
                    teller.changed.notify_one();
                }
                _ => {}
            }
            Ok(())
        };
        let connection = topology
            .target()
            .open_for_pushes(address, receive)
            .await
            .map_err(|error| RedisStartError::from_driver_error(address, &error))?;
        Ok(Self {
            address: address.clone(),
            connection,
            pushed_events: told,
            subscribed_partitions: BTreeSet::new(),
            next_probe: 0,
        })
    }

    /// Subscribes to what is wanted and not heard yet; returns the partitions that were new.
    pub(crate) async fn subscribe_missing<L: TopicListener>(
        &mut self,
        topology: &RedisTopology,
        listener: &L,
        wanted: &BTreeSet<usize>,
    ) -> Result<Vec<usize>, RedisStartError> {
        self.subscribed_partitions.retain(|partition| wanted.contains(partition));
        let missing: Vec<usize> = wanted.difference(&self.subscribed_partitions).copied().collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        // One command per topic in one round trip: each then has exactly one answer, which one command for all has not.
        let mut pipe = redis::pipe();
        for partition in &missing {
            pipe.cmd("SSUBSCRIBE").arg(listener.topic_name(*partition));
        }
        let answers = self.connection.send_packed_commands(&pipe, 0, missing.len()).await;
        let answers = answers.map_err(|error| RedisStartError::from_driver_error(&self.address, &error))?;
        let mut fresh = Vec::with_capacity(missing.len());
        let mut why = None;
        for (partition, answer) in missing.into_iter().zip(answers) {
            match ReplyOutcome::classify_reply(answer, &self.address) {
                ReplyOutcome::Done(Value::Push { kind: PushKind::SSubscribe, data })
                    if data.first()
                        == Some(&Value::BulkString(listener.topic_name(partition).into_bytes())) =>
                {
                    self.subscribed_partitions.insert(partition);
                    fresh.push(partition);
                }
                ReplyOutcome::Moved(slot, to) => topology.record_moved_slot(slot, &to),
                ReplyOutcome::Refused(error) => {
                    why = Some(RedisStartError::from_driver_error(&self.address, &error.into()))
                }
                // Something else came between: the answers of this connection are out of step.
                ReplyOutcome::Done(_) => {
                    why = Some(RedisStartError::NoAnswer("it answered something else".to_owned()))
                }
                _ => topology.request_refresh(),
            }
        }
        why.map_or(Ok(fresh), Err)
    }

    /// Waits until the server has taken topics away or the connection is broken.
    pub(crate) async fn wait_for_change(&self) {
        self.pushed_events.changed.notified().await;
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.pushed_events.is_broken.load(Ordering::Relaxed)
    }

    /// Forgets what the server has taken from us; whether that was anything.
    pub(crate) fn drop_removed_topics<L: TopicListener>(&mut self, listener: &L) -> bool {
        let taken = std::mem::take(
            &mut *self.pushed_events.removed_topics.lock().unwrap_or_else(PoisonError::into_inner),
        );
        let before = self.subscribed_partitions.len();
        self.subscribed_partitions
            .retain(|partition| !taken.contains(&listener.topic_name(*partition).into_bytes()));
        self.subscribed_partitions.len() < before
    }

    /// Whether what is published is heard here.
    pub(crate) async fn probe_connection<L: TopicListener>(
        &mut self,
        listener: &L,
        proof: &TopicProbe,
        deadline: Duration,
    ) -> Result<(), RedisStartError> {
        let Some(partition) = self.next_probe_partition() else { return Ok(()) };
        match proof {
            TopicProbe::PublishProbe(link) => {
                let Some(link) = link.upgrade() else { return Ok(()) };
                let mut publish = redis::cmd("SPUBLISH");
                publish.arg(listener.topic_name(partition)).arg(PROBE_MESSAGE);
                match link.try_run_command(partition, &publish).await {
                    Ok(_) => {}
                    Err(RequestFailure::Refused(why)) => return Err(why),
                    Err(RequestFailure::Unavailable) => {
                        return Err(RedisStartError::NoAnswer("a probe could not be published".to_owned()));
                    }
                }
                timeout(deadline, self.pushed_events.probe_received.notified())
                    .await
                    .map_err(|_| RedisStartError::NoAnswer("a published probe did not come back".to_owned()))
            }
            TopicProbe::AskRole => {
                let info =
                    server_info::replication_command().query_async::<String>(&mut self.connection).await;
                match info {
                    Ok(info) if server_info::is_master(&info) => Ok(()),
                    Ok(_) => Err(RedisStartError::NoAnswer(format!("{} is a replica", self.address))),
                    Err(error) => Err(RedisStartError::from_driver_error(&self.address, &error)),
                }
            }
        }
    }

    /// Each time another one, so that all have their turn.
    fn next_probe_partition(&mut self) -> Option<usize> {
        let next = self
            .subscribed_partitions
            .range(self.next_probe..)
            .next()
            .or_else(|| self.subscribed_partitions.first())
            .copied()?;
        self.next_probe = next + 1;
        Some(next)
    }
}
