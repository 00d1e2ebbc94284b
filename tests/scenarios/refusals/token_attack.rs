//! The attacks on tokens that are signed with asymmetric keys.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_tests::token::TokenBuilder;
use signalbox_token::TokenKind;

use super::{
    key_pair::{self, KeyPair},
    token_defect::next_kind,
};

all_of!(
    /// The key that a forged token names.
    pub(crate) VictimKey { Ed25519, P256 }
);

all_of!(
    /// A public form of a key, used as an HMAC secret.
    pub(crate) PublicKeyForm { Coordinates, Spki, Pem, PemWithoutNewline, Jwk, Jwks, Kid }
);

all_of!(
    /// An HMAC algorithm.
    pub(crate) HmacAlgorithm { Hs256, Hs384, Hs512 }
);

all_of!(
    /// An attack without an HMAC.
    pub(crate) OtherAttack {
        // `alg` names another algorithm than the key's; the signature is valid.
        AlgNone, AlgHs256, AlgRs256, AlgRs384, AlgRs512, AlgPs256, AlgPs384, AlgPs512, AlgEs384, AlgEs512, AlgEs256K,
        AlgOfOtherKey, AlgLowerCase,
        // The signature is missing or altered.
        AlgNoneUnsigned, Unsigned, ZeroSignature, NeutralElement, HalfSignature, DoubledSignature, PaddedSignature, ReencodedSignature, Tampered,
        // Another key signed the token.
        SignedByOtherKey, SignedByOtherKeyWithItsAlg, SignedByForeignKey, SignedByRetiredKey,
        // The `kid` is wrong.
        KidMissing, KidEmpty, KidOfForeignKey, KidWithPath, KidWithQuery, KidLowerCase, KidPadded, KidNumber, KidTooLong,
        // The header contains a key or a key address.
        Jwk, JwkOfVictim, Jku, X5u, X5c,
        // The token is of another kind.
        TypOfAnotherKind, AudOfAnotherKind,
    }
);

/// One attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TokenAttack {
    /// An HMAC keyed with public data, with the `kid` of the victim or without a `kid`.
    Hmac(PublicKeyForm, HmacAlgorithm, bool),
    /// An attack without an HMAC.
    Other(OtherAttack),
}

pub(crate) fn all_attacks() -> Vec<TokenAttack> {
    let mut all: Vec<_> = OtherAttack::ALL.iter().copied().map(TokenAttack::Other).collect();
    for form in PublicKeyForm::ALL {
        for hs in HmacAlgorithm::ALL {
            all.extend([true, false].map(|named| TokenAttack::Hmac(*form, *hs, named)));
        }
    }
    all
}

/// The keys of a deployment, and keys that the deployment does not have.
pub(crate) struct DeploymentKeys {
    pub(crate) ed25519: KeyPair,
    pub(crate) p256: KeyPair,
    pub(crate) retired: KeyPair,
    pub(crate) foreign: [KeyPair; 2],
    pub(crate) jwks: String,
}

impl DeploymentKeys {
    pub(crate) fn victim(&self, victim: VictimKey) -> &KeyPair {
        match victim {
            VictimKey::Ed25519 => &self.ed25519,
            VictimKey::P256 => &self.p256,
        }
    }

    pub(crate) fn token(&self, victim: VictimKey, forgery: &TokenBuilder, attack: TokenAttack) -> String {
        let (pair, [foreign, _]) = (self.victim(victim), self.foreign_pairs(victim));
        match attack {
            TokenAttack::Other(other_attack) => self.forge(victim, pair, foreign, forgery, other_attack),
            TokenAttack::Hmac(form, hs, named) => {
                let (alg, algorithm) = match hs {
                    HmacAlgorithm::Hs256 => ("HS256", Algorithm::HS256),
                    HmacAlgorithm::Hs384 => ("HS384", Algorithm::HS384),
                    HmacAlgorithm::Hs512 => ("HS512", Algorithm::HS512),
                };
                let mut header = with_member(pair.header(forgery), "alg", alg);
                if !named {
                    header.as_object_mut().unwrap().remove("kid");
                }
                key_pair::sign_hmac(&header, forgery, algorithm, &self.public_bytes(pair, form))
            }
        }
    }

    /// The foreign pair with the algorithm of the victim, and the other foreign pair.
    fn foreign_pairs(&self, victim: VictimKey) -> [&KeyPair; 2] {
        let [ed25519, p256] = &self.foreign;
        match victim {
            VictimKey::Ed25519 => [ed25519, p256],
            VictimKey::P256 => [p256, ed25519],
        }
    }

    fn public_bytes(&self, pair: &KeyPair, form: PublicKeyForm) -> Vec<u8> {
        match form {
            PublicKeyForm::Coordinates => pair.raw(),
            PublicKeyForm::Spki => pair.spki(),
            PublicKeyForm::Pem => pair.pem().into_bytes(),
            PublicKeyForm::PemWithoutNewline => pair.pem().trim_end().to_owned().into_bytes(),
            PublicKeyForm::Jwk => pair.jwk.to_string().into_bytes(),
            PublicKeyForm::Jwks => self.jwks.clone().into_bytes(),
            PublicKeyForm::Kid => pair.kid.clone().into_bytes(),
        }
    }

    fn forge(
        &self,
        victim: VictimKey,
        pair: &KeyPair,
        foreign: &KeyPair,
        forgery: &TokenBuilder,
        other_attack: OtherAttack,
    ) -> String {
        let other_pair = self.victim(match victim {
            VictimKey::Ed25519 => VictimKey::P256,
            VictimKey::P256 => VictimKey::Ed25519,
        });
        let header = pair.header(forgery);
        let with_alg = |alg: &str| pair.sign(&with_member(header.clone(), "alg", alg), forgery);
        let with_kid = |kid: &str| pair.sign(&with_member(header.clone(), "kid", kid), forgery);
        let foreign_with =
            |name: &str, value: Value| foreign.sign(&with_member(header.clone(), name, value), forgery);
        let with_signature = |signature: &[u8]| forgery.assemble(&header, &URL_SAFE_NO_PAD.encode(signature));
        let signature = pair.signature(&header, forgery);
        match other_attack {
            OtherAttack::AlgNone => with_alg("none"),
            OtherAttack::AlgHs256 => with_alg("HS256"),
            OtherAttack::AlgRs256 => with_alg("RS256"),
            OtherAttack::AlgRs384 => with_alg("RS384"),
            OtherAttack::AlgRs512 => with_alg("RS512"),
            OtherAttack::AlgPs256 => with_alg("PS256"),
            OtherAttack::AlgPs384 => with_alg("PS384"),
            OtherAttack::AlgPs512 => with_alg("PS512"),
            OtherAttack::AlgEs384 => with_alg("ES384"),
            OtherAttack::AlgEs512 => with_alg("ES512"),
            OtherAttack::AlgEs256K => with_alg("ES256K"),
            OtherAttack::AlgOfOtherKey => with_alg(other_pair.algorithm.as_str()),
            OtherAttack::AlgLowerCase => with_alg(&pair.algorithm.as_str().to_lowercase()),
            OtherAttack::AlgNoneUnsigned => forgery.assemble(&with_member(header, "alg", "none"), ""),
            OtherAttack::Unsigned => forgery.assemble(&header, ""),
            OtherAttack::ZeroSignature => with_signature(&[0; 64]),
            // R is the neutral element of the curve, or r = 1; s = 0.
            OtherAttack::NeutralElement => with_signature(&[&[1][..], &[0; 63]].concat()),
            OtherAttack::HalfSignature => with_signature(&signature[..32]),
            OtherAttack::DoubledSignature => with_signature(&[&*signature, &*signature].concat()),
            OtherAttack::PaddedSignature => format!("{}==", with_signature(&signature)),
            OtherAttack::ReencodedSignature => {
                with_signature(&key_pair::reencode_signature(pair.algorithm, &signature))
            }
            OtherAttack::Tampered => {
                forgery.clone().claim("name", "Eve").assemble(&header, &URL_SAFE_NO_PAD.encode(signature))
            }
            OtherAttack::SignedByOtherKey => other_pair.sign(&header, forgery),
            OtherAttack::SignedByOtherKeyWithItsAlg => {
                other_pair.sign(&with_member(header, "alg", other_pair.algorithm.as_str()), forgery)
            }
            OtherAttack::SignedByForeignKey => foreign.sign(&header, forgery),
            OtherAttack::SignedByRetiredKey => self.retired.sign(&self.retired.header(forgery), forgery),
            OtherAttack::KidMissing => pair.sign(&without_member(header, "kid"), forgery),
            OtherAttack::KidEmpty => with_kid(""),
            OtherAttack::KidOfForeignKey => foreign.sign(&foreign.header(forgery), forgery),
            OtherAttack::KidWithPath => with_kid("../../../../dev/null"),
            OtherAttack::KidWithQuery => with_kid("x' UNION SELECT 'key"),
            OtherAttack::KidLowerCase => with_kid(&format!("{}x", pair.kid.to_lowercase())),
            OtherAttack::KidPadded => with_kid(&format!("{}=", pair.kid)),
            OtherAttack::KidNumber => pair.sign(&with_member(header, "kid", 7), forgery),
            OtherAttack::KidTooLong => with_kid(&"k".repeat(129)),
            OtherAttack::Jwk => foreign_with("jwk", foreign.jwk.clone()),
            OtherAttack::JwkOfVictim => pair.sign(&with_member(header, "jwk", pair.jwk.clone()), forgery),
            OtherAttack::Jku => foreign_with("jku", json!("https://keys.example/jwks.json")),
            OtherAttack::X5u => foreign_with("x5u", json!("https://keys.example/cert.pem")),
            OtherAttack::X5c => foreign_with("x5c", json!([URL_SAFE_NO_PAD.encode(foreign.spki())])),
            OtherAttack::TypOfAnotherKind => {
                pair.sign(&with_member(header, "typ", next_kind(kind_of(forgery)).typ()), forgery)
            }
            OtherAttack::AudOfAnotherKind => {
                let forgery = forgery.clone().claim("aud", next_kind(kind_of(forgery)).aud());
                pair.sign(&header, &forgery)
            }
        }
    }
}

fn kind_of(forgery: &TokenBuilder) -> TokenKind {
    let typ = forgery.header.typ.as_deref();
    TokenKind::ALL.into_iter().find(|kind| Some(kind.typ()) == typ).unwrap()
}

fn with_member(mut header: Value, name: &str, value: impl Into<Value>) -> Value {
    header[name] = value.into();
    header
}

fn without_member(mut header: Value, name: &str) -> Value {
    header.as_object_mut().unwrap().remove(name);
    header
}
