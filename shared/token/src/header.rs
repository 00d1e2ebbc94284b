//! The header of a token (RFC 7515, section 4), read strictly.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::TokenError;

/// The longest `kid` that is looked at; a thumbprint (RFC 7638) has 43 characters.
pub(super) const MAX_KID_BYTES: usize = 128;

/// What a header says. No token of ours has more than the first three; a member that would bring a key of its own, or change
/// how the token is read, is refused rather than ignored (RFC 8725, section 3.10; RFC 7515, section 4.1.11).
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

/// A token, cut into its parts.
pub(super) struct TokenParts<'a> {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
    /// What was signed: header and claims, as they stand.
    pub(super) message: &'a str,
    /// The claims, base64url.
    pub(super) claims: &'a str,
    /// The signature, base64url.
    pub(super) signature: &'a str,
}

/// Reads a JSON object. The library would take an array for one, its values in the order of our members.
pub(super) fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

/// Cuts a token in the compact serialisation (RFC 7515, section 7.1).
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
