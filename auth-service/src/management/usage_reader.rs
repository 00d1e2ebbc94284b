//! The usage that nodes have counted.
//!
//! Must not: count. Next: `signal-service/src/usage_meter.rs` counts.

use std::sync::Arc;

use redis::FromRedisValue as _;
use signalbox_redis::{KeyCommand, RedisClient, RedisCommand, RedisUnavailable, redis_keys};
use signalbox_rooms::usage::{DayUsage, MemoryUsageStore, UtcDay};

/// Where the usage is stored.
#[derive(Clone, Default)]
pub enum UsageReader {
    /// Nodes write usage to Redis.
    Redis(Arc<RedisClient>),
    /// The node of this process counts it.
    Book(Arc<MemoryUsageStore>),
    /// The process counts no usage (`usage.kept`), or has neither Redis nor a node.
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
            Self::Redis(client) => {
                let key = redis_keys::usage_key(&day.to_string());
                let read = KeyCommand::new(RedisCommand::HGetAll, key);
                let reply = client.run_pooled_command(&read).await?;
                let fields =
                    Vec::<(String, String)>::from_redis_value(reply).map_err(|_| RedisUnavailable)?;
                Ok(DayUsage::from_fields(&fields))
            }
        }
    }
}
