//! What other nodes wrote for this node's peers: this node's topic of every partition.
//!
//! Owns: turning a message into deliveries. The subscriptions, and the proof that they are live, are `signalbox-redis`'. After every
//! gap the arrivals are told to catch up, because the last message before it has no successor that would show the gap.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use signalbox_protocol::id::NodeId;
use signalbox_redis::keys;
use signalbox_redis::{Listener, Proof, Subscriber};

use super::{
    Arrivals, Link, StartError,
    codec::{self, News},
};

/// Between two probes of a connection.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Subscribes; returns when a message of its own has come back from every master.
pub(super) fn start(link: &Arc<Link>, node: &NodeId, arrivals: Weak<dyn Arrivals>) -> Result<(), StartError> {
    link.tell(arrivals.clone());
    let connections = link.connections();
    let proof = Proof::Publish(Arc::downgrade(connections));
    let topics = Topics { node: node.clone(), arrivals };
    let subscriber = Subscriber::new(connections.topology().clone(), topics, proof, PROBE_EVERY);
    connections.run_and_wait(subscriber.start())
}

struct Topics {
    node: NodeId,
    arrivals: Weak<dyn Arrivals>,
}

impl Listener for Topics {
    fn topic(&self, partition: usize) -> String {
        keys::node_topic(partition, &self.node)
    }

    fn heard(&self, message: &[u8]) {
        let parsed = std::str::from_utf8(message).ok().and_then(codec::news);
        match (parsed, self.arrivals.upgrade()) {
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

    fn heard_again(&self, partitions: &[usize]) {
        if let Some(arrivals) = self.arrivals.upgrade() {
            arrivals.catch_up(partitions);
        }
    }

    fn is_there(&self) -> bool {
        self.arrivals.strong_count() > 0
    }
}
