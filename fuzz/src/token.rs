//! Makes tokens of every kind with every algorithm, valid ones and ones with each possible defect.
//!
//! The keys are made from a label when the target starts, so none is stored, and the fuzzer knows
//! none. An input is a [`TokenRecipe`] and claims, so that the fuzzer reaches valid signatures at
//! once, and each defect by changing one byte.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk};
use serde_json::json;
use sha2::{Digest, Sha256};
use signalbox_token::{
    KeyAlgorithm, PublicJwk, SecretBytes, SharedSecret, TokenKind, TokenVerifier, parse_jwks,
};

/// There is one trusted key and one untrusted key for each algorithm.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256];

/// When the claims of [`valid_claims`] become valid, in seconds since 1970.
pub const VALID_FROM: u64 = 1_000;
/// When the claims of [`valid_claims`] expire, in seconds since 1970.
pub const VALID_UNTIL: u64 = 2_000;

struct FuzzKey {
    kid: String,
    encoding: EncodingKey,
    public: Option<PublicJwk>,
    secret: Option<SharedSecret>,
}

struct FuzzKeys {
    trusted: [FuzzKey; 3],
    untrusted: [FuzzKey; 3],
    verifier: TokenVerifier,
}

static KEYS: LazyLock<FuzzKeys> = LazyLock::new(|| {
    // The labels decide the keys. The seeds of `jwks` contain the public keys, so keep the labels.
    let [trusted, mut untrusted] =
        ["known", "strange"].map(|label| ALGORITHMS.map(|algorithm| FuzzKey::new(algorithm, label)));
    // The classic algorithm confusion: a published key is used as a shared secret.
    let x = trusted[1].public.as_ref().map(|key| json!(key)["x"].to_string()).expect("a public key");
    untrusted[0].encoding = EncodingKey::from_secret(x.trim_matches('"').as_bytes());
    let verifier = TokenVerifier::with_published_keys(trusted.iter().filter_map(|key| key.secret.as_ref()));
    // A signaling node gets the public keys in the same way.
    let key_set = json!({ "keys": trusted.iter().filter_map(|key| key.public.as_ref()).collect::<Vec<_>>() });
    verifier.replace_published_keys(parse_jwks(key_set.to_string().as_bytes()).expect("a key set"));
    FuzzKeys { trusted, untrusted, verifier }
});

impl FuzzKey {
    /// The bytes of the key are a digest of the label, which is as good as random.
    fn new(algorithm: Algorithm, label: &str) -> Self {
        // PKCS #8 up to the private key (RFC 8410, section 7; RFC 5915).
        const ED25519: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        const P256: &[u8] = &[
            0x30, 0x41, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86,
            0x48, 0xce, 0x3d, 3, 1, 7, 4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 0x20,
        ];
        let bytes = Sha256::digest(format!("{label} {algorithm:?}"));
        let (alg, encoding) = match algorithm {
            Algorithm::EdDSA => (KeyAlgorithm::EdDSA, EncodingKey::from_ed_der(&[ED25519, &bytes].concat())),
            Algorithm::ES256 => (KeyAlgorithm::ES256, EncodingKey::from_ec_der(&[P256, &bytes].concat())),
            _ => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let secret = SharedSecret::new(SecretBytes::new(hex)).expect("a strong secret");
                let encoding = EncodingKey::from_secret(secret.expose());
                return Self { kid: secret.kid(), encoding, public: None, secret: Some(secret) };
            }
        };
        let own = jwk::Jwk::from_encoding_key(&encoding, algorithm).expect("a key of its curve");
        let (x, y) = match own.algorithm {
            jwk::AlgorithmParameters::OctetKeyPair(key) => (key.x, None),
            jwk::AlgorithmParameters::EllipticCurve(key) => (key.x, Some(key.y)),
            _ => unreachable!("only keys of these two types are made"),
        };
        let public = PublicJwk::new(alg, x, y).expect("a point");
        Self { kid: public.kid().to_owned(), encoding, public: Some(public), secret: None }
    }
}

/// The verifier with all trusted keys, as a signaling node has it.
pub fn verifier() -> &'static TokenVerifier {
    &KEYS.verifier
}

/// The trusted public key of an algorithm.
pub fn public_key(algorithm: KeyAlgorithm) -> &'static PublicJwk {
    let mut keys = KEYS.trusted.iter().filter_map(|key| key.public.as_ref());
    keys.find(|key| key.algorithm() == algorithm).expect("a key for each algorithm")
}

/// How a token is made, from the first four bytes of an input.
#[derive(Debug, Clone, Copy)]
pub struct TokenRecipe {
    /// The kind in the header.
    pub kind: TokenKind,
    /// Index into `ALGORITHMS`: the key that signs.
    signing_algorithm: usize,
    /// Index into `ALGORITHMS`: `alg` in the header.
    header_algorithm: usize,
    kid: HeaderKid,
    has_untrusted_key: bool,
    /// Which character of the token is changed, and the bits that are flipped in it.
    change: (u8, u8),
}

/// `kid` in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeaderKid {
    /// The trusted key of the algorithm that signs, also if an untrusted key signs.
    Trusted,
    Missing,
    /// The trusted key of the next algorithm.
    OtherAlgorithm,
    /// The untrusted key.
    Unknown,
}

impl TokenRecipe {
    /// The recipe and the rest of the input, which is the claims or empty. `None` if the input is
    /// too short or the claims are not UTF-8.
    ///
    /// A recipe can be typed: `6@00` is a valid room token with HS256, `9@00` one with EdDSA,
    /// `<@00` one with ES256.
    pub fn from_input(data: &[u8]) -> Option<(Self, &str)> {
        let [algorithms, key, position, bits, claims @ ..] = data else { return None };
        let (algorithms, key) = (usize::from(*algorithms), usize::from(*key));
        let kids = [HeaderKid::Trusted, HeaderKid::Missing, HeaderKid::OtherAlgorithm, HeaderKid::Unknown];
        let recipe = Self {
            kind: TokenKind::ALL[algorithms % 3],
            signing_algorithm: algorithms / 3 % 3,
            header_algorithm: (algorithms / 3 + algorithms / 9) % 3,
            kid: kids[key % 4],
            has_untrusted_key: key / 4 % 4 == 3,
            // The character 0 changes nothing.
            change: (*position, *bits ^ b'0'),
        };
        Some((recipe, std::str::from_utf8(claims).ok()?))
    }

    /// The token with these claims.
    pub fn build_token(&self, claims: &str) -> String {
        let keys = if self.has_untrusted_key { &KEYS.untrusted } else { &KEYS.trusted };
        let key = &keys[self.signing_algorithm];
        let alg = format!("{:?}", ALGORITHMS[self.header_algorithm]);
        let mut header = json!({ "alg": alg, "typ": self.kind.typ() });
        let kid = match self.kid {
            HeaderKid::Trusted => Some(&*KEYS.trusted[self.signing_algorithm].kid),
            HeaderKid::Missing => None,
            HeaderKid::OtherAlgorithm => Some(&*KEYS.trusted[(self.signing_algorithm + 1) % 3].kid),
            HeaderKid::Unknown => Some(&*KEYS.untrusted[self.signing_algorithm].kid),
        };
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let algorithm = ALGORITHMS[self.signing_algorithm];
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key.encoding, algorithm);
        self.mutate(format!("{text}.{}", signature.expect("a signature")))
    }

    /// Changes one character: for positions below 128 near the end, where the signature is; for the
    /// others anywhere.
    fn mutate(&self, token: String) -> String {
        let (position, bits) = self.change;
        let mut bytes = token.into_bytes();
        let position = usize::from(position);
        let index = if position < 128 {
            bytes.len() - 1 - position % bytes.len()
        } else {
            (position - 128) * bytes.len() / 128
        };
        let changed = bytes[index] ^ bits;
        if bits != 0 && changed.is_ascii() {
            bytes[index] = changed;
        }
        String::from_utf8(bytes).expect("ASCII stays ASCII")
    }

    /// Whether a trusted key signs the token as its header says, and no character is changed. Then
    /// only the claims decide whether the token is valid.
    pub fn is_genuine(&self) -> bool {
        let is_key_named = match self.kid {
            HeaderKid::Trusted => true,
            // An application that signs with the shared secret need not name it.
            HeaderKid::Missing => ALGORITHMS[self.signing_algorithm] == Algorithm::HS256,
            HeaderKid::OtherAlgorithm | HeaderKid::Unknown => false,
        };
        let (_, bits) = self.change;
        let is_unchanged = bits == 0 || !bits.is_ascii();
        self.signing_algorithm == self.header_algorithm
            && is_key_named
            && !self.has_untrusted_key
            && is_unchanged
    }
}

/// Claims of a kind that are valid from [`VALID_FROM`] until [`VALID_UNTIL`].
pub fn valid_claims(kind: TokenKind) -> String {
    let mut claims = json!({
        "iss": "signalbox", "aud": kind.aud(), "sub": "alice", "iat": VALID_FROM, "nbf": VALID_FROM,
        "exp": VALID_UNTIL, "jti": "j",
    });
    match kind {
        TokenKind::Room => {
            claims["room"] = "r".into();
            claims["role"] = "host".into();
            claims["permissions"] = json!(["publish"]);
        }
        TokenKind::User => claims["role"] = "host".into(),
        TokenKind::Management => claims["scopes"] = json!(["tokens"]),
    }
    claims.to_string()
}

/// The kinds as which the token is valid at this time.
pub fn accepted_kinds(token: &str, now_s: u64) -> Vec<TokenKind> {
    let verifier = verifier();
    let is_valid = |kind: &TokenKind| match kind {
        TokenKind::Room => verifier.verify_room_token(token, now_s).is_ok(),
        TokenKind::User => verifier.verify_user_token(token, now_s).is_ok(),
        TokenKind::Management => verifier.verify_management_token(token, now_s).is_ok(),
    };
    TokenKind::ALL.into_iter().filter(is_valid).collect()
}
