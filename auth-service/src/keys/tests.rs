//! Keys in a folder, over time.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_config::{Auth, Settings};
use signalbox_protocol::id::random_hex;
use signalbox_token::{
    ISSUER, KeyAlgorithm, Secret, SharedSecret, TokenError, TokenKind, UserClaims, parse_jwks,
};
use tempfile::TempDir;

use super::{operate::*, *};

const NOW: u64 = 1_800_000_000;

fn auth() -> Auth {
    Settings::default().auth
}

fn times() -> Times {
    Times::new(&auth())
}

fn folder_with(algorithm: KeyAlgorithm) -> (TempDir, std::path::PathBuf, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kid = first(&path, algorithm, NOW).unwrap();
    (dir, path, kid)
}

fn ring(path: &Path, now_s: u64) -> std::sync::Arc<SigningKeys> {
    SigningKeys::in_folder(path.to_owned(), &auth(), [], now_s).unwrap()
}

fn claims(now_s: u64) -> UserClaims {
    let claims = json!({ "iss": ISSUER, "aud": TokenKind::User.aud(), "sub": "alice", "role": "guest", "iat": now_s,
        "nbf": now_s, "exp": now_s + 900, "jti": random_hex() });
    serde_json::from_value(claims).unwrap()
}

fn kid_of(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

fn published(keys: &SigningKeys) -> Vec<String> {
    let body = keys.jwks().unwrap().body.clone();
    parse_jwks(body.as_bytes()).unwrap().iter().map(|key| key.kid().to_owned()).collect()
}

#[test]
fn a_rotation_publishes_signs_retires_and_forgets_and_no_token_is_refused_on_the_way() {
    for algorithm in KeyAlgorithm::ALL {
        let (_dir, path, old) = folder_with(algorithm);
        let keys = ring(&path, NOW);
        let token = keys.sign(&claims(NOW)).unwrap();
        assert_eq!((kid_of(&token), published(&keys)), (old.clone(), vec![old.clone()]));

        let rotated = rotate(&path, None, times(), NOW, false).unwrap();
        assert_eq!(rotated.signs_from, NOW + times().lead_s);
        keys.refresh(NOW).unwrap();
        assert_eq!(published(&keys).len(), 2, "it is published before it signs");
        assert_eq!(kid_of(&keys.sign(&claims(NOW)).unwrap()), old);

        let begin = rotated.signs_from;
        keys.refresh(begin).unwrap();
        let newer = keys.sign(&claims(begin)).unwrap();
        assert_eq!(kid_of(&newer), rotated.kid);
        assert!(keys.verifier().user(&token, begin).is_ok() && keys.verifier().user(&newer, begin).is_ok());

        keys.refresh(begin + times().published_s).unwrap();
        assert_eq!(published(&keys), vec![rotated.kid.clone()]);
        let over = begin + times().kept_s;
        let third = rotate(&path, None, times(), over, false).unwrap();
        assert_eq!(third.removed, vec![old]);
        assert_eq!(list(&path, times(), over).unwrap().len(), 2);
    }
}

#[test]
fn a_folder_or_file_that_is_open_to_others_is_refused() {
    let (_dir, path, kid) = folder_with(KeyAlgorithm::EdDSA);
    let file = path.join(format!("{kid}.json"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for (what, mode) in [(&path, 0o750), (&path, 0o701), (&file, 0o640), (&file, 0o604)] {
        fs::set_permissions(what, Permissions::from_mode(mode)).unwrap();
        let error = SigningKeys::in_folder(path.clone(), &auth(), [], NOW).map(drop).unwrap_err();
        assert!(matches!(error, KeysError::Open { .. }), "{error}");
        assert!(error.to_string().contains("chmod"), "{error}");
        fs::set_permissions(what, Permissions::from_mode(if what == &path { 0o700 } else { 0o600 })).unwrap();
    }
    ring(&path, NOW);
}

#[test]
fn keys_that_become_unusable_leave_those_that_are_held() {
    let (_dir, path, kid) = folder_with(KeyAlgorithm::EdDSA);
    let keys = ring(&path, NOW);
    fs::write(path.join("other.json"), "{").unwrap();
    fs::set_permissions(path.join("other.json"), Permissions::from_mode(0o600)).unwrap();
    assert!(keys.refresh(NOW).is_err());
    fs::remove_dir_all(&path).unwrap();
    assert!(keys.refresh(NOW).is_err());
    assert_eq!(kid_of(&keys.sign(&claims(NOW)).unwrap()), kid);
}

#[test]
fn an_operator_hears_what_is_wrong() {
    let (dir, path, _) = folder_with(KeyAlgorithm::EdDSA);
    assert_eq!(first(&path, KeyAlgorithm::EdDSA, NOW).unwrap_err(), OperateError::NotEmpty);
    let waiting = rotate(&path, None, times(), NOW, false).unwrap();
    assert_eq!(
        rotate(&path, None, times(), NOW + 1, false).unwrap_err(),
        OperateError::Waiting(waiting.kid),
        "a timer that fires twice makes one key"
    );
    let leaked = rotate(&path, Some(KeyAlgorithm::ES256), times(), NOW + 1, true).unwrap();
    assert_eq!(kid_of(&ring(&path, NOW + 1).sign(&claims(NOW)).unwrap()), leaked.kid);
    let empty = dir.path().join("empty");
    folder::make(&empty).unwrap();
    assert_eq!(rotate(&empty, None, times(), NOW, false).unwrap_err(), OperateError::Empty);
    let none = SigningKeys::in_folder(empty.clone(), &auth(), [], NOW).map(drop).unwrap_err();
    assert_eq!(none, KeysError::NoneSigns(empty));
}

#[test]
fn so_many_keys_are_published_as_a_node_takes_and_no_more() {
    let (_dir, path, _) = folder_with(KeyAlgorithm::EdDSA);
    for second in 1..32 {
        rotate(&path, None, times(), NOW + second, true).unwrap();
    }
    assert_eq!(published(&ring(&path, NOW + 32)).len(), 32);
    assert!(matches!(
        rotate(&path, None, times(), NOW + 32, true).unwrap_err(),
        OperateError::Keys(KeysError::TooManyPublished(33))
    ));
}

/// A token put together by hand: `sign` gets the header and claims as text.
fn forge(alg: &str, kid: Option<&str>, sign: impl Fn(&[u8]) -> String) -> String {
    let mut header = json!({ "alg": alg, "typ": TokenKind::User.typ() });
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let part = |json: Value| BASE64.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(serde_json::to_value(claims(NOW)).unwrap()));
    format!("{message}.{}", sign(message.as_bytes()))
}

fn signed_with(key: &EncodingKey, algorithm: Algorithm) -> impl Fn(&[u8]) -> String {
    move |message| jsonwebtoken::crypto::sign(message, key, algorithm).unwrap()
}

#[test]
fn no_key_serves_another_algorithm_than_its_own() {
    use TokenError::{BadSignature, WrongAlgorithm};
    let (_dir, path, ed) = folder_with(KeyAlgorithm::EdDSA);
    let es = rotate(&path, Some(KeyAlgorithm::ES256), times(), NOW, true).unwrap();
    assert_eq!(es.signs_from, NOW + 1, "of two that begin at once none is the newer");
    let es = es.kid;
    let secret = SharedSecret::new(Secret::new(format!("{}{}", random_hex(), random_hex()))).unwrap();
    let without = ring(&path, NOW);
    let with = SigningKeys::in_folder(path.clone(), &auth(), [&secret], NOW).unwrap();

    let private = folder::read(&path).unwrap();
    let of = |kid: &str| private.iter().find(|key| key.public.kid() == kid).unwrap();
    let (by_ed, by_es) = (
        signed_with(of(&ed).encoding(), Algorithm::EdDSA),
        signed_with(of(&es).encoding(), Algorithm::ES256),
    );
    let shared = EncodingKey::from_secret(secret.expose());
    let by_secret = signed_with(&shared, Algorithm::HS256);
    // What a confused verifier would take for the secret: the public key, in every form it is seen in.
    let public = serde_json::to_value(&of(&ed).public).unwrap();
    let x = public["x"].as_str().unwrap().to_owned();
    let forms = [BASE64.decode(&x).unwrap(), x.into_bytes(), public.to_string().into_bytes()];

    for (what, token, expected, expected_with) in [
        ("its own", forge("EdDSA", Some(&ed), &by_ed), Ok(()), Ok(())),
        ("its own", forge("ES256", Some(&es), &by_es), Ok(()), Ok(())),
        ("another's kid", forge("EdDSA", Some(&es), &by_ed), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        ("another's kid", forge("ES256", Some(&ed), &by_es), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        ("another's name", forge("ES256", Some(&es), &by_ed), Err(BadSignature), Err(BadSignature)),
        ("another's name", forge("EdDSA", Some(&ed), &by_es), Err(BadSignature), Err(BadSignature)),
        ("no kid", forge("EdDSA", None, &by_ed), Err(BadSignature), Err(BadSignature)),
        ("unknown kid", forge("EdDSA", Some("x"), &by_ed), Err(BadSignature), Err(BadSignature)),
        ("none", forge("none", Some(&ed), |_| String::new()), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        ("no signature", forge("EdDSA", Some(&ed), |_| String::new()), Err(BadSignature), Err(BadSignature)),
        ("the secret", forge("HS256", None, &by_secret), Err(WrongAlgorithm), Ok(())),
        ("the secret", forge("HS256", Some(&ed), &by_secret), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        (
            "the secret",
            forge("EdDSA", Some(&secret.kid()), &by_secret),
            Err(BadSignature),
            Err(WrongAlgorithm),
        ),
    ] {
        assert_eq!(without.verifier().user(&token, NOW).map(drop), expected, "{what}, without a secret");
        assert_eq!(with.verifier().user(&token, NOW).map(drop), expected_with, "{what}, with a secret");
    }
    for form in &forms {
        let key = EncodingKey::from_secret(form);
        for kid in [None, Some(ed.as_str())] {
            let token = forge("HS256", kid, signed_with(&key, Algorithm::HS256));
            assert_eq!(without.verifier().user(&token, NOW).map(drop), Err(WrongAlgorithm));
            assert!(with.verifier().user(&token, NOW).is_err());
        }
    }
    let header = Header { alg: Algorithm::EdDSA, ..Header::default() };
    assert_eq!(header.typ.as_deref(), Some("JWT"));
    let untyped =
        jsonwebtoken::encode(&Header { kid: Some(ed.clone()), ..header }, &claims(NOW), of(&ed).encoding());
    assert!(without.verifier().user(&untyped.unwrap(), NOW).is_err());
}

#[test]
fn what_is_published_is_public_and_tagged() {
    let (_dir, path, _) = folder_with(KeyAlgorithm::ES256);
    let secret = SharedSecret::new(Secret::new(format!("{}{}", random_hex(), random_hex()))).unwrap();
    let keys = SigningKeys::in_folder(path.clone(), &auth(), [&secret], NOW).unwrap();
    let set = keys.jwks().unwrap();
    let json: Value = serde_json::from_str(&set.body).unwrap();
    let [key] = &json["keys"].as_array().unwrap()[..] else { panic!("{json}") };
    let mut members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(set.max_age_s, 300);
    rotate(&path, None, times(), NOW, false).unwrap();
    keys.refresh(NOW).unwrap();
    assert_ne!(keys.jwks().unwrap().etag, set.etag);
    assert_eq!(SigningKeys::shared(&secret, None).jwks(), None);
}
