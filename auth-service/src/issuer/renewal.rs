//! Refresh tokens (RFC 9700, section 4.14): 32 bytes, the first half names the family, the second proves.
//!
//! The successor of a token is derived from it and from a salt that the store keeps, so that a client whose answer was lost gets the
//! same one again, while the store alone knows digests only and cannot make one.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signalbox_token::Opaque;

use super::{Grant, UserGrant};

/// How long a token may be shown again after its use: phones lose answers.
pub const GRACE_MS: u64 = 10_000;

/// What a refresh token brings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Renewable {
    /// Room tokens.
    Room(Grant),
    /// User tokens.
    User(UserGrant),
}

/// The name of a token's family.
pub fn family_of(token: &Opaque) -> String {
    hex(&token.expose()[..16])
}

/// A family's salt.
pub fn new_salt() -> String {
    hex(Opaque::random().expose())
}

/// The token that follows this one.
pub fn successor(token: &Opaque, salt: &str) -> Opaque {
    let mut bytes = *token.expose();
    // A salt is 64 digits, as long as a block of the hash: RFC 2104 takes it as it is.
    let mut key = [0; 64];
    key.iter_mut().zip(salt.bytes()).for_each(|(place, byte)| *place = byte);
    let mut mac = Hmac::<Sha256>::new(&key.into());
    mac.update(&bytes);
    let (_, proof) = bytes.split_at_mut(16);
    proof.copy_from_slice(&mac.finalize().into_bytes()[..16]);
    Opaque::from_bytes(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_of_the_family_and_follows_from_token_and_salt() {
        let (token, salt) = (Opaque::random(), new_salt());
        let next = successor(&token, &salt);
        assert_eq!(next, successor(&token, &salt));
        assert_eq!(family_of(&next), family_of(&token));
        assert_ne!(next, token);
        assert_ne!(next, successor(&token, &new_salt()));
        assert_ne!(successor(&next, &salt), next);
    }
}
