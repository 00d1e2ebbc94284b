//! Public keys as JSON Web Keys (RFC 7517, RFC 7518, RFC 8037), and sets of them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use signalbox_protocol::file_text::file_text;

use super::verifier::{KeyAlgorithm, MAX_KID_BYTES, VerificationKey, parse_object};

/// The path at which the auth service publishes its public keys.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// The longest key set that is read, bytes.
pub const MAX_JWKS_BYTES: usize = 64 * 1024;

/// The number of keys that a set may hold.
pub const MAX_JWKS_KEYS: usize = 32;

/// A public key. A published key set holds only these members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(as = Jwk, description = "A public key: Ed25519 (RFC 8037) or P-256 (RFC 7518).")
)]
pub struct PublicJwk {
    kty: String,
    crv: String,
    x: String,
    /// For P-256 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    alg: KeyAlgorithm,
    #[serde(rename = "use")]
    usage: String,
    /// The thumbprint of the key (RFC 7638), unless its publisher has chosen another name.
    kid: String,
}

/// Why a text is not a set of public keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The text is longer than [`MAX_JWKS_BYTES`].
    #[error("is longer than 64 KiB")]
    TooLong,
    /// The text is not `{"keys":[{…}]}`.
    #[error("is not a JSON Web Key Set")]
    NotASet,
    /// The set holds more than [`MAX_JWKS_KEYS`] keys.
    #[error("holds {0} keys; at most 32 are accepted")]
    TooManyKeys(usize),
    /// The publisher has published a key that must stay secret.
    #[error(
        "holds a private or symmetric key, which is no longer secret; replace that key, and publish only public keys"
    )]
    PrivateKey,
    /// A key of a known kind is invalid.
    #[error("holds an invalid key: {0}")]
    BrokenKey(&'static str),
}

impl PublicJwk {
    /// A key from its coordinates in base64url: `x` for Ed25519, `x` and `y` for P-256. Its `kid`
    /// is its thumbprint.
    ///
    /// # Errors
    /// [`JwksError::BrokenKey`] if the coordinates are not a point of the curve.
    pub fn new(alg: KeyAlgorithm, x: String, y: Option<String>) -> Result<Self, JwksError> {
        let (kty, crv) = match alg {
            KeyAlgorithm::EdDSA => ("OKP", "Ed25519"),
            KeyAlgorithm::ES256 => ("EC", "P-256"),
        };
        let (kty, crv, usage) = (kty.to_owned(), crv.to_owned(), "sig".to_owned());
        let mut key = Self { kty, crv, x, y, alg, usage, kid: String::new() };
        key.to_verification_key()?;
        key.kid = key.thumbprint();
        Ok(key)
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The only algorithm that the key may be used with (RFC 8725, section 3.1).
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.alg
    }

    /// The thumbprint (RFC 7638, RFC 8037): SHA-256 over the required members in the order of their
    /// names.
    pub fn thumbprint(&self) -> String {
        let Self { kty, crv, x, y, .. } = self;
        let members = match y {
            Some(y) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
            None => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
        };
        URL_SAFE_NO_PAD.encode(Sha256::digest(members))
    }

    /// The key in the form that verifies signatures. The point is checked here, so an invalid key
    /// is found before the first token arrives.
    ///
    /// # Errors
    /// [`JwksError::BrokenKey`]
    pub fn to_verification_key(&self) -> Result<VerificationKey, JwksError> {
        let bytes = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 32);
            bytes.ok_or(JwksError::BrokenKey("a coordinate is not 32 bytes in base64url"))
        };
        bytes(&self.x)?;
        let key = match (self.alg, &self.y) {
            (KeyAlgorithm::EdDSA, None) => DecodingKey::from_ed_components(&self.x),
            (KeyAlgorithm::ES256, Some(y)) => {
                bytes(y)?;
                DecodingKey::from_ec_components(&self.x, y)
            }
            _ => return Err(JwksError::BrokenKey("its members do not fit its algorithm")),
        };
        let key = key.map_err(|_| JwksError::BrokenKey("its coordinates cannot be parsed"))?;
        // Before the library checks a signature it builds a verifier from the key. That fails if
        // the bytes are not a point of the curve.
        jsonwebtoken::crypto::verify("", b"", &key, self.alg.to_jsonwebtoken())
            .map_err(|_| JwksError::BrokenKey("it is not a point of its curve"))?;
        Ok(VerificationKey::from_public_key(self.kid.clone(), self.alg, key))
    }
}

/// Parses a key set (RFC 7517, section 5). A key of an unknown kind, for another use, or without a
/// `kid` is skipped, as section 5 requires. A private or symmetric key makes the whole set invalid.
/// An empty set is valid.
///
/// # Errors
/// [`JwksError`], for the operator.
pub fn parse_jwks(text: &[u8]) -> Result<Vec<VerificationKey>, JwksError> {
    if text.len() > MAX_JWKS_BYTES {
        return Err(JwksError::TooLong);
    }
    #[derive(Deserialize)]
    struct JwkSet {
        keys: Vec<Map<String, Value>>,
    }
    let text = file_text(text).map_err(|_| JwksError::NotASet)?;
    let set: JwkSet = parse_object(text.as_bytes()).ok_or(JwksError::NotASet)?;
    if set.keys.len() > MAX_JWKS_KEYS {
        return Err(JwksError::TooManyKeys(set.keys.len()));
    }
    let is_secret = |key: &Map<String, Value>| {
        key.get("kty").is_some_and(|kty| kty == "oct")
            || ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| key.contains_key(*name))
    };
    if set.keys.iter().any(is_secret) {
        return Err(JwksError::PrivateKey);
    }
    let mut keys: Vec<VerificationKey> = Vec::new();
    for key in set.keys {
        let Some(public) = parse_known_key(key)? else { continue };
        if keys.iter().any(|other| other.kid() == public.kid()) {
            return Err(JwksError::BrokenKey("two keys have the same kid"));
        }
        keys.push(public.to_verification_key()?);
    }
    Ok(keys)
}

/// The key, or none if its kind or use is not supported.
fn parse_known_key(key: Map<String, Value>) -> Result<Option<PublicJwk>, JwksError> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let alg = match (text("kty"), text("crv")) {
        (Some("OKP"), Some("Ed25519")) => KeyAlgorithm::EdDSA,
        (Some("EC"), Some("P-256")) => KeyAlgorithm::ES256,
        _ => return Ok(None),
    };
    let for_another_use = text("use").is_some_and(|usage| usage != "sig")
        || text("alg").is_some_and(|name| name != alg.as_str());
    let Some(kid) = text("kid").filter(|kid| !kid.is_empty() && kid.len() <= MAX_KID_BYTES) else {
        return Ok(None);
    };
    if for_another_use {
        return Ok(None);
    }
    let x = text("x").ok_or(JwksError::BrokenKey("it has no x"))?.to_owned();
    let mut public = PublicJwk::new(alg, x, text("y").map(str::to_owned))?;
    // The `kid` in a set need not be the thumbprint.
    kid.clone_into(&mut public.kid);
    Ok(Some(public))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The key of RFC 8037, appendix A.
    const RFC_8037_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn jwk_json() -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": RFC_8037_X, "kid": "one", "alg": "EdDSA", "use": "sig" })
    }

    fn jwk_json_with(name: &str, value: Value) -> Value {
        let mut key = jwk_json();
        key[name] = value;
        key
    }

    fn parse_kids(keys: Value) -> Result<Vec<String>, JwksError> {
        let set = json!({ "keys": keys }).to_string();
        Ok(parse_jwks(set.as_bytes())?.iter().map(|key| key.kid().to_owned()).collect())
    }

    #[test]
    fn a_thumbprint_equals_the_rfc_example() {
        let key = PublicJwk::new(KeyAlgorithm::EdDSA, RFC_8037_X.to_owned(), None).unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn unknown_keys_are_skipped_and_a_private_key_rejects_the_set() {
        for (added, expected) in [
            (jwk_json_with("kid", json!("two")), Ok(2)),
            (jwk_json_with("kty", json!("RSA")), Ok(1)),
            (jwk_json_with("crv", json!("X25519")), Ok(1)),
            (jwk_json_with("use", json!("enc")), Ok(1)),
            (jwk_json_with("alg", json!("ES256")), Ok(1)),
            (jwk_json_with("kid", Value::Null), Ok(1)),
            (jwk_json_with("kid", json!("x".repeat(200))), Ok(1)),
            (jwk_json_with("d", json!("AA")), Err(JwksError::PrivateKey)),
            (json!({ "kty": "oct", "kid": "s" }), Err(JwksError::PrivateKey)),
            (json!({ "kty": "RSA", "n": "AA", "e": "AQAB", "p": "AA" }), Err(JwksError::PrivateKey)),
            (jwk_json(), Err(JwksError::BrokenKey("two keys have the same kid"))),
            (
                jwk_json_with("y", json!(RFC_8037_X)),
                Err(JwksError::BrokenKey("its members do not fit its algorithm")),
            ),
            (
                jwk_json_with("x", json!("AAAA")),
                Err(JwksError::BrokenKey("a coordinate is not 32 bytes in base64url")),
            ),
            (
                json!({ "kty": "EC", "crv": "P-256", "x": RFC_8037_X, "y": RFC_8037_X, "kid": "p" }),
                Err(JwksError::BrokenKey("it is not a point of its curve")),
            ),
        ] {
            assert_eq!(parse_kids(json!([jwk_json(), added])).map(|kids| kids.len()), expected, "{added}");
        }
        assert_eq!(parse_kids(json!([])), Ok(vec![]));
    }

    #[test]
    fn a_key_set_is_bounded() {
        let many =
            |count: usize| (0..count).map(|n| jwk_json_with("kid", json!(n.to_string()))).collect::<Value>();
        assert_eq!(parse_kids(many(32)).unwrap().len(), 32);
        assert_eq!(parse_kids(many(33)), Err(JwksError::TooManyKeys(33)));
        assert_eq!(parse_jwks(&vec![b' '; MAX_JWKS_BYTES + 1]).map(|_| ()), Err(JwksError::TooLong));
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, "[[]]"] {
            assert_eq!(parse_jwks(text.as_bytes()).map(|_| ()), Err(JwksError::NotASet), "{text}");
        }
    }
}
