//! The channel that carries feed events inside one process.

/// The feed inside one process, where both services share it.
pub type FeedSender = tokio::sync::broadcast::Sender<std::sync::Arc<str>>;

/// How many events a slow reader may be behind before it skips some.
pub const FEED_BACKLOG: usize = 1_024;
