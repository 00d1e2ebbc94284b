//! The signed token.

use std::sync::Arc;

use signalbox_protocol::id::TokenId;
use signalbox_token::{ISSUER, RoomClaims, TokenClaims, TokenKind};

use super::RoomTokenTerms;
use crate::auth::keys::SigningKeys;

/// How long before its making a token is good already, seconds: the clocks of two machines differ.
pub(crate) const NOT_BEFORE_SKEW_S: u64 = 10;

/// The moment of a token's making, read once: of two readings a second may end between, and a token would say of itself that it lives for
/// another time than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IssueTime {
    /// What it says of when it was issued, seconds since 1970: by the clock of the rules, which may take back what was issued before them.
    pub(crate) issued_s: u64,
    /// What its begin and end count from, seconds since 1970: by the clock of this machine, as those who judge it have one like it.
    pub(crate) now_s: u64,
}

impl IssueTime {
    /// From what both clocks say at the same moment. Where they agree to a second they are taken for one.
    pub(crate) fn new(rules_ms: u64, here_ms: u64) -> Self {
        let issued_s = rules_ms / 1_000;
        let now_s = if rules_ms.abs_diff(here_ms) < 1_000 { issued_s } else { here_ms / 1_000 };
        Self { issued_s, now_s }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_less_than_a_second_apart_count_as_one() {
        for (rules_ms, here_ms) in [(5_999, 6_000), (6_000, 5_999), (5_000, 5_999), (6_998, 5_999)] {
            let IssueTime { issued_s, now_s } = IssueTime::new(rules_ms, here_ms);
            assert_eq!((issued_s, now_s), (rules_ms / 1_000, rules_ms / 1_000), "{rules_ms} {here_ms}");
        }
    }

    #[test]
    fn clocks_further_apart_keep_their_own_times() {
        assert_eq!(IssueTime::new(9_000, 5_999), IssueTime { issued_s: 9, now_s: 5 });
    }
}
