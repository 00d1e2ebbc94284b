//! The signaling service: rooms, mailboxes and the WebSockets of peers.
//!
//! Imports point one way: `main` → [`app`] → `routes`, [`connection`] → [`node`] → [`door`], `keeper`, [`keys`], [`registry`] → [`store`] → [`room`].
//! An offer's way: `connection::session` reads a frame, `connection::requests` puts it in order, `registry::forward` appends it, `store`
//! writes it to the target's mailbox, `registry::peer` hands it to the target's socket.

pub mod app;
pub mod connection;
pub mod door;
mod drain;
pub mod handle;
mod keeper;
pub mod keys;
pub mod metrics;
pub mod node;
pub mod registry;
pub mod room;
mod routes;
pub mod store;
