//! Secrets that say nothing: tickets, refresh tokens and invite codes. The store holds their digests only.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Random bytes in one of them.
const SECRET_BYTES: usize = 32;

/// What a secret without claims is for. The prefix tells people, log filters and secret scanners what they have found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpaqueTokenKind {
    /// Opens one connection, once.
    Ticket,
    /// Brings the next token of a grant.
    Refresh,
    /// Lets somebody without an account into a room.
    Invite,
}

impl OpaqueTokenKind {
    /// Every kind, for tests.
    pub const ALL: [Self; 3] = [Self::Ticket, Self::Refresh, Self::Invite];

    /// How it begins. No JWT begins like that.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Ticket => "sbt_",
            Self::Refresh => "sbr_",
            Self::Invite => "sbi_",
        }
    }

    /// Whether a text means to be one of this kind, well-formed or not.
    pub fn has_prefix(self, text: &str) -> bool {
        text.starts_with(self.prefix())
    }
}

/// The 32 random bytes of a secret. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct OpaqueToken([u8; SECRET_BYTES]);

impl OpaqueToken {
    /// Takes bytes that are random, or derived from some that are.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// New random ones.
    pub fn random() -> Self {
        // An id has 122 random bits; three of them fill 256.
        let hash =
            (0..3).fold(Sha256::new(), |hash, _| hash.chain_update(signalbox_protocol::id::random_hex()));
        Self(hash.finalize().into())
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The text for the one it is given to: prefix and base64url (RFC 4648, section 5), 47 characters.
    pub fn to_text(&self, kind: OpaqueTokenKind) -> String {
        format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(self.0))
    }

    /// Reads what [`OpaqueToken::to_text`] has written. None for any other text.
    pub fn parse(kind: OpaqueTokenKind, text: &str) -> Option<Self> {
        // 32 bytes are 43 characters; nothing longer is decoded.
        let body = text.strip_prefix(kind.prefix()).filter(|body| body.len() == 43)?;
        Some(Self(URL_SAFE_NO_PAD.decode(body).ok()?.try_into().ok()?))
    }

    /// What the store knows it by: SHA-256 as 64 hexadecimal digits. The secret cannot be had from it, nor found by timing a comparison.
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
        // The last character of 43 carries two bits that mean nothing: only one spelling is good.
        let spellings = "AEIMQUYcgkosw048".chars().filter(|last| {
            OpaqueToken::parse(OpaqueTokenKind::Ticket, &format!("{}{last}", &good[..46])).is_some()
        });
        assert_eq!(spellings.count(), 16);
        assert!(OpaqueToken::parse(OpaqueTokenKind::Ticket, &format!("{}B", &good[..46])).is_none());
    }
}
