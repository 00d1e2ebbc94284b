//! Rooms: their rules, and the store that all processes share.
//!
//! - [`room`]: the rules, pure: `decide(state, now, inputs)`
//! - [`store`]: the contract, and two stores that keep it: one process's memory, and Redis
//! - [`announce`]: from a decision to a commit: what the others hear
//! - [`clerk`]: changing a room without a socket in it
//! - [`taken_back`]: who must not come back after a commit
//!
//! Owns: every change of a room, whoever asks for it: a node for its sockets, the auth service for its API. Must not: know a socket,
//! HTTP or a token. Imports point one way: `clerk` → `announce`, `taken_back` → `store` → `room`.

pub mod commit_builder;
pub mod feed;
pub mod removal;
pub mod room;
pub mod room_service;
pub mod store;
pub mod usage;
