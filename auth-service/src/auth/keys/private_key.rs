//! A private key: its creation and its file. Debug output and errors never show it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, jwk};
use serde::{Deserialize, Serialize};
use signalbox_protocol::file_text::file_text;
use signalbox_token::{KeyAlgorithm, PublicJwk};

use super::{KeysError, SealKey};

/// Ed25519 in PKCS #8 (RFC 8410, section 7), up to the 32 bytes of the seed.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// P-256 in PKCS #8 (RFC 5208, RFC 5915, RFC 5480), without the public key, up to the 32 bytes of
/// the scalar.
const PKCS8_P256: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04,
    0x20,
];

/// A key that signs, and the time at which it begins to sign.
#[derive(Clone)]
pub struct PrivateKey {
    /// The public part, which is published.
    pub public: PublicJwk,
    /// When the key begins to sign, seconds since 1970.
    pub signs_from: u64,
    secret: [u8; 32],
    encoding: EncodingKey,
}

/// The content of a file: a private JWK (RFC 7517, RFC 8037) with the member `signs_from`.
#[derive(Serialize, Deserialize)]
struct PrivateKeyFile {
    #[serde(flatten)]
    public: PublicJwk,
    d: String,
    signs_from: u64,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("kid", &self.public.kid()).finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// A random key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate(algorithm: KeyAlgorithm, signs_from: u64) -> Result<Self, KeysError> {
        loop {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).map_err(|error| KeysError::NoRandomness(error.to_string()))?;
            // About one of 2^32 random numbers is no scalar of P-256.
            if let Ok(key) = Self::from_secret(algorithm, secret, signs_from) {
                return Ok(key);
            }
        }
    }

    fn from_secret(algorithm: KeyAlgorithm, secret: [u8; 32], signs_from: u64) -> Result<Self, &'static str> {
        let encoding = match algorithm {
            KeyAlgorithm::EdDSA => EncodingKey::from_ed_der(&[&PKCS8_ED25519[..], &secret].concat()),
            KeyAlgorithm::ES256 => EncodingKey::from_ec_der(&[&PKCS8_P256[..], &secret].concat()),
        };
        let own = jwk::Jwk::from_encoding_key(&encoding, algorithm.to_jsonwebtoken());
        let (x, y) = match own.map_err(|_| "has a `d` that is no key of its curve")?.algorithm {
            jwk::AlgorithmParameters::OctetKeyPair(key) => (key.x, None),
            jwk::AlgorithmParameters::EllipticCurve(key) => (key.x, Some(key.y)),
            _ => return Err("has a `d` that is no key of its curve"),
        };
        let public = PublicJwk::new(algorithm, x, y).map_err(|_| "has a `d` that is no key of its curve")?;
        Ok(Self { public, signs_from, secret, encoding })
    }

    /// Parses the content of a file. The public members must belong to `d`, and `kid` must be the
    /// thumbprint.
    ///
    /// # Errors
    /// The fault, without any part of the key.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let file: PrivateKeyFile = serde_json::from_str(file_text(text)?)
            .map_err(|_| "is not a private JWK with kty, crv, x, d, kid, alg, use and signs_from")?;
        let secret = URL_SAFE_NO_PAD.decode(&file.d).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let secret = secret.ok_or("has a `d` that is not 32 bytes in base64url")?;
        let key = Self::from_secret(file.public.algorithm(), secret, file.signs_from)?;
        if key.public == file.public {
            Ok(key)
        } else {
            Err("has public members that do not belong to its `d`, or a `kid` that is not its thumbprint")
        }
    }

    /// The content of the file of this key.
    ///
    /// # Errors
    /// Only a fault of the library; no caller can cause it.
    pub fn to_file_content(&self) -> Result<Vec<u8>, serde_json::Error> {
        let file = PrivateKeyFile {
            public: self.public.clone(),
            d: URL_SAFE_NO_PAD.encode(self.secret),
            signs_from: self.signs_from,
        };
        let mut text = serde_json::to_vec_pretty(&file)?;
        text.push(b'\n');
        Ok(text)
    }

    /// The key that seals records of the credential store.
    pub(crate) fn seal_key(&self) -> Option<SealKey> {
        SealKey::derive(&self.secret)
    }

    /// The key in the form of the library that signs.
    pub(crate) fn encoding_key(&self) -> &EncodingKey {
        &self.encoding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_key_survives_its_file_and_debug_output_hides_it() {
        for algorithm in KeyAlgorithm::ALL {
            let key = PrivateKey::generate(algorithm, 7).unwrap();
            let text = key.to_file_content().unwrap();
            let read = PrivateKey::parse(&text).unwrap();
            assert_eq!((read.public.kid(), read.signs_from), (key.public.kid(), 7));
            let d = URL_SAFE_NO_PAD.encode(key.secret);
            assert!(String::from_utf8_lossy(&text).contains(&d));
            assert!(!format!("{key:?}").contains(&d));
            assert!(!serde_json::to_string(&key.public).unwrap().contains(&d));
        }
    }

    #[test]
    fn rfc_8037_seed_has_the_rfc_8037_public_key() {
        // RFC 8037, appendix A.1.
        let d = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = PrivateKey::from_secret(KeyAlgorithm::EdDSA, d.try_into().unwrap(), 0).unwrap();
        assert_eq!(key.public.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn key_file_with_mismatched_parts_is_refused() {
        let (one, two) = (
            PrivateKey::generate(KeyAlgorithm::EdDSA, 7).unwrap(),
            PrivateKey::generate(KeyAlgorithm::EdDSA, 7).unwrap(),
        );
        let mixed = PrivateKey { public: two.public, ..one.clone() };
        assert!(PrivateKey::parse(&mixed.to_file_content().unwrap()).is_err());
        let text = String::from_utf8(one.to_file_content().unwrap()).unwrap();
        let renamed = text.replace(one.public.kid(), "mine");
        let other = text.replace("EdDSA", "ES256");
        for broken in [&renamed, &other, &text.replace("\"d\"", "\"e\""), "", "{}"] {
            assert!(PrivateKey::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
