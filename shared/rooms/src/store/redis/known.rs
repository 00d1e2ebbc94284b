//! Which writes this node was told of, by partition: what a server of another history may lack.
//!
//! A promoted replica gives every mailbox a new number when the first node comes to it. A node that went on writing to the old master
//! after that, because it learnt late of the change, has told its clients of writes that nobody else knows of; the scripts compare the
//! moment of the last one with the moment when the room was healed.

use std::sync::{Mutex, PoisonError};

use signalbox_redis::keys::PARTITIONS;
use tokio::time::Instant;

use crate::room::Lineage;

/// The last acknowledged writes, one place for each partition.
pub(super) struct KnownWrites(Vec<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The lineage of the last one, and when it was acknowledged.
    last: Option<(Lineage, Instant)>,
    /// When the last one of another lineage than that was.
    stale: Option<Instant>,
}

impl Default for KnownWrites {
    fn default() -> Self {
        Self((0..PARTITIONS).map(|_| Mutex::default()).collect())
    }
}

impl KnownWrites {
    /// A write was acknowledged.
    pub(super) fn note(&self, partition: usize, lineage: &Lineage) {
        let mut known = self.0[partition].lock().unwrap_or_else(PoisonError::into_inner);
        match &mut known.last {
            Some((of, at)) if of == lineage => *at = Instant::now(),
            last => {
                let before = last.replace((lineage.clone(), Instant::now()));
                known.stale = before.map(|(_, at)| at).or(known.stale);
            }
        }
    }

    /// The lineage of the last write and how long ago it was, and how long ago the last one of another lineage was: milliseconds, -1
    /// where there was none.
    pub(super) fn at(&self, partition: usize) -> (Lineage, i64, i64) {
        let known = self.0[partition].lock().unwrap_or_else(PoisonError::into_inner);
        let age = |at: &Instant| at.elapsed().as_millis() as i64;
        let (lineage, last) =
            known.last.as_ref().map_or_else(Default::default, |(of, at)| (of.clone(), age(at)));
        (lineage, last, known.stale.as_ref().map_or(-1, age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_of_a_lineage_that_is_over_are_remembered() {
        let known = KnownWrites::default();
        assert_eq!(known.at(3), ("".into(), 0, -1));
        known.note(3, &"one".into());
        tokio::time::advance(std::time::Duration::from_millis(40)).await;
        assert_eq!(known.at(3), ("one".into(), 40, -1));
        known.note(3, &"two".into());
        tokio::time::advance(std::time::Duration::from_millis(5)).await;
        assert_eq!((known.at(3), known.at(4).2), (("two".into(), 5, 45), -1));
    }
}
