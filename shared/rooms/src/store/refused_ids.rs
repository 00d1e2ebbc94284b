//! The refused message ids of one peer.
//!
//! Owns: the bound of the list, and its text in Redis. Must not: decide whether an id is refused.

use std::fmt::Write as _;

use signalbox_protocol::{ErrorCode, RefusedId};

/// Message ids of one peer that were refused, with the code of each answer: the highest
/// [`RefusedIds::MAX`] of them, in order.
///
/// An answer may be lost with its connection. `last_id` then counts every id up to it as accepted, so
/// the store keeps the refused ids below `last_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedIds(Vec<RefusedId>);

impl RefusedIds {
    /// The number of ids that are kept: as many as a client of ours has without an answer.
    pub const MAX: usize = 64;

    /// Adds an id. Beyond the bound the lowest id is dropped.
    pub fn insert(&mut self, id: u64, code: ErrorCode) {
        match self.find(id) {
            Ok(at) => self.0[at].code = code,
            Err(0) if self.0.len() == Self::MAX => {}
            Err(at) => {
                self.0.insert(at, RefusedId { id, code });
                if self.0.len() > Self::MAX {
                    self.0.remove(0);
                }
            }
        }
    }

    /// Removes an id, which was accepted after all.
    pub fn remove(&mut self, id: u64) {
        if let Ok(at) = self.find(id) {
            self.0.remove(at);
        }
    }

    /// The code with which an id was refused.
    pub fn code_of(&self, id: u64) -> Option<ErrorCode> {
        self.find(id).ok().map(|at| self.0[at].code)
    }

    /// The ids above `id`.
    pub fn above(&self, id: u64) -> Self {
        Self(self.0[self.0.partition_point(|refused| refused.id <= id)..].to_vec())
    }

    /// The ids below `id`.
    pub fn below(&self, id: u64) -> Self {
        Self(self.0[..self.0.partition_point(|refused| refused.id < id)].to_vec())
    }

    /// Adds all ids of another list.
    pub fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|refused| self.insert(refused.id, refused.code));
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids, for a first frame.
    pub fn into_vec(self) -> Vec<RefusedId> {
        self.0
    }

    /// The text in Redis: `5 peer_backlogged 9 not_permitted`.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for RefusedId { id, code } in &self.0 {
            // A write to a string cannot fail.
            let _ = write!(text, "{id} {} ", code.as_str());
        }
        text
    }

    /// Reads [`RefusedIds::to_text`]. A code of a later release counts as a fault of the server: the
    /// message was not sent.
    pub(super) fn from_text(text: &str) -> Self {
        let mut words = text.split_ascii_whitespace();
        let mut refused = Self::default();
        while let (Some(id), Some(code)) = (words.next(), words.next()) {
            if let Ok(id) = id.parse() {
                refused.insert(id, ErrorCode::parse(code).unwrap_or(ErrorCode::Internal));
            }
        }
        refused
    }

    fn find(&self, id: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |refused| refused.id)
    }
}

impl FromIterator<(u64, ErrorCode)> for RefusedIds {
    fn from_iter<T: IntoIterator<Item = (u64, ErrorCode)>>(ids: T) -> Self {
        let mut refused = Self::default();
        ids.into_iter().for_each(|(id, code)| refused.insert(id, code));
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_ids_are_kept_in_order() {
        let max = RefusedIds::MAX as u64;
        let ids = (2..=2 * max).rev().chain([1]).map(|id| (id, ErrorCode::NoSuchPeer));
        let kept: Vec<u64> =
            ids.collect::<RefusedIds>().into_vec().iter().map(|refused| refused.id).collect();
        assert_eq!(kept, (max + 1..=2 * max).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_survives_its_text() {
        let codes = ErrorCode::ALL.into_iter().zip(1..).map(|(code, id)| (id, code));
        let refused: RefusedIds = codes.collect();
        assert_eq!(RefusedIds::from_text(&refused.to_text()), refused);
        let later = RefusedIds::from_text("5 code_of_a_later_release");
        assert_eq!(later.code_of(5), Some(ErrorCode::Internal));
    }

    #[test]
    fn ranges_exclude_their_bound() {
        let refused: RefusedIds = (1..=3).map(|id| (id, ErrorCode::NoSuchPeer)).collect();
        assert_eq!(refused.above(1).below(3).into_vec(), [RefusedId { id: 2, code: ErrorCode::NoSuchPeer }]);
    }
}
