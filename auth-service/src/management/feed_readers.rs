//! The places of the event feed: how many readers there may be, and of one API key.
//!
//! Owns: the counts. A key cannot take the places of the other keys, and the keys that are limited
//! to some rooms leave places for the operator. Must not: serve a reader (`event_feed.rs` does).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use signalbox_protocol::{id::CallerId, problem::Problem};
use tokio::sync::watch;

/// The most readers of the event feed at a time.
const MAX_FEED_READERS: usize = 64;

/// The most readers of API keys that are limited to some rooms.
const MAX_LIMITED_READERS: usize = 48;

/// The numbers of readers.
#[derive(Debug, Default)]
pub(crate) struct ReaderCounts {
    pub(crate) total: usize,
    limited: usize,
    by_key: HashMap<CallerId, usize>,
}

/// The places of the feed. One for each process.
pub(crate) struct FeedReaders {
    pub(crate) counts: watch::Sender<ReaderCounts>,
    max_per_key: AtomicUsize,
}

/// The place of one reader. A drop returns it.
pub(crate) struct FeedPlace {
    readers: Arc<FeedReaders>,
    key: CallerId,
    is_limited: bool,
}

impl FeedReaders {
    pub(crate) fn new(max_per_key: usize) -> Arc<Self> {
        Arc::new(Self {
            counts: watch::Sender::new(ReaderCounts::default()),
            max_per_key: max_per_key.into(),
        })
    }

    /// Changes the readers of one key; open ones stay.
    pub(crate) fn set_max_per_key(&self, max_per_key: usize) {
        self.max_per_key.store(max_per_key, Ordering::Relaxed);
    }

    /// Takes a place.
    ///
    /// # Errors
    /// 409 `feed_limit`: the key has its most readers. 503 `overloaded`: there is no place.
    pub(crate) fn take_place(
        self: &Arc<Self>,
        key: &CallerId,
        is_limited: bool,
    ) -> Result<FeedPlace, Problem> {
        let mut taken = Ok(());
        self.counts.send_if_modified(|counts| {
            taken = counts.add_reader(key, is_limited, self.max_per_key.load(Ordering::Relaxed));
            taken.is_ok()
        });
        taken.map(|()| FeedPlace { readers: self.clone(), key: key.clone(), is_limited })
    }
}

impl ReaderCounts {
    fn add_reader(&mut self, key: &CallerId, is_limited: bool, max_per_key: usize) -> Result<(), Problem> {
        let of_key = self.by_key.get(key).copied().unwrap_or_default();
        if of_key >= max_per_key {
            let detail = format!("this API key has {max_per_key} readers of the feed, the most there may be");
            return Err(Problem::new(409, "feed_limit", detail));
        }
        if self.total >= MAX_FEED_READERS || is_limited && self.limited >= MAX_LIMITED_READERS {
            return Err(Problem::new(503, "overloaded", "too many readers of the feed"));
        }
        self.total += 1;
        self.limited += usize::from(is_limited);
        self.by_key.insert(key.clone(), of_key + 1);
        Ok(())
    }

    fn remove_reader(&mut self, key: &CallerId, is_limited: bool) {
        self.total -= 1;
        self.limited -= usize::from(is_limited);
        if let Some(of_key) = self.by_key.get_mut(key) {
            *of_key -= 1;
        }
        self.by_key.retain(|_, of_key| *of_key > 0);
    }
}

impl Drop for FeedPlace {
    fn drop(&mut self) {
        self.readers.counts.send_modify(|counts| counts.remove_reader(&self.key, self.is_limited));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limited_keys_leave_places_for_the_others() {
        let readers = FeedReaders::new(16);
        let key = |name: &str| CallerId::parse(name).unwrap();
        let mut places: Vec<FeedPlace> =
            (0..16).map(|_| readers.take_place(&key("acme"), true).unwrap()).collect();
        let code = |name: &str, is_limited| readers.take_place(&key(name), is_limited).err().map(|p| p.code);
        assert_eq!(code("acme", true), Some("feed_limit"));
        for name in ["b", "c"] {
            places.extend((0..16).map(|_| readers.take_place(&key(name), true).unwrap()));
        }
        assert_eq!((code("d", true), code("operator", false)), (Some("overloaded"), None));
        places.extend((0..16).map(|_| readers.take_place(&key("operator"), false).unwrap()));
        assert_eq!(code("other", false), Some("overloaded"));
        drop(places);
        let counts = readers.counts.borrow();
        assert_eq!((counts.total, counts.limited, counts.by_key.len()), (0, 0, 0));
    }
}
