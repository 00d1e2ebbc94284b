//! Tokens, which `auth-service` issues and both services verify.
//!
//! Owns: the kinds ([`TokenKind`]), the claims of each ([`RoomClaims`], [`UserClaims`],
//! [`ManagementClaims`]), their verification ([`TokenVerifier`]), public keys ([`PublicJwk`]), the
//! rules for a secret ([`SharedSecret`]), opaque tokens ([`OpaqueToken`]), and tickets
//! ([`MemoryTicketStore`]). Must not: issue a token, or decide which caller receives one. Next:
//! `verifier` for the checks of a token, `auth-service` for its issue.

mod claims;
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
pub use jwk::{JWKS_PATH, JwksError, MAX_JWKS_BYTES, MAX_JWKS_KEYS, PublicJwk, parse_jwks};
pub use opaque_token::{OpaqueToken, OpaqueTokenKind};
pub use secret::{
    MIN_API_KEY_BYTES, SecretBytes, SharedSecret, WeakSecret, check_secret_digest, check_secret_strength,
};
pub use ticket::{
    MemoryTicketStore, TICKET_LIFE, TicketHolder, TicketRedemption, USED_TICKET_VALUE, parse_ticket_digest,
};
pub use token_error::TokenError;
pub use token_kind::TokenKind;
pub use verifier::{
    KeyAlgorithm, RegisteredClaims, TokenClaims, TokenVerifier, VerificationKey, signed_statement,
};
