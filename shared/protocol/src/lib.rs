//! The wire, `signalbox.v1`: what docs/PROTOCOL.md says, as types.
//!
//! Owns: parsing what clients send, the shape of what they get, the stable codes. Must not: decide anything about
//! rooms. Next: `signal-service/src/connection` reads and writes these.

mod client;
pub mod clock;
mod close;
mod error;
pub mod feed;
pub mod id;
mod json;
pub mod problem;
#[cfg(test)]
mod schema;
mod server;
pub mod text;

pub use client::{Bounds, Broken, ClientMessage, Command, Forward, ForwardKind};
pub use close::CloseCode;
pub use error::ErrorCode;
pub use json::object_within;
pub use server::{
    Described, E2ee, IcePolicy, IceServer, Joined, KnockEnd, Knocker, LeftReason, PeerEntry, RoomInfo,
    ServerMessage, Waiting, WireLimits,
};

/// The subprotocol, the only one that is echoed.
pub const SUBPROTOCOL: &str = "signalbox.v1";

/// The longest text that is looked at: a token with full metadata is under 8 KiB.
pub const MAX_TOKEN_BYTES: usize = 12 * 1024;

/// The largest number that JSON carries exactly everywhere (RFC 8259, section 6).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
