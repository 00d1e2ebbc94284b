//! What the services of Signalbox have in common: names, the wire, tokens, configuration, telemetry, Redis keys.
//!
//! - [`id`]: rooms, users, roles, peers, nodes
//! - [`protocol`]: `signalbox.v1`, the messages and their codes
//! - [`token`]: what a token says and how it is checked
//! - [`turn`]: ICE servers and TURN credentials for clients
//! - [`config`]: every setting, its default and its check
//! - [`scope`]: what a backend may be allowed
//! - [`problem`]: errors over HTTP (RFC 9457)
//! - [`origin`]: which browsers may talk to us
//! - [`address`]: ranges of addresses
//! - [`feed`]: what operators hear about rooms
//! - [`keys`]: every Redis key
//! - [`usage`]: joins and peer-minutes by API key and room
//! - [`telemetry`]: logs, and what never goes into one
//!
//! Nothing here knows actix: the services turn these into HTTP.

pub mod address;
pub mod clock;
pub mod config;
pub mod feed;
pub mod id;
pub mod keys;
pub mod origin;
pub mod problem;
pub mod protocol;
pub mod scope;
pub mod telemetry;
pub mod text;
pub mod token;
pub mod turn;
pub mod usage;
