//! Tokens, from the wish to the text.
//!
//! Owns: who a caller is ([`Principal`], [`ApplicationDirectory`]), what it may have ([`GrantPolicy`]), the signed token ([`TokenMinter`]), what refresh tokens and
//! invite codes are made of ([`RenewableTerms`], [`InviteCode`]).
//! Must not: know HTTP or the store, read a clock or make an id of a token; those are handed in. Next: `routes/token.rs` calls them in order.

mod grant_policy;
mod invite;
mod refresh_token;

pub(crate) use grant_policy::{GrantPolicy, RoomTokenTerms, TokenRequest, UserTokenTerms};
pub(crate) use invite::{InviteCode, InviteTerms};
pub(crate) use refresh_token::{REFRESH_REPEAT_MS, RenewableTerms, derive_successor, family_id, new_salt};
