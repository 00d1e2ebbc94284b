//! The resume handle: the sealed credential with which a client resumes, without a token and
//! without the auth service (docs/PROTOCOL.md, section 8).
//!
//! Owns: the seal and the content of a handle. Must not: decide whether its peer may resume;
//! `room::decide` does, on the state of the room.
//!
//! A handle is `base64url(JSON) "." base64url(HMAC-SHA256)`. It is signed and not encrypted,
//! because its client knows the content anyway.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_token::SharedSecret;

use signalbox_rooms::room::{ClaimProof, Member, PeerAttachment, PeerClaim, ReplicationId};

/// The longest handle that is read, bytes.
const MAX_HANDLE_BYTES: usize = 8 * 1024;

/// The longest metadata in a handle, bytes. It is needed if the store has forgotten the peer.
/// Longer metadata would not fit into the head of a request, so such a peer resumes with `{}`.
pub const MAX_HANDLE_METADATA_BYTES: usize = 512;

/// The content of a handle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResumeHandle {
    /// The room.
    #[serde(rename = "r")]
    pub room: RoomId,
    /// The peer.
    #[serde(rename = "p")]
    pub peer: PeerId,
    /// The epoch of the connection that got the handle.
    #[serde(rename = "e")]
    pub epoch: u64,
    /// The handle generation; it grows with each handle of the peer.
    #[serde(rename = "g")]
    pub handle_generation: u64,
    /// The version of the mailbox that the `seq` of the client belongs to.
    #[serde(rename = "b")]
    pub mailbox_version: u64,
    /// The replication id under which the store knew the peer.
    #[serde(rename = "l")]
    pub replication_id: ReplicationId,
    /// The record of the member, for the case that the store has forgotten the peer.
    #[serde(rename = "m")]
    pub member: Member,
}

impl ResumeHandle {
    /// The claim that this handle proves, for an owner on `node_id`. `store_now_ms` is the clock of
    /// the store, `now_s` that of this machine.
    pub(crate) fn to_claim(&self, node_id: &NodeId, store_now_ms: u64, now_s: u64) -> PeerClaim {
        let (generation, epoch) = (self.handle_generation, self.epoch);
        PeerClaim {
            peer: self.peer.clone(),
            proof: ClaimProof::Handle { generation, epoch },
            replication_id: self.replication_id.clone(),
            now_s: Some(now_s),
            member: Member {
                attachment: PeerAttachment::Attached(node_id.clone()),
                epoch,
                generation,
                mailbox_version: store_now_ms.max(self.mailbox_version + 1),
                ..self.member.clone()
            },
        }
    }
}

/// The keys of handles. The first key seals, and every key opens. So a key can be rotated without
/// the loss of a peer.
pub struct HandleKeys(Vec<Hmac<Sha256>>);

impl HandleKeys {
    /// The session keys, the newest first, followed by keys that are derived from the token
    /// secrets, the newest first. A derived key seals only if there is no session key. It always
    /// opens, so the first session key of a deployment makes no handle invalid.
    pub fn new<'a>(
        session: impl IntoIterator<Item = &'a SharedSecret>,
        tokens: impl IntoIterator<Item = &'a SharedSecret>,
    ) -> Self {
        let own = session.into_iter().map(|key| derive_seal_key(key, b"signalbox handle v1"));
        let derived =
            tokens.into_iter().map(|key| derive_seal_key(key, b"signalbox handle v1 from token secret"));
        Self(own.chain(derived).collect())
    }

    /// The handle as text. None without a key.
    pub fn seal_handle(&self, handle: &ResumeHandle) -> Option<String> {
        let body = BASE64.encode(serde_json::to_vec(handle).ok()?);
        let tag = self.0.first()?.clone().chain_update(&body).finalize().into_bytes();
        Some(format!("{body}.{}", BASE64.encode(tag)))
    }

    /// The content of a handle that one of the keys sealed; none for any other text.
    pub fn open_handle(&self, text: &str) -> Option<ResumeHandle> {
        let (body, tag) = text.split_once('.').filter(|_| text.len() <= MAX_HANDLE_BYTES)?;
        let tag = BASE64.decode(tag).ok()?;
        self.0.iter().find(|key| (*key).clone().chain_update(body).verify_slice(&tag).is_ok())?;
        serde_json::from_slice(&BASE64.decode(body).ok()?).ok()
    }
}

/// Derives a key with HKDF (RFC 5869), so that a seal is valid for no other purpose.
fn derive_seal_key(secret: &SharedSecret, info: &[u8]) -> Hmac<Sha256> {
    let mut key = [0; 64];
    let derived = Hkdf::<Sha256>::new(None, secret.expose()).expand(info, &mut key);
    debug_assert!(derived.is_ok(), "64 bytes are two blocks of SHA-256");
    Hmac::<Sha256>::new(&key.into())
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use signalbox_protocol::id::{CallerId, Role, TokenId, UserId, random_hex};
    use signalbox_token::SecretBytes;

    use super::*;

    fn random_secret() -> SharedSecret {
        SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex()))).unwrap()
    }

    fn sample_handle() -> ResumeHandle {
        let member = Member {
            user: UserId::parse("alice").unwrap(),
            role: Role::parse("guest").unwrap(),
            permissions: vec!["message".into()].into(),
            token: TokenId::random(),
            issued: 0,
            expires: 7,
            caller: CallerId::app(),
            root: None,
            creation: None,
            region: None,
            waiting: false,
            muted: false,
            has_assigned_permissions: false,
            name: "Alïce".into(),
            metadata: RawValue::from_string("{}".into()).unwrap().into(),
            attachment: PeerAttachment::default(),
            epoch: 1,
            generation: 1,
            mailbox_version: 1,
        };
        let (room, peer) = (RoomId::parse("r").unwrap(), PeerId::from_bits(7));
        ResumeHandle {
            room,
            peer,
            epoch: 3,
            handle_generation: 2,
            mailbox_version: 5,
            replication_id: "L".into(),
            member,
        }
    }

    #[test]
    fn a_handle_opens_as_sealed_and_fits_into_a_subprotocol() {
        let keys = HandleKeys::new([], [&random_secret()]);
        let text = keys.seal_handle(&sample_handle()).unwrap();
        assert!(
            text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)),
            "RFC 9110, section 5.6.2"
        );
        let opened = keys.open_handle(&text).unwrap();
        assert_eq!((opened.peer, opened.epoch, opened.handle_generation), (PeerId::from_bits(7), 3, 2));
        assert_eq!(&*opened.member.name, "Alïce");
    }

    #[test]
    fn a_modified_or_foreign_handle_does_not_open() {
        let keys = HandleKeys::new([], [&random_secret()]);
        let text = keys.seal_handle(&sample_handle()).unwrap();
        assert!(HandleKeys::new([], [&random_secret()]).open_handle(&text).is_none());
        for place in [0, 10, text.len() / 2, text.find('.').unwrap() + 3] {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            assert!(keys.open_handle(std::str::from_utf8(&bytes).unwrap()).is_none(), "{place}");
        }
        let (body, tag) = text.split_once('.').unwrap();
        for broken in
            ["", ".", body, &format!("{body}."), &format!("{body}.{}", &tag[..20]), &"x".repeat(9_000)]
        {
            assert!(keys.open_handle(broken).is_none());
        }
    }

    #[test]
    fn a_rotated_key_still_opens_older_handles() {
        let (token, first, second) = (random_secret(), random_secret(), random_secret());
        let derived = HandleKeys::new([], [&token]).seal_handle(&sample_handle()).unwrap();
        let one = HandleKeys::new([&first], [&token]);
        let sealed = one.seal_handle(&sample_handle()).unwrap();
        assert!(
            one.open_handle(&derived).is_some(),
            "an older handle stays valid with the first session key"
        );
        assert!(HandleKeys::new([&second, &first], [&token]).open_handle(&sealed).is_some());
        assert!(HandleKeys::new([&second], [&token]).open_handle(&sealed).is_none());
        assert!(
            HandleKeys::new([], [&first]).open_handle(&sealed).is_none(),
            "the same secret gives different keys as a token secret and as a session key"
        );
    }
}
