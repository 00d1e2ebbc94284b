//! The signed token.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use signalbox_shared::token::{AUDIENCE_SIGNAL, ISSUER, ROOM_TYP, RoomClaims, SharedSecret};

use super::Grant;

/// How long before its making a token is good already, seconds: the clocks of two machines differ.
const SKEW_S: u64 = 10;

/// Signs with one secret (HS256, RFC 7515); its `kid` tells verifiers which.
pub struct Minter {
    header: Header,
    key: EncodingKey,
}

impl Minter {
    /// A minter for room tokens.
    pub fn new(secret: &SharedSecret) -> Self {
        let header = Header {
            typ: Some(ROOM_TYP.to_owned()),
            kid: Some(secret.kid()),
            ..Header::new(Algorithm::HS256)
        };
        Self { header, key: EncodingKey::from_secret(secret.expose()) }
    }

    /// The token of a grant, made at `now_s` (seconds since 1970), with `jti` as its own random name.
    ///
    /// # Errors
    /// Only a fault of the library; there is nothing a caller could send to cause it.
    pub fn mint(&self, grant: Grant, now_s: u64, jti: String) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = RoomClaims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE_SIGNAL.to_owned(),
            sub: grant.user,
            room: grant.room,
            role: grant.role,
            permissions: grant.permissions,
            name: grant.name,
            metadata: grant.metadata,
            iat: now_s,
            nbf: now_s.saturating_sub(SKEW_S),
            exp: now_s + grant.ttl_s,
            jti,
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
    }
}
