//! Tokens: where the services meet.
//!
//! Owns: the kinds there are ([`TokenKind`]), what each says ([`RoomClaims`], [`UserClaims`], [`ManagementClaims`]), how it is
//! checked ([`TokenVerifier`]), public keys ([`PublicJwk`]), what a good secret is ([`SharedSecret`]), secrets that say nothing ([`OpaqueToken`]),
//! tickets ([`MemoryTicketStore`]).
//! Must not: decide who gets one (`auth-service/src/auth/issuer`), or be able to make one.
//!
//! A verifier holds a list of keys, each with its `kid` and its one algorithm (RFC 8725, section 3.1).

mod claims;
mod header;
mod jwk;
mod opaque_token;
pub mod scope;
mod secret;
#[cfg(test)]
mod tests;
mod ticket;
mod token_error;
mod token_kind;
mod verifier;

pub use claims::{ISSUER, ManagementClaims, RoomClaims, UserClaims};
pub use jwk::{JWKS_PATH, JwksError, KeyAlgorithm, MAX_JWKS_BYTES, MAX_JWKS_KEYS, PublicJwk, parse_jwks};
pub use opaque_token::{OpaqueToken, OpaqueTokenKind};
pub use secret::{SecretBytes, SharedSecret, WeakSecret, count_distinct_bytes};
pub use ticket::{
    MemoryTicketStore, TICKET_LIFE, TicketRedemption, TooManyTickets, USED_TICKET_VALUE, parse_ticket_digest,
};
pub use token_error::TokenError;
pub use token_kind::{RegisteredClaims, TokenClaims, TokenKind};
pub use verifier::{TokenVerifier, VerificationKey};
