//! The auth service: tokens for peers, and the management API for applications.
//!
//! In reading order:
//! - [`app`]: the process of its own; `state`: the service of one process; `router`: its paths
//! - `context`: for both areas: principals, authorization, the access check, the guard of each path
//! - `auth`: `/auth/…` and `/.well-known/jwks.json`: tokens are issued, exchanged, refreshed and
//!   validated
//! - `management`: `/api/…` and `/ws/events`: rooms, access rules, usage, webhooks, the event feed
//! - `openapi`: `/api/openapi.json`
//!
//! Imports go upwards in this list: `auth` knows `context`, `management` knows both, and neither
//! knows the router. Must not: know the socket of a peer, or decide how a room changes
//! (`signalbox_rooms`). A token carries all its claims; the service stores only refresh families,
//! tickets and invites. Next: `auth/token.rs`, the way of a token.

pub mod app;
mod auth;
mod context;
mod management;
mod openapi;
mod router;
mod state;
#[cfg(test)]
mod tests;

pub use auth::{credential_store, keys, providers::ProvidersError};
pub use context::store_memory;
pub use management::{feed_subscription, usage_reader, webhooks};
pub use router::configure;
pub use state::{AuthParts, AuthState, AuthStateError};
