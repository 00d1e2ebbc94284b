//! Rooms: their rules, and the store that all processes share.
//!
//! - [`room_service`]: what the HTTP API needs of rooms
//! - [`commit_loop`]: decide, commit, decide again after a conflict, resolve an unknown outcome
//! - [`commit_builder`]: from a decision to a commit: the events for peers and for the feed
//! - [`removal`]: the peers that must not return after a commit
//! - [`store`]: the contract, and two stores that keep it: the memory of one process, and Redis
//! - [`room`]: the rules, pure: `decide(state, now, inputs)`
//! - [`feed`], [`usage`]: events for operators, and joins and minutes for each API key
//! - [`timeline`]: the steps of two peers toward each other
//!
//! Owns: every change of a room, requested by a connection of a node or by the API. Must not: know
//! a connection, HTTP or a token. Imports point one way: `room_service` → `commit_loop` →
//! `commit_builder`, `removal` → `store` → `room`.

pub mod commit_builder;
pub mod commit_loop;
pub mod feed;
pub mod removal;
pub mod room;
pub mod room_service;
pub mod store;
pub mod timeline;
pub mod usage;
