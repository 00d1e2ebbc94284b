//! The topics of one server, on one connection.
//!
//! Owns: the subscription commands, the messages that arrive, and the probes. Must not: decide
//! which topics a server has; `topic_subscriber` does.

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

use super::{RedisClient, redis_request::ReplyOutcome, topic_listener::TopicListener};
use crate::{
    client_state::ClientState,
    redis_address::RedisAddress,
    redis_error::{RedisStartError, RequestFailure},
    redis_namespace::RedisNamespace,
    server_info,
};

/// The text of a probe. A message must not begin with it.
const PROBE_MESSAGE: &[u8] = b" probe";

/// Events that the server or the driver reports without a request.
#[derive(Default)]
struct PushedEvents {
    /// Topics that the server has unsubscribed, because their slot has moved.
    removed_topics: Mutex<Vec<Vec<u8>>>,
    is_broken: AtomicBool,
    changed: Notify,
    probe_received: Notify,
}

pub(super) struct TopicSubscription {
    address: RedisAddress,
    connection: MultiplexedConnection,
    pushed_events: Arc<PushedEvents>,
    /// The partitions whose topics are subscribed here.
    subscribed_partitions: BTreeSet<usize>,
    /// The partition from which the next probe is chosen.
    next_probe: usize,
}

impl TopicSubscription {
    pub(super) async fn open_for_listener<L: TopicListener>(
        state: &ClientState,
        address: &RedisAddress,
        listener: &Arc<L>,
    ) -> Result<Self, RedisStartError> {
        let pushed_events = Arc::new(PushedEvents::default());
        let (events, listener) = (pushed_events.clone(), listener.clone());
        // Handled by the task that reads the socket, so no queue can overflow.
        let receive = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            match (push.kind, push.data.as_slice()) {
                (PushKind::SMessage, [_, Value::BulkString(message)])
                    if message.starts_with(PROBE_MESSAGE) =>
                {
                    events.probe_received.notify_one();
                }
                (PushKind::SMessage, [_, Value::BulkString(message)]) => listener.on_message(message),
                (PushKind::SUnsubscribe, [Value::BulkString(topic), ..]) => {
                    events.removed_topics.lock().unwrap_or_else(PoisonError::into_inner).push(topic.clone());
                    events.changed.notify_one();
                }
                (PushKind::Disconnection, _) => {
                    events.is_broken.store(true, Ordering::Relaxed);
                    events.changed.notify_one();
                }
                _ => {}
            }
            Ok(())
        };
        let connection = state
            .target()
            .open_for_pushes(address, receive)
            .await
            .map_err(|error| state.explain_error(address, &error))?;
        Ok(Self {
            address: address.clone(),
            connection,
            pushed_events,
            subscribed_partitions: BTreeSet::new(),
            next_probe: 0,
        })
    }

    /// Subscribes to the wanted topics that are missing, and returns their partitions.
    pub(super) async fn subscribe_missing<L: TopicListener>(
        &mut self,
        state: &ClientState,
        listener: &L,
        wanted: &BTreeSet<usize>,
    ) -> Result<Vec<usize>, RedisStartError> {
        let (topology, names) = (&state.topology, state.names());
        self.subscribed_partitions.retain(|partition| wanted.contains(partition));
        let missing: Vec<usize> = wanted.difference(&self.subscribed_partitions).copied().collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        // One command for each topic, in one round trip: each command has exactly one reply.
        let mut pipe = redis::pipe();
        for partition in &missing {
            pipe.cmd("SSUBSCRIBE").arg(names.topic(&listener.topic_name(*partition)));
        }
        let replies = self.connection.send_packed_commands(&pipe, 0, missing.len()).await;
        let replies = replies.map_err(|error| state.explain_error(&self.address, &error))?;
        let mut fresh = Vec::with_capacity(missing.len());
        let mut problem = None;
        for (partition, reply) in missing.into_iter().zip(replies) {
            match ReplyOutcome::classify_reply(reply, &self.address) {
                ReplyOutcome::Done(Value::Push { kind: PushKind::SSubscribe, data })
                    if data.first()
                        == Some(&Value::BulkString(
                            names.topic(&listener.topic_name(partition)).into_bytes(),
                        )) =>
                {
                    self.subscribed_partitions.insert(partition);
                    fresh.push(partition);
                }
                ReplyOutcome::Moved(slot, to) => topology.record_moved_slot(slot, &to),
                ReplyOutcome::Refused(error) => {
                    problem = Some(state.explain_error(&self.address, &error.into()))
                }
                // An unrequested message was taken for a reply, so no later reply fits its command.
                ReplyOutcome::Done(_) => {
                    problem = Some(RedisStartError::NoAnswer("it answered something else".to_owned()))
                }
                _ => topology.request_refresh(),
            }
        }
        problem.map_or(Ok(fresh), Err)
    }

    /// Waits until the server has unsubscribed topics or the connection is broken.
    pub(super) async fn wait_for_change(&self) {
        self.pushed_events.changed.notified().await;
    }

    pub(super) fn is_broken(&self) -> bool {
        self.pushed_events.is_broken.load(Ordering::Relaxed)
    }

    /// Drops the topics that the server has unsubscribed. Returns whether there were any.
    pub(super) fn drop_removed_topics<L: TopicListener>(
        &mut self,
        names: &RedisNamespace,
        listener: &L,
    ) -> bool {
        let removed = std::mem::take(
            &mut *self.pushed_events.removed_topics.lock().unwrap_or_else(PoisonError::into_inner),
        );
        let before = self.subscribed_partitions.len();
        self.subscribed_partitions.retain(|partition| {
            !removed.contains(&names.topic(&listener.topic_name(*partition)).into_bytes())
        });
        self.subscribed_partitions.len() < before
    }

    /// Publishes a probe to the next topic, as messages are published, and waits until it arrives.
    pub(super) async fn publish_probe<L: TopicListener>(
        &mut self,
        client: &RedisClient,
        listener: &L,
        deadline: Duration,
    ) -> Result<(), RedisStartError> {
        let Some(partition) = self.next_probe_partition() else { return Ok(()) };
        match client.publish(&listener.topic_name(partition), PROBE_MESSAGE).await {
            Ok(()) => {}
            Err(RequestFailure::Refused(reason)) => return Err(reason),
            Err(RequestFailure::Unavailable(_)) => {
                return Err(RedisStartError::NoAnswer("a probe could not be published".to_owned()));
            }
        }
        timeout(deadline, self.pushed_events.probe_received.notified())
            .await
            .map_err(|_| RedisStartError::NoAnswer("a published probe did not arrive".to_owned()))
    }

    /// Asks the server whether it is a master, and the one to which requests are sent: the address
    /// may lead to another server now.
    pub(super) async fn check_server(
        &mut self,
        state: &ClientState,
        client: &RedisClient,
    ) -> Result<(), RedisStartError> {
        let info = server_info::replication_command().query_async::<String>(&mut self.connection).await;
        match info {
            Ok(info) if !server_info::is_master(&info) => {
                Err(RedisStartError::NoAnswer(format!("{} is a replica", self.address)))
            }
            Ok(info) if !client.has_history(&self.address, server_info::replication_id(&info)) => {
                Err(RedisStartError::NoAnswer(format!("{} is another server now", self.address)))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(state.explain_error(&self.address, &error)),
        }
    }

    /// The partition after the last probed one, so that each topic is probed in turn.
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
