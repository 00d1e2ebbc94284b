//! Room tokens, signed as an application or the auth service signs them (docs/PROTOCOL.md,
//! section 1).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
    signature::Ed25519KeyPair,
};
use serde_json::{Value, json};

/// Signs tokens.
pub enum TokenSigner {
    Hs256(hmac::Key),
    EdDsa { key: Ed25519KeyPair, kid: String },
}

impl TokenSigner {
    pub fn hs256(secret: &str) -> Self {
        Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// From a file of `signalbox keys new`: a private JWK.
    pub fn from_jwk(text: &str) -> Result<Self> {
        let jwk: Value = serde_json::from_str(text)?;
        let member = |name: &str| jwk[name].as_str().with_context(|| format!("the key has no {name}"));
        let seed = BASE64URL.decode(member("d")?)?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| anyhow!("the key: {error}"))?;
        Ok(Self::EdDsa { key, kid: member("kid")?.to_owned() })
    }

    /// A token for one peer, valid for an hour. Each token is a grant of its own.
    pub fn sign(&self, room: &str, user: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = match self {
            Self::Hs256(_) => json!({"alg": "HS256", "typ": "signalbox-room+jwt"}),
            Self::EdDsa { kid, .. } => json!({"alg": "EdDSA", "typ": "signalbox-room+jwt", "kid": kid}),
        };
        let claims = json!({
            "iss": "signalbox", "aud": "signalbox-signal", "sub": user, "room": room, "role": "guest",
            "permissions": ["publish", "message", "share", "data"],
            "iat": now - 1, "nbf": now - 1, "exp": now + 3_600, "jti": random_hex(),
        });
        let signed =
            format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature = match self {
            Self::Hs256(key) => BASE64URL.encode(hmac::sign(key, signed.as_bytes())),
            Self::EdDsa { key, .. } => BASE64URL.encode(key.sign(signed.as_bytes())),
        };
        format!("{signed}.{signature}")
    }
}

/// 32 random hexadecimal digits.
pub fn random_hex() -> String {
    let mut bytes = [0; 16];
    // Linux always has random bytes.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
