//! The signaling service: the WebSockets of peers, and this node's part in their rooms.
//!
//! Imports point one way: `main` → [`app`] → `routes`, [`connection`] → [`node`] → [`door`], `keeper`, `sweep`, [`keys`], [`standing`], [`registry`] → `signalbox_rooms`.
//! An offer's way: `connection::session` reads a frame, `connection::requests` puts it in order, `registry::forward` appends it, the store
//! writes it to the target's mailbox, `registry::peer` hands it to the target's socket.

pub mod app;
pub mod connection;
pub mod door;
mod drain;
pub mod handle;
mod keeper;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod node;
pub mod registry;
mod routes;
pub mod rules;
pub mod standing;
mod sweep;
mod tickets;
pub mod usage;
