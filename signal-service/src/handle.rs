//! The handle: what proves a peer when it comes back, without a token and without the auth service (docs/PROTOCOL.md, section 8).
//!
//! Owns: its seal and what it says. Must not: judge whether its peer is still there; `room::decide` does, on the room's state.
//!
//! `base64url(JSON) "." base64url(HMAC-SHA256)`. It is signed and not encrypted: it says no more than its client knows.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signalbox_shared::{
    id::{PeerId, RoomId},
    token::SharedSecret,
};

use crate::room::{Lineage, Member};

/// The longest text that is looked at.
const MOST_BYTES: usize = 8 * 1024;

/// Metadata up to this size travels in the handle, for the case that the store has forgotten the peer. Larger metadata would not
/// fit into a request's head; such a peer comes back with `{}`.
pub const MOST_METADATA: usize = 512;

/// What a handle says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handle {
    /// The room.
    #[serde(rename = "r")]
    pub room: RoomId,
    /// The peer.
    #[serde(rename = "p")]
    pub peer: PeerId,
    /// The epoch of the connection it was made for.
    #[serde(rename = "e")]
    pub epoch: u64,
    /// Which handle of the peer it is.
    #[serde(rename = "g")]
    pub generation: u64,
    /// The mailbox that the client's `seq` belongs to.
    #[serde(rename = "b")]
    pub mailbox: u64,
    /// The lineage of the store it was made under.
    #[serde(rename = "l")]
    pub lineage: Lineage,
    /// The peer's record, should the store have forgotten it.
    #[serde(rename = "m")]
    pub member: Member,
}

/// The keys that seal handles. The first seals; all of them open, so that a key can be changed without losing a peer.
pub struct HandleKeys(Vec<Hmac<Sha256>>);

impl HandleKeys {
    /// From session keys of their own, the newest first.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        Self(keys.into_iter().map(|key| seal_key(key, b"signalbox handle v1")).collect())
    }

    /// Derived from the token secrets, the newest first, where there are no session keys.
    pub fn derived<'a>(secrets: impl IntoIterator<Item = &'a SharedSecret>) -> Self {
        Self(
            secrets
                .into_iter()
                .map(|secret| seal_key(secret, b"signalbox handle v1 from token secret"))
                .collect(),
        )
    }

    /// The handle as text.
    pub fn seal(&self, handle: &Handle) -> Option<String> {
        let body = BASE64.encode(serde_json::to_vec(handle).ok()?);
        let tag = self.0.first()?.clone().chain_update(&body).finalize().into_bytes();
        Some(format!("{body}.{}", BASE64.encode(tag)))
    }

    /// What the handle says, if one of our keys sealed it.
    pub fn open(&self, text: &str) -> Option<Handle> {
        let (body, tag) = text.split_once('.').filter(|_| text.len() <= MOST_BYTES)?;
        let tag = BASE64.decode(tag).ok()?;
        self.0.iter().find(|key| (*key).clone().chain_update(body).verify_slice(&tag).is_ok())?;
        serde_json::from_slice(&BASE64.decode(body).ok()?).ok()
    }
}

/// HKDF (RFC 5869), so that what seals handles can sign nothing else.
fn seal_key(secret: &SharedSecret, info: &[u8]) -> Hmac<Sha256> {
    let mut key = [0; 64];
    let derived = Hkdf::<Sha256>::new(None, secret.expose()).expand(info, &mut key);
    debug_assert!(derived.is_ok(), "64 bytes are two blocks of SHA-256");
    Hmac::<Sha256>::new(&key.into())
}
