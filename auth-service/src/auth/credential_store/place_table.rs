//! The places that the records of each caller take, in memory: as `lua/take_place.lua`.
//!
//! Owns: the lists of records, by the name that a list has in Redis. Must not: know what a record is.

use std::collections::{BTreeSet, HashMap};

/// The records of one root, user or API key, by the end of their retention, ms since 1970.
#[derive(Default)]
struct PlaceList {
    ends: HashMap<String, u64>,
    by_end: BTreeSet<(u64, String)>,
}

/// A list in which a record takes a place, and the most records in it.
pub(super) type ListShare<'a> = (&'a str, usize);

/// See the module.
#[derive(Default)]
pub(super) struct PlaceTable(HashMap<String, PlaceList>);

impl PlaceList {
    fn set_end(&mut self, record: &str, ends_ms: u64) {
        self.remove(record);
        self.ends.insert(record.to_owned(), ends_ms);
        self.by_end.insert((ends_ms, record.to_owned()));
    }

    fn remove(&mut self, record: &str) {
        if let Some(ends_ms) = self.ends.remove(record) {
            self.by_end.remove(&(ends_ms, record.to_owned()));
        }
    }
}

impl PlaceTable {
    /// The records of a list whose retention has ended. They keep their places until they are
    /// released.
    pub(super) fn expired(&self, list: &str, now_ms: u64) -> Vec<String> {
        let records = self.0.get(list).into_iter().flat_map(|list| &list.by_end);
        records.take_while(|(ends_ms, _)| *ends_ms <= now_ms).map(|(_, record)| record.clone()).collect()
    }

    /// Takes a place in the list of a root or API key, and in that of a user if there is one. Returns
    /// the records of the user that the new record replaces: those that would expire first, beyond the
    /// share of the user. Returns `None` if the first list has no place.
    pub(super) fn take_place(
        &mut self,
        record: &str,
        ends_ms: u64,
        (caller_list, max_of_caller): ListShare<'_>,
        user_share: Option<ListShare<'_>>,
    ) -> Option<Vec<String>> {
        let mut replaced = Vec::new();
        if let Some((user_list, max_of_user)) = user_share {
            let held = self.0.get(user_list).map(|list| &list.by_end).into_iter().flatten();
            let excess = (held.clone().count() + 1).saturating_sub(max_of_user);
            replaced = held.take(excess).map(|(_, record)| record.clone()).collect();
        }
        let count = self.0.get(caller_list).map_or(0, |list| list.ends.len());
        if replaced.is_empty() && count >= max_of_caller {
            return None;
        }
        let lists = [Some(caller_list), user_share.map(|(list, _)| list)];
        for list in lists.into_iter().flatten() {
            let list = self.0.entry(list.to_owned()).or_default();
            replaced.iter().for_each(|record| list.remove(record));
            list.set_end(record, ends_ms);
        }
        Some(replaced)
    }

    /// Moves the end of a record that has a place.
    pub(super) fn extend(&mut self, lists: &[String], record: &str, ends_ms: u64) {
        for list in lists {
            if let Some(list) = self.0.get_mut(list).filter(|list| list.ends.contains_key(record)) {
                list.set_end(record, ends_ms);
            }
        }
    }

    /// Frees the place of a record.
    pub(super) fn release(&mut self, list: &str, record: &str) {
        if let Some(places) = self.0.get_mut(list) {
            places.remove(record);
            if places.ends.is_empty() {
                self.0.remove(list);
            }
        }
    }
}
