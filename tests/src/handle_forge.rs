//! Resume handles that no node has issued: sealed with a leaked session key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::Value;

/// The HKDF `info` of the handles that nodes seal now.
pub const HANDLE_INFO: &str = "signalbox handle v2";

/// Seals handles with a session key.
pub struct HandleForge(Vec<u8>);

impl HandleForge {
    /// A forge for this session key and this HKDF `info`.
    pub fn new(session_key: &str, info: &str) -> Self {
        // HKDF (RFC 5869) without a salt, for 64 bytes.
        let pseudorandom_key = hmac(&[0; 32], session_key.as_bytes());
        let first = hmac(&pseudorandom_key, &[info.as_bytes(), &[1]].concat());
        let second = hmac(&pseudorandom_key, &[&first, info.as_bytes(), &[2]].concat());
        Self([first, second].concat())
    }

    /// A sealed handle with this content.
    pub fn seal(&self, content: &[u8]) -> String {
        let body = BASE64.encode(content);
        let tag = BASE64.encode(hmac(&self.0, body.as_bytes()));
        format!("{body}.{tag}")
    }

    /// A sealed handle with this record and this token.
    ///
    /// # Panics
    /// If the token is not base64url.
    pub fn seal_with_token(&self, record: &Value, token: &str) -> String {
        let mut content = record.to_string().into_bytes();
        for part in token.split('.') {
            content.push(0);
            content.extend(BASE64.decode(part).expect("base64url"));
        }
        self.seal(&content)
    }
}

/// HMAC-SHA256.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let tag = crypto::sign(message, &EncodingKey::from_secret(key), Algorithm::HS256).expect("a tag");
    BASE64.decode(tag).expect("base64url")
}
