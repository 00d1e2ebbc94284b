//! The signed token.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use signalbox_shared::{
    id::TokenId,
    token::{Claims, ISSUER, RoomClaims, SharedSecret, TokenKind},
};

use super::Grant;

/// How long before its making a token is good already, seconds: the clocks of two machines differ.
pub const SKEW_S: u64 = 10;

/// Signs with one secret (HS256, RFC 7515); its `kid` tells verifiers which.
pub struct Minter {
    algorithm: Algorithm,
    kid: String,
    key: EncodingKey,
}

impl Minter {
    /// A minter with the shared secret.
    pub fn new(secret: &SharedSecret) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            kid: secret.kid(),
            key: EncodingKey::from_secret(secret.expose()),
        }
    }

    /// The token of a grant, made at `now_s` (seconds since 1970), with `jti` as its own name.
    ///
    /// # Errors
    /// Only a fault of the library; there is nothing a caller could send to cause it.
    pub fn mint(
        &self,
        grant: Grant,
        now_s: u64,
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
            iat: now_s,
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
        let header = Header {
            typ: Some(C::KIND.typ().to_owned()),
            kid: Some(self.kid.clone()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key)
    }
}
