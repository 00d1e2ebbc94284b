//! The resume handle: the sealed credential with which a client resumes (docs/PROTOCOL.md, section
//! 8).
//!
//! Owns: the seal and the content of a handle. Must not: verify the token in a handle (`admission`
//! does), or decide whether its peer may resume; `room::decide` does, on the state of the room.
//!
//! A handle says which peer a client was. What the peer may do, the token in the handle says: the
//! seal alone grants nothing. The content is a [`HandleRecord`] in JSON, then the header, the claims
//! and the signature of the token, each after a zero byte. Decoded parts keep the handle short.
//!
//! The form is `base64url(salt) "." base64url(sealed content)`, sealed with ChaCha20-Poly1305 (RFC
//! 8439). A handle is encrypted, so that who finds one, in a log for instance, does not have the
//! token too. Each handle has a key of its own, which HKDF derives from the session key and the
//! random salt. So the nonce may be constant, and there is no bound on the number of handles.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_protocol::{
    display_text::is_display_name,
    id::{NodeId, PeerId},
    is_bounded_object,
};
use signalbox_token::{RoomClaims, SharedSecret};

use crate::room_token::{HandleToken, RoomToken, encode_token};
use signalbox_rooms::room::{ClaimProof, Member, PeerAttachment, PeerClaim, Permission, ReplicationId};

/// The longest handle that is read, bytes: a token of the greatest length, and the record.
const MAX_HANDLE_BYTES: usize = 14 * 1024;

/// The longest metadata in the record of a handle, bytes. They are needed if the store has forgotten
/// a peer that has changed the metadata of its token. Such a peer with longer metadata resumes with
/// `{}`.
const MAX_HANDLE_METADATA_BYTES: usize = 512;

/// The HKDF `info` of the keys: from a session key, and from a token secret. Another form of the
/// handle needs another version here.
const SESSION_KEY_INFO: &[u8] = b"signalbox handle v3";
const TOKEN_SECRET_INFO: &[u8] = b"signalbox handle v3 from token secret";

/// The bytes of the random salt of a handle.
const SALT_BYTES: usize = 16;

/// The part of a handle that its token does not say.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct HandleRecord {
    #[serde(rename = "p")]
    peer: PeerId,
    #[serde(rename = "e")]
    epoch: u64,
    #[serde(rename = "g")]
    handle_generation: u64,
    #[serde(rename = "b")]
    mailbox_version: u64,
    #[serde(rename = "l")]
    replication_id: ReplicationId,
    /// The name and the metadata, where they differ from those of the token.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Arc<RawValue>>,
    /// The permissions that a moderator or the API has assigned.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    assigned_permissions: Option<Arc<[Arc<str>]>>,
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    muted: bool,
    #[serde(rename = "w", default, skip_serializing_if = "std::ops::Not::not")]
    waiting: bool,
}

/// A handle whose seal is valid. Its token is not verified yet.
pub struct OpenedHandle {
    record: HandleRecord,
    token_bytes: Box<[u8]>,
    /// The token in the compact serialisation.
    pub token: String,
}

/// A handle.
#[derive(Debug, Clone)]
pub struct ResumeHandle {
    /// The peer.
    pub peer: PeerId,
    /// The epoch of the connection that got the handle.
    pub epoch: u64,
    /// The handle generation; it grows with each handle of the peer.
    pub handle_generation: u64,
    /// The version of the mailbox that the `seq` of the client belongs to.
    pub mailbox_version: u64,
    /// The replication id under which the store knew the peer.
    pub replication_id: ReplicationId,
    /// The record of the member, for the case that the store has forgotten the peer. User, role,
    /// permissions and times are those of the token. An assignment only removes permissions.
    pub member: Member,
    /// The token of the peer, which also names the room.
    pub token: RoomToken,
}

impl OpenedHandle {
    /// The handle with the verified claims of its token.
    pub(crate) fn into_handle(self, claims: RoomClaims) -> ResumeHandle {
        let Self { record, token_bytes, .. } = self;
        let handle_token = HandleToken::new(token_bytes, &claims).into();
        let token = RoomToken { claims, handle_token };
        let (mut member, permissions) = (token.to_member(), &token.claims.permissions);
        if let Some(assigned) = &record.assigned_permissions {
            let is_assigned = |name: &&Arc<str>| assigned.contains(*name);
            member.permissions = permissions.iter().filter(is_assigned).cloned().collect();
            member.has_assigned_permissions = true;
        }
        // A moderator who unmutes the peer gives it the permission.
        member.muted = record.muted && permissions.iter().any(|name| &**name == Permission::Publish.as_str());
        member.waiting = record.waiting;
        member.name = record.name.unwrap_or(member.name);
        member.metadata = record.metadata.unwrap_or(member.metadata);
        ResumeHandle {
            peer: record.peer,
            epoch: record.epoch,
            handle_generation: record.handle_generation,
            mailbox_version: record.mailbox_version,
            replication_id: record.replication_id,
            member,
            token,
        }
    }
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
                mailbox_version: store_now_ms.max(self.mailbox_version.saturating_add(1)),
                ..self.member.clone()
            },
        }
    }
}

/// What a node puts into a handle.
#[derive(Clone, Copy)]
pub struct HandleContent<'a> {
    /// The peer.
    pub peer: &'a PeerId,
    /// See [`ResumeHandle::epoch`].
    pub epoch: u64,
    /// See [`ResumeHandle::handle_generation`].
    pub handle_generation: u64,
    /// See [`ResumeHandle::mailbox_version`].
    pub mailbox_version: u64,
    /// See [`ResumeHandle::replication_id`].
    pub replication_id: &'a ReplicationId,
    /// The record of the member.
    pub member: &'a Member,
    /// The token of the peer.
    pub token: &'a HandleToken,
}

impl HandleContent<'_> {
    /// The bytes that are sealed.
    fn to_bytes(self) -> Option<Vec<u8>> {
        let token = self.token.bytes();
        // Room for the record and the tag as well.
        let mut bytes = Vec::with_capacity(token.len() + 512);
        serde_json::to_writer(&mut bytes, &self.to_record()).ok()?;
        bytes.extend_from_slice(token);
        Some(bytes)
    }

    fn to_record(self) -> HandleRecord {
        let Member { name, metadata, .. } = self.member;
        let token_metadata = self.token.metadata.as_ref().map_or("{}", |metadata| metadata.get());
        let is_of_token = metadata.get() == token_metadata;
        let fits = metadata.get().len() <= MAX_HANDLE_METADATA_BYTES;
        let handle_metadata = || {
            let short = if fits { metadata.get() } else { "{}" };
            RawValue::from_string(short.to_owned()).ok().map(Arc::from)
        };
        HandleRecord {
            peer: self.peer.clone(),
            epoch: self.epoch,
            handle_generation: self.handle_generation,
            mailbox_version: self.mailbox_version,
            replication_id: self.replication_id.clone(),
            name: (self.token.name.as_deref().unwrap_or("") != &**name).then(|| name.clone()),
            metadata: (!is_of_token).then(handle_metadata).flatten(),
            assigned_permissions: self
                .member
                .has_assigned_permissions
                .then(|| self.member.permissions.clone()),
            muted: self.member.muted,
            waiting: self.member.waiting,
        }
    }
}

/// The keys of handles. The first key seals, and every key opens. So a key can be rotated without
/// the loss of a peer.
pub struct HandleKeys(Vec<HandleKey>);

/// A session key or a token secret, and its HKDF `info`.
struct HandleKey {
    secret: SharedSecret,
    info: &'static [u8],
}

impl HandleKey {
    /// The key of the handle with this salt (HKDF, RFC 5869). None only if the library fails.
    fn derive(&self, salt: &[u8; SALT_BYTES]) -> Option<LessSafeKey> {
        let derived = Salt::new(HKDF_SHA256, salt).extract(self.secret.expose());
        let info = [self.info];
        let key = derived.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }

    fn open(&self, salt: &[u8; SALT_BYTES], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut content = sealed.to_vec();
        let length = self.derive(salt)?.open_in_place(fixed_nonce(), Aad::empty(), &mut content).ok()?.len();
        content.truncate(length);
        Some(content)
    }
}

/// The nonce of each handle: a key seals one handle only.
fn fixed_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl HandleKeys {
    /// The session keys, the newest first, followed by keys that are derived from the token
    /// secrets, the newest first. A derived key seals only if there is no session key. It always
    /// opens, so the first session key of a deployment makes no handle invalid.
    pub fn new<'a>(
        session: impl IntoIterator<Item = &'a SharedSecret>,
        tokens: impl IntoIterator<Item = &'a SharedSecret>,
    ) -> Self {
        let own = session.into_iter().map(|key| (key, SESSION_KEY_INFO));
        let derived = tokens.into_iter().map(|key| (key, TOKEN_SECRET_INFO));
        Self(own.chain(derived).map(|(key, info)| HandleKey { secret: key.clone(), info }).collect())
    }

    /// The handle as text. None without a key, or if the system has no randomness.
    pub fn seal_handle(&self, content: HandleContent<'_>) -> Option<String> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).ok()?;
        let mut bytes = content.to_bytes()?;
        let key = self.0.first()?.derive(&salt)?;
        key.seal_in_place_append_tag(fixed_nonce(), Aad::empty(), &mut bytes).ok()?;
        Some(format!("{}.{}", BASE64.encode(salt), BASE64.encode(bytes)))
    }

    /// The content of a handle that one of the keys sealed; none for any other text.
    pub fn open_handle(&self, text: &str) -> Option<OpenedHandle> {
        let (salt, sealed) = text.split_once('.').filter(|_| text.len() <= MAX_HANDLE_BYTES)?;
        let salt = BASE64.decode(salt).ok()?.try_into().ok()?;
        let sealed = BASE64.decode(sealed).ok()?;
        parse_content(&self.0.iter().find_map(|key| key.open(&salt, &sealed))?)
    }
}

/// Reads the record and the token. A record within the bounds of the protocol is required, because a
/// peer must not get a name or metadata that it could not set by itself.
fn parse_content(content: &[u8]) -> Option<OpenedHandle> {
    // JSON text contains no zero byte.
    let (record, token_bytes) = content.split_at(content.iter().position(|byte| *byte == 0)?);
    let record: HandleRecord = serde_json::from_slice(record).ok()?;
    let has_valid_name = record.name.as_deref().is_none_or(is_display_name);
    let is_bounded = |metadata: &Arc<RawValue>| is_bounded_object(metadata.get(), MAX_HANDLE_METADATA_BYTES);
    if !has_valid_name || !record.metadata.as_ref().is_none_or(is_bounded) {
        return None;
    }
    Some(OpenedHandle { record, token: encode_token(token_bytes)?, token_bytes: token_bytes.into() })
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::id::{RoomId, TokenId, UserId, random_hex};
    use signalbox_token::SecretBytes;

    use super::*;
    use crate::room_token::decode_token;

    fn random_secret() -> SharedSecret {
        SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex()))).unwrap()
    }

    fn sample_claims() -> RoomClaims {
        serde_json::from_value(serde_json::json!({
            "iss": "signalbox", "aud": "signalbox-signal", "sub": "alice", "room": "r", "role": "guest",
            "permissions": ["publish", "message"], "name": "Alïce", "metadata": {"seat": 7},
            "iat": 5, "nbf": 5, "exp": 7, "jti": "grant.1",
        }))
        .unwrap()
    }

    /// A token with a signature of zero bytes.
    fn sample_token() -> String {
        let claims = serde_json::to_string(&sample_claims()).unwrap();
        [r#"{"alg":"EdDSA"}"#.as_bytes(), claims.as_bytes(), &[0; 64]]
            .map(|part| BASE64.encode(part))
            .join(".")
    }

    fn sample_handle_token() -> HandleToken {
        HandleToken::new(decode_token(&sample_token()).unwrap(), &sample_claims())
    }

    fn sample_member() -> Member {
        RoomToken { claims: sample_claims(), handle_token: sample_handle_token().into() }.to_member()
    }

    fn seal_member(keys: &HandleKeys, member: &Member) -> String {
        let content = HandleContent {
            peer: &PeerId::from_bits(7),
            epoch: 3,
            handle_generation: 2,
            mailbox_version: 5,
            replication_id: &"L".into(),
            member,
            token: &sample_handle_token(),
        };
        keys.seal_handle(content).unwrap()
    }

    fn seal_sample(keys: &HandleKeys) -> String {
        seal_member(keys, &sample_member())
    }

    fn open_handle(keys: &HandleKeys, text: &str) -> ResumeHandle {
        let opened = keys.open_handle(text).unwrap();
        assert_eq!(opened.token, sample_token());
        opened.into_handle(sample_claims())
    }

    #[test]
    fn a_handle_opens_as_sealed_and_fits_into_a_subprotocol() {
        let keys = HandleKeys::new([], [&random_secret()]);
        let text = seal_sample(&keys);
        assert!(
            text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)),
            "RFC 9110, section 5.6.2"
        );
        let opened = open_handle(&keys, &text);
        assert_eq!((opened.peer, opened.epoch, opened.handle_generation), (PeerId::from_bits(7), 3, 2));
        let member = opened.member;
        assert_eq!((&*member.name, member.metadata.get()), ("Alïce", r#"{"seat":7}"#));
        assert_eq!(
            (member.user, member.token),
            (UserId::parse("alice").unwrap(), TokenId::parse("grant.1").unwrap())
        );
        assert_eq!(opened.token.claims.room, RoomId::parse("r").unwrap());
    }

    #[test]
    fn a_handle_does_not_show_its_token() {
        let keys = HandleKeys::new([], [&random_secret()]);
        let (text, same_content) = (seal_sample(&keys), seal_sample(&keys));
        let readable: Vec<u8> = text.split('.').flat_map(|part| BASE64.decode(part).unwrap()).collect();
        for part in ["alice", "metadata", "EdDSA", "grant"] {
            assert!(!readable.windows(part.len()).any(|bytes| bytes == part.as_bytes()), "{part}");
        }
        let sealed = |text: &str| text.split_once('.').unwrap().1.to_owned();
        assert_ne!(sealed(&text), sealed(&same_content), "each handle has a key of its own");
    }

    #[test]
    fn a_handle_is_little_longer_than_its_token_and_never_longer_than_its_bound() {
        let keys = HandleKeys::new([], [&random_secret()]);
        let text = seal_sample(&keys);
        assert!(text.len() <= sample_token().len() + 260, "{} and {}", text.len(), sample_token().len());
        let mut member = sample_member();
        member.name = "\u{10ffff}".repeat(64).into();
        member.metadata = RawValue::from_string(format!(r#"{{"x":"{}"}}"#, "y".repeat(504))).unwrap().into();
        member.has_assigned_permissions = true;
        member.permissions = ["publish", "message", "moderate", "admit", "end", "share", "data", "create"]
            .map(Arc::from)
            .into();
        let longest = seal_member(&keys, &member);
        let record_bytes = longest.len() - sample_token().len();
        assert!(signalbox_protocol::MAX_TOKEN_BYTES + record_bytes <= MAX_HANDLE_BYTES, "{record_bytes}");
    }

    #[test]
    fn changed_name_and_metadata_are_kept_up_to_the_limit() {
        let keys = HandleKeys::new([], [&random_secret()]);
        for (bytes, kept) in
            [(0, true), (MAX_HANDLE_METADATA_BYTES - 8, true), (MAX_HANDLE_METADATA_BYTES, false)]
        {
            let mut member = sample_member();
            member.name = "".into();
            let metadata = format!(r#"{{"x":"{}"}}"#, "y".repeat(bytes));
            member.metadata = RawValue::from_string(metadata.clone()).unwrap().into();
            let opened = open_handle(&keys, &seal_member(&keys, &member)).member;
            assert_eq!(&*opened.name, "");
            assert_eq!(opened.metadata.get(), if kept { &metadata } else { "{}" });
        }
    }

    #[test]
    fn an_assignment_in_a_handle_only_removes_permissions() {
        let keys = HandleKeys::new([], [&random_secret()]);
        let mut member = sample_member();
        member.has_assigned_permissions = true;
        member.permissions = ["message", "moderate", "end"].map(Arc::from).into();
        member.role = signalbox_protocol::id::Role::parse("host").unwrap();
        let opened = open_handle(&keys, &seal_member(&keys, &member)).member;
        assert_eq!((opened.role.as_str(), &*opened.permissions), ("guest", &["message".into()][..]));
        assert!(opened.has_assigned_permissions && !opened.muted);
    }

    #[test]
    fn a_modified_or_foreign_handle_does_not_open() {
        let keys = HandleKeys::new([], [&random_secret()]);
        let text = seal_sample(&keys);
        assert!(HandleKeys::new([], [&random_secret()]).open_handle(&text).is_none());
        assert!(!keys.open_handle(&text).unwrap().token.is_empty());
        for place in [0, 10, text.len() / 2, text.find('.').unwrap() + 3] {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            assert!(keys.open_handle(std::str::from_utf8(&bytes).unwrap()).is_none(), "{place}");
        }
        let (body, tag) = text.split_once('.').unwrap();
        for broken in
            ["", ".", body, &format!("{body}."), &format!("{body}.{}", &tag[..20]), &"x".repeat(15_000)]
        {
            assert!(keys.open_handle(broken).is_none());
        }
    }

    #[test]
    fn a_rotated_key_still_opens_older_handles() {
        let (token, first, second) = (random_secret(), random_secret(), random_secret());
        let derived = seal_sample(&HandleKeys::new([], [&token]));
        let one = HandleKeys::new([&first], [&token]);
        let sealed = seal_sample(&one);
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
