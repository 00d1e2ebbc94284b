//! The number of partitions: all nodes must use the same.

use signalbox_redis::{KeyCommand, RedisClient, RedisCommand, RedisStartError, redis_keys, value_text};

use crate::store::StoreUnavailable;

/// Compares the number in Redis with the number of this release. The partition of a room follows
/// from it, so a node with another number would not find the room.
pub(super) async fn check_partition_count(client: &RedisClient) -> Result<(), RedisStartError> {
    let no_answer =
        |StoreUnavailable| RedisStartError::NoAnswer("how rooms are spread could not be read".to_owned());
    let found = load_partition_count(client).await.map_err(no_answer)?;
    if found == redis_keys::PARTITIONS.to_string() {
        return Ok(());
    }
    Err(RedisStartError::WrongServer(format!(
        "other nodes spread rooms over {found} partitions and this one over {}; stop all nodes of the other release first, and delete {}",
        redis_keys::PARTITIONS,
        redis_keys::PARTITION_COUNT_KEY,
    )))
}

/// The number of partitions in Redis. Writes the number of this release if there is none.
pub(super) async fn load_partition_count(client: &RedisClient) -> Result<String, StoreUnavailable> {
    let (key, day_ms) = (redis_keys::PARTITION_COUNT_KEY, 24 * 60 * 60 * 1_000_u64);
    let set = KeyCommand::new(RedisCommand::Set, key).arg(redis_keys::PARTITIONS);
    client.run_command(&set.arg(&["NX", "PX"]).arg(day_ms)).await?;
    client.run_command(&KeyCommand::new(RedisCommand::PExpire, key).arg(day_ms)).await?;
    value_text(client.run_command(&KeyCommand::new(RedisCommand::Get, key)).await?).ok_or(StoreUnavailable)
}
