//! Secrets of the configuration. Their type keeps them out of logs, and a weak secret is refused at
//! boot.

use std::{collections::HashSet, fmt};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use sha2::{Digest, Sha256};

/// Secret bytes. `Debug` prints a placeholder.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// A secret of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes. They must not reach a log or an answer.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The fewest random bytes of a secret for HS256 (RFC 7518, section 3.2) and other signatures.
const MIN_SHARED_SECRET_BYTES: usize = 32;

/// The fewest random bytes of an API key.
pub const MIN_API_KEY_BYTES: usize = 16;

/// Words and rows of keyboards that typed secrets contain. Random base64 almost never does.
const TYPED_WORDS: [&str; 20] = [
    "secret",
    "passw0rd",
    "password",
    "changeme",
    "change-me",
    "change_me",
    "example",
    "default",
    "qwerty",
    "asdfgh",
    "zxcvbn",
    "letmein",
    "signalbox",
    "correct",
    "battery",
    "staple",
    "production",
    "mysuper",
    "deadbeef",
    "cafebabe",
];

/// Secrets that examples, installers and habits use.
const KNOWN_SECRETS: [&str; 24] = [
    "",
    "secret",
    "password",
    "passw0rd",
    "changeme",
    "change-me",
    "admin",
    "root",
    "test",
    "example",
    "default",
    "demo",
    "123456",
    "12345678",
    "123456789",
    "1234567890",
    "qwerty",
    "letmein",
    "signalbox",
    "backend",
    "operator",
    "apikey",
    "token",
    "guest",
];

/// Why a secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// The secret has too few bytes, so it could be guessed.
    #[error("holds {0} bytes; at least {1} random bytes are needed")]
    TooShort(usize, usize),
    /// The secret is no output of a random generator.
    #[error("is not hexadecimal or base64 of random bytes")]
    NotEncoded,
    /// The secret has too few different characters or pairs of characters to be random.
    #[error("has only {0} different characters, or it repeats them in the same order")]
    TooUniform(usize),
    /// The secret repeats a shorter text.
    #[error("is a shorter text of {0} characters, repeated")]
    Repeated(usize),
    /// The secret follows the order of the alphabet.
    #[error("follows the order of the alphabet")]
    Sequence,
    /// The secret contains a word that is typed, or that documentation uses as an example.
    #[error("contains a typed word or a known example value")]
    KnownExample,
    /// The secret is the encoding of a text.
    #[error("is the encoding of a text, not of random bytes")]
    EncodedText,
}

/// Checks that a secret looks like the output of a random generator: at least `min_bytes` bytes as
/// hexadecimal or base64, as `openssl rand` writes them. White space does not count.
///
/// # Errors
/// [`WeakSecret`] gives the reason; it never repeats the secret.
pub fn check_secret_strength(secret: &[u8], min_bytes: usize) -> Result<(), WeakSecret> {
    let text: Vec<u8> = secret.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let lower = String::from_utf8_lossy(&text).to_ascii_lowercase();
    if TYPED_WORDS.iter().any(|word| lower.contains(word)) {
        return Err(WeakSecret::KnownExample);
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count().min(2);
    let text = &text[..text.len() - padding];
    if let Some(period) = repeated_period(text) {
        return Err(WeakSecret::Repeated(period));
    }
    let is_hex = padding == 0 && text.iter().all(u8::is_ascii_hexdigit);
    let bytes = if is_hex { decode_hex(text) } else { decode_base64(text) };
    let bytes = bytes.ok_or(WeakSecret::NotEncoded)?;
    if bytes.len() < min_bytes {
        return Err(WeakSecret::TooShort(bytes.len(), min_bytes));
    }
    check_variety(text, if is_hex { 8 } else { 10 })?;
    // Of 16 random bytes as base64, one of 100 000 lacks one of the two.
    let has_both_cases = text.iter().any(u8::is_ascii_uppercase) && text.iter().any(u8::is_ascii_lowercase);
    if !is_hex && !has_both_cases {
        return Err(WeakSecret::NotEncoded);
    }
    if bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Err(WeakSecret::EncodedText);
    }
    Ok(())
}

/// Checks the SHA-256 digest of a secret. It is refused if it belongs to a known secret or to one of
/// `names`, or if it is no digest but a placeholder.
///
/// # Errors
/// [`WeakSecret`].
pub fn check_secret_digest(digest: &[u8; 32], names: &[&str]) -> Result<(), WeakSecret> {
    let distinct = count_distinct(digest.iter());
    if distinct < 16 {
        return Err(WeakSecret::TooUniform(distinct));
    }
    let words = KNOWN_SECRETS.iter().chain(names);
    let is_known = words.flat_map(|word| (1..=4).map(|times| word.repeat(times))).any(|text| {
        // A file often ends with a new line, which the digest then covers.
        [text.clone(), format!("{text}\n")].iter().any(|text| Sha256::digest(text).as_slice() == digest)
    });
    if is_known { Err(WeakSecret::KnownExample) } else { Ok(()) }
}

fn repeated_period(text: &[u8]) -> Option<usize> {
    (1..=text.len() / 2).find(|period| text.iter().zip(&text[*period..]).all(|(a, b)| a == b))
}

/// The number of different values.
fn count_distinct<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>) -> usize {
    values.collect::<HashSet<_>>().len()
}

/// Random text has many different characters, hardly repeats a pair of neighbors, and jumps from one
/// character to the next.
fn check_variety(text: &[u8], min_distinct: usize) -> Result<(), WeakSecret> {
    let pairs = text.len().saturating_sub(1);
    let steps = text.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 1).count();
    if steps * 5 > pairs * 3 {
        return Err(WeakSecret::Sequence);
    }
    let distinct = count_distinct(text.iter());
    if distinct < min_distinct || count_distinct(text.windows(2)) < (pairs / 2).min(64) {
        return Err(WeakSecret::TooUniform(distinct));
    }
    Ok(())
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Base64 of either alphabet, without padding. The unused bits of the last character may be set.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_encode_padding(false);
    let config = config.with_decode_padding_mode(DecodePaddingMode::RequireNone);
    let standard = GeneralPurpose::new(&alphabet::STANDARD, config);
    let url_safe = GeneralPurpose::new(&alphabet::URL_SAFE, config);
    standard.decode(text).or_else(|_| url_safe.decode(text)).ok()
}

/// A checked secret for HS256, which needs at least 256 bits (RFC 7518, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSecret(SecretBytes);

impl SharedSecret {
    /// Checks the secret by [`check_secret_strength`].
    ///
    /// # Errors
    /// [`WeakSecret`] gives the reason; it never repeats the secret.
    pub fn new(secret: SecretBytes) -> Result<Self, WeakSecret> {
        check_secret_strength(secret.expose(), MIN_SHARED_SECRET_BYTES)?;
        Ok(Self(secret))
    }

    /// The bytes, for signing and verifying.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// The key id: the first 6 bytes of a SHA-256 with its own prefix, in hexadecimal. It
    /// identifies the key and does not reveal the secret.
    pub fn kid(&self) -> String {
        let digest = Sha256::new_with_prefix(b"signalbox kid v1\0").chain_update(self.expose()).finalize();
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use signalbox_protocol::id::random_hex;

    use super::*;

    fn check(text: &str, min_bytes: usize) -> Result<(), WeakSecret> {
        check_secret_strength(text.as_bytes(), min_bytes)
    }

    /// Bytes without a pattern that are always the same.
    fn test_bytes(seed: u32) -> [u8; 32] {
        Sha256::digest(seed.to_be_bytes()).into()
    }

    #[test]
    fn the_output_of_a_random_generator_passes() {
        for seed in 0..2_000 {
            let bytes = test_bytes(seed);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let long = [bytes, test_bytes(seed + 10_000)].concat();
            for text in [
                hex.clone(),
                hex.to_uppercase(),
                format!("{hex}\n"),
                STANDARD.encode(bytes),
                STANDARD.encode(&long[..48]),
                URL_SAFE_NO_PAD.encode(bytes),
                // openssl breaks lines after 64 characters.
                format!("{}\n{}\n", &STANDARD.encode(&long)[..64], &STANDARD.encode(&long)[64..]),
            ] {
                assert_eq!(check(&text, MIN_SHARED_SECRET_BYTES), Ok(()), "{seed}");
            }
            for text in [hex[..32].to_owned(), STANDARD.encode(&bytes[..18]), STANDARD.encode(&bytes[..24])] {
                assert_eq!(check(&text, MIN_API_KEY_BYTES), Ok(()), "{seed}");
            }
        }
    }

    #[test]
    fn a_weak_secret_is_rejected_with_its_reason() {
        use WeakSecret::{EncodedText, KnownExample, NotEncoded, Repeated, Sequence, TooShort, TooUniform};
        let alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let sentence = "this sentence is long enough for a key";
        let hex_text: String = sentence.bytes().map(|byte| format!("{byte:02x}")).collect();
        for (text, expected) in [
            ("short", NotEncoded),
            ("", TooShort(0, 32)),
            ("qwertyuiopasdfghjklzxcvbnm1234567890", KnownExample),
            ("correct horse battery staple correct", KnownExample),
            ("signalbox-production-key-2026-01-01", KnownExample),
            ("aaaaaaaaaaaaaaaaaaaaaaaaabcdefghij", TooShort(25, 32)),
            ("1234567890123456789012345678901a", TooShort(16, 32)),
            ("abcdefghijklmnopqrstuvwxyz012345678901", TooShort(28, 32)),
            ("supersupersupersuper-hs256-key-jwt", TooShort(25, 32)),
            ("this-is-my-super-secret-key-0123456789", KnownExample),
            ("CHANGEME-changeme-0123456789-abcdefghij", KnownExample),
            ("thequickbrownfoxjumpsoverthelazydog-and-runs", NotEncoded),
            ("our conference key, 2026: do not share it!!", NotEncoded),
            ("MyVideoKey-MyVideoKey-MyVideoKey-MyVideoKey", Repeated(11)),
            ("0123456789abcdefg0123456789abcdefg012", Repeated(17)),
            (alphabet, Sequence),
            (&"deadbeef".repeat(8), KnownExample),
            (&"0123456789abcdef".repeat(4), Repeated(16)),
            (&"00".repeat(32), Repeated(1)),
            (&format!("{}2f", "a1".repeat(31)), TooUniform(4)),
            (&format!("{}ff", "1234567890".repeat(7)), Sequence),
            (&format!("{}ff", "1928374650".repeat(7)), TooUniform(11)),
            (&format!("{}Zq", "aB".repeat(31)), TooUniform(4)),
            (&STANDARD.encode(sentence), EncodedText),
            (&hex_text, EncodedText),
        ] {
            assert_eq!(check(text, MIN_SHARED_SECRET_BYTES), Err(expected), "{text}");
        }
        for text in [
            "passwordpasswordpassword",
            "changemechangemechangeme",
            "qwertyuiopasdfghjklzxcvbnm",
            "1234567890123456789012345678901a",
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "abcdefghijklmnopqrstuvwx",
            "my-backend-api-key-no-1-2026",
            "hunter2hunter2",
            "123456789012345678901234",
        ] {
            assert!(check(text, MIN_API_KEY_BYTES).is_err(), "{text}");
        }
    }

    #[test]
    fn the_digest_of_a_known_secret_is_rejected() {
        let digest = |text: &str| -> [u8; 32] { Sha256::digest(text).into() };
        for text in
            ["", "\n", "password", "password\n", "passwordpasswordpassword", "changemechangeme", "shop"]
        {
            assert_eq!(
                check_secret_digest(&digest(text), &["shop"]),
                Err(WeakSecret::KnownExample),
                "{text:?}"
            );
        }
        assert!(matches!(check_secret_digest(&[0; 32], &[]), Err(WeakSecret::TooUniform(1))));
        assert_eq!(check_secret_digest(&digest(&random_hex()), &["shop"]), Ok(()));
    }

    #[test]
    fn random_bytes_pass_and_are_never_printed() {
        let text = format!("{}{}", random_hex(), random_hex());
        let secret = SharedSecret::new(SecretBytes::new(&*text)).unwrap();
        assert!(!format!("{secret:?}").contains(&text[..8]));
        assert_eq!(secret.kid(), secret.kid());
        assert!(!text.contains(&secret.kid()));
    }
}
