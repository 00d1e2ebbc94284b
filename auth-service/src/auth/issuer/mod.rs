//! The terms of a token: which caller may have which. Pure.
//!
//! Owns: the terms that a caller may have ([`GrantPolicy`]), the names of users, and the forms of
//! refresh tokens and invite codes. Must not: read a header, the store or a clock, or create the id of
//! a token; the caller passes them. Next: `auth/token_issuer.rs` signs.

mod grant_policy;
mod invite;
mod refresh_token;

pub(crate) use grant_policy::{GrantPolicy, RoomTokenTerms, TokenRequest, UserTokenTerms};
pub(crate) use invite::{InviteCode, InviteTerms};
pub(crate) use refresh_token::{
    REFRESH_REPEAT_MS, RenewableTerms, derive_successor, family_id, keyed_digest, new_salt,
};
