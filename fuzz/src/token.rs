//! Tokens of every kind by every algorithm, with the right keys and with all that can be wrong about them.
//!
//! The keys are made when the target starts, from a label: none is written down, and the fuzzer knows none. An input is a [`TokenRecipe`] and
//! claims, so that good signatures are reached at once and each defect is one byte away.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk};
use serde_json::json;
use sha2::{Digest, Sha256};
use signalbox_token::{
    KeyAlgorithm, PublicJwk, SecretBytes, SharedSecret, TokenKind, TokenVerifier, parse_jwks,
};

/// What signs. Two keys of each algorithm: one that is known, and one that is not.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256];

/// When good tokens are good: from here …
pub const VALID_FROM: u64 = 1_000;
/// … until here, seconds since 1970.
pub const VALID_UNTIL: u64 = 2_000;

struct FuzzKey {
    kid: String,
    encoding: EncodingKey,
    public: Option<PublicJwk>,
    secret: Option<SharedSecret>,
}

struct FuzzKeys {
    known_keys: [FuzzKey; 3],
    unknown_keys: [FuzzKey; 3],
    verifier: TokenVerifier,
}

static KEYS: LazyLock<FuzzKeys> = LazyLock::new(|| {
    let [known, strange] =
        ["known", "strange"].map(|label| ALGORITHMS.map(|algorithm| FuzzKey::new(algorithm, label)));
    let [known, mut strange] = [known, strange];
    // The confusion of old: what is published is taken for a shared secret.
    let x = known[1].public.as_ref().map(|key| json!(key)["x"].to_string()).expect("a public key");
    strange[0].encoding = EncodingKey::from_secret(x.trim_matches('"').as_bytes());
    let verifier = TokenVerifier::with_published_keys(known.iter().filter_map(|key| key.secret.as_ref()));
    // By the way that a signaling node gets them.
    let set = json!({ "keys": known.iter().filter_map(|key| key.public.as_ref()).collect::<Vec<_>>() });
    verifier.replace_published_keys(parse_jwks(set.to_string().as_bytes()).expect("a set"));
    FuzzKeys { known_keys: known, unknown_keys: strange, verifier }
});

impl FuzzKey {
    /// Its bytes are a digest, and so as good as random.
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
                let secret = SharedSecret::new(SecretBytes::new(bytes.to_vec())).expect("strong enough");
                let encoding = EncodingKey::from_secret(secret.expose());
                return Self { kid: secret.kid(), encoding, public: None, secret: Some(secret) };
            }
        };
        let own = jwk::Jwk::from_encoding_key(&encoding, algorithm).expect("a key of its curve");
        let (x, y) = match own.algorithm {
            jwk::AlgorithmParameters::OctetKeyPair(key) => (key.x, None),
            jwk::AlgorithmParameters::EllipticCurve(key) => (key.x, Some(key.y)),
            _ => unreachable!("two curves"),
        };
        let public = PublicJwk::new(alg, x, y).expect("a point");
        Self { kid: public.kid().to_owned(), encoding, public: Some(public), secret: None }
    }
}

/// What checks: all known keys, as a node has them.
pub fn verifier() -> &'static TokenVerifier {
    &KEYS.verifier
}

/// The known public key of an algorithm.
pub fn public_key(algorithm: KeyAlgorithm) -> &'static PublicJwk {
    let mut keys = KEYS.known_keys.iter().filter_map(|key| key.public.as_ref());
    keys.find(|key| key.algorithm() == algorithm).expect("a key of each")
}

/// How a token is made, from the first four bytes of an input.
#[derive(Debug, Clone, Copy)]
pub struct TokenRecipe {
    /// What kind its header says that it is.
    pub kind: TokenKind,
    signing_index: usize,
    header_index: usize,
    kid_choice: KidChoice,
    uses_unknown_key: bool,
    mutation: (u8, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KidChoice {
    Matching,
    Missing,
    /// That of a known key of the next algorithm.
    OtherKey,
    Unknown,
}

impl TokenRecipe {
    /// The recipe, and the rest of the input: claims, or nothing for good ones. None where it is too short.
    pub fn from_input(data: &[u8]) -> Option<(Self, &str)> {
        let [how, name, place, flip, claims @ ..] = data else { return None };
        let (how, name) = (usize::from(*how), usize::from(*name));
        let kid =
            [KidChoice::Matching, KidChoice::Missing, KidChoice::OtherKey, KidChoice::Unknown][name % 4];
        let recipe = Self {
            kind: TokenKind::ALL[how % 3],
            signing_index: how / 3 % 3,
            header_index: (how / 3 + how / 9) % 3,
            kid_choice: kid,
            uses_unknown_key: name / 4 % 4 == 3,
            // So that a recipe can be typed: `6@00` is a room token by HS256 with nothing wrong, `9@00` one by EdDSA, `<@00` by ES256.
            mutation: (*place, *flip ^ b'0'),
        };
        Some((recipe, std::str::from_utf8(claims).ok()?))
    }

    /// The token with these claims.
    pub fn build_token(&self, claims: &str) -> String {
        let keys = if self.uses_unknown_key { &KEYS.unknown_keys } else { &KEYS.known_keys };
        let (key, says) = (&keys[self.signing_index], ALGORITHMS[self.header_index]);
        let mut header = json!({ "alg": format!("{says:?}"), "typ": self.kind.typ() });
        let kid = match self.kid_choice {
            // A strange key under the name of the known one.
            KidChoice::Matching => Some(&*KEYS.known_keys[self.signing_index].kid),
            KidChoice::Missing => None,
            KidChoice::OtherKey => Some(&*KEYS.known_keys[(self.signing_index + 1) % 3].kid),
            KidChoice::Unknown => Some(&*KEYS.unknown_keys[self.signing_index].kid),
        };
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(text.as_bytes(), &key.encoding, ALGORITHMS[self.signing_index]);
        self.mutate(format!("{text}.{}", signature.expect("a signature")))
    }

    /// One character of the token is another one: somewhere in it, or near its end, where the signature is.
    fn mutate(&self, token: String) -> String {
        let (place, flip) = self.mutation;
        let mut bytes = token.into_bytes();
        let place = usize::from(place);
        let at = if place < 128 {
            bytes.len() - 1 - place % bytes.len()
        } else {
            (place - 128) * bytes.len() / 128
        };
        let flipped = bytes[at] ^ flip;
        if flip != 0 && flipped.is_ascii() {
            bytes[at] = flipped;
        }
        String::from_utf8(bytes).expect("ASCII stays ASCII")
    }

    /// Whether it is signed as it says, by a key that is known by that name, and was not changed: its claims are then all that counts.
    pub fn is_genuine(&self) -> bool {
        let is_named = match self.kid_choice {
            KidChoice::Matching => true,
            // An application that signs with the shared secret need not name it.
            KidChoice::Missing => ALGORITHMS[self.signing_index] == Algorithm::HS256,
            KidChoice::OtherKey | KidChoice::Unknown => false,
        };
        let (_, flip) = self.mutation;
        self.signing_index == self.header_index
            && is_named
            && !self.uses_unknown_key
            && (flip == 0 || !flip.is_ascii())
    }
}

/// Claims of a kind that are good from [`VALID_FROM`] until [`VALID_UNTIL`].
pub fn valid_claims(kind: TokenKind) -> String {
    let mut claims = json!({
        "iss": "signalbox", "aud": kind.aud(), "sub": "alice", "iat": VALID_FROM, "nbf": VALID_FROM, "exp": VALID_UNTIL, "jti": "j",
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

/// As which kinds a token is good at this time.
pub fn accepted_kinds(token: &str, now_s: u64) -> Vec<TokenKind> {
    let verifier = verifier();
    let is_good = |kind: &TokenKind| match kind {
        TokenKind::Room => verifier.verify_room_token(token, now_s).is_ok(),
        TokenKind::User => verifier.verify_user_token(token, now_s).is_ok(),
        TokenKind::Management => verifier.verify_management_token(token, now_s).is_ok(),
    };
    TokenKind::ALL.into_iter().filter(is_good).collect()
}
