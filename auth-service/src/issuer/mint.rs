//! The signed token.

use std::sync::Arc;

use signalbox_shared::{
    id::TokenId,
    token::{Claims, ISSUER, RoomClaims, TokenKind},
};

use super::Grant;
use crate::keys::SigningKeys;

/// How long before its making a token is good already, seconds: the clocks of two machines differ.
pub const SKEW_S: u64 = 10;

/// Makes tokens, signed with whatever key signs at the moment.
pub struct Minter {
    keys: Arc<SigningKeys>,
}

impl Minter {
    /// A minter with these keys.
    pub fn new(keys: Arc<SigningKeys>) -> Self {
        Self { keys }
    }

    /// The token of a grant, made at `now_s` (seconds since 1970), with `jti` as its own name. `issued_s` is what it says of that moment: by
    /// the clock of the rules, which may take back what was issued before them.
    ///
    /// # Errors
    /// Only a fault of the library; there is nothing a caller could send to cause it.
    pub fn mint(
        &self,
        grant: Grant,
        now_s: u64,
        issued_s: u64,
        jti: TokenId,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign(&RoomClaims {
            iss: ISSUER.to_owned(),
            aud: TokenKind::Room.aud().to_owned(),
            sub: grant.user,
            room: grant.room,
            role: grant.role,
            permissions: grant.permissions,
            name: grant.name,
            metadata: grant.metadata,
            caller: grant.caller,
            region: grant.region,
            iat: issued_s,
            nbf: now_s.saturating_sub(SKEW_S),
            exp: now_s + grant.ttl_s,
            jti,
        })
    }

    /// A token of any kind.
    ///
    /// # Errors
    /// Only a fault of the library; there is nothing a caller could send to cause it.
    pub fn sign<C: Claims>(&self, claims: &C) -> Result<String, jsonwebtoken::errors::Error> {
        self.keys.sign(claims)
    }
}
