//! What the store keeps and answers, whichever it is. The conformance suite says the same as a test.

use signalbox_protocol::id::RoomId;

/// Why nothing can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialStoreError {
    /// The store did not answer in time; whether it did what was asked is unknown.
    #[error("the store is away")]
    Unavailable,
    /// A bound is reached.
    #[error("there is no place for more")]
    Full,
}

/// A family of refresh tokens when it begins.
#[derive(Debug, Clone)]
pub struct NewRefreshFamily {
    /// Its name: the first half of each of its tokens, in hexadecimal.
    pub family_id: String,
    /// What successors are derived with, in hexadecimal.
    pub salt: String,
    /// The digest of the first token.
    pub first_digest: String,
    /// What its tokens bring, as JSON.
    pub terms_json: String,
    /// What its tokens are tokens of.
    pub grant: String,
    /// The life of a token that is not used, ms.
    pub token_life_ms: u64,
    /// The life of the family, ms.
    pub family_life_ms: u64,
}

/// A family of refresh tokens, before one of them is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshFamily {
    /// What successors are derived with.
    pub salt: String,
    /// What its tokens bring; empty once it was taken back.
    pub terms_json: String,
    /// What its tokens are tokens of.
    pub grant: String,
    /// When it began, ms since 1970.
    pub created_ms: u64,
}

/// A use of a refresh token.
#[derive(Debug, Clone)]
pub struct RefreshRotation {
    /// The family.
    pub family_id: String,
    /// The digest of the token that is shown.
    pub presented_digest: String,
    /// The digest of its successor.
    pub successor_digest: String,
    /// How long the same token may be shown again, ms.
    pub repeat_ms: u64,
    /// The life of the successor, ms.
    pub successor_life_ms: u64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshRotationResult {
    /// The successor is good.
    Rotated {
        /// Which use of the family this is, from 1.
        number: u64,
        /// How long the successor lives, ms.
        left_ms: u64,
    },
    /// There is no such family, or it ended long ago.
    Unknown,
    /// The token was not used for too long.
    Expired,
    /// It had been used before: nothing of the family is good any more.
    Reused {
        /// Whether that was noticed now, and not before.
        first: bool,
        /// How long the family would have lived, ms.
        left_ms: u64,
    },
}

/// An invite when it is made.
#[derive(Debug, Clone)]
pub struct NewInvite {
    /// Where to.
    pub room: RoomId,
    /// Its name: the start of its code's digest.
    pub id: String,
    /// What it says, as JSON.
    pub terms_json: String,
    /// How often it may be used.
    pub max_uses: u32,
    /// How long, ms.
    pub life_ms: u64,
}

/// An invite as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Its name.
    pub id: String,
    /// What it says, as JSON.
    pub terms_json: String,
    /// How often it may be used.
    pub max_uses: u32,
    /// How often it was.
    pub uses: u32,
    /// Until when, ms since 1970.
    pub ends_ms: u64,
}

/// What became of the use of an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteUse {
    /// It was good: what it says.
    Accepted(String),
    /// There is none, or it was taken back.
    Unknown,
    /// It is over.
    Expired,
    /// It was used as often as it may be.
    UsedUp,
}

/// How long what is over is still known as such: whoever comes late hears why.
pub const EXPIRED_RETENTION_MS: u64 = 60 * 60 * 1_000;

/// The most invites of one room that are not over.
pub const MAX_ROOM_INVITES: usize = 100;
