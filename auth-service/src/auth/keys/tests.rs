//! The keys of a folder over time.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_config::{AuthSettings, ServiceSettings};
use signalbox_protocol::id::random_hex;
use signalbox_token::{
    ISSUER, KeyAlgorithm, SecretBytes, SharedSecret, TokenError, TokenKind, UserClaims, parse_jwks,
};
use tempfile::TempDir;

use super::{operations::*, *};

const NOW: u64 = 1_800_000_000;

fn auth() -> AuthSettings {
    ServiceSettings::default().auth
}

fn timing() -> KeyTiming {
    KeyTiming::new(&auth())
}

fn folder_with(algorithm: KeyAlgorithm) -> (TempDir, std::path::PathBuf, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kid = create_first_key(&path, algorithm, NOW).unwrap();
    (dir, path, kid)
}

fn load_keys(path: &Path, now_s: u64) -> std::sync::Arc<SigningKeys> {
    SigningKeys::from_folder(path.to_owned(), &auth(), [], now_s).unwrap()
}

fn claims(now_s: u64) -> UserClaims {
    let claims = json!({ "iss": ISSUER, "aud": TokenKind::User.aud(), "sub": "alice", "role": "guest", "iat": now_s,
        "nbf": now_s, "exp": now_s + 900, "jti": random_hex() });
    serde_json::from_value(claims).unwrap()
}

fn kid_of(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

fn published_kids(keys: &SigningKeys) -> Vec<String> {
    let body = keys.published_jwks().unwrap().body.clone();
    parse_jwks(body.as_bytes()).unwrap().iter().map(|key| key.kid().to_owned()).collect()
}

#[test]
fn key_rotation_refuses_no_valid_token_at_any_step() {
    for algorithm in KeyAlgorithm::ALL {
        let (_dir, path, old) = folder_with(algorithm);
        let keys = load_keys(&path, NOW);
        let token = keys.sign(&claims(NOW)).unwrap();
        assert_eq!((kid_of(&token), published_kids(&keys)), (old.clone(), vec![old.clone()]));

        let rotated = rotate_keys(&path, None, timing(), NOW, false).unwrap();
        assert_eq!(rotated.signs_from, NOW + timing().lead_s);
        keys.reload(NOW).unwrap();
        assert_eq!(published_kids(&keys).len(), 2, "the key is published before it signs");
        assert_eq!(kid_of(&keys.sign(&claims(NOW)).unwrap()), old);

        let begin = rotated.signs_from;
        keys.reload(begin).unwrap();
        let newer = keys.sign(&claims(begin)).unwrap();
        assert_eq!(kid_of(&newer), rotated.kid);
        assert!(
            keys.verifier().verify_user_token(&token, begin).is_ok()
                && keys.verifier().verify_user_token(&newer, begin).is_ok()
        );

        keys.reload(begin + timing().publish_after_rotation_s).unwrap();
        assert_eq!(published_kids(&keys), vec![rotated.kid.clone()]);
        let expired_s = begin + timing().file_kept_s;
        let third = rotate_keys(&path, None, timing(), expired_s, false).unwrap();
        assert_eq!(third.removed, vec![old]);
        assert_eq!(list_keys(&path, timing(), expired_s).unwrap().len(), 2);
    }
}

#[test]
fn key_folder_or_file_readable_by_others_is_refused() {
    let (_dir, path, kid) = folder_with(KeyAlgorithm::EdDSA);
    let file = path.join(format!("{kid}.json"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for (target, mode) in [(&path, 0o750), (&path, 0o701), (&file, 0o640), (&file, 0o604)] {
        fs::set_permissions(target, Permissions::from_mode(mode)).unwrap();
        let error = SigningKeys::from_folder(path.clone(), &auth(), [], NOW).map(drop).unwrap_err();
        assert!(matches!(error, KeysError::OpenPermissions { .. }), "{error}");
        assert!(error.to_string().contains("chmod"), "{error}");
        let closed = if target == &path { 0o700 } else { 0o600 };
        fs::set_permissions(target, Permissions::from_mode(closed)).unwrap();
    }
    load_keys(&path, NOW);
}

#[test]
fn broken_key_folder_leaves_the_loaded_keys_in_use() {
    let (_dir, path, kid) = folder_with(KeyAlgorithm::EdDSA);
    let keys = load_keys(&path, NOW);
    fs::write(path.join("other.json"), "{").unwrap();
    fs::set_permissions(path.join("other.json"), Permissions::from_mode(0o600)).unwrap();
    assert!(keys.reload(NOW).is_err());
    fs::remove_dir_all(&path).unwrap();
    assert!(keys.reload(NOW).is_err());
    assert_eq!(kid_of(&keys.sign(&claims(NOW)).unwrap()), kid);
}

/// A Secret as Kubernetes mounts it: each file is a link through `..data` to the current version.
struct MountedSecret {
    root: TempDir,
}

impl MountedSecret {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        Self { root }
    }

    /// Puts the key files of a folder into the Secret, as its version with this name.
    fn publish(&self, version: &str, keys: &Path, mode: u32) {
        let folder = self.root.path().join(version);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(keys).unwrap() {
            let name = entry.unwrap().file_name();
            fs::copy(keys.join(&name), folder.join(&name)).unwrap();
            fs::set_permissions(folder.join(&name), Permissions::from_mode(mode)).unwrap();
            let link = self.root.path().join(&name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(&name), link).unwrap();
            }
        }
        symlink(version, self.root.path().join("..data_tmp")).unwrap();
        fs::rename(self.root.path().join("..data_tmp"), self.root.path().join("..data")).unwrap();
    }
}

#[test]
fn keys_of_a_mounted_kubernetes_secret_are_used_and_replaced() {
    let (_dir, path, first) = folder_with(KeyAlgorithm::EdDSA);
    let secret = MountedSecret::new();
    secret.publish("..2026_11_29_1", &path, 0o440);
    let volume = secret.root.path();
    let loaded = SigningKeys::from_folder(volume.to_owned(), &auth(), [], NOW);
    if !rustix::process::geteuid().is_root() {
        // The files of this test belong to the user that runs it, and a Secret belongs to root.
        assert!(matches!(loaded.map(drop), Err(KeysError::OpenVolume { .. })));
        return;
    }
    let keys = loaded.unwrap();
    assert_eq!(published_kids(&keys), [first]);
    rotate_keys(&path, None, timing(), NOW, false).unwrap();
    secret.publish("..2026_11_29_2", &path, 0o400);
    keys.reload(NOW).unwrap();
    assert_eq!(published_kids(&keys).len(), 2);
    let refused = rotate_keys(volume, None, timing(), NOW + 9_999, true).unwrap_err().to_string();
    assert!(refused.contains("put its files into the Secret"), "{refused}");

    let file = fs::canonicalize(fs::read_dir(&path).unwrap().next().unwrap().unwrap().path()).unwrap();
    let file = fs::canonicalize(volume.join(file.file_name().unwrap())).unwrap();
    let version = fs::canonicalize(volume.join("..data")).unwrap();
    for (target, mode, closed) in [
        (file.as_path(), 0o444, 0o440),
        (&file, 0o460, 0o440),
        (&version, 0o777, 0o755),
        (volume, 0o777, 0o755),
        (volume, 0o775, 0o755),
    ] {
        fs::set_permissions(target, Permissions::from_mode(mode)).unwrap();
        let error = keys.reload(NOW).unwrap_err();
        assert!(matches!(error, KeysError::OpenVolume { .. }), "{mode:03o} {error}");
        assert!(error.to_string().contains("defaultMode: 0400"), "{error}");
        fs::set_permissions(target, Permissions::from_mode(closed)).unwrap();
        keys.reload(NOW).unwrap();
    }
    for (uid, gid) in [(Some(0), Some(54_321)), (Some(54_321), Some(0))] {
        fs::set_permissions(&file, Permissions::from_mode(0o440)).unwrap();
        chown(&file, uid, gid).unwrap();
        assert!(matches!(keys.reload(NOW), Err(KeysError::OpenVolume { .. })), "{uid:?} {gid:?}");
    }
}

#[test]
fn token_of_an_unknown_key_is_refused_only_while_the_folder_can_be_read() {
    let (_dir, path, kid) = folder_with(KeyAlgorithm::EdDSA);
    let keys = load_keys(&path, NOW);
    let unknown = forge_token("EdDSA", Some("unknown"), |_| String::new());
    let forged = forge_token("EdDSA", Some(&kid), |_| String::new());
    let own = keys.sign(&claims(NOW)).unwrap();
    let verify = |token: &str| keys.verifier().verify_user_token(token, NOW).map(drop);
    for (is_readable, expected) in [
        (true, TokenError::BadSignature),
        (false, TokenError::KeysUnavailable),
        (true, TokenError::BadSignature),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(if is_readable { 0o700 } else { 0o755 })).unwrap();
        assert_eq!(keys.reload(NOW).is_ok(), is_readable);
        assert_eq!(verify(&unknown), Err(expected));
        assert_eq!(verify(&forged), Err(TokenError::BadSignature), "its key is known");
        assert_eq!(verify(&own), Ok(()));
    }
    assert_eq!(TokenError::KeysUnavailable.to_problem().status, 503);
}

#[test]
fn key_operations_explain_each_error() {
    let (dir, path, _) = folder_with(KeyAlgorithm::EdDSA);
    assert_eq!(create_first_key(&path, KeyAlgorithm::EdDSA, NOW).unwrap_err(), KeyOperationError::NotEmpty);
    let waiting = rotate_keys(&path, None, timing(), NOW, false).unwrap();
    assert_eq!(
        rotate_keys(&path, None, timing(), NOW + 1, false).unwrap_err(),
        KeyOperationError::RotationPending(waiting.kid),
        "a timer that fires twice creates one key"
    );
    let leaked = rotate_keys(&path, Some(KeyAlgorithm::ES256), timing(), NOW + 1, true).unwrap();
    assert_eq!(kid_of(&load_keys(&path, NOW + 1).sign(&claims(NOW)).unwrap()), leaked.kid);
    let empty = dir.path().join("empty");
    folder::create_folder(&empty).unwrap();
    assert_eq!(rotate_keys(&empty, None, timing(), NOW, false).unwrap_err(), KeyOperationError::Empty);
    let none = SigningKeys::from_folder(empty.clone(), &auth(), [], NOW).map(drop).unwrap_err();
    assert_eq!(none, KeysError::NoSigningKey(empty));
}

#[test]
fn at_most_32_keys_are_published() {
    let (_dir, path, _) = folder_with(KeyAlgorithm::EdDSA);
    for second in 1..32 {
        rotate_keys(&path, None, timing(), NOW + second, true).unwrap();
    }
    assert_eq!(published_kids(&load_keys(&path, NOW + 32)).len(), 32);
    assert!(matches!(
        rotate_keys(&path, None, timing(), NOW + 32, true).unwrap_err(),
        KeyOperationError::Folder(KeysError::TooManyPublished(33))
    ));
}

/// A forged token: `sign` gets the encoded header and claims.
fn forge_token(alg: &str, kid: Option<&str>, sign: impl Fn(&[u8]) -> String) -> String {
    let mut header = json!({ "alg": alg, "typ": TokenKind::User.typ() });
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let part = |json: Value| BASE64.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(serde_json::to_value(claims(NOW)).unwrap()));
    format!("{message}.{}", sign(message.as_bytes()))
}

fn signer(key: &EncodingKey, algorithm: Algorithm) -> impl Fn(&[u8]) -> String {
    move |message| jsonwebtoken::crypto::sign(message, key, algorithm).unwrap()
}

#[test]
fn key_verifies_only_its_own_algorithm() {
    use TokenError::{BadSignature, WrongAlgorithm};
    let (_dir, path, ed) = folder_with(KeyAlgorithm::EdDSA);
    let es = rotate_keys(&path, Some(KeyAlgorithm::ES256), timing(), NOW, true).unwrap();
    assert_eq!(es.signs_from, NOW + 1, "two keys never begin in the same second");
    let es = es.kid;
    let secret = SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex()))).unwrap();
    let without = load_keys(&path, NOW);
    let with = SigningKeys::from_folder(path.clone(), &auth(), [&secret], NOW).unwrap();

    let private = folder::read_keys(&path).unwrap();
    let of = |kid: &str| private.iter().find(|key| key.public.kid() == kid).unwrap();
    let (by_ed, by_es) =
        (signer(of(&ed).encoding_key(), Algorithm::EdDSA), signer(of(&es).encoding_key(), Algorithm::ES256));
    let shared = EncodingKey::from_secret(secret.expose());
    let by_secret = signer(&shared, Algorithm::HS256);
    // The public key in each of its forms: a confused verifier could use it as the secret.
    let public = serde_json::to_value(&of(&ed).public).unwrap();
    let x = public["x"].as_str().unwrap().to_owned();
    let forms = [BASE64.decode(&x).unwrap(), x.into_bytes(), public.to_string().into_bytes()];

    for (what, token, expected, expected_with) in [
        ("its own", forge_token("EdDSA", Some(&ed), &by_ed), Ok(()), Ok(())),
        ("its own", forge_token("ES256", Some(&es), &by_es), Ok(()), Ok(())),
        ("another's kid", forge_token("EdDSA", Some(&es), &by_ed), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        ("another's kid", forge_token("ES256", Some(&ed), &by_es), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        ("another's name", forge_token("ES256", Some(&es), &by_ed), Err(BadSignature), Err(BadSignature)),
        ("another's name", forge_token("EdDSA", Some(&ed), &by_es), Err(BadSignature), Err(BadSignature)),
        ("no kid", forge_token("EdDSA", None, &by_ed), Err(BadSignature), Err(BadSignature)),
        ("unknown kid", forge_token("EdDSA", Some("x"), &by_ed), Err(BadSignature), Err(BadSignature)),
        ("none", forge_token("none", Some(&ed), |_| String::new()), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        (
            "no signature",
            forge_token("EdDSA", Some(&ed), |_| String::new()),
            Err(BadSignature),
            Err(BadSignature),
        ),
        ("the secret", forge_token("HS256", None, &by_secret), Err(WrongAlgorithm), Ok(())),
        ("the secret", forge_token("HS256", Some(&ed), &by_secret), Err(WrongAlgorithm), Err(WrongAlgorithm)),
        (
            "the secret",
            forge_token("EdDSA", Some(&secret.kid()), &by_secret),
            Err(BadSignature),
            Err(WrongAlgorithm),
        ),
    ] {
        assert_eq!(
            without.verifier().verify_user_token(&token, NOW).map(drop),
            expected,
            "{what}, without a secret"
        );
        assert_eq!(
            with.verifier().verify_user_token(&token, NOW).map(drop),
            expected_with,
            "{what}, with a secret"
        );
    }
    for form in &forms {
        let key = EncodingKey::from_secret(form);
        for kid in [None, Some(ed.as_str())] {
            let token = forge_token("HS256", kid, signer(&key, Algorithm::HS256));
            assert_eq!(without.verifier().verify_user_token(&token, NOW).map(drop), Err(WrongAlgorithm));
            assert!(with.verifier().verify_user_token(&token, NOW).is_err());
        }
    }
    let header = Header { alg: Algorithm::EdDSA, ..Header::default() };
    assert_eq!(header.typ.as_deref(), Some("JWT"));
    let untyped = jsonwebtoken::encode(
        &Header { kid: Some(ed.clone()), ..header },
        &claims(NOW),
        of(&ed).encoding_key(),
    );
    assert!(without.verifier().verify_user_token(&untyped.unwrap(), NOW).is_err());
}

#[test]
fn published_jwks_has_only_public_members_and_an_etag() {
    let (_dir, path, _) = folder_with(KeyAlgorithm::ES256);
    let secret = SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex()))).unwrap();
    let keys = SigningKeys::from_folder(path.clone(), &auth(), [&secret], NOW).unwrap();
    let set = keys.published_jwks().unwrap();
    let json: Value = serde_json::from_str(&set.body).unwrap();
    let [key] = &json["keys"].as_array().unwrap()[..] else { panic!("{json}") };
    let mut members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(set.max_age_s, 300);
    rotate_keys(&path, None, timing(), NOW, false).unwrap();
    keys.reload(NOW).unwrap();
    assert_ne!(keys.published_jwks().unwrap().etag, set.etag);
    assert_eq!(SigningKeys::from_secret(&secret, None).published_jwks(), None);
}
