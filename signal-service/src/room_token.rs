//! A room token that was verified: its claims and its signed text.
//!
//! The text stays with the peer, because each resume handle of the peer contains it. A node that
//! opens a handle verifies the signature again. Must not: verify a token (`admission` does).

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

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
    /// The token in the compact serialisation (RFC 7515, section 7.1).
    pub text: Arc<str>,
}

/// Not derived, because that would show the text.
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
