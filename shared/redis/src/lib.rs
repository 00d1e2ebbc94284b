//! Redis as both services use it: one server, a master behind Sentinels, or a Cluster, over TCP, TLS or a socket.
//!
//! - [`Target`]: where the URL points, and one connection to one server
//! - [`StartError`]: what an operator is told; `server`: what a server must be
//! - [`Topology`]: which server is the master of which slot, kept up to date; [`Map`]: one state of it; `find`: how it is found out
//! - [`Link`]: commands and scripts, one multiplexed connection per shard, every outcome handled in one place
//! - [`Subscriber`]: sharded topics, on connections of their own, proven live
//!
//! Owns: connections, redirections, deadlines. Must not: know a key or a script (the caller brings them), or send anything twice
//! whose outcome is unknown. docs/decisions/0004 says why the driver's own Cluster and Sentinel clients are not used.

mod error;
mod find;
pub mod keys;
mod link;
mod map;
mod outcome;
mod server;
mod shard;
mod subscriber;
mod subscription;
mod target;
mod thread;
mod topology;

pub use error::{StartError, Unavailable};
pub use link::Link;
pub use map::{Map, key_slot, slot_of};
pub use server::{is_master, judge};
pub use subscriber::{Listener, Proof, Subscriber};
pub use target::{Address, Target};
pub use topology::Topology;

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// A random time between half of `longest` and all of it, so that nodes that lost the same server do not come back in step.
fn jittered(longest: Duration) -> Duration {
    // The keys of a `RandomState` are random enough for this, and need no crate.
    let random = RandomState::new().hash_one(()) as u32;
    longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
