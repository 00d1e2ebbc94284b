//! Tokens, from the wish to the text.
//!
//! Owns: who a caller is ([`Caller`], [`Backends`]), what it may have ([`Policy`]), the signed token ([`Minter`]), what refresh tokens and
//! invite codes are made of ([`Renewable`], [`InviteCode`]).
//! Must not: know HTTP or the store, read a clock or make an id of a token; those are handed in. Next: `routes/token.rs` calls them in order.

mod caller;
mod invite;
mod mint;
mod policy;
mod renewal;
pub mod wish;

pub use caller::{Backend, Backends, Caller, credentials, unknown};
pub use invite::{InviteCode, InviteTerms};
pub use mint::{Minter, Moment, SKEW_S};
pub use policy::{Grant, Policy, UserGrant};
pub use renewal::{GRACE_MS, Renewable, family_of, new_salt, successor};
pub use wish::Wish;
