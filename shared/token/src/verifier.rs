//! Verification of a token: algorithm and kind first, then the signature, then the claims (RFC
//! 8725).
//!
//! Owns: [`TokenVerifier`] and its keys, the strict reading of a header, the checks that every kind
//! of token shares and those of each kind. Must not: make a token, or decide what its holder may
//! do. Next: `claims` for the claims of each kind.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use signalbox_protocol::{MAX_TOKEN_BYTES, display_text::is_display_name, id::TokenId, is_bounded_object};

use super::{ISSUER, ManagementClaims, RoomClaims, SharedSecret, TokenError, TokenKind, UserClaims};

/// The longest `kid` that is read; a thumbprint (RFC 7638) has 43 characters.
pub(super) const MAX_KID_BYTES: usize = 128;

/// How far the `iat` of a token may be ahead of the clock of this machine, seconds. Access rules
/// are compared with `iat`, so it must not be far in the future.
const IAT_SKEW_S: u64 = 60;

/// The algorithms of asymmetric keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// Ed25519 (RFC 8037).
    EdDSA,
    /// ECDSA with P-256 and SHA-256 (RFC 7518, section 3.4).
    ES256,
}

impl KeyAlgorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::EdDSA, Self::ES256];

    /// The `alg` in a header (RFC 7518, section 3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
        }
    }

    /// The algorithm with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// The algorithm as `jsonwebtoken` names it.
    pub const fn to_jsonwebtoken(self) -> Algorithm {
        match self {
            Self::EdDSA => Algorithm::EdDSA,
            Self::ES256 => Algorithm::ES256,
        }
    }
}

/// A key that verifies signatures: its `kid`, its one algorithm (RFC 8725, section 3.1), its bytes.
#[derive(Clone)]
pub struct VerificationKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// The key of a shared secret, for HS256.
    pub fn from_secret(secret: &SharedSecret) -> Self {
        Self {
            kid: secret.kid(),
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret.expose()),
        }
    }

    /// A public key; [`super::PublicJwk::to_verification_key`] calls this.
    pub(super) fn from_public_key(kid: String, algorithm: KeyAlgorithm, key: DecodingKey) -> Self {
        Self { kid, algorithm: algorithm.to_jsonwebtoken(), key }
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn has_signed(&self, parts: &TokenParts<'_>) -> bool {
        jsonwebtoken::crypto::verify(parts.signature, parts.message.as_bytes(), &self.key, self.algorithm)
            .unwrap_or(false)
    }
}

/// The bytes that are signed for a statement. No token is signed over a line break, so a statement
/// cannot be used as a token, nor a token as a statement.
pub fn signed_statement(purpose: &str, statement: &str) -> String {
    format!("{purpose}\n{statement}")
}

/// Verifies tokens with keys that cannot make one. Cheap to clone; clones share their keys.
#[derive(Clone)]
pub struct TokenVerifier {
    /// The keys that the process was started with.
    static_keys: Arc<[VerificationKey]>,
    /// Whether asymmetric keys may be replaced. Then their algorithms are accepted even while no
    /// key is held.
    accepts_published_keys: bool,
    /// The keys that may be replaced. The lock is held for the copy of a pointer.
    published_keys: Arc<RwLock<Arc<[VerificationKey]>>>,
    /// Whether the last attempt to read the published keys has failed, so that a key may be missing.
    may_lack_keys: Arc<AtomicBool>,
}

impl TokenVerifier {
    /// A verifier for HS256 with the current secret and, during a rotation, the previous one.
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        let static_keys = secrets.into_iter().map(VerificationKey::from_secret).collect();
        Self {
            static_keys,
            accepts_published_keys: false,
            published_keys: Arc::default(),
            may_lack_keys: Arc::default(),
        }
    }

    /// A verifier whose asymmetric keys [`TokenVerifier::replace_published_keys`] sets. It also
    /// accepts HS256 if there is a secret.
    pub fn with_published_keys<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        Self { accepts_published_keys: true, ..Self::from_secrets(secrets) }
    }

    /// Replaces the asymmetric keys.
    pub fn replace_published_keys(&self, keys: Vec<VerificationKey>) {
        *self.published_keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        self.may_lack_keys.store(false, Ordering::Relaxed);
    }

    /// Keeps the asymmetric keys after a failed attempt to read them. Until they are replaced, a
    /// token with another key is [`TokenError::KeysUnavailable`].
    pub fn keep_published_keys(&self) {
        self.may_lack_keys.store(true, Ordering::Relaxed);
    }

    /// Whether the last attempt to read the published keys has failed.
    pub fn may_lack_keys(&self) -> bool {
        self.may_lack_keys.load(Ordering::Relaxed)
    }

    /// Whether a statement that is no token, such as an access rule, was signed for this purpose by a
    /// key that only the issuer holds. The signature is `kid~base64url`. If keys are published, a
    /// shared secret proves nothing here: other processes hold it too.
    pub fn verify_statement(&self, purpose: &str, statement: &str, signature: &str) -> bool {
        let Some((kid, signature)) = signature.split_once('~') else { return false };
        let bytes = signed_statement(purpose, statement);
        let has_signed = |key: &VerificationKey| {
            key.kid == kid
                && jsonwebtoken::crypto::verify(signature, bytes.as_bytes(), &key.key, key.algorithm)
                    .unwrap_or(false)
        };
        if self.accepts_published_keys {
            self.load_published_keys().iter().any(has_signed)
        } else {
            self.static_keys.iter().any(has_signed)
        }
    }

    /// Whether a key is held that can verify a statement. A node has none before the first key set.
    pub fn can_verify_statements(&self) -> bool {
        !self.accepts_published_keys || !self.load_published_keys().is_empty()
    }

    fn load_published_keys(&self) -> Arc<[VerificationKey]> {
        self.published_keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a token names an asymmetric key that is not held: the one defect that another fetch
    /// of the published keys may cure.
    pub fn is_key_missing(&self, token: &str) -> bool {
        let Ok(parts) = split_token(token) else { return false };
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

    /// As [`TokenVerifier::verify_room_token`], but the token may have expired: it is checked at its
    /// last second. The caller compares `exp`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_expired_room_token(&self, token: &str, now_s: u64) -> Result<RoomClaims, TokenError> {
        let claims: RoomClaims = self.verify_signature(token)?;
        check_claims(&claims, now_s.min(claims.exp.saturating_sub(1)))?;
        Ok(claims)
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
        let claims: C = self.verify_signature(token)?;
        check_claims(&claims, now_s)?;
        Ok(claims)
    }

    /// Checks everything except the claims.
    fn verify_signature<C: TokenClaims>(&self, token: &str) -> Result<C, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let parts = split_token(token)?;
        let published = self.load_published_keys();
        let keys = || self.static_keys.iter().chain(published.iter());
        let algorithm: Algorithm = parts.alg.parse().map_err(|_| TokenError::WrongAlgorithm)?;
        let may_be_published = self.accepts_published_keys && KeyAlgorithm::parse(&parts.alg).is_some();
        if !may_be_published && !keys().any(|key| key.algorithm == algorithm) {
            return Err(TokenError::WrongAlgorithm);
        }
        if parts.typ.as_deref() != Some(C::KIND.typ()) {
            return Err(TokenError::WrongType);
        }
        check_signature(keys(), algorithm, &parts).map_err(|error| {
            let may_be_missing = self.may_lack_keys() && self.is_key_missing(token);
            if may_be_missing { TokenError::KeysUnavailable } else { error }
        })?;
        let json = URL_SAFE_NO_PAD.decode(parts.claims).map_err(|_| TokenError::Malformed)?;
        parse_object(&json).ok_or(TokenError::Malformed)
    }
}

/// Whether one of the keys made the signature. A `kid` selects the key, and the key has one
/// algorithm. A token without a `kid` comes from an application that signs with the shared secret,
/// so only shared secrets are tried.
fn check_signature<'a>(
    mut keys: impl Iterator<Item = &'a VerificationKey>,
    algorithm: Algorithm,
    parts: &TokenParts<'_>,
) -> Result<(), TokenError> {
    let is_valid = match &parts.kid {
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
    if is_valid { Ok(()) } else { Err(TokenError::BadSignature) }
}

fn check_claims<C: TokenClaims>(claims: &C, now_s: u64) -> Result<(), TokenError> {
    let registered = claims.registered();
    if registered.iss != ISSUER {
        Err(TokenError::WrongIssuer)
    } else if registered.aud != C::KIND.aud() {
        Err(TokenError::WrongAudience)
    } else if registered.exp <= now_s {
        Err(TokenError::Expired)
    } else if registered.nbf > now_s || registered.iat > now_s.saturating_add(IAT_SKEW_S) {
        Err(TokenError::NotYetValid)
    } else if registered.exp.saturating_sub(registered.iat) > C::KIND.max_life_s()
        || registered.jti.grant().is_empty()
        || !claims.is_within_bounds()
    {
        Err(TokenError::Malformed)
    } else {
        Ok(())
    }
}

/// The header of a token (RFC 7515, section 4). A token of this service has the first three members
/// only. A member that brings a key, or changes how the token is read, is refused (RFC 8725,
/// section 3.10; RFC 7515, section 4.1.11).
#[derive(Deserialize)]
struct RawHeader {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
    enc: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
}

impl RawHeader {
    fn has_forbidden_member(&self) -> bool {
        let Self { crit, b64, zip, enc, jwk, jku, x5u, x5c, .. } = self;
        [crit, b64, zip, enc, jwk, jku, x5u, x5c].into_iter().any(Option::is_some)
    }
}

/// The parts of a token.
pub(super) struct TokenParts<'a> {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
    /// The signed text: header and claims.
    pub(super) message: &'a str,
    /// The claims, base64url.
    pub(super) claims: &'a str,
    /// The signature, base64url.
    pub(super) signature: &'a str,
}

/// Reads a JSON object. The library alone would also read an array, with the values in the order of
/// the members.
pub(super) fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

/// Splits a token in the compact serialisation (RFC 7515, section 7.1).
pub(super) fn split_token(token: &str) -> Result<TokenParts<'_>, TokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
    if claims.contains('.') {
        return Err(TokenError::Malformed);
    }
    let json = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
    let raw: RawHeader = parse_object(&json).ok_or(TokenError::Malformed)?;
    if raw.has_forbidden_member() || raw.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
        return Err(TokenError::Malformed);
    }
    Ok(TokenParts { alg: raw.alg, typ: raw.typ, kid: raw.kid, message, claims, signature })
}

/// The claims of every kind, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct RegisteredClaims<'a> {
    /// The issuer.
    pub iss: &'a str,
    /// The audience.
    pub aud: &'a str,
    /// The time of issue, seconds since 1970.
    pub iat: u64,
    /// Not valid before this time.
    pub nbf: u64,
    /// Not valid from this time on.
    pub exp: u64,
    /// The id of the token.
    pub jti: &'a TokenId,
}

/// The claims of one kind of token. Sealed, because every kind is a variant of [`TokenKind`].
pub trait TokenClaims: Serialize + DeserializeOwned + sealed::Sealed {
    /// The kind.
    const KIND: TokenKind;

    /// The claims that every kind has.
    fn registered(&self) -> RegisteredClaims<'_>;

    /// Whether the claims of this kind keep the bounds that their types do not check.
    fn is_within_bounds(&self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::RoomClaims {}
    impl Sealed for super::UserClaims {}
    impl Sealed for super::ManagementClaims {}
}

macro_rules! impl_registered {
    () => {
        fn registered(&self) -> RegisteredClaims<'_> {
            let Self { iss, aud, iat, nbf, exp, jti, .. } = self;
            RegisteredClaims { iss, aud, iat: *iat, nbf: *nbf, exp: *exp, jti }
        }
    };
}

impl TokenClaims for RoomClaims {
    const KIND: TokenKind = TokenKind::Room;
    impl_registered!();
    fn is_within_bounds(&self) -> bool {
        let metadata = self.metadata.as_deref();
        metadata.is_none_or(|m| is_bounded_object(m.get(), MAX_TOKEN_BYTES))
            && self.name.as_deref().is_none_or(is_display_name)
    }
}

impl TokenClaims for UserClaims {
    const KIND: TokenKind = TokenKind::User;
    impl_registered!();
    fn is_within_bounds(&self) -> bool {
        self.name.as_deref().is_none_or(is_display_name)
    }
}

impl TokenClaims for ManagementClaims {
    const KIND: TokenKind = TokenKind::Management;
    impl_registered!();
    fn is_within_bounds(&self) -> bool {
        // The API checks the scopes themselves; here only a text that cannot be a scope is refused.
        let may_be_scope =
            |text: &str| (1..=32).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_lowercase());
        self.scopes.len() <= 16 && self.scopes.iter().all(|text| may_be_scope(text))
    }
}
