//! The message ids of one peer, and the order that they promise.
//!
//! Owns: which ids are settled, and which must come again. Must not: queue a request
//! (`request_queue` does) or answer it.

use std::collections::BTreeMap;

use signalbox_rooms::store::MessageTarget;

/// The number of refused ids that are remembered. Beyond it only these ids are accepted.
const MAX_REFUSED_IDS: usize = 1_024;

/// The message ids of a peer: which are settled, and which must come again.
///
/// All ids with an unknown outcome are remembered. A later id is answered `unavailable` until every
/// earlier one has come again, so that no message overtakes another. It would not be enough to
/// remember the first: a client may send it again before it knows of the others.
pub(super) struct MessageIds {
    /// The ids that were refused and have not come again, with their targets.
    refused: BTreeMap<u64, MessageTarget>,
    /// Every id up to this one is settled.
    settled_id: u64,
    /// The highest id that was delivered directly.
    direct_id: u64,
}

impl MessageIds {
    /// All ids up to `settled_id` were accepted before.
    pub(super) fn new(settled_id: u64) -> Self {
        Self { refused: BTreeMap::new(), settled_id, direct_id: 0 }
    }

    /// The id up to which all ids are settled.
    pub(super) fn settled_id(&self) -> u64 {
        self.settled_id
    }

    /// Whether the outcome of an id, or of an earlier one, is unknown.
    pub(super) fn is_unknown_up_to(&self, id: u64) -> bool {
        self.refused.range(..=id).next().is_some()
    }

    /// Whether an earlier id must come again before this one. For a direct message only earlier ids
    /// with the same target count.
    pub(super) fn is_blocked(&self, id: u64, direct_target: Option<&MessageTarget>) -> bool {
        if self.refused.len() >= MAX_REFUSED_IDS && !self.refused.contains_key(&id) {
            return true;
        }
        let mut earlier = self.refused.range(..id);
        match direct_target {
            Some(target) => earlier.any(|(_, refused)| refused.overlaps(target)),
            None => earlier.next().is_some(),
        }
    }

    /// The id must come again.
    pub(super) fn record_refused(&mut self, id: u64, target: MessageTarget) {
        if self.refused.len() < MAX_REFUSED_IDS {
            self.refused.insert(id, target);
        }
    }

    /// The id has come again.
    pub(super) fn clear_refused(&mut self, id: u64) {
        self.refused.remove(&id);
    }

    /// The store has accepted this id, and so all earlier ones.
    pub(super) fn settle_id(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.settled_id = self.settled_id.max(id);
            while self.refused.first_key_value().is_some_and(|(refused, _)| *refused < id) {
                self.refused.pop_first();
            }
        }
    }

    /// The message of this id was delivered directly.
    pub(super) fn record_direct(&mut self, id: u64) {
        self.direct_id = self.direct_id.max(id);
    }

    /// A direct message is settled when no earlier id waits.
    pub(super) fn raise_settled_id(&mut self, mut queued: impl Iterator<Item = u64>) {
        if self.refused.is_empty() && !queued.any(|id| id < self.direct_id) {
            self.settled_id = self.settled_id.max(self.direct_id);
        }
    }
}
