//! The wire protocol `signalbox.v1` (docs/PROTOCOL.md) as types.
//!
//! Owns: the parser of client messages, the shape of server messages, and the stable codes. Must
//! not: decide anything about rooms. Next: `signal-service/src/connection` reads and writes these
//! messages.

mod client;
pub mod clock;
mod close_code;
mod credential_root;
pub mod display_text;
mod error_code;
pub mod feed;
pub mod file_text;
pub mod id;
mod json_bounds;
mod pair_outcome;
pub mod problem;
#[cfg(test)]
mod schema;
mod server;

pub use client::{ClientMessage, ForwardKind, ForwardMessage, MessageError, MessageLimits, RoomCommand};
pub use close_code::CloseCode;
pub use credential_root::{CredentialRoot, InvalidRoot, MAX_ISSUER_BYTES, is_issuer};
pub use error_code::ErrorCode;
pub use json_bounds::{MAX_SAFE_INTEGER, MAX_TOKEN_BYTES, is_bounded_object};
pub use pair_outcome::{FailureCode, MAX_OUTCOME_MS, PairOutcome, PairResult, PairStep, PathProtocol};
pub use server::{
    DescriptionMessage, E2eeMode, IcePolicy, IceServer, JoinedMessage, KnockEndReason, LeaveReason,
    LobbyPeer, PeerInfo, RefusedId, RoomInfo, ServerMessage, UserSource, WaitingMessage, WireLimits,
};

/// The WebSocket subprotocol (RFC 6455, section 1.9). The server accepts no other.
pub const SUBPROTOCOL: &str = "signalbox.v1";
