//! Refresh tokens (RFC 9700, section 4.14): 32 bytes. The first half names the family, the second
//! half is the secret.
//!
//! The successor of a token is derived from the token and from the salt of the family. So a client
//! that lost the response gets the same successor again. The store holds keyed digests and a sealed
//! salt, so it cannot derive a token, nor make a token of another valid.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signalbox_token::OpaqueToken;

use super::{RoomTokenTerms, UserTokenTerms};

/// How long a used token may be repeated: a phone may lose the response.
pub(crate) const REFRESH_REPEAT_MS: u64 = 10_000;

/// The terms of the tokens that a refresh token renews.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RenewableTerms {
    /// Room tokens.
    Room(RoomTokenTerms),
    /// User tokens.
    User(UserTokenTerms),
}

/// The id of the family of a token.
pub(crate) fn family_id(token: &OpaqueToken) -> String {
    to_hex(&token.expose()[..16])
}

/// A salt for a new family.
pub(crate) fn new_salt() -> String {
    to_hex(OpaqueToken::random().expose())
}

/// The successor of a token.
pub(crate) fn derive_successor(token: &OpaqueToken, salt: &str) -> OpaqueToken {
    let mut bytes = *token.expose();
    let mut mac = salted_mac(salt);
    mac.update(&bytes);
    let (_, proof) = bytes.split_at_mut(16);
    proof.copy_from_slice(&mac.finalize().into_bytes()[..16]);
    OpaqueToken::from_bytes(bytes)
}

/// The digest of a token, as the store keeps it. It is keyed with the salt, which the store holds
/// only sealed, so nothing but the auth service can write the digest of a token of its choice.
pub(crate) fn keyed_digest(token: &OpaqueToken, salt: &str) -> String {
    let mut mac = salted_mac(salt);
    mac.update(b"stored digest");
    mac.update(token.expose());
    to_hex(&mac.finalize().into_bytes())
}

fn salted_mac(salt: &str) -> Hmac<Sha256> {
    // A salt has 64 digits, as long as a block of the hash, so RFC 2104 uses it unchanged.
    let mut key = [0; 64];
    key.iter_mut().zip(salt.bytes()).for_each(|(target, byte)| *target = byte);
    Hmac::<Sha256>::new(&key.into())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_successor_is_derived_from_token_and_salt_in_the_same_family() {
        let (token, salt) = (OpaqueToken::random(), new_salt());
        let next = derive_successor(&token, &salt);
        assert_eq!(next, derive_successor(&token, &salt));
        assert_eq!(family_id(&next), family_id(&token));
        assert_ne!(next, token);
        assert_ne!(next, derive_successor(&token, &new_salt()));
        assert_ne!(derive_successor(&next, &salt), next);
    }
}
