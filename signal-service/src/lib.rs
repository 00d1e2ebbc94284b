//! The signaling service: the WebSockets of peers, and the part of this node in their rooms.
//!
//! In reading order:
//! - [`connection`]: one WebSocket, from the upgrade request to its last byte
//! - [`registry`]: the rooms and peers of this node; it appends messages and delivers entries
//! - [`admission`]: the checks of a new connection; [`token_keys`], `ticket_store`,
//!   [`resume_handle`], [`room_token`]: its credentials
//! - [`node`]: puts the parts together; [`node_context`]: the parts that every room of it uses
//! - `maintenance`, `access_enforcer`, [`usage_meter`], [`timeline_writer`]: the tasks of a node
//! - [`app`], [`drain`]: the HTTP routes, and the stop of a node
//!
//! Imports point one way: `main` → `app`, `drain` → `connection` → `node` → the tasks →
//! `admission` → `registry` → `node_context` → values such as [`effective_limits`],
//! [`connection_subject`], [`peer_rate`], `peer_permissions`, [`payload_filter`] → `signalbox_rooms`.

mod access_enforcer;
pub mod admission;
pub mod app;
pub mod connection;
pub mod connection_subject;
pub mod drain;
pub mod effective_limits;
mod maintenance;
pub mod node;
pub mod node_context;
pub mod node_metrics;
pub mod payload_filter;
mod peer_permissions;
pub mod peer_rate;
pub mod registry;
pub mod resume_handle;
pub mod room_token;
mod socket_budget;
mod ticket_store;
pub mod timeline_writer;
pub mod token_keys;
pub mod usage_meter;
