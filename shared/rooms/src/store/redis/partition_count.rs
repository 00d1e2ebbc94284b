//! Over how many partitions rooms are spread: all nodes must agree.

use signalbox_redis::redis_keys;

use super::{
    codec,
    script_client::{RedisStartError, RoomScriptClient},
};
use crate::store::StoreUnavailable;

/// A room lies where the number of partitions puts it: a node with another number would not find it.
pub(super) async fn check_partition_count(link: &RoomScriptClient) -> Result<(), RedisStartError> {
    let unanswered =
        |StoreUnavailable| RedisStartError::NoAnswer("how rooms are spread could not be read".to_owned());
    let found = load_partition_count(link).await.map_err(unanswered)?;
    if found == redis_keys::PARTITIONS.to_string() {
        return Ok(());
    }
    Err(RedisStartError::WrongServer(format!(
        "other nodes spread rooms over {found} partitions and this one over {}; stop all nodes of the other release first, and delete {}",
        redis_keys::PARTITIONS,
        redis_keys::PARTITION_COUNT_KEY,
    )))
}

/// The number of partitions that stands in Redis; this node's where there is none.
pub(super) async fn load_partition_count(link: &RoomScriptClient) -> Result<String, StoreUnavailable> {
    let (key, day) = (redis_keys::PARTITION_COUNT_KEY, 24 * 60 * 60 * 1_000_u64);
    let mut set = redis::cmd("SET");
    set.arg(key).arg(redis_keys::PARTITIONS).arg("NX").arg("PX").arg(day);
    link.run_key_command(key, &set).await?;
    let mut renew = redis::cmd("PEXPIRE");
    renew.arg(key).arg(day);
    link.run_key_command(key, &renew).await?;
    let mut get = redis::cmd("GET");
    get.arg(key);
    codec::value_to_text(link.run_key_command(key, &get).await?).ok_or(StoreUnavailable)
}
