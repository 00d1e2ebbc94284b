//! Checking a token: algorithm and kind first, then the signature, then what it says (RFC 8725).

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, errors::ErrorKind};

use super::{AUDIENCE_SIGNAL, ISSUER, ROOM_TYP, RoomClaims, SharedSecret};

/// The longest text that is looked at: a token with full metadata is under 8 KiB.
const MAX_TOKEN_BYTES: usize = 12 * 1024;

/// Why a token is refused. Each has its own stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error(
        "no token was given; get one from POST /auth/token and pass it as ?token= or as the subprotocol token.T"
    )]
    Missing,
    /// Not a JWT, or its claims are not those of its kind.
    #[error("the token is not a JWT of this kind")]
    Malformed,
    /// Its life is over.
    #[error("the token has expired; get a new one from POST /auth/token")]
    Expired,
    /// Its life has not begun.
    #[error("the token is not valid yet; the clocks of the issuer and this server may differ")]
    NotYetValid,
    /// No key of ours made it.
    #[error("the token was not signed by a key this server knows")]
    BadSignature,
    /// Not the algorithm of the key.
    #[error("the token's algorithm is not accepted")]
    WrongAlgorithm,
    /// Made for another service.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// Made by somebody else.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// Another kind of token.
    #[error("the token is of another kind")]
    WrongType,
}

impl TokenError {
    /// Every refusal, for tests.
    pub const ALL: [Self; 9] = [
        Self::Missing,
        Self::Malformed,
        Self::Expired,
        Self::NotYetValid,
        Self::BadSignature,
        Self::WrongAlgorithm,
        Self::WrongAudience,
        Self::WrongIssuer,
        Self::WrongType,
    ];

    /// The stable code (docs/PROTOCOL.md, section 1).
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Malformed => "token_malformed",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::BadSignature => "token_bad_signature",
            Self::WrongAlgorithm => "token_wrong_algorithm",
            Self::WrongAudience => "token_wrong_audience",
            Self::WrongIssuer => "token_wrong_issuer",
            Self::WrongType => "token_wrong_type",
        }
    }

    /// The refusal over HTTP: always 401.
    pub fn problem(self) -> crate::problem::Problem {
        crate::problem::Problem::new(401, self.code(), self.to_string())
    }
}

struct Key {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Checks tokens with the keys it was given; it can never mint one. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<[Key]>,
}

impl Verifier {
    /// A verifier for HS256 with the current secret and, during a rotation, the previous one.
    pub fn hs256<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        let keys = secrets
            .into_iter()
            .map(|secret| Key {
                kid: secret.kid(),
                algorithm: Algorithm::HS256,
                key: DecodingKey::from_secret(secret.expose()),
            })
            .collect();
        Self { keys }
    }

    /// Checks a room token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn room(&self, token: &str, now_s: u64) -> Result<RoomClaims, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let header = header(token)?;
        let algorithm_known = self.keys.iter().any(|key| key.algorithm == header.alg);
        if !algorithm_known {
            return Err(TokenError::WrongAlgorithm);
        }
        if header.typ.as_deref() != Some(ROOM_TYP) {
            return Err(TokenError::WrongType);
        }
        let claims = self.signed_claims(token, &header)?;
        judge(claims, now_s)
    }

    fn signed_claims(&self, token: &str, header: &Header) -> Result<RoomClaims, TokenError> {
        // A `kid` picks the key; a token without one (made by an app with the shared secret) is tried against each.
        let candidates = self.keys.iter().filter(|key| header.kid.as_ref().is_none_or(|kid| *kid == key.kid));
        for key in candidates.filter(|key| key.algorithm == header.alg) {
            match jsonwebtoken::decode::<RoomClaims>(token, &key.key, &signature_only(key.algorithm)) {
                Ok(data) => return Ok(data.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(_) => return Err(TokenError::Malformed),
            }
        }
        Err(TokenError::BadSignature)
    }
}

/// The header, with `none` and unknown algorithms told apart from text that is no JWT at all.
fn header(token: &str) -> Result<Header, TokenError> {
    jsonwebtoken::decode_header(token).map_err(|_| {
        let alg = token.split('.').next().and_then(|part| {
            use base64::Engine as _;
            let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
            let header: serde_json::Value = serde_json::from_slice(&json).ok()?;
            header.get("alg")?.as_str().map(str::to_owned)
        });
        if alg.is_some() && token.split('.').count() == 3 {
            TokenError::WrongAlgorithm
        } else {
            TokenError::Malformed
        }
    })
}

/// The library checks the signature; times, audience and issuer are judged here, with the caller's clock.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn judge(claims: RoomClaims, now_s: u64) -> Result<RoomClaims, TokenError> {
    if claims.iss != ISSUER {
        Err(TokenError::WrongIssuer)
    } else if claims.aud != AUDIENCE_SIGNAL {
        Err(TokenError::WrongAudience)
    } else if claims.exp <= now_s {
        Err(TokenError::Expired)
    } else if claims.nbf > now_s {
        Err(TokenError::NotYetValid)
    } else if claims
        .metadata
        .as_deref()
        .is_some_and(|m| !crate::protocol::object_within(m.get(), MAX_TOKEN_BYTES))
        || claims.name.as_deref().is_some_and(|name| !crate::text::is_display_name(name))
    {
        Err(TokenError::Malformed)
    } else {
        Ok(claims)
    }
}
