//! Tokens of every kind by every algorithm, with the right keys and with all that can be wrong about them.
//!
//! The keys are made when the target starts, from a label: none is written down, and the fuzzer knows none. An input is a [`TokenRecipe`] and
//! claims, so that good signatures are reached at once and each defect is one byte away.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk};
use serde_json::json;
use sha2::{Digest, Sha256};
use signalbox_token::{parse_jwks, KeyAlgorithm, PublicJwk, Secret, SharedSecret, TokenKind, Verifier};

/// What signs. Two keys of each algorithm: one that is known, and one that is not.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256];

/// When good tokens are good: from here …
pub const FROM: u64 = 1_000;
/// … until here, seconds since 1970.
pub const UNTIL: u64 = 2_000;

struct Key {
    kid: String,
    encoding: EncodingKey,
    public: Option<PublicJwk>,
    secret: Option<SharedSecret>,
}

struct Keys {
    known: [Key; 3],
    strange: [Key; 3],
    verifier: Verifier,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let [known, strange] =
        ["known", "strange"].map(|label| ALGORITHMS.map(|algorithm| Key::new(algorithm, label)));
    let [known, mut strange] = [known, strange];
    // The confusion of old: what is published is taken for a shared secret.
    let x = known[1].public.as_ref().map(|key| json!(key)["x"].to_string()).expect("a public key");
    strange[0].encoding = EncodingKey::from_secret(x.trim_matches('"').as_bytes());
    let verifier = Verifier::changing(known.iter().filter_map(|key| key.secret.as_ref()));
    // By the way that a signaling node gets them.
    let set = json!({ "keys": known.iter().filter_map(|key| key.public.as_ref()).collect::<Vec<_>>() });
    verifier.hold(parse_jwks(set.to_string().as_bytes()).expect("a set"));
    Keys { known, strange, verifier }
});

impl Key {
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
                let secret = SharedSecret::new(Secret::new(bytes.to_vec())).expect("strong enough");
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
pub fn verifier() -> &'static Verifier {
    &KEYS.verifier
}

/// The known public key of an algorithm.
pub fn public(algorithm: KeyAlgorithm) -> &'static PublicJwk {
    let mut keys = KEYS.known.iter().filter_map(|key| key.public.as_ref());
    keys.find(|key| key.algorithm() == algorithm).expect("a key of each")
}

/// How a token is made, from the first four bytes of an input.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// What kind its header says that it is.
    pub kind: TokenKind,
    signs: usize,
    says: usize,
    kid: Kid,
    is_strange: bool,
    change: (u8, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kid {
    Right,
    Missing,
    /// That of a known key of the next algorithm.
    OfAnother,
    Unknown,
}

impl Recipe {
    /// The recipe, and the rest of the input: claims, or nothing for good ones. None where it is too short.
    pub fn read(data: &[u8]) -> Option<(Self, &str)> {
        let [how, name, place, flip, claims @ ..] = data else { return None };
        let (how, name) = (usize::from(*how), usize::from(*name));
        let kid = [Kid::Right, Kid::Missing, Kid::OfAnother, Kid::Unknown][name % 4];
        let recipe = Self {
            kind: TokenKind::ALL[how % 3],
            signs: how / 3 % 3,
            says: (how / 3 + how / 9) % 3,
            kid,
            is_strange: name / 4 % 4 == 3,
            // So that a recipe can be typed: `6@00` is a room token by HS256 with nothing wrong, `9@00` one by EdDSA, `<@00` by ES256.
            change: (*place, *flip ^ b'0'),
        };
        Some((recipe, std::str::from_utf8(claims).ok()?))
    }

    /// The token with these claims.
    pub fn make(&self, claims: &str) -> String {
        let keys = if self.is_strange { &KEYS.strange } else { &KEYS.known };
        let (key, says) = (&keys[self.signs], ALGORITHMS[self.says]);
        let mut header = json!({ "alg": format!("{says:?}"), "typ": self.kind.typ() });
        let kid = match self.kid {
            // A strange key under the name of the known one.
            Kid::Right => Some(&*KEYS.known[self.signs].kid),
            Kid::Missing => None,
            Kid::OfAnother => Some(&*KEYS.known[(self.signs + 1) % 3].kid),
            Kid::Unknown => Some(&*KEYS.strange[self.signs].kid),
        };
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key.encoding, ALGORITHMS[self.signs]);
        self.changed(format!("{text}.{}", signature.expect("a signature")))
    }

    /// One character of the token is another one: somewhere in it, or near its end, where the signature is.
    fn changed(&self, token: String) -> String {
        let (place, flip) = self.change;
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
        let is_named = match self.kid {
            Kid::Right => true,
            // An application that signs with the shared secret need not name it.
            Kid::Missing => ALGORITHMS[self.signs] == Algorithm::HS256,
            Kid::OfAnother | Kid::Unknown => false,
        };
        let (_, flip) = self.change;
        self.signs == self.says && is_named && !self.is_strange && (flip == 0 || !flip.is_ascii())
    }
}

/// Claims of a kind that are good from [`VALID_FROM`] until [`VALID_UNTIL`].
pub fn good_claims(kind: TokenKind) -> String {
    let mut claims = json!({
        "iss": "signalbox", "aud": kind.aud(), "sub": "alice", "iat": FROM, "nbf": FROM, "exp": UNTIL, "jti": "j",
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
pub fn good_as(token: &str, now_s: u64) -> Vec<TokenKind> {
    let verifier = verifier();
    let is_good = |kind: &TokenKind| match kind {
        TokenKind::Room => verifier.room(token, now_s).is_ok(),
        TokenKind::User => verifier.user(token, now_s).is_ok(),
        TokenKind::Management => verifier.management(token, now_s).is_ok(),
    };
    TokenKind::ALL.into_iter().filter(is_good).collect()
}
