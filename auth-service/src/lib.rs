//! The auth service: who gets a token, whether a token is good, and what operators hear.
//!
//! - [`keys`]: what tokens are signed with, and what is published of it
//! - [`issuer`]: pure: who a caller is, what it may have, the token itself
//! - [`routes`]: `/auth/token`, `/auth/validate`, `/.well-known/jwks.json`, `/ws/events`; HTTP only
//! - [`AuthState`]: what the routes share, made once per process
//! - [`feed`]: the operators' events out of Redis
//! - [`webhooks`]: what happens in rooms, told over HTTP; [`usage`]: what was used; [`link`]: Redis for both
//! - [`store`]: Redis as a thing to be checked and asked
//! - [`app`]: the standalone process
//!
//! Must not: know a socket of a peer or the state of a room; the services meet in `shared::token`. It keeps nothing: a
//! token carries all it says. Next: [`routes`] from the top.

pub mod app;
pub mod feed;
pub mod issuer;
mod judge;
pub mod keys;
pub mod link;
mod metrics;
pub mod routes;
mod state;
pub mod store;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod webhooks;

pub use routes::configure;
pub use state::{AuthParts, AuthState};
