//! The API keys of the application backends: how they are written, and how a caller is checked
//! against them.
//!
//! Owns: `SIGNALBOX_API_KEYS`. Must not: know what a key allows ([`crate::ApiKeySettings`]).

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use signalbox_protocol::id::CallerId;
use signalbox_token::{MIN_API_KEY_BYTES, WeakSecret, check_secret_digest, check_secret_strength};

/// How many secrets an API key may have: the old and the new one during a rotation, with a reserve.
const MAX_SECRETS_PER_KEY: usize = 4;

/// A pair of an API key: its id and the SHA-256 digest of its secret. The secret itself is not kept.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The name of the caller in logs and metrics: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub id: String,
    secret_digest: [u8; 32],
}

/// All configured API keys. A key with several secrets has one pair for each, so that its secret can
/// be rotated.
#[derive(Debug, Clone, Default)]
pub struct ApiKeys(Vec<ApiKey>);

impl ApiKeys {
    /// Parses `id:secret` pairs that are separated by commas or white space. Instead of a secret, a
    /// pair may have `sha256=` and the 64 hexadecimal digits of its digest.
    ///
    /// # Errors
    /// Says which pair is wrong, by its id or its number, and never repeats a secret. The text
    /// continues a sentence that begins with the name of the setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pairs = text.split([',', ' ', '\t', '\r', '\n']).filter(|pair| !pair.is_empty());
        let keys = pairs
            .enumerate()
            .map(|(index, pair)| Self::parse_pair(index + 1, pair))
            .collect::<Result<Vec<_>, _>>()?;
        let keys = Self(keys);
        let excess = keys.ids().find(|id| keys.secret_count(id) > MAX_SECRETS_PER_KEY).map(str::to_owned);
        match excess {
            Some(id) => Err(format!(
                "has more than {MAX_SECRETS_PER_KEY} secrets for the key `{id}`; remove the old ones"
            )),
            None => Ok(keys),
        }
    }

    fn parse_pair(number: usize, pair: &str) -> Result<ApiKey, String> {
        let (id, secret) = pair.split_once(':').ok_or_else(|| {
            format!("pair {number} is not id:secret; write it like shop:SECRET, with a secret from: openssl rand -hex 32")
        })?;
        let is_valid_id = (1..=64).contains(&id.len())
            && id.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        if !is_valid_id {
            return Err(format!("pair {number} has an id that is not 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        if CallerId::RESERVED.contains(&id) {
            let reserved = CallerId::RESERVED.join(", ");
            return Err(format!("key `{id}` has a reserved id ({reserved}); use another id"));
        }
        let weak = |why: WeakSecret| {
            format!("key `{id}` has a weak secret: it {why}; make one with: openssl rand -hex 32")
        };
        let secret_digest = match secret.strip_prefix("sha256=") {
            Some(hex) => parse_digest(hex)
                .ok_or(format!("key `{id}` has a sha256= that is not 64 hexadecimal digits"))?,
            None => {
                check_secret_strength(secret.as_bytes(), MIN_API_KEY_BYTES).map_err(weak)?;
                Sha256::digest(secret.as_bytes()).into()
            }
        };
        check_secret_digest(&secret_digest, &[id]).map_err(weak)?;
        Ok(ApiKey { id: id.to_owned(), secret_digest })
    }

    /// Returns the key that has this id and this secret. It compares every key, each in constant
    /// time, so that the time reveals nothing about them.
    pub fn authenticate(&self, id: &str, secret: &str) -> Option<&ApiKey> {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.secret_digest.ct_eq(&digest)) && key.id == id {
                found = Some(key);
            }
        }
        found
    }

    /// The key with this id.
    pub fn get(&self, id: &str) -> Option<&ApiKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// Whether no key is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The id of each key and the digest of its secret.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (&str, [u8; 32])> {
        self.0.iter().map(|key| (key.id.as_str(), key.secret_digest))
    }

    /// The id of each key, once.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        let ids: BTreeSet<_> = self.0.iter().map(|key| key.id.as_str()).collect();
        ids.into_iter()
    }

    /// The ids for `--check-config`. A rotation that is not finished shows as several secrets.
    pub(crate) fn describe(&self) -> String {
        let describe_key = |id: &str| match self.secret_count(id) {
            1 => id.to_owned(),
            count => format!("{id} ({count} secrets)"),
        };
        self.ids().map(describe_key).collect::<Vec<_>>().join(", ")
    }

    fn secret_count(&self, id: &str) -> usize {
        self.0.iter().filter(|key| key.id == id).count()
    }
}

fn parse_digest(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::id::random_hex;

    use super::*;

    fn to_hex(text: &[u8]) -> String {
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_api_key_needs_matching_id_and_secret() {
        let (a, b) = (random_hex(), random_hex());
        let digest = to_hex(b.as_bytes());
        let keys = ApiKeys::parse(&format!("one:{a},\n two:sha256={digest}")).unwrap();
        assert_eq!(keys.authenticate("one", &a).unwrap().id, "one");
        assert_eq!(keys.authenticate("two", &b).unwrap().id, "two");
        for (id, secret) in [("one", &b), ("two", &a), ("two", &digest), ("three", &a)] {
            assert!(keys.authenticate(id, secret).is_none(), "{id}");
        }
    }

    #[test]
    fn each_secret_of_a_key_authenticates_it_until_the_secret_is_removed() {
        let (old, new) = (random_hex(), random_hex());
        let pair = |secret: &str| format!("shop:{secret}\n");
        let rotating = ApiKeys::parse(&(pair(&old) + &pair(&new))).unwrap();
        for secret in [&old, &new] {
            assert_eq!(rotating.authenticate("shop", secret).unwrap().id, "shop");
        }
        assert_eq!(rotating.describe(), "shop (2 secrets)");
        let rotated = ApiKeys::parse(&pair(&new)).unwrap();
        assert!(rotated.authenticate("shop", &old).is_none());
        assert!(rotated.authenticate("shop", &new).is_some());
    }

    #[test]
    fn an_invalid_pair_is_named_without_its_secret() {
        let good = random_hex();
        let good_pairs: Vec<_> = (0..5).map(|_| format!("x:{}", random_hex())).collect();
        for (text, expected) in [
            ("nocolon".to_owned(), "pair 1"),
            (format!("ok:{good},b a d"), "pair 2"),
            ("weak:1234567890".to_owned(), "`weak`"),
            (format!("weak:{}", "a".repeat(40)), "`weak`"),
            (format!("weak:{}", "abcde".repeat(8)), "`weak`"),
            ("weak:passwordpasswordpassword".to_owned(), "`weak`"),
            ("weak:qwertyuiopasdfghjklzxcvbnm".to_owned(), "`weak`"),
            (format!("empty:sha256={}", to_hex(b"")), "`empty`"),
            (format!("word:sha256={}", to_hex(b"password")), "`word`"),
            (format!("itself:sha256={}", to_hex(b"itself")), "`itself`"),
            (format!("zero:sha256={}", "0".repeat(64)), "`zero`"),
            ("d:sha256=12".to_owned(), "`d`"),
            (format!("guest:{good}"), "`guest`"),
            (good_pairs.join(","), "more than 4 secrets for the key `x`"),
        ] {
            let error = ApiKeys::parse(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("1234567890"), "{error}");
        }
    }
}
