//! Messages from other nodes: the topics of this node, one for each partition.
//!
//! Owns: how a topic message is read. Must not: subscribe; `signalbox-redis` does, and it proves
//! that the subscription is alive. After each gap the partitions are resynced: the last message
//! before a gap has no successor that would show its loss.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::{RedisClient, RedisStartError, TopicListener, TopicProbe, redis_keys};

use crate::store::{Delivery, Entry, EntryContent, EntryKind, StoreEvents};

/// Between two probes of a connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Subscribes to the topics of a node, and reports interruptions of the servers. Returns when each
/// master has delivered a probe.
pub(super) async fn subscribe_node_topics(
    client: &Arc<RedisClient>,
    node: &NodeId,
    store_events: Weak<dyn StoreEvents>,
) -> Result<(), RedisStartError> {
    let receiver = store_events.clone();
    client.on_interruption(move |partitions| {
        if let Some(receiver) = receiver.upgrade() {
            receiver.resync_partitions(partitions);
        }
    });
    let topics = NodeTopics { node: node.clone(), store_events };
    client.subscribe(topics, TopicProbe::PublishProbe, PROBE_INTERVAL).await
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
        let parsed = std::str::from_utf8(message).ok().and_then(parse_topic_message);
        match (parsed, self.store_events.upgrade()) {
            (Some(TopicMessage::Deliveries(room, deliveries)), Some(events)) => {
                deliveries.into_iter().for_each(|delivery| events.deliver_entry(&room, delivery));
            }
            (Some(TopicMessage::ResyncPeers(room, peers)), Some(events)) => {
                events.resync_peers(&room, &peers);
            }
            (None, _) => tracing::error!(event = "topic_message_unreadable", bytes = message.len()),
            (Some(_), None) => {}
        }
    }

    fn on_gap(&self, partitions: &[usize]) {
        if let Some(events) = self.store_events.upgrade() {
            events.resync_partitions(partitions);
        }
    }

    fn is_active(&self) -> bool {
        self.store_events.strong_count() > 0
    }
}

enum TopicMessage {
    /// Another node has written entries for peers of this node.
    Deliveries(RoomId, Vec<Delivery>),
    /// Something has happened to these peers.
    ResyncPeers(RoomId, Vec<PeerId>),
}

/// Reads entries, one after the other: `room from id kind peer:mailbox-version:seq,… bytes`, a line
/// break and a body of so many bytes; or `!room peer,…`.
fn parse_topic_message(message: &str) -> Option<TopicMessage> {
    if let Some(request) = message.strip_prefix('!') {
        let (room, peers) = request.split_once(' ')?;
        let peers = peers.split(',').map(|peer| PeerId::parse(peer).ok()).collect::<Option<_>>()?;
        return Some(TopicMessage::ResyncPeers(RoomId::parse(room).ok()?, peers));
    }
    let (mut deliveries, mut rest, mut room) = (Vec::new(), message, None);
    while !rest.is_empty() {
        let (of_room, entries, after) = parse_entry(rest)?;
        deliveries.extend(entries);
        (room, rest) = (Some(of_room), after);
    }
    Some(TopicMessage::Deliveries(room?, deliveries))
}

/// Reads the first entry for all its targets. Returns also the entries after it.
fn parse_entry(message: &str) -> Option<(RoomId, Vec<Delivery>, &str)> {
    let (header, rest) = message.split_once('\n')?;
    let mut words = header.split(' ');
    let room = RoomId::parse(words.next()?).ok()?;
    let from = PeerId::parse(words.next()?).ok()?;
    let id = words.next()?.parse().ok();
    let kind = EntryKind::from_code(words.next()?);
    let (targets, length) = (words.next()?, words.next()?.parse().ok()?);
    let content = Arc::new(EntryContent { from, id, kind, body: rest.get(..length)?.into() });
    let delivery = |target: &str| {
        let mut parts = target.split(':');
        let peer = PeerId::parse(parts.next()?).ok()?;
        let (mailbox_version, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let entry = Entry { seq, content: content.clone() };
        Some(Delivery { peer, mailbox_version, entry })
    };
    let deliveries = targets.split(',').map(delivery).collect::<Option<_>>()?;
    Some((room, deliveries, &rest[length..]))
}
