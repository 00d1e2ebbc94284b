//! Sanctions: what a moderator or the API has decided about a user. They outlast the peers of the
//! user and end with the room, or when they are lifted.
//!
//! Owns: [`SanctionList`] and its bound. Must not: know a member; decide who may impose or lift a
//! sanction (`room_action`). Next: `sanction_effect`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signalbox_protocol::id::{CallerId, Role, UserId};

use super::outcome::InputOutcome;

/// The sanctions of a room, in the order in which they began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SanctionList(Vec<Sanction>);

/// The sanctions of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sanction {
    /// The user.
    pub user: UserId,
    /// Who named the user. None: the sanction applies to the user of any source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<UserSource>,
    /// Why the user may not join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<JoinBlock>,
    /// Whether new peers of the user join without the permission to publish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub muted: bool,
    /// The role that new peers of the user get in place of the role of their token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AssignedRole>,
}

/// Who names a user. A guest may choose the name of another user, so the sanction of one must not
/// apply to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserSource {
    /// The application: an API key, a user token, or a token that the application has signed.
    Application,
    /// A guest without an invite.
    Guest,
    /// A guest with an invite.
    Invite,
}

/// Why a user may not join, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinBlock {
    /// The reason.
    pub reason: BlockReason,
    /// The end, milliseconds since 1970 by the clock of the store. None: the end of the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// The reason of a [`JoinBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockReason {
    /// A moderator or the API removed a peer of the user.
    Removed,
    /// A peer of the user was not admitted from the lobby.
    Denied,
    /// The user is banned from the room.
    Banned,
}

/// A role that the API has assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedRole {
    /// The role.
    pub role: Role,
    /// Its permissions.
    pub permissions: Arc<[Arc<str>]>,
}

/// The list is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManySanctions;

impl UserSource {
    /// The source of a user whose token this caller requested.
    pub fn of_caller(caller: &CallerId) -> Self {
        match caller.as_str() {
            "guest" => Self::Guest,
            "invite" => Self::Invite,
            _ => Self::Application,
        }
    }
}

impl JoinBlock {
    pub(super) fn is_in_force(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    pub(super) fn outcome(&self) -> InputOutcome {
        match self.reason {
            BlockReason::Removed => InputOutcome::UserRemoved,
            BlockReason::Denied => InputOutcome::UserDenied,
            BlockReason::Banned => InputOutcome::UserBanned,
        }
    }
}

impl Sanction {
    fn new(user: UserId, source: Option<UserSource>) -> Self {
        Self { user, source, block: None, muted: false, role: None }
    }

    /// Blocks the user until the later end. A ban stays a ban.
    pub(super) fn extend_block(&mut self, block: JoinBlock) {
        let end = |block: &JoinBlock| block.until.unwrap_or(u64::MAX);
        if self.block.as_ref().is_none_or(|known| end(known) <= end(&block)) {
            self.block = Some(block);
        }
    }

    fn has_effect(&self) -> bool {
        self.block.is_some() || self.muted || self.role.is_some()
    }
}

impl SanctionList {
    /// All sanctions.
    pub fn iter(&self) -> std::slice::Iter<'_, Sanction> {
        self.0.iter()
    }

    /// Whether there is no sanction.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The form in the store.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the form in the store. A sanction of a later release that cannot be read is ignored.
    pub fn from_json(json: &str) -> Self {
        let stored: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
        Self(stored.into_iter().filter_map(|sanction| serde_json::from_value(sanction).ok()).collect())
    }

    /// Changes the sanction of a user. A sanction without effect is removed.
    pub(super) fn change(
        &mut self,
        user: &UserId,
        source: Option<UserSource>,
        now: u64,
        limit: usize,
        change: impl FnOnce(&mut Sanction),
    ) -> Result<(), TooManySanctions> {
        self.remove_expired(now);
        let known = self.0.iter().position(|sanction| sanction.user == *user && sanction.source == source);
        let mut sanction = known.map_or_else(|| Sanction::new(user.clone(), source), |n| self.0[n].clone());
        change(&mut sanction);
        match (known, sanction.has_effect()) {
            (Some(n), true) => self.0[n] = sanction,
            (Some(n), false) => drop(self.0.remove(n)),
            (None, true) if self.0.len() >= limit => return Err(TooManySanctions),
            (None, true) => self.0.push(sanction),
            (None, false) => {}
        }
        Ok(())
    }

    /// Lifts all sanctions of a user. Returns whether there was one.
    pub(super) fn lift_user(&mut self, user: &UserId) -> bool {
        let count = self.0.len();
        self.0.retain(|sanction| sanction.user != *user);
        self.0.len() < count
    }

    fn remove_expired(&mut self, now: u64) {
        for sanction in &mut self.0 {
            sanction.block = sanction.block.filter(|block| block.is_in_force(now));
        }
        self.0.retain(Sanction::has_effect);
    }
}
