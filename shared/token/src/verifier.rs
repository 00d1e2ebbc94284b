//! Checking a token: algorithm and kind first, then the signature, then what it says (RFC 8725).

use std::sync::{Arc, PoisonError, RwLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::{
    ISSUER, KeyAlgorithm, ManagementClaims, RoomClaims, SharedSecret, TokenClaims, TokenError, UserClaims,
    header::{self, TokenParts},
};

use signalbox_protocol::MAX_TOKEN_BYTES;
/// How far ahead of this machine's clock a token may say it was made, seconds. What is taken back is compared with that time, so
/// it must not lie far in the future.
const IAT_SKEW_S: u64 = 60;

/// A key that checks signatures: its name, its one algorithm (RFC 8725, section 3.1), its bytes.
#[derive(Clone)]
pub struct VerificationKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// A shared secret.
    pub fn from_secret(secret: &SharedSecret) -> Self {
        Self {
            kid: secret.kid(),
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret.expose()),
        }
    }

    /// A public key; [`super::PublicJwk::to_verification_key`] makes them.
    pub(super) fn from_public_key(kid: String, algorithm: KeyAlgorithm, key: DecodingKey) -> Self {
        Self { kid, algorithm: algorithm.to_jsonwebtoken(), key }
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn has_signed(&self, parts: &TokenParts<'_>) -> bool {
        jsonwebtoken::crypto::verify(parts.signature, parts.message.as_bytes(), &self.key, self.algorithm)
            .unwrap_or(false)
    }
}

/// Checks tokens with the keys it was given; it can never mint one. Cheap to clone; clones see the same keys.
#[derive(Clone)]
pub struct TokenVerifier {
    /// What the process was started with.
    static_keys: Arc<[VerificationKey]>,
    /// Whether asymmetric keys come and go. Their algorithms are then known whatever is held just now.
    accepts_published_keys: bool,
    /// What changes while it runs. Held for the copy of a pointer.
    published_keys: Arc<RwLock<Arc<[VerificationKey]>>>,
}

impl TokenVerifier {
    /// A verifier for HS256 with the current secret and, during a rotation, the previous one.
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        let static_keys = secrets.into_iter().map(VerificationKey::from_secret).collect();
        Self { static_keys, accepts_published_keys: false, published_keys: Arc::default() }
    }

    /// A verifier whose asymmetric keys are given, and taken away, by [`TokenVerifier::replace_published_keys`]; and for HS256 where there is a secret.
    pub fn with_published_keys<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        Self { accepts_published_keys: true, ..Self::from_secrets(secrets) }
    }

    /// From now on these are the asymmetric keys.
    pub fn replace_published_keys(&self, keys: Vec<VerificationKey>) {
        *self.published_keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    fn load_published_keys(&self) -> Arc<[VerificationKey]> {
        self.published_keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a token names an asymmetric key that is not held: the one defect that another look at the published keys may cure.
    pub fn is_key_missing(&self, token: &str) -> bool {
        let Ok(parts) = header::split_token(token) else { return false };
        self.accepts_published_keys
            && token.len() <= MAX_TOKEN_BYTES
            && KeyAlgorithm::parse(&parts.alg).is_some()
            && parts.kid.is_some_and(|kid| {
                !self.load_published_keys().iter().chain(&*self.static_keys).any(|key| key.kid == kid)
            })
    }

    /// Checks a room token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_room_token(&self, token: &str, now_s: u64) -> Result<RoomClaims, TokenError> {
        self.verify_token(token, now_s)
    }

    /// Checks a user token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_user_token(&self, token: &str, now_s: u64) -> Result<UserClaims, TokenError> {
        self.verify_token(token, now_s)
    }

    /// Checks a management token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_management_token(&self, token: &str, now_s: u64) -> Result<ManagementClaims, TokenError> {
        self.verify_token(token, now_s)
    }

    /// Checks a token of the kind that is asked for, at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_token<C: TokenClaims>(&self, token: &str, now_s: u64) -> Result<C, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let parts = header::split_token(token)?;
        let changing = self.load_published_keys();
        let keys = || self.static_keys.iter().chain(changing.iter());
        let algorithm: Algorithm = parts.alg.parse().map_err(|_| TokenError::WrongAlgorithm)?;
        let may_be_published = self.accepts_published_keys && KeyAlgorithm::parse(&parts.alg).is_some();
        if !may_be_published && !keys().any(|key| key.algorithm == algorithm) {
            return Err(TokenError::WrongAlgorithm);
        }
        if parts.typ.as_deref() != Some(C::KIND.typ()) {
            return Err(TokenError::WrongType);
        }
        verify_signature(keys(), algorithm, &parts)?;
        let json = URL_SAFE_NO_PAD.decode(parts.claims).map_err(|_| TokenError::Malformed)?;
        let claims: C = header::parse_object(&json).ok_or(TokenError::Malformed)?;
        check_claims(&claims, now_s)?;
        Ok(claims)
    }
}

/// Whether one of the keys made the signature. A `kid` picks the key, and the key has one algorithm. A token without a `kid`
/// comes from an application that signs with the shared secret: it is tried against each of those, and no other.
fn verify_signature<'a>(
    mut keys: impl Iterator<Item = &'a VerificationKey>,
    algorithm: Algorithm,
    parts: &TokenParts<'_>,
) -> Result<(), TokenError> {
    let made = match &parts.kid {
        Some(kid) => {
            let key = keys.find(|key| key.kid == *kid).ok_or(TokenError::BadSignature)?;
            if key.algorithm != algorithm {
                return Err(TokenError::WrongAlgorithm);
            }
            key.has_signed(parts)
        }
        None => keys.any(|key| {
            key.algorithm == Algorithm::HS256 && algorithm == Algorithm::HS256 && key.has_signed(parts)
        }),
    };
    if made { Ok(()) } else { Err(TokenError::BadSignature) }
}

fn check_claims<C: TokenClaims>(claims: &C, now_s: u64) -> Result<(), TokenError> {
    let said = claims.registered();
    if said.iss != ISSUER {
        Err(TokenError::WrongIssuer)
    } else if said.aud != C::KIND.aud() {
        Err(TokenError::WrongAudience)
    } else if said.exp <= now_s {
        Err(TokenError::Expired)
    } else if said.nbf > now_s || said.iat > now_s.saturating_add(IAT_SKEW_S) {
        Err(TokenError::NotYetValid)
    } else if said.exp.saturating_sub(said.iat) > C::KIND.max_life_s()
        || said.jti.grant().is_empty()
        || !claims.is_within_bounds()
    {
        Err(TokenError::Malformed)
    } else {
        Ok(())
    }
}
