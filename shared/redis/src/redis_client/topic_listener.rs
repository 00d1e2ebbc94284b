//! What the owner of a set of topics supplies.

/// Receives the messages of one topic of each partition.
pub trait TopicListener: Send + Sync + 'static {
    /// The topic of a partition, by its name in `redis_keys`.
    fn topic_name(&self, partition: usize) -> String;
    /// Called with each message on one of the topics. A message must not begin with ` probe`. Must
    /// not block.
    fn on_message(&self, message: &[u8]);
    /// Called when topics are subscribed again after a gap: messages may be missing. Must not
    /// block.
    fn on_gap(&self, partitions: &[usize]);
    /// Whether the messages are still needed.
    fn is_active(&self) -> bool;
}

/// How a connection proves that it receives messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicProbe {
    /// The client publishes a probe as it publishes messages, and the probe must arrive.
    PublishProbe,
    /// The server answers that it is a master: for a user that may not publish.
    AskRole,
}
