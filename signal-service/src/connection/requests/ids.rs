//! Which ids of a peer are settled, and which must come again.
//!
//! Ids whose outcome is unknown are remembered: later ids are answered `unavailable` until every earlier one has been sent again, so
//! that nothing overtakes them. Only the first would not do: its client may send it again before it hears of the others.

use std::collections::BTreeMap;

use signalbox_rooms::store::Target;

/// Most ids that are remembered as refused; beyond it only these are taken.
const MOST_REFUSED: usize = 1_024;

/// What is known of a peer's ids.
pub(super) struct Ids {
    /// Ids that were refused and have not come again, with their targets.
    refused: BTreeMap<u64, Target>,
    /// Every id up to this one is settled.
    floor: u64,
    /// The highest id that went straight to its targets.
    straight: u64,
}

impl Ids {
    /// All up to `floor` were accepted.
    pub(super) fn new(floor: u64) -> Self {
        Self { refused: BTreeMap::new(), floor, straight: 0 }
    }

    /// The highest id up to which all are settled.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether an id was accepted before.
    pub(super) fn is_settled(&self, id: Option<u64>) -> bool {
        id.is_some_and(|id| id <= self.floor)
    }

    /// Whether an earlier id must come again before this one; for one that goes straight to `straight_to`, one with the same targets.
    pub(super) fn is_held_up(&self, id: u64, straight_to: Option<&Target>) -> bool {
        if self.refused.len() >= MOST_REFUSED && !self.refused.contains_key(&id) {
            return true;
        }
        let mut earlier = self.refused.range(..id);
        match straight_to {
            Some(target) => earlier.any(|(_, to)| to.overlaps(target)),
            None => earlier.next().is_some(),
        }
    }

    /// Whether an id is, or comes after, one whose outcome is unknown.
    pub(super) fn waits_for_an_earlier(&self, id: u64) -> bool {
        self.refused.range(..=id).next().is_some()
    }

    /// It must come again.
    pub(super) fn refuse(&mut self, id: u64, target: Target) {
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(id, target);
        }
    }

    /// It has come again.
    pub(super) fn take(&mut self, id: u64) {
        self.refused.remove(&id);
    }

    /// The store has accepted this id, and so all before it.
    pub(super) fn settle(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.floor = self.floor.max(id);
            self.refused = self.refused.split_off(&id);
        }
    }

    /// It went to its targets past the store.
    pub(super) fn went_straight(&mut self, id: u64) {
        self.straight = self.straight.max(id);
    }

    /// What went straight counts as settled once nothing before it waits.
    pub(super) fn raise_floor(&mut self, mut waiting: impl Iterator<Item = u64>) {
        if self.refused.is_empty() && !waiting.any(|id| id < self.straight) {
            self.floor = self.floor.max(self.straight);
        }
    }
}
