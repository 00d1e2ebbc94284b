//! The message ids of one peer, and the order that they promise.
//!
//! Owns: which ids are settled, which must come again, and which were refused. Must not: queue a request
//! (`request_queue` does) or answer it.

use std::collections::BTreeMap;

use signalbox_protocol::ErrorCode;
use signalbox_rooms::store::{MessageTarget, RefusedIds};

/// The number of ids with an unknown outcome that are remembered. Beyond it only these ids are
/// accepted.
const MAX_UNKNOWN_IDS: usize = 1_024;

/// The message ids of a peer: which are settled, which must come again, and which were refused.
///
/// All ids with an unknown outcome are remembered. A later id is answered `unavailable` until every
/// earlier one has come again, so that no message overtakes another. It would not be enough to
/// remember the first: a client may send it again before it knows of the others.
pub(super) struct MessageIds {
    /// The ids with an unknown outcome that have not come again, with their targets.
    unknown: BTreeMap<u64, MessageTarget>,
    /// Every id up to this one is settled.
    settled_id: u64,
    /// The highest id that was delivered directly.
    direct_id: u64,
    /// The ids whose answer was a final error.
    refused: RefusedIds,
    /// The store has every refused id up to this one.
    reported_id: u64,
}

impl MessageIds {
    /// All ids up to `settled_id` were accepted before, except the `refused` ids.
    pub(super) fn new(settled_id: u64, refused: RefusedIds) -> Self {
        Self { unknown: BTreeMap::new(), settled_id, direct_id: 0, refused, reported_id: settled_id }
    }

    /// The id up to which all ids are settled.
    pub(super) fn settled_id(&self) -> u64 {
        self.settled_id
    }

    /// Whether the outcome of an id, or of an earlier one, is unknown.
    pub(super) fn is_unknown_up_to(&self, id: u64) -> bool {
        self.unknown.range(..=id).next().is_some()
    }

    /// Whether an earlier id must come again before this one. For a direct message only earlier ids
    /// with the same target count.
    pub(super) fn is_blocked(&self, id: u64, direct_target: Option<&MessageTarget>) -> bool {
        if self.unknown.len() >= MAX_UNKNOWN_IDS && !self.unknown.contains_key(&id) {
            return true;
        }
        let mut earlier = self.unknown.range(..id);
        match direct_target {
            Some(target) => earlier.any(|(_, unknown)| unknown.overlaps(target)),
            None => earlier.next().is_some(),
        }
    }

    /// The id must come again.
    pub(super) fn record_unknown(&mut self, id: u64, target: MessageTarget) {
        if self.unknown.len() < MAX_UNKNOWN_IDS {
            self.unknown.insert(id, target);
        }
    }

    /// The id has come again.
    pub(super) fn clear_unknown(&mut self, id: u64) {
        self.unknown.remove(&id);
    }

    /// The answer to this id is a final error, and later ids may be accepted.
    pub(super) fn record_refused(&mut self, id: u64, code: ErrorCode) {
        self.unknown.remove(&id);
        if id > self.settled_id {
            self.refused.insert(id, code);
        }
    }

    /// The code with which an id was refused, if a later id was accepted.
    pub(super) fn refused_before(&self, id: u64) -> Option<ErrorCode> {
        self.refused.code_of(id).filter(|_| id < self.settled_id)
    }

    /// The refused ids.
    pub(super) fn refused_ids(&self) -> &RefusedIds {
        &self.refused
    }

    /// The refused ids that the store may not have.
    pub(super) fn unreported_ids(&self) -> RefusedIds {
        self.refused.above(self.reported_id)
    }

    /// The store has every refused id below the highest id that it has accepted.
    pub(super) fn mark_reported(&mut self) {
        self.reported_id = self.settled_id;
    }

    /// The store has accepted this id, and so all earlier ones that were not refused.
    pub(super) fn settle_id(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.settled_id = self.settled_id.max(id);
            self.refused.remove(id);
            while self.unknown.first_key_value().is_some_and(|(unknown, _)| *unknown < id) {
                self.unknown.pop_first();
            }
        }
    }

    /// The message of this id was delivered directly.
    pub(super) fn record_direct(&mut self, id: u64) {
        self.direct_id = self.direct_id.max(id);
    }

    /// A direct message is settled when no earlier id waits.
    pub(super) fn raise_settled_id(&mut self, mut queued: impl Iterator<Item = u64>) {
        if self.unknown.is_empty() && !queued.any(|id| id < self.direct_id) {
            self.settled_id = self.settled_id.max(self.direct_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: ErrorCode = ErrorCode::NotPermitted;

    fn new_ids(settled_id: u64) -> MessageIds {
        MessageIds::new(settled_id, RefusedIds::default())
    }

    fn refused(ids: &[u64]) -> RefusedIds {
        ids.iter().map(|id| (*id, CODE)).collect()
    }

    #[test]
    fn a_refused_id_is_reported_with_the_next_accepted_id_and_once() {
        let mut ids = new_ids(4);
        ids.record_refused(5, CODE);
        assert_eq!((ids.unreported_ids(), ids.refused_before(5)), (refused(&[5]), None));
        ids.settle_id(Some(6));
        ids.mark_reported();
        ids.record_refused(7, CODE);
        assert_eq!((ids.unreported_ids(), ids.refused_before(5)), (refused(&[7]), Some(CODE)));
        // A new mailbox version gets all of them: the store may have lost some.
        assert_eq!(*ids.refused_ids(), refused(&[5, 7]));
    }

    #[test]
    fn a_refused_id_that_is_accepted_later_is_not_reported() {
        let mut ids = new_ids(4);
        ids.record_refused(5, CODE);
        ids.settle_id(Some(5));
        ids.settle_id(Some(6));
        assert_eq!((ids.unreported_ids(), ids.refused_before(5)), (refused(&[]), None));
    }

    #[test]
    fn a_settled_id_cannot_be_refused() {
        let mut ids = new_ids(4);
        ids.record_refused(4, CODE);
        assert_eq!(ids.unreported_ids(), refused(&[]));
    }

    #[test]
    fn a_refused_id_before_a_direct_delivery_is_reported() {
        let mut ids = new_ids(4);
        ids.record_refused(5, CODE);
        ids.record_direct(6);
        ids.raise_settled_id(std::iter::empty());
        assert_eq!((ids.settled_id(), ids.unreported_ids()), (6, refused(&[5])));
    }

    #[test]
    fn the_ids_of_an_earlier_connection_are_known_and_reported() {
        let ids = MessageIds::new(6, refused(&[5]));
        assert_eq!((ids.refused_before(5), ids.refused_before(4)), (Some(CODE), None));
        assert_eq!(ids.unreported_ids(), refused(&[]));
    }

    /// The client does not send a refused id again, so it must not wait for it.
    #[test]
    fn a_final_refusal_ends_the_wait_for_an_unknown_id() {
        let mut ids = new_ids(4);
        ids.record_unknown(5, MessageTarget::Room);
        assert!(ids.is_blocked(6, None));
        ids.record_refused(5, CODE);
        assert!(!ids.is_blocked(6, None));
    }
}
