//! The records of the credential store and the results of its operations, for both stores. The
//! conformance suite tests the same rules.

use serde::{Deserialize, Serialize};
use signalbox_config::LimitSettings;
use signalbox_protocol::{
    CredentialRoot,
    id::{CallerId, RoomId, UserId},
};

/// Why an operation has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialStoreError {
    /// The store did not answer in time, so the outcome is unknown.
    #[error("the store is unavailable")]
    Unavailable,
    /// A limit of the store is reached.
    #[error("the store is full")]
    Full,
    /// The root or the API key has the most records that it may have.
    #[error("the caller has the most records that it may have")]
    NoPlace,
}

/// The most records of one caller, so that no caller takes the places of another.
#[derive(Debug, Clone, Copy)]
pub struct CredentialLimits {
    /// Refresh families of one root.
    pub root_families: usize,
    /// Refresh families of one user of a root.
    pub user_families: usize,
    /// Invites that one API key has created.
    pub key_invites: usize,
}

impl CredentialLimits {
    /// The configured limits.
    pub fn new(limits: &LimitSettings) -> Self {
        Self {
            root_families: limits.root_families as usize,
            user_families: limits.user_families as usize,
            key_invites: limits.key_invites as usize,
        }
    }
}

/// The root and the user of a refresh family. The family takes a place of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyHolder {
    /// The root.
    pub root: CredentialRoot,
    /// The user.
    pub user: UserId,
}

/// A new refresh family.
#[derive(Debug, Clone)]
pub struct NewRefreshFamily {
    /// The first half of each of its tokens, in hexadecimal.
    pub family_id: String,
    /// The salt from which successors are derived, in hexadecimal.
    pub salt: String,
    /// The digest of the first token.
    pub first_digest: String,
    /// The terms of the tokens that it renews, as JSON.
    pub terms_json: String,
    /// The grant of its tokens.
    pub grant: String,
    /// The root and the user that it counts for.
    pub holder: FamilyHolder,
    /// The life of a token that is not used, ms.
    pub token_life_ms: u64,
    /// The life of the family, ms.
    pub family_life_ms: u64,
}

/// A refresh family, before one of its tokens is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshFamily {
    /// The salt from which successors are derived, in hexadecimal.
    pub salt: String,
    /// The terms of the tokens that it renews, as JSON; empty once the family is revoked.
    pub terms_json: String,
    /// The grant of its tokens.
    pub grant: String,
    /// The root and the user that it counts for.
    pub holder: FamilyHolder,
    /// The start of the family, ms since 1970.
    pub created_ms: u64,
    /// The end of the family, ms since 1970.
    pub ends_ms: u64,
}

/// A use of a refresh token.
#[derive(Debug, Clone)]
pub struct RefreshRotation {
    /// The id of the family.
    pub family_id: String,
    /// The root and the user that the family counts for.
    pub holder: FamilyHolder,
    /// The digest of the presented token.
    pub presented_digest: String,
    /// The digest of its successor.
    pub successor_digest: String,
    /// How long the same token may be presented again, ms.
    pub repeat_ms: u64,
    /// The life of the successor, ms.
    pub successor_life_ms: u64,
}

/// The result of a use of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshRotationResult {
    /// The successor is valid.
    Rotated {
        /// The number of this use in the family, from 1.
        number: u64,
        /// The remaining life of the successor, ms.
        left_ms: u64,
    },
    /// There is no such family, or it ended before the retention.
    Unknown,
    /// The token was not used for too long.
    Expired,
    /// The token had been used before, so the whole family is revoked.
    Reused {
        /// Whether this use revoked the family.
        first: bool,
        /// The remaining life that the family would have had, ms.
        left_ms: u64,
    },
}

/// A new invite.
#[derive(Debug, Clone)]
pub struct NewInvite {
    /// The room that a guest may join.
    pub room: RoomId,
    /// The start of the digest of its code, in hexadecimal.
    pub id: String,
    /// The API key that it counts for.
    pub key: CallerId,
    /// The terms of the invite, as JSON.
    pub terms_json: String,
    /// The most uses.
    pub max_uses: u32,
    /// The life of the invite, ms.
    pub life_ms: u64,
}

/// A stored invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// The id of [`NewInvite`].
    pub id: String,
    /// The API key that it counts for.
    pub key: CallerId,
    /// The terms of the invite, as JSON.
    pub terms_json: String,
    /// The most uses.
    pub max_uses: u32,
    /// The number of uses until now.
    pub uses: u32,
    /// When the invite expires, ms since 1970.
    pub ends_ms: u64,
}

/// The result of a use of an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteUse {
    /// The use was counted; holds the terms of the invite, as JSON.
    Accepted(String),
    /// There is no such invite, or it was deleted.
    Unknown,
    /// The invite has expired.
    Expired,
    /// The invite had its most uses already.
    UsedUp,
}

/// How long an expired record is kept, ms, so that a late caller learns the reason.
pub const EXPIRED_RETENTION_MS: u64 = 60 * 60 * 1_000;

/// The most invites of one room that have not expired.
pub const MAX_ROOM_INVITES: usize = 100;
