//! The channel that carries feed events inside one process.

/// The sender of feed lines in a process that runs both services.
pub type FeedSender = tokio::sync::broadcast::Sender<std::sync::Arc<str>>;

/// The number of events that a slow reader may be behind before it misses events.
pub const FEED_BACKLOG: usize = 1_024;
