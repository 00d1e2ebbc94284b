//! Every kind of token with every defect.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;

const NOW: u64 = 1_800_000_000;

/// Verifies a token as one kind.
fn verify_kind(verifier: &TokenVerifier, kind: TokenKind, token: &str) -> Result<(), TokenError> {
    match kind {
        TokenKind::Room => verifier.verify_room_token(token, NOW).map(drop),
        TokenKind::User => verifier.verify_user_token(token, NOW).map(drop),
        TokenKind::Management => verifier.verify_management_token(token, NOW).map(drop),
    }
}

fn claims_of_kind(kind: TokenKind) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": kind.aud(), "sub": "alice", "iat": NOW, "nbf": NOW, "exp": NOW + 900,
        "jti": "0a1b.2" });
    let own = match kind {
        TokenKind::Room => json!({ "room": "r", "role": "guest", "permissions": ["publish"] }),
        TokenKind::User => json!({ "role": "guest" }),
        TokenKind::Management => json!({ "scopes": ["rooms"] }),
    };
    for (name, value) in own.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn header_of_kind(kind: TokenKind) -> Header {
    Header { typ: Some(kind.typ().to_owned()), ..Header::new(Algorithm::HS256) }
}

fn shared_secret() -> SharedSecret {
    let digest = Sha256::digest("the secret of these tests");
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    SharedSecret::new(SecretBytes::new(hex)).unwrap()
}

fn sign(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(shared_secret().expose())).unwrap()
}

/// Signs texts that need not be well-formed.
fn sign_raw(header: &str, claims: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
    let message = format!("{}.{}", B64.encode(header), B64.encode(claims));
    let key = EncodingKey::from_secret(shared_secret().expose());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn hs256_verifier() -> TokenVerifier {
    TokenVerifier::from_secrets([&shared_secret()])
}

#[test]
fn a_token_passes_only_as_its_own_kind() {
    for issued in TokenKind::ALL {
        for wanted in TokenKind::ALL {
            let token = sign(&header_of_kind(issued), &claims_of_kind(issued));
            let expected = if issued == wanted { Ok(()) } else { Err(TokenError::WrongType) };
            assert_eq!(verify_kind(&hs256_verifier(), wanted, &token), expected, "{issued:?} as {wanted:?}");
            // The right `typ` with the audience of another kind is refused, too.
            let token =
                sign(&header_of_kind(wanted), &claims_of_kind(wanted).with_claim("aud", json!(issued.aud())));
            let expected = if issued == wanted { Ok(()) } else { Err(TokenError::WrongAudience) };
            assert_eq!(verify_kind(&hs256_verifier(), wanted, &token), expected, "{issued:?} as {wanted:?}");
        }
    }
}

trait WithClaim {
    fn with_claim(self, name: &str, value: Value) -> Self;
}

impl WithClaim for Value {
    fn with_claim(mut self, name: &str, value: Value) -> Self {
        self[name] = value;
        self
    }
}

#[test]
fn every_wrong_claim_gives_its_error_for_every_kind() {
    use TokenError::{Expired, Malformed, NotYetValid, WrongAudience, WrongIssuer};
    for kind in TokenKind::ALL {
        let day_and_more = NOW + kind.max_life_s() + 1;
        for (name, value, expected) in [
            ("iss", json!("other"), WrongIssuer),
            ("aud", json!("other"), WrongAudience),
            ("aud", json!([kind.aud()]), Malformed),
            ("sub", json!("not a name"), Malformed),
            ("exp", json!(NOW), Expired),
            ("exp", json!(NOW as f64 + 900.5), Malformed),
            ("exp", json!(-1), Malformed),
            ("exp", json!(day_and_more), Malformed),
            ("exp", json!(u64::MAX), Malformed),
            ("nbf", json!(NOW + 1), NotYetValid),
            ("iat", json!(NOW + 61), NotYetValid),
            ("iat", json!("now"), Malformed),
            ("jti", json!(""), Malformed),
            ("jti", json!(".1"), Malformed),
            ("jti", json!("a b"), Malformed),
            ("jti", json!("x".repeat(129)), Malformed),
        ] {
            let token = sign(&header_of_kind(kind), &claims_of_kind(kind).with_claim(name, value.clone()));
            assert_eq!(
                verify_kind(&hs256_verifier(), kind, &token),
                Err(expected),
                "{kind:?} {name} {value}"
            );
        }
        for name in ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"] {
            let mut claims = claims_of_kind(kind);
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(
                verify_kind(&hs256_verifier(), kind, &sign(&header_of_kind(kind), &claims)),
                Err(Malformed),
                "{kind:?} {name}"
            );
        }
    }
}

#[test]
fn a_duplicate_member_is_rejected() {
    for kind in TokenKind::ALL {
        let (good, head) = (claims_of_kind(kind), format!(r#"{{"alg":"HS256","typ":"{}"}}"#, kind.typ()));
        assert_eq!(verify_kind(&hs256_verifier(), kind, &sign_raw(&head, &good.to_string())), Ok(()));
        for (name, value) in good.as_object().unwrap() {
            let twice = good.to_string().replacen('{', &format!(r#"{{"{name}":{value},"#), 1);
            let result = verify_kind(&hs256_verifier(), kind, &sign_raw(&head, &twice));
            assert_eq!(result, Err(TokenError::Malformed), "{kind:?} {name}");
        }
        let twice = head.replacen('{', r#"{"alg":"none","#, 1);
        assert_eq!(
            verify_kind(&hs256_verifier(), kind, &sign_raw(&twice, &good.to_string())),
            Err(TokenError::Malformed)
        );
    }
}

/// Each is an object (RFC 7515, section 4; RFC 7519, section 7.2). An array is refused, even with
/// the same values in the order of the members.
#[test]
fn header_and_claims_must_be_objects() {
    let kind = TokenKind::Management;
    let (head, good) = (json!({ "alg": "HS256", "typ": kind.typ() }), claims_of_kind(kind));
    let values = ["iss", "aud", "sub", "scopes", "iat", "nbf", "exp", "jti"].map(|name| good[name].clone());
    let listed = json!(["HS256", kind.typ(), null, null, null, null, null, null, null, null, null]);
    for (head, claims) in [(&head, &json!(values)), (&listed, &good)] {
        let token = sign_raw(&head.to_string(), &claims.to_string());
        assert_eq!(
            verify_kind(&hs256_verifier(), kind, &token),
            Err(TokenError::Malformed),
            "{head} {claims}"
        );
    }
}

#[test]
fn a_header_with_a_key_or_another_encoding_is_rejected() {
    for kind in TokenKind::ALL {
        for member in [
            r#""crit":["exp"]"#,
            r#""crit":[],"b64":false"#,
            r#""b64":true"#,
            r#""zip":"DEF""#,
            r#""enc":"A256GCM""#,
            r#""jwk":{"kty":"oct","k":"AA"}"#,
            r#""jku":"https://evil.example/jwks""#,
            r#""x5u":"https://evil.example/crt""#,
            r#""x5c":[]"#,
        ] {
            let head = format!(r#"{{"alg":"HS256","typ":"{}",{member}}}"#, kind.typ());
            let token = sign_raw(&head, &claims_of_kind(kind).to_string());
            assert_eq!(verify_kind(&hs256_verifier(), kind, &token), Err(TokenError::Malformed), "{member}");
        }
    }
}

#[test]
fn a_key_verifies_only_its_own_algorithm() {
    use TokenError::{BadSignature, Malformed, WrongAlgorithm, WrongType};
    for kind in TokenKind::ALL {
        let payload = claims_of_kind(kind).to_string();
        let of = |head: String| verify_kind(&hs256_verifier(), kind, &sign_raw(&head, &payload));
        let typ = kind.typ();
        for algorithm in
            ["none", "NONE", "hs256", "HS384", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA", ""]
        {
            let head = format!(r#"{{"alg":"{algorithm}","typ":"{typ}"}}"#);
            assert_eq!(of(head), Err(WrongAlgorithm), "{algorithm}");
        }
        assert_eq!(of(format!(r#"{{"typ":"{typ}"}}"#)), Err(Malformed));
        assert_eq!(of(format!(r#"{{"alg":"HS256","typ":"{typ}","kid":"other"}}"#)), Err(BadSignature));
        let kid = shared_secret().kid();
        assert_eq!(of(format!(r#"{{"alg":"HS256","typ":"{typ}","kid":"{kid}"}}"#)), Ok(()));
        for typ in ["JWT", "at+jwt", "", &typ.to_uppercase(), &format!("application/{typ}")] {
            assert_eq!(of(format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)), Err(WrongType), "{typ}");
        }
        assert_eq!(of(r#"{"alg":"HS256"}"#.to_owned()), Err(WrongType));
    }
}

#[test]
fn every_malformed_token_gives_its_own_error() {
    let long = "x".repeat(13 * 1024);
    for kind in TokenKind::ALL {
        let good = sign(&header_of_kind(kind), &claims_of_kind(kind));
        let (message, signature) = good.rsplit_once('.').unwrap();
        for (text, expected) in [
            ("", TokenError::Missing),
            (long.as_str(), TokenError::Malformed),
            ("x", TokenError::Malformed),
            ("a.b.c", TokenError::Malformed),
            (&format!("{good}.x"), TokenError::Malformed),
            (&format!("{good}="), TokenError::BadSignature),
            (&format!("{message}."), TokenError::BadSignature),
            (&format!("{message}x.{signature}"), TokenError::BadSignature),
        ] {
            assert_eq!(verify_kind(&hs256_verifier(), kind, text), Err(expected), "{kind:?} {text}");
        }
    }
}

#[test]
fn a_token_signed_by_an_application_needs_no_caller() {
    let token = sign(&header_of_kind(TokenKind::Room), &claims_of_kind(TokenKind::Room));
    let claims = hs256_verifier().verify_room_token(&token, NOW).unwrap();
    assert_eq!((claims.caller.as_str(), claims.region, claims.jti.grant()), ("app", None, "0a1b"));
    assert_eq!(claims.jti.sibling(3).grant(), "0a1b");
}

#[test]
fn a_statement_is_valid_for_its_purpose_and_key_only() {
    let secret = shared_secret();
    let key = EncodingKey::from_secret(secret.expose());
    let sign = |bytes: &str| {
        let signature = jsonwebtoken::crypto::sign(bytes.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{}~{signature}", secret.kid())
    };
    let verifier = hs256_verifier();
    let signature = sign(&signed_statement("rule", "ban"));
    assert!(verifier.verify_statement("rule", "ban", &signature));
    for (purpose, statement, signature) in [
        ("rule", "lift", signature.clone()),
        ("other", "ban", signature.clone()),
        ("rule", "ban", signature.replacen('~', "", 1)),
        ("rule", "ban", signature.replacen(&secret.kid(), "k", 1)),
        ("rule", "ban", String::new()),
    ] {
        assert!(!verifier.verify_statement(purpose, statement, &signature), "{purpose} {statement}");
    }
    // The signature of a token is no signature of a statement.
    let token = super::tests::sign(&header_of_kind(TokenKind::Room), &claims_of_kind(TokenKind::Room));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = format!("{}~{signature}", secret.kid());
    assert!(!verifier.verify_statement("", message, &signature));
    // Where keys are published, processes that cannot issue tokens may hold the shared secret.
    let published = TokenVerifier::with_published_keys([&secret]);
    assert!(!published.can_verify_statements() && verifier.can_verify_statements());
    assert!(!published.verify_statement("rule", "ban", &sign(&signed_statement("rule", "ban"))));
}

#[test]
fn the_token_of_a_handle_may_have_expired_and_is_otherwise_checked() {
    let check = |claims: &Value| {
        let token = sign(&header_of_kind(TokenKind::Room), claims);
        hs256_verifier().verify_expired_room_token(&token, NOW).map(|claims| claims.exp)
    };
    let room = |name, value| claims_of_kind(TokenKind::Room).with_claim(name, json!(value));
    let expired = claims_of_kind(TokenKind::Room)
        .with_claim("iat", json!(NOW - 900))
        .with_claim("nbf", json!(NOW - 900))
        .with_claim("exp", json!(NOW - 1));
    assert_eq!(check(&expired), Ok(NOW - 1));
    assert_eq!(check(&claims_of_kind(TokenKind::Room)), Ok(NOW + 900));
    assert_eq!(check(&room("iat", NOW + 120)), Err(TokenError::NotYetValid));
    assert_eq!(check(&room("exp", NOW + 10 * 365 * 86_400)), Err(TokenError::Malformed), "ten years");
    assert_eq!(check(&room("aud", NOW)), Err(TokenError::Malformed));
    let token = sign(&header_of_kind(TokenKind::Room), &expired);
    assert_eq!(
        hs256_verifier().verify_expired_room_token(&token[..token.len() - 4], NOW).err(),
        Some(TokenError::BadSignature)
    );
}
