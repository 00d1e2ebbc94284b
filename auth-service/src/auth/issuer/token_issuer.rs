//! The signed token.

use std::sync::Arc;

use signalbox_protocol::id::TokenId;
use signalbox_token::{ISSUER, RoomClaims, TokenClaims, TokenKind};

use super::RoomTokenTerms;
use crate::auth::{
    issue_time::{IssueTime, NOT_BEFORE_SKEW_S},
    keys::SigningKeys,
};

/// Makes tokens, signed with whatever key signs at the moment.
pub(crate) struct TokenMinter {
    keys: Arc<SigningKeys>,
}

impl TokenMinter {
    /// A minter with these keys.
    pub(crate) fn new(keys: Arc<SigningKeys>) -> Self {
        Self { keys }
    }

    /// The token of a grant, with `jti` as its own name.
    ///
    /// # Errors
    /// Only a fault of the library; there is nothing a caller could send to cause it.
    pub(crate) fn sign_room_token(
        &self,
        grant: RoomTokenTerms,
        IssueTime { issued_s, now_s }: IssueTime,
        jti: TokenId,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign_claims(&RoomClaims {
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
            nbf: now_s.saturating_sub(NOT_BEFORE_SKEW_S),
            exp: now_s + grant.ttl_s,
            jti,
        })
    }

    /// A token of any kind.
    ///
    /// # Errors
    /// Only a fault of the library; there is nothing a caller could send to cause it.
    pub(crate) fn sign_claims<C: TokenClaims>(
        &self,
        claims: &C,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.keys.sign(claims)
    }
}
