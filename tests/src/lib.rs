//! The black-box tests' harness: real processes on loopback ports, real sockets, real Redis.
//!
//! - [`cluster`]: a whole deployment, in one process or over Redis
//! - [`keyed`]: one whose nodes hold public keys only
//! - [`peer`]: a well-behaved client; [`ticket`]: how it comes back; [`raw`]: one that breaks frames or does not read
//! - [`http`]: one request, one answer, byte for byte; [`token`]: tokens, good and broken
//! - [`idp`]: an OpenID provider
//! - [`client`]: the rules of a client that comes back; [`history`], [`checker`]: what clients saw, and whether it was right
//! - [`swarm`]: many such clients at once; [`fleet`], [`backend`]: nodes and stores that can be killed, stopped and cut off
//! - [`proxy`]: breaks connections; [`rng`]: choices that a seed repeats
//! - [`process`], [`redis`], [`monitor`], [`net`], [`socket`]: what those stand on
//! - [`redis_sentinel`], [`redis_cluster`]: the deployments of Redis that survive a server; [`redis_kinds`]: one of each kind to test against
//! - [`redis_node`], [`redis_guard`]: one server of them; TLS and users
//!
//! Owns: starting, watching and ending processes by their own id; waiting for events with a deadline. Must not: know the
//! inside of a service, or use a pause where an event can be waited for.

#![expect(clippy::expect_used, reason = "a harness fails by panicking")]

pub mod backend;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod crowd;
pub mod fleet;
pub mod history;
pub mod hook;
pub mod http;
pub mod idp;
pub mod keyed;
pub mod monitor;
pub mod net;
pub mod peer;
pub mod process;
pub mod proxy;
mod proxy_frame;
pub mod raw;
pub mod redis;
pub mod redis_cluster;
pub mod redis_guard;
pub mod redis_kinds;
pub mod redis_node;
pub mod redis_sentinel;
pub mod rng;
pub mod socket;
pub mod swarm;
mod swarm_member;
pub mod ticket;
pub mod token;

/// An offer that every scenario may send; no log may hold it.
pub const SDP: &str =
    "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n";

/// A candidate that every scenario may send; no log may hold it.
pub const CANDIDATE: &str =
    "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0";
