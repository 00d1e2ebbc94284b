//! The defects of a room, user or management token that is signed with a shared secret.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{cluster::random_secret, token::TokenBuilder};
use signalbox_token::TokenKind;

all_of!(
    /// A defect of a token.
    pub(crate) TokenDefect {
        // Its form.
        Missing, Empty, Malformed, TwoParts, Oversized, TokenRepeated,
        // Its claims.
        ClaimMissing, ClaimMalformed, TokenIdMissing, AudienceList, Expired, NotYetValid, IssuedInTheFuture, LifetimeTooLong,
        WrongAudience, WrongIssuer,
        // Its signature.
        WrongKey, Tampered, ForeignKid, Unsigned,
        // Its algorithm: the HMAC is valid, so only a check of `alg` refuses the token.
        AlgHs384, AlgHs512, AlgRs256, AlgRs384, AlgRs512, AlgPs256, AlgPs384, AlgPs512, AlgEs256, AlgEs384, AlgEs512, AlgEdDsa,
        AlgLowerCase, AlgEmpty, AlgMissing, AlgNone, AlgNoneMixedCase, AlgNoneSigned,
        // Its header.
        Critical, OwnKey, KeyUrl, CertificateChain, CertificateUrl, UnencodedPayload, CompressedPayload,
        // Its kind.
        WrongType, TypJwt, TypMissing, AnotherKind, ThirdKind,
        // It is revoked or banned.
        GrantRevoked, SiblingRevoked, UserRevoked, RoomRevoked, AllRevoked, KeyRevoked, KeyRemoved, Banned, BannedFromRoom,
        // It lacks a permission.
        ScopeMissing,
    }
);

/// The grant that the tests revoke.
pub(crate) const REVOKED: &str = "a-revoked-grant";

/// The API key that the tests revoke together with the tokens that the key has issued.
pub(crate) const SPARE_KEY: &str = "spare";

/// All scopes.
pub(crate) const SCOPES: [&str; 7] =
    ["tokens", "rooms", "moderate", "security", "usage", "events", "webhooks"];

/// Makes tokens of a cluster.
pub(crate) struct TokenForge {
    /// The shared secret.
    pub(crate) secret: String,
    /// A time in seconds since 1970: after the revocation of all tokens, and before the other
    /// revocations.
    pub(crate) after_revoke_all: u64,
}

/// A valid token.
pub(crate) fn valid_token(kind: TokenKind) -> TokenBuilder {
    let room = TokenBuilder::valid("r", "alice").typ(Some(kind.typ())).claim("aud", kind.aud());
    let other = || room.clone().without_claim("room").without_claim("permissions");
    match kind {
        TokenKind::Room => room,
        TokenKind::User => other().claim("role", "host"),
        TokenKind::Management => {
            other().without_claim("role").claim("sub", "backend").claim("scopes", SCOPES.to_vec())
        }
    }
}

/// The kind after this one.
pub(crate) fn next_kind(kind: TokenKind) -> TokenKind {
    let index = TokenKind::ALL.iter().position(|other| *other == kind).unwrap();
    TokenKind::ALL[(index + 1) % 3]
}

impl TokenDefect {
    /// Whether a token of this kind can have the defect.
    pub(crate) fn applies(self, kind: TokenKind) -> bool {
        match self {
            // Only a room token names a room, and a management token has no user.
            Self::RoomRevoked => kind == TokenKind::Room,
            Self::UserRevoked | Self::Banned | Self::BannedFromRoom => kind != TokenKind::Management,
            // A provider and not an API key vouches for a user token.
            Self::KeyRevoked => kind != TokenKind::User,
            Self::KeyRemoved | Self::ScopeMissing => kind == TokenKind::Management,
            _ => true,
        }
    }
}

impl TokenForge {
    /// The token with the defect; none if the defect is a missing token.
    pub(crate) fn token(&self, kind: TokenKind, defect: TokenDefect) -> Option<String> {
        let (valid, secret, header) = (valid_token(kind), &*self.secret, header(kind));
        Some(match defect {
            TokenDefect::Missing => return None,
            TokenDefect::Empty => String::new(),
            TokenDefect::Malformed => "not-a-token".to_owned(),
            TokenDefect::TwoParts => valid.sign(secret).rsplit_once('.').unwrap().0.to_owned(),
            TokenDefect::Unsigned => format!("{}.", valid.sign(secret).rsplit_once('.').unwrap().0),
            TokenDefect::Tampered => tampered_token(kind, secret),
            TokenDefect::WrongKey => valid.sign(&random_secret()),
            TokenDefect::ForeignKid => valid.kid("0123456789ab").sign(secret),
            TokenDefect::AlgHs384 => valid.algorithm(Algorithm::HS384).sign(secret),
            TokenDefect::AlgHs512 => valid.algorithm(Algorithm::HS512).sign(secret),
            TokenDefect::AlgNone => valid.assemble(&with_member(header, "alg", "none"), ""),
            TokenDefect::AlgNoneMixedCase => valid.assemble(&with_member(header, "alg", "nOnE"), ""),
            TokenDefect::WrongType => valid.typ(Some(next_kind(kind).typ())).sign(secret),
            TokenDefect::TypJwt => valid.typ(Some("JWT")).sign(secret),
            TokenDefect::TypMissing => valid.typ(None).sign(secret),
            TokenDefect::AnotherKind => valid_token(next_kind(kind)).sign(secret),
            TokenDefect::ThirdKind => valid_token(next_kind(next_kind(kind))).sign(secret),
            _ => match defective_header(header, defect) {
                Some(header) => valid.sign_with_header(&header, secret),
                None => self.with_other_claims(valid, kind, defect).sign(secret),
            },
        })
    }

    /// A token with other claims.
    ///
    /// # Panics
    /// If the defect is not a defect of the claims.
    fn with_other_claims(&self, valid: TokenBuilder, kind: TokenKind, defect: TokenDefect) -> TokenBuilder {
        let (now, far_future) = (clock::now_s(), 4_000_000_000_u64);
        let issued_at = |at: u64| valid.clone().claim("iat", at).claim("nbf", at);
        match defect {
            TokenDefect::Oversized => valid.claim("name", "x".repeat(13 * 1024)),
            TokenDefect::TokenRepeated => valid,
            TokenDefect::ClaimMissing => valid.without_claim(malformed_own_claim(kind).0),
            TokenDefect::ClaimMalformed => {
                valid.claim(malformed_own_claim(kind).0, malformed_own_claim(kind).1)
            }
            TokenDefect::TokenIdMissing => valid.without_claim("jti"),
            TokenDefect::AudienceList => valid.claim("aud", vec![kind.aud()]),
            TokenDefect::Expired => {
                valid.claim("exp", now - 1).claim("iat", now - 900).claim("nbf", now - 900)
            }
            TokenDefect::NotYetValid => valid.claim("nbf", far_future).claim("exp", far_future + 1),
            TokenDefect::IssuedInTheFuture => valid.claim("iat", now + 600),
            TokenDefect::LifetimeTooLong => valid.claim("exp", now + kind.max_life_s() + 60),
            TokenDefect::WrongAudience => valid.claim("aud", next_kind(kind).aud()),
            TokenDefect::WrongIssuer => valid.claim("iss", "unknown"),
            TokenDefect::GrantRevoked => valid.claim("jti", REVOKED),
            TokenDefect::SiblingRevoked => valid.claim("jti", format!("{REVOKED}.7")),
            TokenDefect::UserRevoked => issued_at(self.after_revoke_all).claim("sub", "revoked"),
            TokenDefect::RoomRevoked => issued_at(self.after_revoke_all).claim("room", "revoked"),
            TokenDefect::AllRevoked => issued_at(self.after_revoke_all - 60),
            TokenDefect::KeyRevoked if kind == TokenKind::Room => valid.claim("caller", SPARE_KEY),
            TokenDefect::KeyRevoked => valid.claim("sub", SPARE_KEY),
            TokenDefect::KeyRemoved => valid.claim("sub", "removed"),
            TokenDefect::Banned => valid.claim("sub", "banned"),
            TokenDefect::BannedFromRoom => valid.claim("sub", "banned-here"),
            TokenDefect::ScopeMissing => valid.claim("scopes", Vec::<String>::new()),
            _ => unreachable!("{defect:?} is not a defect of the claims"),
        }
    }
}

/// A claim that only this kind of token has, and an invalid value of it.
fn malformed_own_claim(kind: TokenKind) -> (&'static str, Value) {
    match kind {
        TokenKind::Room => ("room", json!("a b")),
        TokenKind::User => ("role", json!("A B")),
        TokenKind::Management => ("scopes", json!("security")),
    }
}

fn header(kind: TokenKind) -> Value {
    json!({ "alg": "HS256", "typ": kind.typ() })
}

fn with_member(mut header: Value, name: &str, value: impl Into<Value>) -> Value {
    header[name] = value.into();
    header
}

/// The header with the defect, for a token that is signed with the right secret and HS256; none if
/// the defect is not in the header.
fn defective_header(mut header: Value, defect: TokenDefect) -> Option<Value> {
    let (name, value) = match defect {
        TokenDefect::AlgRs256 => ("alg", json!("RS256")),
        TokenDefect::AlgRs384 => ("alg", json!("RS384")),
        TokenDefect::AlgRs512 => ("alg", json!("RS512")),
        TokenDefect::AlgPs256 => ("alg", json!("PS256")),
        TokenDefect::AlgPs384 => ("alg", json!("PS384")),
        TokenDefect::AlgPs512 => ("alg", json!("PS512")),
        TokenDefect::AlgEs256 => ("alg", json!("ES256")),
        TokenDefect::AlgEs384 => ("alg", json!("ES384")),
        TokenDefect::AlgEs512 => ("alg", json!("ES512")),
        TokenDefect::AlgEdDsa => ("alg", json!("EdDSA")),
        TokenDefect::AlgLowerCase => ("alg", json!("hs256")),
        TokenDefect::AlgEmpty => ("alg", json!("")),
        TokenDefect::AlgNoneSigned => ("alg", json!("none")),
        TokenDefect::AlgMissing => {
            header.as_object_mut().unwrap().remove("alg");
            return Some(header);
        }
        TokenDefect::Critical => ("crit", json!(["exp"])),
        TokenDefect::OwnKey => ("jwk", json!({ "kty": "oct", "k": "c2VjcmV0" })),
        TokenDefect::KeyUrl => ("jku", json!("https://keys.example/jwks.json")),
        TokenDefect::CertificateChain => ("x5c", json!(["MIIB"])),
        TokenDefect::CertificateUrl => ("x5u", json!("https://keys.example/cert.pem")),
        TokenDefect::UnencodedPayload => ("b64", json!(false)),
        TokenDefect::CompressedPayload => ("zip", json!("DEF")),
        _ => return None,
    };
    Some(with_member(header, name, value))
}

/// The header and signature of one token around the claims of another.
fn tampered_token(kind: TokenKind, secret: &str) -> String {
    let (signed, other) =
        (valid_token(kind).sign(secret), valid_token(kind).claim("sub", "eve").sign(secret));
    let (signed_parts, other_parts): (Vec<_>, Vec<_>) =
        (signed.split('.').collect(), other.split('.').collect());
    format!("{}.{}.{}", signed_parts[0], other_parts[1], signed_parts[2])
}
