//! Secrets of the configuration. Their type keeps them out of logs, and a weak secret is refused at
//! boot.

use std::{collections::HashSet, fmt};

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

/// The number of different bytes. Random bytes have many; a typed or repeated text has few.
pub fn count_distinct_bytes(bytes: &[u8]) -> usize {
    bytes.iter().collect::<HashSet<_>>().len()
}

/// Why a secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// The secret is too short, so it could be guessed.
    #[error("is {0} bytes long; at least 32 random bytes are needed")]
    TooShort(usize),
    /// The secret has too few different bytes to be random.
    #[error("has only {0} different bytes; a random secret has more than 10")]
    TooUniform(usize),
    /// The secret repeats a shorter text.
    #[error("is a shorter text of {0} bytes, repeated")]
    Repeated(usize),
    /// The secret contains a word or a text that documentation uses as an example.
    #[error("is a known example value")]
    KnownExample,
}

/// A checked secret for HS256, which needs at least 256 bits (RFC 7518, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSecret(SecretBytes);

impl SharedSecret {
    /// Checks length, variety, repetition and known examples.
    ///
    /// # Errors
    /// [`WeakSecret`] gives the reason; it never repeats the secret.
    pub fn new(secret: SecretBytes) -> Result<Self, WeakSecret> {
        let bytes = secret.expose();
        if bytes.len() < 32 {
            return Err(WeakSecret::TooShort(bytes.len()));
        }
        let distinct = count_distinct_bytes(bytes);
        if distinct < 10 {
            return Err(WeakSecret::TooUniform(distinct));
        }
        if let Some(period) =
            (1..=bytes.len() / 2).find(|p| bytes.iter().zip(&bytes[*p..]).all(|(a, b)| a == b))
        {
            return Err(WeakSecret::Repeated(period));
        }
        let lower = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        let known = [
            "secret",
            "password",
            "changeme",
            "change-me",
            "change_me",
            "example",
            "your-",
            "your_",
            "default",
        ];
        if known.iter().any(|word| lower.contains(word))
            || "abcdefghijklmnopqrstuvwxyz0123456789".contains(&lower)
        {
            return Err(WeakSecret::KnownExample);
        }
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
    use super::*;

    fn check_secret(text: &str) -> Result<SharedSecret, WeakSecret> {
        SharedSecret::new(SecretBytes::new(text))
    }

    #[test]
    fn a_weak_secret_is_rejected_with_its_reason() {
        assert_eq!(check_secret("short").unwrap_err(), WeakSecret::TooShort(5));
        assert_eq!(check_secret(&"ab".repeat(20)).unwrap_err(), WeakSecret::TooUniform(2));
        assert_eq!(check_secret(&"0123456789abcdefg".repeat(2)).unwrap_err(), WeakSecret::Repeated(17));
        assert_eq!(
            check_secret("0123456789abcdefg0123456789abcdefg012").unwrap_err(),
            WeakSecret::Repeated(17)
        );
        assert_eq!(
            check_secret("this-is-my-super-secret-key-0123456789").unwrap_err(),
            WeakSecret::KnownExample
        );
        assert_eq!(check_secret("abcdefghijklmnopqrstuvwxyz012345").unwrap_err(), WeakSecret::KnownExample);
    }

    #[test]
    fn random_bytes_pass_and_are_never_printed() {
        let text =
            format!("{}{}", signalbox_protocol::id::random_hex(), signalbox_protocol::id::random_hex());
        let secret = check_secret(&text).unwrap();
        assert!(!format!("{secret:?}").contains(&text[..8]));
        assert_eq!(secret.kid(), secret.kid());
        assert!(!text.contains(&secret.kid()));
    }
}
