//! What other nodes wrote for this node's peers: this node's topic of every partition.
//!
//! Owns: turning a message into deliveries. The subscriptions, and the proof that they are live, are `signalbox-redis`'. After every
//! gap the arrivals are told to catch up, because the last message before it has no successor that would show the gap.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use signalbox_protocol::id::NodeId;
use signalbox_redis::redis_keys;
use signalbox_redis::{TopicListener, TopicProbe, TopicSubscriber};

use super::{
    RedisStartError, RoomScriptClient, StoreEvents,
    codec::{self, TopicMessage},
};

/// Between two probes of a connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Subscribes; returns when a message of its own has come back from every master.
pub(super) fn subscribe_node_topics(
    link: &Arc<RoomScriptClient>,
    node: &NodeId,
    arrivals: Weak<dyn StoreEvents>,
) -> Result<(), RedisStartError> {
    link.notify_on_interruption(arrivals.clone());
    let connections = link.client();
    let proof = TopicProbe::PublishProbe(Arc::downgrade(connections));
    let topics = NodeTopics { node: node.clone(), store_events: arrivals };
    let subscriber = TopicSubscriber::new(connections.topology().clone(), topics, proof, PROBE_INTERVAL);
    connections.run_blocking(subscriber.subscribe_all())
}

struct NodeTopics {
    node: NodeId,
    store_events: Weak<dyn StoreEvents>,
}

impl TopicListener for NodeTopics {
    fn topic_name(&self, partition: usize) -> String {
        redis_keys::node_topic(partition, &self.node)
    }

    fn on_message(&self, message: &[u8]) {
        let parsed = std::str::from_utf8(message).ok().and_then(codec::parse_topic_message);
        match (parsed, self.store_events.upgrade()) {
            (Some(TopicMessage::Deliveries(room, deliveries)), Some(arrivals)) => {
                for delivery in deliveries {
                    arrivals.deliver_entry(&room, delivery);
                }
            }
            (Some(TopicMessage::ResyncPeers(room, peers)), Some(arrivals)) => {
                arrivals.resync_peers(&room, &peers)
            }
            (None, _) => tracing::error!(event = "topic_message_unreadable", bytes = message.len()),
            (Some(_), None) => {}
        }
    }

    fn on_gap(&self, partitions: &[usize]) {
        if let Some(arrivals) = self.store_events.upgrade() {
            arrivals.resync_partitions(partitions);
        }
    }

    fn is_active(&self) -> bool {
        self.store_events.strong_count() > 0
    }
}
