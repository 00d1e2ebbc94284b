//! What other nodes wrote for this node's peers: sharded pub/sub, on a connection of its own.
//!
//! A subscription is proven live by a probe that must come back: a healthy TCP connection may sit on a server that nobody
//! publishes to. After every break the arrivals are told to catch up, because the last message before it has no successor
//! that would show the gap.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::try_join_all;
use redis::{
    AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisError, Value,
    aio::MultiplexedConnection,
};
use signalbox_shared::{
    id::NodeId,
    keys::{PARTITIONS, node_topic},
};
use tokio::sync::Notify;

use super::{
    Arrivals, Link, StartError,
    codec::{self, News},
};

/// What a probe says; no message begins like this, because a message begins with a room.
const PROBE: &[u8] = b" probe";

/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// One life of the subscription.
struct Subscription {
    // Held so that the connection stays open.
    _connection: MultiplexedConnection,
    probed: Arc<Notify>,
    broken: Arc<Notify>,
}

pub(super) fn start(link: &Arc<Link>, node: &NodeId, arrivals: Weak<dyn Arrivals>) -> Result<(), StartError> {
    let (task_link, task_node, task_arrivals) = (link.clone(), node.clone(), arrivals.clone());
    let subscription = link.run_and_wait(async move {
        let subscription = subscribe(&task_link, &task_node, task_arrivals).await.map_err(|_| {
            StartError::NoAnswer("the topics could not be subscribed; the ACL user needs +ssubscribe &sb:*")
        })?;
        match probe(&task_link, &task_node, &subscription).await {
            true => Ok(subscription),
            false => Err(StartError::NoAnswer(
                "a published probe did not come back; the ACL user needs +spublish &sb:*",
            )),
        }
    })?;
    link.spawn(keep(Arc::downgrade(link), node.clone(), arrivals, subscription));
    Ok(())
}

/// Keeps the subscription alive until the store or the arrivals are gone.
async fn keep(link: Weak<Link>, node: NodeId, arrivals: Weak<dyn Arrivals>, mut subscription: Subscription) {
    loop {
        let broke = tokio::time::timeout(PROBE_EVERY, subscription.broken.notified()).await.is_ok();
        let Some(link) = link.upgrade() else { return };
        if !broke && probe(&link, &node, &subscription).await {
            continue;
        }
        tracing::warn!(event = "topics_lost", "the subscription is broken; subscribing again");
        subscription = loop {
            if arrivals.strong_count() == 0 {
                return;
            }
            match subscribe(&link, &node, arrivals.clone()).await {
                Ok(fresh) if probe(&link, &node, &fresh).await => break fresh,
                _ => tokio::time::sleep(link.pause).await,
            }
        };
        tracing::info!(event = "topics_back", "subscribed again; peers catch up");
        if let Some(arrivals) = arrivals.upgrade() {
            arrivals.catch_up(&(0..PARTITIONS).collect::<Vec<_>>());
        }
    }
}

async fn subscribe(
    link: &Link,
    node: &NodeId,
    arrivals: Weak<dyn Arrivals>,
) -> Result<Subscription, RedisError> {
    let (probed, broken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (on_probe, on_break) = (probed.clone(), broken.clone());
    // Handled where it is read: no queue in between that could overflow.
    let receive = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
        match push.kind {
            PushKind::SMessage => hand_over(push.data, &arrivals, &on_probe),
            PushKind::SUnsubscribe | PushKind::Disconnection => on_break.notify_one(),
            _ => {}
        }
        Ok(())
    };
    let info = link.client.get_connection_info().clone();
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(link.deadline))
        .set_response_timeout(Some(link.deadline))
        .set_push_sender(receive);
    let client = Client::open(info.set_redis_settings(settings))?;
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    try_join_all((0..PARTITIONS).map(|p| {
        let mut connection = connection.clone();
        async move {
            let mut cmd = redis::cmd("SSUBSCRIBE");
            cmd.arg(node_topic(p, node));
            connection.send_packed_command(&cmd).await
        }
    }))
    .await?;
    Ok(Subscription { _connection: connection, probed, broken })
}

fn hand_over(data: Vec<Value>, arrivals: &Weak<dyn Arrivals>, probed: &Notify) {
    let Some(Value::BulkString(message)) = data.into_iter().nth(1) else { return };
    if message == PROBE {
        probed.notify_one();
        return;
    }
    let parsed = std::str::from_utf8(&message).ok().and_then(codec::news);
    match (parsed, arrivals.upgrade()) {
        (Some(News::Entries(room, deliveries)), Some(arrivals)) => {
            for delivery in deliveries {
                arrivals.deliver(&room, delivery);
            }
        }
        (Some(News::LookAfter(room, peers)), Some(arrivals)) => arrivals.look_after(&room, &peers),
        (None, _) => tracing::error!(event = "topic_message_unreadable", bytes = message.len()),
        (Some(_), None) => {}
    }
}

/// Whether a message that this node publishes to itself comes back in time.
async fn probe(link: &Link, node: &NodeId, subscription: &Subscription) -> bool {
    let mut publish = redis::cmd("SPUBLISH");
    publish.arg(node_topic(0, node)).arg(PROBE);
    link.call(0, &publish).await.is_ok()
        && tokio::time::timeout(link.deadline, subscription.probed.notified()).await.is_ok()
}
