//! Resume handles that no node has issued: sealed with a leaked session key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use serde_json::Value;

/// The HKDF `info` of the handles that nodes seal now.
pub const HANDLE_INFO: &str = "signalbox handle v3";

/// Seals handles with a session key.
pub struct HandleForge {
    session_key: String,
    info: &'static str,
}

impl HandleForge {
    /// A forge for this session key and this HKDF `info`.
    pub fn new(session_key: &str, info: &'static str) -> Self {
        Self { session_key: session_key.to_owned(), info }
    }

    /// A sealed handle with this content.
    ///
    /// # Panics
    /// If the library fails.
    pub fn seal(&self, content: &[u8]) -> String {
        // A forge may use the same salt for each handle: it need not keep a secret.
        let salt = [7; 16];
        let derived = Salt::new(HKDF_SHA256, &salt).extract(self.session_key.as_bytes());
        let info = [self.info.as_bytes()];
        let key = UnboundKey::from(derived.expand(&info, &CHACHA20_POLY1305).expect("a key"));
        let mut sealed = content.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        LessSafeKey::new(key).seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).expect("a tag");
        format!("{}.{}", BASE64.encode(salt), BASE64.encode(sealed))
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
