//! `/auth/…` and `/.well-known/jwks.json`: tokens are issued, exchanged, refreshed and validated.

pub mod credential_store;
pub(crate) mod exchange;
pub(crate) mod ice;
pub(crate) mod issue_time;
pub(crate) mod issuer;
pub(crate) mod jwks;
pub mod keys;
pub(crate) mod management_token;
pub(crate) mod providers;
pub(crate) mod refresh;
pub(crate) mod ticket;
pub(crate) mod token;
pub(crate) mod token_response;
pub(crate) mod token_service;
pub(crate) mod validate;
