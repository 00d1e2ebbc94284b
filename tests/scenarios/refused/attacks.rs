//! Everything that can be tried on a token where keys are asymmetric.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_tests::token::Forgery;
use signalbox_token::TokenKind;

use super::{
    defects::next,
    keyring::{self, Pair},
};

all_of!(
    /// Whose name a token bears.
    pub(crate) Victim { Ed25519, P256 }
);

all_of!(
    /// What everybody may know of a key, as the bytes of a secret.
    pub(crate) Form { Coordinates, Spki, Pem, PemWithoutItsEnd, Jwk, Jwks, Kid }
);

all_of!(
    /// An algorithm with a secret.
    pub(crate) Hs { Hs256, Hs384, Hs512 }
);

all_of!(
    /// What else may be tried.
    pub(crate) Trick {
        // An algorithm that is not the key's, over a good signature of it.
        NamedNone, NamedHs256, NamedRs256, NamedRs384, NamedRs512, NamedPs256, NamedPs384, NamedPs512, NamedEs384, NamedEs512, NamedEs256K,
        NamedTheOthers, NamedInLowerCase,
        // Nothing signed it.
        NoneUnsigned, Unsigned, Zeros, NeutralElement, Halved, Doubled, Padded, EncodedOtherwise, Tampered,
        // Somebody else did.
        SignedByTheOther, SignedByTheOtherInItsWay, SignedByAStranger, SignedByTheRetired,
        // Its name.
        Nameless, NameEmpty, NameOfTheStranger, NameWithAPath, NameWithAQuery, NameInLowerCase, NamePadded, NameANumber, NameTooLong,
        // It brings a key along.
        Jwk, JwkOfTheVictim, Jku, X5u, X5c,
        // It is of another kind.
        TypeOfAnotherKind, AudienceOfAnotherKind,
    }
);

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Attack {
    /// An HMAC, keyed with something public; under the victim's name or under none.
    Hmac(Form, Hs, bool),
    /// Anything else.
    Trick(Trick),
}

pub(crate) fn attacks() -> Vec<Attack> {
    let mut all: Vec<_> = Trick::ALL.iter().copied().map(Attack::Trick).collect();
    for form in Form::ALL {
        for hs in Hs::ALL {
            all.extend([true, false].map(|named| Attack::Hmac(*form, *hs, named)));
        }
    }
    all
}

/// The keys of a deployment, and one that it does not have.
pub(crate) struct Keys {
    pub(crate) ed25519: Pair,
    pub(crate) p256: Pair,
    pub(crate) retired: Pair,
    pub(crate) stranger: [Pair; 2],
    pub(crate) jwks: String,
}

impl Keys {
    pub(crate) fn victim(&self, victim: Victim) -> &Pair {
        match victim {
            Victim::Ed25519 => &self.ed25519,
            Victim::P256 => &self.p256,
        }
    }

    pub(crate) fn token(&self, victim: Victim, forgery: &Forgery, attack: Attack) -> String {
        let (pair, [same, _]) = (self.victim(victim), self.strangers(victim));
        match attack {
            Attack::Trick(trick) => self.trick(victim, pair, same, forgery, trick),
            Attack::Hmac(form, hs, named) => {
                let (alg, algorithm) = match hs {
                    Hs::Hs256 => ("HS256", Algorithm::HS256),
                    Hs::Hs384 => ("HS384", Algorithm::HS384),
                    Hs::Hs512 => ("HS512", Algorithm::HS512),
                };
                let mut header = with(pair.header(forgery), "alg", alg);
                if !named {
                    header.as_object_mut().unwrap().remove("kid");
                }
                keyring::hmac(&header, forgery, algorithm, &self.bytes(pair, form))
            }
        }
    }

    /// The stranger's pair of the victim's kind, and the other.
    fn strangers(&self, victim: Victim) -> [&Pair; 2] {
        let [ed25519, p256] = &self.stranger;
        match victim {
            Victim::Ed25519 => [ed25519, p256],
            Victim::P256 => [p256, ed25519],
        }
    }

    fn bytes(&self, pair: &Pair, form: Form) -> Vec<u8> {
        match form {
            Form::Coordinates => pair.raw(),
            Form::Spki => pair.spki(),
            Form::Pem => pair.pem().into_bytes(),
            Form::PemWithoutItsEnd => pair.pem().trim_end().to_owned().into_bytes(),
            Form::Jwk => pair.jwk.to_string().into_bytes(),
            Form::Jwks => self.jwks.clone().into_bytes(),
            Form::Kid => pair.kid.clone().into_bytes(),
        }
    }

    fn trick(&self, victim: Victim, pair: &Pair, stranger: &Pair, forgery: &Forgery, trick: Trick) -> String {
        let other = self.victim(match victim {
            Victim::Ed25519 => Victim::P256,
            Victim::P256 => Victim::Ed25519,
        });
        let header = pair.header(forgery);
        let named = |alg: &str| pair.sign(&with(header.clone(), "alg", alg), forgery);
        let called = |kid: &str| pair.sign(&with(header.clone(), "kid", kid), forgery);
        let bringing = |name: &str, value: Value| stranger.sign(&with(header.clone(), name, value), forgery);
        let bytes = |signature: &[u8]| forgery.assemble(&header, &URL_SAFE_NO_PAD.encode(signature));
        let good = pair.signature(&header, forgery);
        match trick {
            Trick::NamedNone => named("none"),
            Trick::NamedHs256 => named("HS256"),
            Trick::NamedRs256 => named("RS256"),
            Trick::NamedRs384 => named("RS384"),
            Trick::NamedRs512 => named("RS512"),
            Trick::NamedPs256 => named("PS256"),
            Trick::NamedPs384 => named("PS384"),
            Trick::NamedPs512 => named("PS512"),
            Trick::NamedEs384 => named("ES384"),
            Trick::NamedEs512 => named("ES512"),
            Trick::NamedEs256K => named("ES256K"),
            Trick::NamedTheOthers => named(other.algorithm.as_str()),
            Trick::NamedInLowerCase => named(&pair.algorithm.as_str().to_lowercase()),
            Trick::NoneUnsigned => forgery.assemble(&with(header, "alg", "none"), ""),
            Trick::Unsigned => forgery.assemble(&header, ""),
            Trick::Zeros => bytes(&[0; 64]),
            // R is the neutral element of the curve, or r = 1; s = 0.
            Trick::NeutralElement => bytes(&[&[1][..], &[0; 63]].concat()),
            Trick::Halved => bytes(&good[..32]),
            Trick::Doubled => bytes(&[&*good, &*good].concat()),
            Trick::Padded => format!("{}==", bytes(&good)),
            Trick::EncodedOtherwise => bytes(&keyring::encoded_otherwise(pair.algorithm, &good)),
            Trick::Tampered => {
                forgery.clone().claim("name", "Eve").assemble(&header, &URL_SAFE_NO_PAD.encode(good))
            }
            Trick::SignedByTheOther => other.sign(&header, forgery),
            Trick::SignedByTheOtherInItsWay => {
                other.sign(&with(header, "alg", other.algorithm.as_str()), forgery)
            }
            Trick::SignedByAStranger => stranger.sign(&header, forgery),
            Trick::SignedByTheRetired => self.retired.sign(&self.retired.header(forgery), forgery),
            Trick::Nameless => pair.sign(&without(header, "kid"), forgery),
            Trick::NameEmpty => called(""),
            Trick::NameOfTheStranger => stranger.sign(&stranger.header(forgery), forgery),
            Trick::NameWithAPath => called("../../../../dev/null"),
            Trick::NameWithAQuery => called("x' UNION SELECT 'key"),
            Trick::NameInLowerCase => called(&format!("{}x", pair.kid.to_lowercase())),
            Trick::NamePadded => called(&format!("{}=", pair.kid)),
            Trick::NameANumber => pair.sign(&with(header, "kid", 7), forgery),
            Trick::NameTooLong => called(&"k".repeat(129)),
            Trick::Jwk => bringing("jwk", stranger.jwk.clone()),
            Trick::JwkOfTheVictim => pair.sign(&with(header, "jwk", pair.jwk.clone()), forgery),
            Trick::Jku => bringing("jku", json!("https://keys.example/jwks.json")),
            Trick::X5u => bringing("x5u", json!("https://keys.example/cert.pem")),
            Trick::X5c => bringing("x5c", json!([URL_SAFE_NO_PAD.encode(stranger.spki())])),
            Trick::TypeOfAnotherKind => {
                pair.sign(&with(header, "typ", next(kind_of(forgery)).typ()), forgery)
            }
            Trick::AudienceOfAnotherKind => {
                let forgery = forgery.clone().claim("aud", next(kind_of(forgery)).aud());
                pair.sign(&header, &forgery)
            }
        }
    }
}

fn kind_of(forgery: &Forgery) -> TokenKind {
    let typ = forgery.header.typ.as_deref();
    TokenKind::ALL.into_iter().find(|kind| Some(kind.typ()) == typ).unwrap()
}

fn with(mut header: Value, name: &str, value: impl Into<Value>) -> Value {
    header[name] = value.into();
    header
}

fn without(mut header: Value, name: &str) -> Value {
    header.as_object_mut().unwrap().remove(name);
    header
}
