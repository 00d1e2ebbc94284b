//! The signaling service: the WebSockets of peers, and this node's part in their rooms.
//!
//! Imports point one way: `main` → [`app`] → `routes`, [`connection`] → [`node`] → [`door`], `keeper`, `sweep`, [`keys`], [`standing`], [`registry`] → `signalbox_rooms`.
//! An offer's way: `connection::session` reads a frame, `connection::requests` puts it in order, `registry::forward` appends it, the store
//! writes it to the target's mailbox, `registry::peer` hands it to the target's socket.

mod access_enforcer;
pub mod admission;
pub mod app;
pub mod connection;
pub mod connection_subject;
mod drain;
pub mod effective_limits;
mod maintenance;
pub mod node;
pub mod node_context;
pub mod node_metrics;
pub mod payload_filter;
mod peer_permissions;
pub mod registry;
pub mod resume_handle;
mod ticket_store;
pub mod token_keys;
pub mod usage_meter;
