//! Checking a token: algorithm and kind first, then the signature, then what it says (RFC 8725).

use std::sync::{Arc, PoisonError, RwLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::{
    Claims, ISSUER, KeyAlgorithm, ManagementClaims, RoomClaims, SharedSecret, TokenError, UserClaims,
    header::{self, Parts},
};

use signalbox_protocol::MAX_TOKEN_BYTES;
/// How far ahead of this machine's clock a token may say it was made, seconds. What is taken back is compared with that time, so
/// it must not lie far in the future.
const IAT_SKEW_S: u64 = 60;

/// A key that checks signatures: its name, its one algorithm (RFC 8725, section 3.1), its bytes.
#[derive(Clone)]
pub struct VerifyKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerifyKey {
    /// A shared secret.
    pub fn hs256(secret: &SharedSecret) -> Self {
        Self {
            kid: secret.kid(),
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret.expose()),
        }
    }

    /// A public key; [`super::PublicJwk::verify_key`] makes them.
    pub(super) fn asymmetric(kid: String, algorithm: KeyAlgorithm, key: DecodingKey) -> Self {
        Self { kid, algorithm: algorithm.library(), key }
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn made(&self, parts: &Parts<'_>) -> bool {
        jsonwebtoken::crypto::verify(parts.signature, parts.message.as_bytes(), &self.key, self.algorithm)
            .unwrap_or(false)
    }
}

/// Checks tokens with the keys it was given; it can never mint one. Cheap to clone; clones see the same keys.
#[derive(Clone)]
pub struct Verifier {
    /// What the process was started with.
    fixed: Arc<[VerifyKey]>,
    /// Whether asymmetric keys come and go. Their algorithms are then known whatever is held just now.
    changes: bool,
    /// What changes while it runs. Held for the copy of a pointer.
    changing: Arc<RwLock<Arc<[VerifyKey]>>>,
}

impl Verifier {
    /// A verifier for HS256 with the current secret and, during a rotation, the previous one.
    pub fn hs256<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        let fixed = secrets.into_iter().map(VerifyKey::hs256).collect();
        Self { fixed, changes: false, changing: Arc::default() }
    }

    /// A verifier whose asymmetric keys are given, and taken away, by [`Verifier::hold`]; and for HS256 where there is a secret.
    pub fn changing<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        Self { changes: true, ..Self::hs256(secrets) }
    }

    /// From now on these are the asymmetric keys.
    pub fn hold(&self, keys: Vec<VerifyKey>) {
        *self.changing.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    fn held(&self) -> Arc<[VerifyKey]> {
        self.changing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a token names an asymmetric key that is not held: the one defect that another look at the published keys may cure.
    pub fn lacks_the_key_of(&self, token: &str) -> bool {
        let Ok(parts) = header::parse(token) else { return false };
        self.changes
            && token.len() <= MAX_TOKEN_BYTES
            && KeyAlgorithm::parse(&parts.alg).is_some()
            && parts.kid.is_some_and(|kid| !self.held().iter().chain(&*self.fixed).any(|key| key.kid == kid))
    }

    /// Checks a room token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn room(&self, token: &str, now_s: u64) -> Result<RoomClaims, TokenError> {
        self.check(token, now_s)
    }

    /// Checks a user token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn user(&self, token: &str, now_s: u64) -> Result<UserClaims, TokenError> {
        self.check(token, now_s)
    }

    /// Checks a management token at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn management(&self, token: &str, now_s: u64) -> Result<ManagementClaims, TokenError> {
        self.check(token, now_s)
    }

    /// Checks a token of the kind that is asked for, at the time `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check<C: Claims>(&self, token: &str, now_s: u64) -> Result<C, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let parts = header::parse(token)?;
        let changing = self.held();
        let keys = || self.fixed.iter().chain(changing.iter());
        let algorithm: Algorithm = parts.alg.parse().map_err(|_| TokenError::WrongAlgorithm)?;
        let may_be_published = self.changes && KeyAlgorithm::parse(&parts.alg).is_some();
        if !may_be_published && !keys().any(|key| key.algorithm == algorithm) {
            return Err(TokenError::WrongAlgorithm);
        }
        if parts.typ.as_deref() != Some(C::KIND.typ()) {
            return Err(TokenError::WrongType);
        }
        signed(keys(), algorithm, &parts)?;
        let json = URL_SAFE_NO_PAD.decode(parts.claims).map_err(|_| TokenError::Malformed)?;
        let claims: C = header::object(&json).ok_or(TokenError::Malformed)?;
        judge(&claims, now_s)?;
        Ok(claims)
    }
}

/// Whether one of the keys made the signature. A `kid` picks the key, and the key has one algorithm. A token without a `kid`
/// comes from an application that signs with the shared secret: it is tried against each of those, and no other.
fn signed<'a>(
    mut keys: impl Iterator<Item = &'a VerifyKey>,
    algorithm: Algorithm,
    parts: &Parts<'_>,
) -> Result<(), TokenError> {
    let made = match &parts.kid {
        Some(kid) => {
            let key = keys.find(|key| key.kid == *kid).ok_or(TokenError::BadSignature)?;
            if key.algorithm != algorithm {
                return Err(TokenError::WrongAlgorithm);
            }
            key.made(parts)
        }
        None => keys
            .any(|key| key.algorithm == Algorithm::HS256 && algorithm == Algorithm::HS256 && key.made(parts)),
    };
    if made { Ok(()) } else { Err(TokenError::BadSignature) }
}

fn judge<C: Claims>(claims: &C, now_s: u64) -> Result<(), TokenError> {
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
        || !claims.within_bounds()
    {
        Err(TokenError::Malformed)
    } else {
        Ok(())
    }
}
