//! Tokens made by hand, so that each can have one defect.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_token::{ISSUER, TokenKind};

/// The header and the claims of a token.
#[derive(Debug, Clone)]
pub struct TokenBuilder {
    /// The header.
    pub header: Header,
    /// The claims.
    pub claims: Value,
}

impl TokenBuilder {
    /// A token without a defect.
    pub fn valid(room: &str, user: &str) -> Self {
        let now = clock::now_s();
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TokenKind::Room.typ().to_owned());
        let claims = json!({
            "iss": ISSUER, "aud": TokenKind::Room.aud(), "sub": user, "room": room, "role": "guest",
            "permissions": ["publish", "message"], "iat": now, "nbf": now, "exp": now + 900, "jti": random_hex(),
        });
        Self { header, claims }
    }

    /// Replaces a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// Removes a claim.
    #[must_use]
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.as_object_mut().expect("claims are an object").remove(name);
        self
    }

    /// Replaces the header's `typ`.
    #[must_use]
    pub fn typ(mut self, typ: Option<&str>) -> Self {
        self.header.typ = typ.map(str::to_owned);
        self
    }

    /// Replaces the header's `kid`.
    #[must_use]
    pub fn kid(mut self, kid: &str) -> Self {
        self.header.kid = Some(kid.to_owned());
        self
    }

    /// Replaces the algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.header.alg = algorithm;
        self
    }

    /// Signs the token with an HMAC.
    ///
    /// # Panics
    /// If the library rejects the input.
    pub fn sign(&self, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&self.header, &self.claims, &key).expect("a token")
    }

    /// Signs the token with an Ed25519 key that no service may accept (RFC 8037, appendix A).
    ///
    /// # Panics
    /// If the library rejects the input.
    pub fn sign_ed25519(&self) -> String {
        const D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        // PKCS #8 (RFC 8410, section 7), up to the seed.
        let mut der = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        der.extend(URL_SAFE_NO_PAD.decode(D).expect("base64url"));
        let header = Header { alg: Algorithm::EdDSA, ..self.header.clone() };
        jsonwebtoken::encode(&header, &self.claims, &EncodingKey::from_ed_der(&der)).expect("a token")
    }

    /// Signs the token with an HMAC under this header.
    ///
    /// # Panics
    /// If the library rejects the input.
    pub fn sign_with_header(&self, header: &Value, secret: &str) -> String {
        let unsigned = self.assemble(header, "");
        let message = unsigned.trim_end_matches('.');
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.expect("a signature"))
    }

    /// Joins this header, the claims and a signature that may be invalid.
    pub fn assemble(&self, header: &Value, signature: &str) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.{signature}", part(header), part(&self.claims))
    }
}
