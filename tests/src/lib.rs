//! The harness of the black-box tests: real processes on loopback ports, real sockets, real Redis.
//!
//! - [`cluster`]: a whole deployment, in one process or over Redis
//! - [`keyed_cluster`]: a deployment whose nodes hold only public keys
//! - [`peer`]: a client that follows the protocol, and how it resumes;
//!   [`raw_socket`]: a client that sends broken frames or does not read
//! - [`http`]: one request and its response, byte for byte; [`token`]: valid and broken tokens
//! - [`provider`]: an OpenID provider; [`provider_shape`]: tokens as known providers issue them;
//!   [`webhook_receiver`]: an HTTP server that receives webhooks
//! - [`protocol_client`]: the rules of a client that resumes; [`history`]: what clients saw;
//!   [`checker`]: whether that was correct
//! - [`swarm`]: many such clients at once; [`crowd`]: many peers that try every credential;
//!   [`fleet`], [`fleet_store`]: nodes and stores that can be killed, paused and disconnected
//! - [`handle_forge`]: resume handles that no node has issued
//! - [`proxy`]: breaks connections; [`rng`]: choices that a seed repeats
//! - [`process`], [`test_redis`], [`redis_monitor`], [`net`], [`socket`]: the basis of the above
//! - [`redis_sentinel`], [`redis_cluster`]: Redis deployments that survive the loss of a server;
//!   [`redis_kind`]: one deployment of each kind to test against
//! - [`redis_server`]: one server of a deployment; [`redis_security`]: TLS and ACL users
//! - [`test_pki`]: certificates; [`tls_front`]: TLS in front of another server
//!
//! Owns: starting, watching and ending processes by their own id; waiting for events with a
//! deadline. Must not: know the inside of a service, or sleep where it can wait for an event.

#![expect(clippy::expect_used, reason = "a harness fails by panicking")]

pub mod checker;
pub mod cluster;
pub mod crowd;
mod first_frame;
pub mod fleet;
pub mod fleet_store;
pub mod handle_forge;
pub mod history;
pub mod http;
pub mod keyed_cluster;
pub mod net;
pub mod peer;
pub mod process;
pub mod protocol_client;
pub mod provider;
pub mod provider_shape;
pub mod proxy;
pub mod raw_socket;
pub mod redis_cluster;
pub mod redis_kind;
pub mod redis_monitor;
pub mod redis_security;
pub mod redis_sentinel;
pub mod redis_server;
pub mod rng;
pub mod socket;
pub mod swarm;
mod swarm_client;
pub mod swarm_plan;
pub mod test_pki;
pub mod test_redis;
pub mod tls_front;
pub mod token;
pub mod webhook_receiver;

/// An offer that every scenario may send. No log may contain it.
pub const SDP: &str =
    "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n";

/// A candidate that every scenario may send. No log may contain it.
pub const CANDIDATE: &str =
    "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0";
