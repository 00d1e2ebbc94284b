//! The effect of a sanction on a member, and the sanction that follows from a member.
//!
//! Owns: which sanctions apply to a new peer, and what they take from it. Must not: change a room;
//! `join` and `moderation` do.

use std::sync::Arc;

use super::{
    outcome::InputOutcome,
    room_state::{Member, Permission},
    sanction::{AssignedRole, BlockReason, JoinBlock, Sanction, SanctionList, TooManySanctions, UserSource},
};

/// For how long after the expiry of a guest's token its removal is kept, milliseconds: the clocks
/// of two machines differ.
const GUEST_TOKEN_SLACK_MS: u64 = 60_000;

impl JoinBlock {
    /// The block that the removal of a member leaves. A guest gets no other token with its grant, and
    /// a new guest may take any name, so the block of a guest ends with its token.
    pub fn for_removed(member: &Member, reason: BlockReason) -> Self {
        let is_guest = UserSource::of_caller(&member.caller) == UserSource::Guest;
        let token_end = member.expires.saturating_mul(1_000).saturating_add(GUEST_TOKEN_SLACK_MS);
        Self { reason, until: is_guest.then_some(token_end) }
    }
}

impl Sanction {
    fn applies_to(&self, member: &Member) -> bool {
        self.user == member.user
            && self.source.is_none_or(|source| source == UserSource::of_caller(&member.caller))
    }
}

impl SanctionList {
    /// Why a member may not join now.
    pub(super) fn join_refusal(&self, member: &Member, now: u64) -> Option<InputOutcome> {
        let blocks = self.iter().filter(|sanction| sanction.applies_to(member));
        blocks
            .filter_map(|sanction| sanction.block)
            .find(|block| block.is_in_force(now))
            .map(|block| block.outcome())
    }

    /// The member with the assigned role and the mute of its user. A sanction takes permissions and
    /// never gives one: another user with the same name must not get a higher role.
    pub(super) fn apply_to(&self, mut member: Member) -> Member {
        let user = member.user.clone();
        for sanction in self.iter().filter(|sanction| sanction.user == user) {
            if !sanction.applies_to(&member) {
                continue;
            }
            if let Some(assigned) = sanction.role.as_ref().filter(|assigned| !assigned.promotes(&member)) {
                member.role = assigned.role.clone();
                member.permissions = intersection(&member.permissions, &assigned.permissions);
                member.has_assigned_permissions = true;
            }
            if sanction.muted && member.has_permission(Permission::Publish) {
                member.mute();
                member.has_assigned_permissions = true;
            }
        }
        member
    }

    /// Changes the sanction of the user of a member.
    pub(super) fn change_for(
        &mut self,
        member: &Member,
        now: u64,
        limit: usize,
        change: impl FnOnce(&mut Sanction),
    ) -> Result<(), TooManySanctions> {
        let source = Some(UserSource::of_caller(&member.caller));
        self.change(&member.user, source, now, limit, change)
    }
}

impl AssignedRole {
    /// Whether the role gives more than the member has and takes nothing.
    pub(super) fn promotes(&self, member: &Member) -> bool {
        let given = |name: &Arc<str>| self.permissions.contains(name);
        member.permissions.iter().all(given)
            && !self.permissions.iter().all(|name| member.permissions.contains(name))
    }
}

fn intersection(one: &[Arc<str>], other: &[Arc<str>]) -> Arc<[Arc<str>]> {
    one.iter().filter(|name| other.contains(name)).cloned().collect()
}
