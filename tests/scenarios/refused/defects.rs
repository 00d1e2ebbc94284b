//! Everything that can be wrong with a token of one of our three kinds, where it is signed with a shared secret.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{cluster::random_secret, token::Forgery};
use signalbox_token::TokenKind;

all_of!(
    /// What may be wrong with a token.
    pub(crate) Defect {
        // Its form.
        Missing, Empty, Malformed, TwoParts, Oversized, TokenTwice,
        // Its claims.
        ClaimMissing, ClaimMalformed, TokenIdMissing, AudienceList, Expired, NotYetValid, MadeInTheFuture, LifeTooLong,
        WrongAudience, WrongIssuer,
        // Its signature.
        WrongKey, Tampered, ForeignKid, Unsigned,
        // Its algorithm: each is named over a good HMAC, so that who does not look at the name is found out.
        AlgHs384, AlgHs512, AlgRs256, AlgRs384, AlgRs512, AlgPs256, AlgPs384, AlgPs512, AlgEs256, AlgEs384, AlgEs512, AlgEdDsa,
        AlgLowerCase, AlgEmpty, AlgMissing, AlgNone, AlgNoneInCapitals, AlgNoneSigned,
        // Its header.
        Critical, OwnKey, KeyUrl, Certificate, CertificateUrl, Unencoded, Zipped,
        // Its kind.
        WrongType, TypJwt, TypMissing, AnotherKind, TheThirdKind,
        // What was taken back since.
        GrantRevoked, SiblingRevoked, UserRevoked, RoomRevoked, AllRevoked, KeyRevoked, KeyRemoved, Banned, BannedFromRoom,
        // What it does not allow.
        ScopeMissing,
    }
);

/// The grant that is taken back.
pub(crate) const REVOKED: &str = "a-grant-that-is-taken-back";

/// An API key that is taken back, with what it has issued.
pub(crate) const SPARE_KEY: &str = "spare";

/// The scopes there are.
pub(crate) const SCOPES: [&str; 7] =
    ["tokens", "rooms", "moderate", "security", "usage", "events", "webhooks"];

/// What tokens of a cluster are made with.
pub(crate) struct Forge {
    /// The shared secret.
    pub(crate) secret: String,
    /// A second, seconds since 1970, after everything was taken back and before somebody's was.
    pub(crate) between: u64,
}

/// A token that is good at `now`.
pub(crate) fn good(kind: TokenKind) -> Forgery {
    let room = Forgery::good("r", "alice").typ(Some(kind.typ())).claim("aud", kind.aud());
    let other = || room.clone().without("room").without("permissions");
    match kind {
        TokenKind::Room => room,
        TokenKind::User => other().claim("role", "host"),
        TokenKind::Management => {
            other().without("role").claim("sub", "backend").claim("scopes", SCOPES.to_vec())
        }
    }
}

/// The kind after this one.
pub(crate) fn next(kind: TokenKind) -> TokenKind {
    let place = TokenKind::ALL.iter().position(|known| *known == kind).unwrap();
    TokenKind::ALL[(place + 1) % 3]
}

impl Defect {
    /// Whether a token of this kind can have it.
    pub(crate) fn applies(self, kind: TokenKind) -> bool {
        match self {
            // A backend is no user, and neither is bound to a room.
            Self::RoomRevoked => kind == TokenKind::Room,
            Self::UserRevoked | Self::Banned | Self::BannedFromRoom => kind != TokenKind::Management,
            // A user token is on the word of a provider.
            Self::KeyRevoked => kind != TokenKind::User,
            Self::KeyRemoved | Self::ScopeMissing => kind == TokenKind::Management,
            _ => true,
        }
    }
}

impl Forge {
    /// The token with the defect; none where there is to be none.
    pub(crate) fn token(&self, kind: TokenKind, defect: Defect) -> Option<String> {
        let (good, secret, header) = (good(kind), &*self.secret, header(kind));
        Some(match defect {
            Defect::Missing => return None,
            Defect::Empty => String::new(),
            Defect::Malformed => "not-a-token".to_owned(),
            Defect::TwoParts => good.sign(secret).rsplit_once('.').unwrap().0.to_owned(),
            Defect::Unsigned => format!("{}.", good.sign(secret).rsplit_once('.').unwrap().0),
            Defect::Tampered => tampered(kind, secret),
            Defect::WrongKey => good.sign(&random_secret()),
            Defect::ForeignKid => good.kid("0123456789ab").sign(secret),
            Defect::AlgHs384 => good.algorithm(Algorithm::HS384).sign(secret),
            Defect::AlgHs512 => good.algorithm(Algorithm::HS512).sign(secret),
            Defect::AlgNone => good.assemble(&with(header, "alg", "none"), ""),
            Defect::AlgNoneInCapitals => good.assemble(&with(header, "alg", "nOnE"), ""),
            Defect::WrongType => good.typ(Some(next(kind).typ())).sign(secret),
            Defect::TypJwt => good.typ(Some("JWT")).sign(secret),
            Defect::TypMissing => good.typ(None).sign(secret),
            Defect::AnotherKind => self::good(next(kind)).sign(secret),
            Defect::TheThirdKind => self::good(next(next(kind))).sign(secret),
            _ => match other_header(header, defect) {
                Some(header) => good.sign_with(&header, secret),
                None => self.other_claims(good, kind, defect).sign(secret),
            },
        })
    }

    /// A token that says something else.
    ///
    /// # Panics
    /// If the defect is not one of claims.
    fn other_claims(&self, good: Forgery, kind: TokenKind, defect: Defect) -> Forgery {
        let (now, far) = (clock::now_s(), 4_000_000_000_u64);
        let issued = |at: u64| good.clone().claim("iat", at).claim("nbf", at);
        match defect {
            Defect::Oversized => good.claim("name", "x".repeat(13 * 1024)),
            Defect::TokenTwice => good,
            Defect::ClaimMissing => good.without(own_claim(kind).0),
            Defect::ClaimMalformed => good.claim(own_claim(kind).0, own_claim(kind).1),
            Defect::TokenIdMissing => good.without("jti"),
            Defect::AudienceList => good.claim("aud", vec![kind.aud()]),
            Defect::Expired => good.claim("exp", now - 1).claim("iat", now - 900).claim("nbf", now - 900),
            Defect::NotYetValid => good.claim("nbf", far).claim("exp", far + 1),
            Defect::MadeInTheFuture => good.claim("iat", now + 600),
            Defect::LifeTooLong => good.claim("exp", now + kind.max_life_s() + 60),
            Defect::WrongAudience => good.claim("aud", next(kind).aud()),
            Defect::WrongIssuer => good.claim("iss", "somebody"),
            Defect::GrantRevoked => good.claim("jti", REVOKED),
            Defect::SiblingRevoked => good.claim("jti", format!("{REVOKED}.7")),
            Defect::UserRevoked => issued(self.between).claim("sub", "revoked"),
            Defect::RoomRevoked => issued(self.between).claim("room", "revoked"),
            Defect::AllRevoked => issued(self.between - 60),
            Defect::KeyRevoked if kind == TokenKind::Room => good.claim("caller", SPARE_KEY),
            Defect::KeyRevoked => good.claim("sub", SPARE_KEY),
            Defect::KeyRemoved => good.claim("sub", "nobody"),
            Defect::Banned => good.claim("sub", "banned"),
            Defect::BannedFromRoom => good.claim("sub", "banned-here"),
            Defect::ScopeMissing => good.claim("scopes", Vec::<String>::new()),
            _ => unreachable!("{defect:?} is none of the claims"),
        }
    }
}

/// A claim that only this kind has, and what it may not be.
fn own_claim(kind: TokenKind) -> (&'static str, Value) {
    match kind {
        TokenKind::Room => ("room", json!("a b")),
        TokenKind::User => ("role", json!("A B")),
        TokenKind::Management => ("scopes", json!("security")),
    }
}

fn header(kind: TokenKind) -> Value {
    json!({ "alg": "HS256", "typ": kind.typ() })
}

fn with(mut header: Value, name: &str, value: impl Into<Value>) -> Value {
    header[name] = value.into();
    header
}

/// A header of that defect, to be signed with the right secret by HS256; none where the defect is elsewhere.
fn other_header(mut header: Value, defect: Defect) -> Option<Value> {
    let (name, value) = match defect {
        Defect::AlgRs256 => ("alg", json!("RS256")),
        Defect::AlgRs384 => ("alg", json!("RS384")),
        Defect::AlgRs512 => ("alg", json!("RS512")),
        Defect::AlgPs256 => ("alg", json!("PS256")),
        Defect::AlgPs384 => ("alg", json!("PS384")),
        Defect::AlgPs512 => ("alg", json!("PS512")),
        Defect::AlgEs256 => ("alg", json!("ES256")),
        Defect::AlgEs384 => ("alg", json!("ES384")),
        Defect::AlgEs512 => ("alg", json!("ES512")),
        Defect::AlgEdDsa => ("alg", json!("EdDSA")),
        Defect::AlgLowerCase => ("alg", json!("hs256")),
        Defect::AlgEmpty => ("alg", json!("")),
        Defect::AlgNoneSigned => ("alg", json!("none")),
        Defect::AlgMissing => {
            header.as_object_mut().unwrap().remove("alg");
            return Some(header);
        }
        Defect::Critical => ("crit", json!(["exp"])),
        Defect::OwnKey => ("jwk", json!({ "kty": "oct", "k": "c2VjcmV0" })),
        Defect::KeyUrl => ("jku", json!("https://keys.example/jwks.json")),
        Defect::Certificate => ("x5c", json!(["MIIB"])),
        Defect::CertificateUrl => ("x5u", json!("https://keys.example/cert.pem")),
        Defect::Unencoded => ("b64", json!(false)),
        Defect::Zipped => ("zip", json!("DEF")),
        _ => return None,
    };
    Some(with(header, name, value))
}

/// The header and signature of one token around the claims of another.
fn tampered(kind: TokenKind, secret: &str) -> String {
    let (signed, other) = (good(kind).sign(secret), good(kind).claim("sub", "eve").sign(secret));
    let (mine, theirs): (Vec<_>, Vec<_>) = (signed.split('.').collect(), other.split('.').collect());
    format!("{}.{}.{}", mine[0], theirs[1], mine[2])
}
