//! What the owner of a set of topics supplies.

use std::sync::Weak;

use crate::redis_client::RedisClient;

/// Who listens.
pub trait TopicListener: Send + Sync + 'static {
    /// The topic of a partition.
    fn topic_name(&self, partition: usize) -> String;
    /// A message on one of the topics; it must not begin with ` probe`. Must not block.
    fn on_message(&self, message: &[u8]);
    /// These topics are heard again after a gap. Must not block.
    fn on_gap(&self, partitions: &[usize]);
    /// Whether anybody is still interested.
    fn is_active(&self) -> bool;
}

/// How a connection proves that it hears what is published.
#[derive(Clone)]
pub enum TopicProbe {
    /// A probe, published where everything is published, must come back.
    PublishProbe(Weak<RedisClient>),
    /// The server says that it is a master: for those who may not publish.
    AskRole,
}
