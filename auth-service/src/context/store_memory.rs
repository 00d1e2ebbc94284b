//! The memory of the store, and the answer to requests that are refused while little is left.
//!
//! Above `redis.memory_percent` of `maxmemory`, the rest is for joins, tickets and access rules. So the
//! routes whose records a call can do without ask `ServiceContext::check_store_memory` before they
//! write. A new operation needs a row in `tests/store_memory.rs`. Must not: measure the memory; the
//! Redis client does.

use std::sync::Arc;

use signalbox_protocol::problem::Problem;
use signalbox_redis::{MemoryLevel, RedisClient};

/// Reads how full the memory of the store is.
pub type MemoryLevelReader = Arc<dyn Fn() -> MemoryLevel + Send + Sync>;

/// When a refused caller may try again, seconds.
const RETRY_AFTER_S: u32 = 10;

/// The level of the fullest server of Redis. A store in memory is never full.
pub fn memory_level_reader(redis: Option<Arc<RedisClient>>) -> MemoryLevelReader {
    match redis {
        Some(client) => Arc::new(move || client.highest_memory_level()),
        None => Arc::new(|| MemoryLevel::Normal),
    }
}

/// 503 `overloaded`. `field` is the member of the request that would make the store grow; without one,
/// the whole request would.
pub(super) fn memory_refusal(field: Option<&'static str>) -> Problem {
    let next_step = field.map_or_else(
        || "try again later".to_owned(),
        |field| format!("send the request without `{field}`, or try again later"),
    );
    let detail =
        format!("Redis has little memory left, which joins, tickets and access rules need; {next_step}");
    let mut problem = Problem::new(503, "overloaded", detail);
    problem.field = field.map(str::to_owned);
    problem.retry_after = Some(RETRY_AFTER_S);
    problem
}
