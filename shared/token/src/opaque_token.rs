//! Opaque tokens: tickets, refresh tokens and invite codes.
//!
//! Owns: their text form and their digest. Must not: know what a token stands for; the store keeps
//! that under the digest, and never the opaque token itself.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The random bytes of a token.
const SECRET_BYTES: usize = 32;

/// The purpose of an opaque token. People, log filters and secret scanners recognize a token by the
/// prefix of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpaqueTokenKind {
    /// Opens one connection once.
    Ticket,
    /// Gets the next token of a grant.
    Refresh,
    /// Gets a token for a guest.
    Invite,
}

impl OpaqueTokenKind {
    /// Every kind, for tests.
    pub const ALL: [Self; 3] = [Self::Ticket, Self::Refresh, Self::Invite];

    /// The first characters of the text. No JWT begins with them.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Ticket => "sbt_",
            Self::Refresh => "sbr_",
            Self::Invite => "sbi_",
        }
    }

    /// Whether a text has the prefix of this kind; the rest need not be well-formed.
    pub fn has_prefix(self, text: &str) -> bool {
        text.starts_with(self.prefix())
    }
}

/// An opaque token: 32 random bytes. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct OpaqueToken([u8; SECRET_BYTES]);

impl OpaqueToken {
    /// A token of these bytes, which must be random or derived from random bytes.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// A new random token.
    pub fn random() -> Self {
        // An id has 122 random bits, so three ids have more than 256.
        let hash =
            (0..3).fold(Sha256::new(), |hash, _| hash.chain_update(signalbox_protocol::id::random_hex()));
        Self(hash.finalize().into())
    }

    /// The bytes. They must not reach a log or an answer.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The text form: the prefix and the bytes in base64url (RFC 4648, section 5), 47 characters.
    pub fn to_text(&self, kind: OpaqueTokenKind) -> String {
        format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(self.0))
    }

    /// Parses the text form of [`OpaqueToken::to_text`]. None for any other text.
    pub fn parse(kind: OpaqueTokenKind, text: &str) -> Option<Self> {
        // 32 bytes are 43 characters in base64url.
        let body = text.strip_prefix(kind.prefix()).filter(|body| body.len() == 43)?;
        Some(Self(URL_SAFE_NO_PAD.decode(body).ok()?.try_into().ok()?))
    }

    /// The key of the token in the store: its SHA-256 as 64 hexadecimal digits. The digest does not
    /// reveal the token, and the time of a comparison does not either.
    pub fn digest(&self) -> String {
        Sha256::digest(self.0).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for OpaqueToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opaque_token_parses_only_as_its_own_kind() {
        for kind in OpaqueTokenKind::ALL {
            let secret = OpaqueToken::random();
            let text = secret.to_text(kind);
            assert_eq!(text.len(), 47);
            for other in OpaqueTokenKind::ALL {
                assert_eq!(OpaqueToken::parse(other, &text).is_some(), other == kind, "{text}");
                assert_eq!(other.has_prefix(&text), other == kind);
            }
            assert_eq!(OpaqueToken::parse(kind, &text).unwrap(), secret);
            assert!(!format!("{secret:?}").contains(&text[4..12]));
            assert!(!secret.digest().contains(&text[4..]) && secret.digest().len() == 64);
        }
    }

    #[test]
    fn malformed_text_is_no_opaque_token() {
        let good = OpaqueToken::random().to_text(OpaqueTokenKind::Ticket);
        let padded = format!("{good}=");
        for text in ["", "sbt_", &good[4..], &good[..46], &padded, &good.replace("sbt_", "sbt_.")] {
            assert!(OpaqueToken::parse(OpaqueTokenKind::Ticket, text).is_none(), "{text}");
        }
        // The last of 43 characters has two unused bits, which must be zero.
        let spellings = "AEIMQUYcgkosw048".chars().filter(|last| {
            OpaqueToken::parse(OpaqueTokenKind::Ticket, &format!("{}{last}", &good[..46])).is_some()
        });
        assert_eq!(spellings.count(), 16);
        assert!(OpaqueToken::parse(OpaqueTokenKind::Ticket, &format!("{}B", &good[..46])).is_none());
    }
}
