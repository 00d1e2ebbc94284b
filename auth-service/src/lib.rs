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

mod access_check;
pub mod app;
pub mod credential_store;
pub mod exchange;
pub mod feed;
pub mod issuer;
pub mod keys;
mod metrics;
pub mod routes;
mod state;
#[cfg(test)]
mod tests;
pub mod usage_reader;
pub mod webhooks;

pub use routes::configure;
pub use state::{AuthParts, AuthState, AuthStateError};
