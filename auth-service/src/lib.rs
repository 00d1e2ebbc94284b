//! The auth service: who gets a token, whether a token is good, and what operators hear.
//!
//! - [`keys`]: what tokens are signed with, and what is published of it
//! - [`issuer`]: pure: who a caller is, what it may have, the token itself
//! - [`routes`]: `/auth/…`, `/api/…`, `/.well-known/jwks.json`, `/ws/events`; HTTP only
//! - [`exchange`]: whose tokens about users are believed
//! - `judge`: what was taken back, asked at each issue
//! - [`AuthState`]: what the routes share, made once per process
//! - [`feed`]: the operators' events out of Redis
//! - [`webhooks`]: what happens in rooms, told over HTTP; [`usage`]: what was used; [`link`]: Redis for both
//! - [`store`]: refresh tokens, tickets and invites, in Redis or in the process
//! - [`app`]: the standalone process
//!
//! Must not: know a socket of a peer or the state of a room; the services meet in `shared::token`. It keeps only what must be
//! remembered ([`store`]): a token carries all it says. Next: [`routes`] from the top.

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
pub use management::{feed_subscription, redis_client, usage_reader, webhooks};
pub use router::configure;
pub use state::{AuthParts, AuthState, AuthStateError};
