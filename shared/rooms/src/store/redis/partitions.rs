//! Over how many partitions rooms are spread: all nodes must agree.

use signalbox_redis::keys;

use super::{
    codec,
    link::{Link, StartError},
};
use crate::store::Unavailable;

/// A room lies where the number of partitions puts it: a node with another number would not find it.
pub(super) async fn agree(link: &Link) -> Result<(), StartError> {
    let unanswered = |Unavailable| StartError::NoAnswer("how rooms are spread could not be read".to_owned());
    let found = count(link).await.map_err(unanswered)?;
    if found == keys::PARTITIONS.to_string() {
        return Ok(());
    }
    Err(StartError::Unfit(format!(
        "other nodes spread rooms over {found} partitions and this one over {}; stop all nodes of the other release first, and delete {}",
        keys::PARTITIONS,
        keys::PARTITION_COUNT,
    )))
}

/// The number of partitions that stands in Redis; this node's where there is none.
pub(super) async fn count(link: &Link) -> Result<String, Unavailable> {
    let (key, day) = (keys::PARTITION_COUNT, 24 * 60 * 60 * 1_000_u64);
    let mut set = redis::cmd("SET");
    set.arg(key).arg(keys::PARTITIONS).arg("NX").arg("PX").arg(day);
    link.call_key(key, &set).await?;
    let mut renew = redis::cmd("PEXPIRE");
    renew.arg(key).arg(day);
    link.call_key(key, &renew).await?;
    let mut get = redis::cmd("GET");
    get.arg(key);
    codec::text(link.call_key(key, &get).await?).ok_or(Unavailable)
}
