//! The seal of records that only the auth service writes and reads.
//!
//! Owns: the key, which no node holds, and the sealed form. A record is encrypted and authenticated
//! together with its name, so it cannot be read, altered, made up or moved to another key. It ends
//! at a time that is sealed too. Must not: know the content of a record.
//!
//! What a seal cannot prevent: an earlier record of the same name can be put back before its end.
//! So each counter beside a record (uses of an invite, the newest refresh token) can be set back by
//! a user of Redis that may write keys of the auth service.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};

/// How far the clocks of two auth services may differ, ms.
const CLOCK_TOLERANCE_MS: u64 = 60_000;

/// A key that seals, derived from a secret that signs.
pub struct SealKey(LessSafeKey);

impl SealKey {
    /// Derives a key with HKDF (RFC 5869), so that it is valid for no other purpose. None only if
    /// the library fails.
    pub fn derive(secret: &[u8]) -> Option<Self> {
        const PURPOSE: &[&[u8]] = &[b"signalbox auth record v1"];
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let key = derived.expand(PURPOSE, &CHACHA20_POLY1305).ok()?;
        Some(Self(LessSafeKey::new(UnboundKey::from(key))))
    }
}

/// Seals and opens records. The first key seals, and every key opens, so a rotation loses no record.
/// Cheap to clone.
#[derive(Clone)]
pub struct RecordSeal(Arc<[SealKey]>);

impl RecordSeal {
    /// A seal with these keys, the newest first.
    pub fn new(keys: impl IntoIterator<Item = SealKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Seals a record under the name of its key, until `ends_ms` (ms since 1970).
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn seal(&self, name: &str, ends_ms: u64, record: &[u8]) -> Result<String, SealError> {
        let key = self.0.first().ok_or(SealError)?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = [&ends_ms.to_be_bytes(), record].concat();
        let bound = Nonce::assume_unique_for_key(nonce);
        key.0
            .seal_in_place_append_tag(bound, Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| SealError)?;
        Ok(BASE64.encode([&nonce[..], &sealed].concat()))
    }

    /// The record that was sealed under this name, at the time `now_ms`. None for any other text,
    /// and after the end of the record.
    pub fn open(&self, name: &str, now_ms: u64, sealed: &str) -> Option<Vec<u8>> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let open_with = |key: &SealKey| {
            let mut sealed = sealed.to_vec();
            let bound = Nonce::assume_unique_for_key(*nonce);
            let opened = key.0.open_in_place(bound, Aad::from(name.as_bytes()), &mut sealed).ok()?;
            Some(opened.to_vec())
        };
        let opened = self.0.iter().find_map(open_with)?;
        let (ends_ms, record) = opened.split_first_chunk::<8>()?;
        let has_ended = now_ms >= u64::from_be_bytes(*ends_ms).saturating_add(CLOCK_TOLERANCE_MS);
        if has_ended { None } else { Some(record.to_vec()) }
    }
}

/// A record could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no randomness")]
pub struct SealError;

#[cfg(test)]
mod tests {
    use super::*;

    fn seal_of(secret: &str, previous: Option<&str>) -> RecordSeal {
        RecordSeal::new([secret].into_iter().chain(previous).filter_map(|s| SealKey::derive(s.as_bytes())))
    }

    #[test]
    fn a_sealed_record_opens_under_its_name_until_its_end() {
        let (one, two) = (random_secret(), random_secret());
        let seal = seal_of(&one, None);
        let sealed = seal.seal("name", 1_000, b"record").unwrap();
        assert!(!sealed.contains("record"));
        let open = |seal: &RecordSeal, name, now_ms, text: &str| seal.open(name, now_ms, text);
        let record = Some(b"record".to_vec());
        assert_eq!(open(&seal, "name", 60_999, &sealed), record);
        assert_eq!(open(&seal, "name", 61_000, &sealed), None, "the record has ended");
        assert_eq!(open(&seal, "other", 0, &sealed), None, "a record of another key");
        assert_eq!(open(&seal_of(&two, None), "name", 0, &sealed), None, "another deployment");
        assert_eq!(open(&seal_of(&two, Some(&one)), "name", 0, &sealed), record, "after a rotation");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(&seal, "name", 0, &String::from_utf8(altered).unwrap()), None, "{at}");
        }
        for text in ["", "x", "AAAA", r#"{"terms":1}"#] {
            assert_eq!(open(&seal, "name", 0, text), None, "{text}");
        }
    }

    fn random_secret() -> String {
        [signalbox_protocol::id::random_hex(), signalbox_protocol::id::random_hex()].concat()
    }
}
