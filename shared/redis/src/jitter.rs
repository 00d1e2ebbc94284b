//! Random waiting times.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// A random time between half of `longest` and all of it, so that nodes that lost the same server
/// do not reconnect at the same moment.
pub(crate) fn with_jitter(longest: Duration) -> Duration {
    // The keys of a `RandomState` are random enough for this, and need no crate.
    let random = RandomState::new().hash_one(()) as u32;
    longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
