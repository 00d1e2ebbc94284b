//! A room token that was verified: its claims, and the form in which a resume handle contains it.
//!
//! That form stays with the peer, because each resume handle of the peer contains the token. A node
//! that opens a handle verifies the signature again. Must not: verify a token (`admission` does).

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::value::RawValue;
use signalbox_rooms::room::{Member, PeerAttachment};
use signalbox_token::RoomClaims;

/// The metadata of a token without metadata.
static NO_METADATA: LazyLock<Arc<RawValue>> =
    LazyLock::new(|| RawValue::from_string("{}".to_owned()).unwrap_or_default().into());

/// A verified room token.
#[derive(Clone)]
pub struct RoomToken {
    /// The claims.
    pub claims: RoomClaims,
    /// The token for the handles of the peer.
    pub handle_token: Arc<HandleToken>,
}

/// A signed token as a resume handle contains it.
#[derive(Default)]
pub struct HandleToken {
    bytes: Box<[u8]>,
    /// The name in the claims.
    pub name: Option<Arc<str>>,
    /// The metadata in the claims.
    pub metadata: Option<Arc<RawValue>>,
}

impl HandleToken {
    /// The token whose decoded parts these bytes are, and whose claims were verified.
    pub fn new(bytes: Box<[u8]>, claims: &RoomClaims) -> Self {
        Self { bytes, name: claims.name.clone(), metadata: claims.metadata.clone() }
    }

    /// The decoded header, claims and signature, each after a zero byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The decoded parts of a token in the compact serialisation (RFC 7515, section 7.1), each after a
/// zero byte. None if a part is not in base64url.
pub fn decode_token(text: &str) -> Option<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(text.len());
    for part in text.split('.') {
        bytes.push(0);
        BASE64.decode_vec(part, &mut bytes).ok()?;
    }
    Some(bytes.into())
}

/// The token in the compact serialisation, from what [`decode_token`] returned. None if there are
/// not three parts.
pub fn encode_token(bytes: &[u8]) -> Option<String> {
    // The signature is the last part: it may contain a zero byte. JSON text contains none.
    let mut parts = bytes.splitn(4, |byte| *byte == 0).skip(1);
    let [header, claims, signature] = [parts.next()?, parts.next()?, parts.next()?];
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4 + 3);
    for (index, part) in [header, claims, signature].into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        BASE64.encode_string(part, &mut text);
    }
    Some(text)
}

/// Not derived, because that would show the signed token.
impl fmt::Debug for RoomToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomToken").field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl RoomToken {
    /// The record of a new peer with this token: detached, in its first epoch.
    pub fn to_member(&self) -> Member {
        let claims = &self.claims;
        Member {
            user: claims.sub.clone(),
            role: claims.role.clone(),
            permissions: claims.permissions.clone(),
            token: claims.jti.clone(),
            issued: claims.iat,
            expires: claims.exp,
            grant_expires: claims.grant_exp,
            caller: claims.caller.clone(),
            root: claims.root.clone(),
            creation: claims.creation.clone(),
            region: claims.region.clone(),
            name: claims.name.clone().unwrap_or_default(),
            metadata: claims.metadata.clone().unwrap_or_else(|| NO_METADATA.clone()),
            waiting: false,
            muted: false,
            has_assigned_permissions: false,
            attachment: PeerAttachment::default(),
            epoch: 1,
            generation: 1,
            mailbox_version: 1,
        }
    }
}
