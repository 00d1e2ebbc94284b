//! What was used, as nodes have counted it.
//!
//! Owns: reading it. Must not: count. Next: `signal-service/src/usage.rs` counts, `shared/src/usage.rs` says what a day is.

use std::sync::Arc;

use redis::FromRedisValue as _;
use signalbox_redis::{RedisUnavailable, redis_keys};
use signalbox_rooms::usage::{DayUsage, MemoryUsageStore, UtcDay};

use super::redis_client::LazyRedisClient;

/// Where usage is kept.
#[derive(Clone, Default)]
pub enum UsageReader {
    /// Nodes write it to Redis.
    Redis(LazyRedisClient),
    /// The node of this process keeps it.
    Book(Arc<MemoryUsageStore>),
    /// Nowhere: this process has neither.
    #[default]
    None,
}

impl UsageReader {
    /// The usage of a day.
    ///
    /// # Errors
    /// [`RedisUnavailable`].
    pub(crate) async fn read_day(&self, day: UtcDay) -> Result<DayUsage, RedisUnavailable> {
        match self {
            Self::Book(book) => Ok(book.read_day(day)),
            Self::None => Ok(DayUsage::default()),
            Self::Redis(link) => {
                let key = redis_keys::usage_key(&day.to_string());
                let mut cmd = redis::cmd("HGETALL");
                cmd.arg(&key);
                let reply = link.call_key(&key, &cmd).await?;
                let fields =
                    Vec::<(String, String)>::from_redis_value(reply).map_err(|_| RedisUnavailable)?;
                Ok(DayUsage::from_fields(&fields))
            }
        }
    }
}
