//! Tokens: where the services meet.
//!
//! Owns: what a token says ([`RoomClaims`]), how it is checked ([`Verifier`]), what a good secret is ([`SharedSecret`]).
//! Must not: decide who gets one (`auth-service/src/issuer`).
//!
//! A verifier holds a list of keys, each with its `kid` and its one algorithm (RFC 8725, section 3.1); asymmetric keys
//! will be further entries of that list.

mod claims;
mod secret;
mod verify;

pub use claims::{AUDIENCE_SIGNAL, ISSUER, ROOM_TYP, RoomClaims};
pub use secret::{Secret, SharedSecret, WeakSecret};
pub use verify::{TokenError, Verifier};
