//! Which ids of a peer are settled, and which must come again.
//!
//! Ids whose outcome is unknown are remembered: later ids are answered `unavailable` until every earlier one has been sent again, so
//! that nothing overtakes them. Only the first would not do: its client may send it again before it hears of the others.

use std::collections::BTreeMap;

use signalbox_rooms::store::MessageTarget;

/// Most ids that are remembered as refused; beyond it only these are taken.
const MAX_REFUSED_IDS: usize = 1_024;

/// What is known of a peer's ids.
pub(super) struct MessageIds {
    /// Ids that were refused and have not come again, with their targets.
    refused: BTreeMap<u64, MessageTarget>,
    /// Every id up to this one is settled.
    settled_id: u64,
    /// The highest id that went straight to its targets.
    direct_id: u64,
}

impl MessageIds {
    /// All up to `floor` were accepted.
    pub(super) fn new(settled_id: u64) -> Self {
        Self { refused: BTreeMap::new(), settled_id, direct_id: 0 }
    }

    /// The highest id up to which all are settled.
    pub(super) fn settled_id(&self) -> u64 {
        self.settled_id
    }

    /// Whether an id was accepted before.
    pub(super) fn is_settled(&self, id: Option<u64>) -> bool {
        id.is_some_and(|id| id <= self.settled_id)
    }

    /// Whether an earlier id must come again before this one; for one that goes straight to `straight_to`, one with the same targets.
    pub(super) fn is_blocked(&self, id: u64, straight_to: Option<&MessageTarget>) -> bool {
        if self.refused.len() >= MAX_REFUSED_IDS && !self.refused.contains_key(&id) {
            return true;
        }
        let mut earlier = self.refused.range(..id);
        match straight_to {
            Some(target) => earlier.any(|(_, to)| to.overlaps(target)),
            None => earlier.next().is_some(),
        }
    }

    /// Whether an id is, or comes after, one whose outcome is unknown.
    pub(super) fn is_blocked_by_earlier(&self, id: u64) -> bool {
        self.refused.range(..=id).next().is_some()
    }

    /// It must come again.
    pub(super) fn record_refused(&mut self, id: u64, target: MessageTarget) {
        if self.refused.len() < MAX_REFUSED_IDS {
            self.refused.insert(id, target);
        }
    }

    /// It has come again.
    pub(super) fn clear_refused(&mut self, id: u64) {
        self.refused.remove(&id);
    }

    /// The store has accepted this id, and so all before it.
    pub(super) fn settle_id(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.settled_id = self.settled_id.max(id);
            self.refused = self.refused.split_off(&id);
        }
    }

    /// It went to its targets past the store.
    pub(super) fn record_direct(&mut self, id: u64) {
        self.direct_id = self.direct_id.max(id);
    }

    /// What went straight counts as settled once nothing before it waits.
    pub(super) fn raise_settled_id(&mut self, mut waiting: impl Iterator<Item = u64>) {
        if self.refused.is_empty() && !waiting.any(|id| id < self.direct_id) {
            self.settled_id = self.settled_id.max(self.direct_id);
        }
    }
}
