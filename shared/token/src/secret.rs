//! Secrets: kept out of logs by their type, and refused at boot when they are weak.

use std::{collections::HashSet, fmt};

use sha2::{Digest, Sha256};

/// Bytes that never show: `Debug` and `Display` print a placeholder.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// How many different bytes a text has. Random bytes have many, a typed or repeated text has few.
pub fn count_distinct_bytes(bytes: &[u8]) -> usize {
    bytes.iter().collect::<HashSet<_>>().len()
}

/// Why a secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// Too short to resist guessing.
    #[error("is {0} bytes long; at least 32 random bytes are needed")]
    TooShort(usize),
    /// Too few different bytes to be random.
    #[error("has only {0} different bytes; a random one has more than 10")]
    TooUniform(usize),
    /// The same text again and again.
    #[error("is a shorter text of {0} bytes repeated")]
    Repeated(usize),
    /// Printed in somebody's documentation.
    #[error("is a known example value")]
    KnownExample,
}

/// A secret that passed the check: what HS256 signs with (RFC 7518, section 3.2 wants at least 256 bits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSecret(SecretBytes);

impl SharedSecret {
    /// Checks length, variety, repetition and known examples.
    ///
    /// # Errors
    /// [`WeakSecret`] says what is wrong; it never repeats the secret.
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

    /// The key id: the start of a domain-separated SHA-256, which tells keys apart and nothing about them.
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
