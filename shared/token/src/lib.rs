//! Tokens: where the services meet.
//!
//! Owns: the kinds there are ([`TokenKind`]), what each says ([`RoomClaims`], [`UserClaims`], [`ManagementClaims`]), how it is
//! checked ([`Verifier`]), public keys ([`PublicJwk`]), what a good secret is ([`SharedSecret`]), secrets that say nothing ([`Opaque`]),
//! tickets ([`TicketShelf`]).
//! Must not: decide who gets one (`auth-service/src/issuer`), or be able to make one.
//!
//! A verifier holds a list of keys, each with its `kid` and its one algorithm (RFC 8725, section 3.1).

mod claims;
mod error;
mod header;
mod jwk;
mod kind;
mod opaque;
pub mod scope;
mod secret;
#[cfg(test)]
mod tests;
mod ticket;
mod verify;

pub use claims::{ISSUER, ManagementClaims, RoomClaims, UserClaims};
pub use error::TokenError;
pub use jwk::{BadJwks, JWKS_PATH, KeyAlgorithm, MAX_JWKS_BYTES, MAX_JWKS_KEYS, PublicJwk, parse_jwks};
pub use kind::{Claims, Registered, TokenKind};
pub use opaque::{Opaque, OpaqueKind};
pub use secret::{Secret, SharedSecret, WeakSecret};
pub use ticket::{Redeemed, TICKET_LIFE, TICKET_USED, TicketShelf, TooManyTickets, ticket_digest};
pub use verify::{Verifier, VerifyKey};
