//! `/auth/…` and `/.well-known/jwks.json`: tokens are issued, exchanged, refreshed and validated.
//!
//! - `token`, `invite_token`, `refresh`, `exchange`, `management_token`, `ticket`, `validate`,
//!   `ice`, `jwks`: a route each
//! - `token_issuer`: from the terms of a token to the response, for all routes
//! - `issuer`: pure: the terms that a caller may have, and the forms of invites and refresh tokens
//! - `keys`: the signing keys; `providers`: the tokens of identity providers
//! - `credential_store`: refresh families, tickets and invites
//! - `token_service`: the objects that the routes share
//!
//! Must not: know a management route. Next: `token`.

pub mod credential_store;
pub(crate) mod exchange;
pub(crate) mod ice;
pub(crate) mod invite_token;
pub(crate) mod issuer;
pub(crate) mod jwks;
pub mod keys;
pub(crate) mod management_token;
pub(crate) mod providers;
pub(crate) mod refresh;
pub(crate) mod ticket;
pub(crate) mod token;
pub(crate) mod token_issuer;
pub(crate) mod token_service;
pub(crate) mod validate;

use actix_web::web::{get, post};
use signalbox_token::JWKS_PATH;

use crate::context::api_path::ApiPath;

/// The paths of this area.
pub(crate) fn paths() -> Vec<ApiPath> {
    vec![
        ApiPath::new("/auth/token", "POST", [post().to(token::post)]),
        ApiPath::new("/auth/validate", "GET, POST", [get().to(validate::get), post().to(validate::post)]),
        ApiPath::new("/auth/refresh", "POST", [post().to(refresh::post)]),
        ApiPath::new("/auth/exchange", "POST", [post().to(exchange::post)]),
        ApiPath::new("/auth/ticket", "POST", [post().to(ticket::post)]),
        ApiPath::new("/auth/ice", "GET", [get().to(ice::get)]),
        ApiPath::new("/auth/management", "POST", [post().to(management_token::post)]),
        ApiPath::new(JWKS_PATH, "GET", [get().to(jwks::get)]),
    ]
}
