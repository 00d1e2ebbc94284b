//! Which writes this node was told of, by partition: what a server of another history may lack.
//!
//! A promoted replica gives every mailbox a new number when the first node comes to it. A node that went on writing to the old master
//! after that, because it learnt late of the change, has told its clients of writes that nobody else knows of; the scripts compare the
//! moment of the last one with the moment when the room was healed.

use std::sync::{Mutex, PoisonError};

use signalbox_redis::redis_keys::PARTITIONS;
use tokio::time::Instant;

use crate::room::ReplicationId;

/// The last acknowledged writes, one place for each partition.
pub(super) struct AckedWrites(Vec<Mutex<PartitionWrites>>);

#[derive(Default)]
struct PartitionWrites {
    /// The lineage of the last one, and when it was acknowledged.
    last_write: Option<(ReplicationId, Instant)>,
    /// When the last one of another lineage than that was.
    last_write_of_other_id: Option<Instant>,
}

impl Default for AckedWrites {
    fn default() -> Self {
        Self((0..PARTITIONS).map(|_| Mutex::default()).collect())
    }
}

impl AckedWrites {
    /// A write was acknowledged.
    pub(super) fn record_write(&self, partition: usize, lineage: &ReplicationId) {
        let mut known = self.0[partition].lock().unwrap_or_else(PoisonError::into_inner);
        match &mut known.last_write {
            Some((of, at)) if of == lineage => *at = Instant::now(),
            last => {
                let before = last.replace((lineage.clone(), Instant::now()));
                known.last_write_of_other_id = before.map(|(_, at)| at).or(known.last_write_of_other_id);
            }
        }
    }

    /// The lineage of the last write and how long ago it was, and how long ago the last one of another lineage was: milliseconds, -1
    /// where there was none.
    pub(super) fn last_write_ages(&self, partition: usize) -> (ReplicationId, i64, i64) {
        let known = self.0[partition].lock().unwrap_or_else(PoisonError::into_inner);
        let age = |at: &Instant| at.elapsed().as_millis() as i64;
        let (lineage, last) =
            known.last_write.as_ref().map_or_else(Default::default, |(of, at)| (of.clone(), age(at)));
        (lineage, last, known.last_write_of_other_id.as_ref().map_or(-1, age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_under_an_older_replication_id_are_remembered() {
        let known = AckedWrites::default();
        assert_eq!(known.last_write_ages(3), ("".into(), 0, -1));
        known.record_write(3, &"one".into());
        tokio::time::advance(std::time::Duration::from_millis(40)).await;
        assert_eq!(known.last_write_ages(3), ("one".into(), 40, -1));
        known.record_write(3, &"two".into());
        tokio::time::advance(std::time::Duration::from_millis(5)).await;
        assert_eq!((known.last_write_ages(3), known.last_write_ages(4).2), (("two".into(), 5, 45), -1));
    }
}
