//! A signing key pair of a deployment, read from its folder. Gives the public key in each form that
//! a verifier might mistake for an HMAC secret, and signs tokens with any header.

use std::{fs, path::Path};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use signalbox_tests::token::TokenBuilder;
use signalbox_token::KeyAlgorithm;

/// Ed25519 in PKCS #8 (RFC 8410, section 7), up to the seed.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// P-256 in PKCS #8 (RFC 5915), up to the scalar.
const PKCS8_P256: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04,
    0x20,
];

/// SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4), up to the key.
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SubjectPublicKeyInfo of P-256 (RFC 5480), up to the coordinates.
const SPKI_P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// The order of the group of Ed25519 (RFC 8032, section 5.1), little-endian.
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A signing key pair.
#[derive(Clone)]
pub(crate) struct KeyPair {
    pub(crate) kid: String,
    pub(crate) algorithm: KeyAlgorithm,
    /// The published public key.
    pub(crate) jwk: Value,
    key: EncodingKey,
}

impl KeyPair {
    /// Reads a key file and sets the time from which the key signs, in seconds since 1970.
    ///
    /// # Panics
    /// If the file is not a key.
    pub(crate) fn read(folder: &Path, kid: &str, signs_from: u64) -> Self {
        let path = folder.join(format!("{kid}.json"));
        let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        file["signs_from"] = signs_from.into();
        // The file is overwritten and not replaced, so its mode stays private.
        fs::write(&path, file.to_string()).unwrap();
        let d = decode_base64url(&file["d"]);
        let algorithm = KeyAlgorithm::parse(file["alg"].as_str().unwrap()).unwrap();
        let key = match algorithm {
            KeyAlgorithm::EdDSA => EncodingKey::from_ed_der(&[&PKCS8_ED25519[..], &d].concat()),
            KeyAlgorithm::ES256 => EncodingKey::from_ec_der(&[&PKCS8_P256[..], &d].concat()),
        };
        let jwk = file.as_object_mut().unwrap();
        jwk.remove("d");
        jwk.remove("signs_from");
        Self { kid: kid.to_owned(), algorithm, jwk: file, key }
    }

    /// The bytes of the public key: x for Ed25519, x and y for P-256.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let y = self.jwk.get("y").map_or(Vec::new(), decode_base64url);
        [decode_base64url(&self.jwk["x"]), y].concat()
    }

    /// The public key as SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let head = match self.algorithm {
            KeyAlgorithm::EdDSA => &SPKI_ED25519[..],
            KeyAlgorithm::ES256 => &SPKI_P256[..],
        };
        [head, &self.raw()].concat()
    }

    /// The public key as PEM (RFC 7468).
    pub(crate) fn pem(&self) -> String {
        let body = STANDARD.encode(self.spki());
        let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The header of a valid token of this key.
    pub(crate) fn header(&self, forgery: &TokenBuilder) -> Value {
        json!({ "alg": self.algorithm.as_str(), "typ": forgery.header.typ, "kid": self.kid })
    }

    /// A token with this header, signed by this pair.
    pub(crate) fn sign(&self, header: &Value, forgery: &TokenBuilder) -> String {
        let signature = self.signature(header, forgery);
        forgery.assemble(header, &URL_SAFE_NO_PAD.encode(signature))
    }

    /// The 64 bytes of a signature.
    pub(crate) fn signature(&self, header: &Value, forgery: &TokenBuilder) -> Vec<u8> {
        let unsigned = forgery.assemble(header, "");
        let message = unsigned.trim_end_matches('.').as_bytes();
        let text = jsonwebtoken::crypto::sign(message, &self.key, self.algorithm.to_jsonwebtoken()).unwrap();
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }
}

/// A token with this header and an HMAC.
pub(crate) fn sign_hmac(
    header: &Value,
    forgery: &TokenBuilder,
    algorithm: Algorithm,
    secret: &[u8],
) -> String {
    let unsigned = forgery.assemble(header, "");
    let message = unsigned.trim_end_matches('.');
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// The same signature in another encoding: ECDSA as DER (RFC 3279), Ed25519 with a scalar that is
/// not reduced (RFC 8032, section 5.1.7).
pub(crate) fn reencode_signature(algorithm: KeyAlgorithm, signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    match algorithm {
        KeyAlgorithm::ES256 => {
            let (r, s) = (der_integer(r), der_integer(s));
            let length = u8::try_from(r.len() + s.len()).unwrap();
            [&[0x30, length][..], &r, &s].concat()
        }
        KeyAlgorithm::EdDSA => {
            let mut carry = 0;
            let add = |(one, other): (&u8, &u8)| {
                let sum = u16::from(*one) + u16::from(*other) + carry;
                carry = sum >> 8;
                sum as u8
            };
            let s: Vec<u8> = s.iter().zip(&ED25519_ORDER).map(add).collect();
            [r, &s].concat()
        }
    }
}

fn der_integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let (sign, rest) = (if bytes[start] & 0x80 == 0 { &[][..] } else { &[0][..] }, &bytes[start..]);
    let length = u8::try_from(sign.len() + rest.len()).unwrap();
    [&[0x02, length][..], sign, rest].concat()
}

fn decode_base64url(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}
