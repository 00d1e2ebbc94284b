//! What was used, as nodes have counted it.
//!
//! Owns: reading it. Must not: count. Next: `signal-service/src/usage.rs` counts, `shared/src/usage.rs` says what a day is.

use std::sync::Arc;

use redis::FromRedisValue as _;
use signalbox_redis::Unavailable;
use signalbox_redis::keys;
use signalbox_rooms::usage::{Day, DayUsage, UsageBook};

use crate::link::SharedLink;

/// Where usage is kept.
#[derive(Clone, Default)]
pub enum UsageReader {
    /// Nodes write it to Redis.
    Redis(SharedLink),
    /// The node of this process keeps it.
    Book(Arc<UsageBook>),
    /// Nowhere: this process has neither.
    #[default]
    None,
}

impl UsageReader {
    /// The usage of a day.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn day(&self, day: Day) -> Result<DayUsage, Unavailable> {
        match self {
            Self::Book(book) => Ok(book.day(day)),
            Self::None => Ok(DayUsage::default()),
            Self::Redis(link) => {
                let key = keys::usage(&day.to_string());
                let mut cmd = redis::cmd("HGETALL");
                cmd.arg(&key);
                let reply = link.call_key(&key, &cmd).await?;
                let fields = Vec::<(String, String)>::from_redis_value(reply).map_err(|_| Unavailable)?;
                Ok(DayUsage::from_fields(&fields))
            }
        }
    }
}
