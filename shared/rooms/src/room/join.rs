//! A new peer: whether the room accepts it, and which peer its grant belongs to.
//!
//! A grant belongs to one peer for as long as that peer is a member.

use std::sync::Arc;

use signalbox_protocol::{
    LeaveReason,
    id::{PeerId, Role, TokenId, UserId},
};

use super::{
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    role_policy::RoomRolePolicy,
    room_state::{Member, Permission},
};

impl DecisionBatch<'_> {
    pub(super) fn join_room(&mut self, peer: &PeerId, member: &Member) -> InputOutcome {
        if self.decision.next_state.members.contains_key(peer) {
            return InputOutcome::Done;
        }
        if let Some(refusal) = self.join_refusal(member) {
            return refusal;
        }
        match self.bind_grant(member) {
            Ok(Some(replacement)) => {
                // The new peer takes the place of the replaced peer, so no limit is checked.
                self.insert_member(peer, replacement);
                return InputOutcome::Done;
            }
            Ok(None) => {}
            Err(refusal) => return refusal,
        }
        let (state, policy) = (&self.decision.next_state, self.policy);
        let room_limit = state.settings.max_peers.map_or(usize::MAX, |limit| limit as usize);
        if state.members.len() >= policy.max_room_peers.min(room_limit) {
            return InputOutcome::RoomFull;
        }
        if state.count_user_peers(&member.user) >= policy.max_user_peers {
            return InputOutcome::UserLimit;
        }
        let waiting = state.settings.lobby && !member.skips_lobby(&policy.role_policy);
        self.insert_member(peer, Member { waiting, ..member.clone() });
        InputOutcome::Done
    }

    /// Why the settings of the room refuse this peer.
    fn join_refusal(&self, member: &Member) -> Option<InputOutcome> {
        let (state, settings) = (&self.decision.next_state, &self.decision.next_state.settings);
        if !self.policy.implicit_rooms && !state.exists(self.now) {
            return Some(InputOutcome::NoImplicitRoom);
        }
        if !settings.enabled {
            return Some(InputOutcome::RoomDisabled);
        }
        if !self.accepts_role(&member.role, &member.permissions) {
            return Some(InputOutcome::RoleRefused);
        }
        // A moderator may prepare the room before it starts.
        let is_early = settings.starts_at.is_some_and(|at| at > self.now);
        if is_early && !member.has_permission(Permission::Moderate) {
            return Some(InputOutcome::RoomNotStarted);
        }
        settings.locked.then_some(InputOutcome::RoomLocked)
    }

    /// Whether the room accepts members with this role and these permissions.
    pub(super) fn accepts_role(&self, role: &Role, permissions: &[Arc<str>]) -> bool {
        let settings = &self.decision.next_state.settings;
        let is_named = settings.roles.as_ref().is_none_or(|roles| roles.contains(role));
        let needs_inspection = || self.policy.role_policy.inspection_reason(role, permissions).is_some();
        is_named && !(settings.requires_e2ee() && needs_inspection())
    }

    /// Binds the grant of a new peer to it. A detached peer with this grant is removed, since its
    /// client has returned without its handle; the result is the record that replaces it. An
    /// attached peer keeps the grant, since the token of the new peer may be stolen.
    fn bind_grant(&mut self, member: &Member) -> Result<Option<Member>, InputOutcome> {
        let Some((holder, is_detached)) = self.find_grant_peer(&member.user, &member.token, None) else {
            return Ok(None);
        };
        if !is_detached {
            return Err(InputOutcome::TokenInUse);
        }
        let before = self.decision.next_state.members.get(&holder).cloned();
        self.remove_peer(&holder, LeaveReason::Replaced);
        Ok(before.map(|before| replacement_of(&before, member, &self.policy.role_policy)))
    }

    /// Binds the grant of a peer that the store has forgotten to this peer again. Another peer may
    /// have joined with the grant meanwhile. A peer that was admitted need not wait in the lobby
    /// because that other peer waits.
    pub(super) fn rebind_grant(&mut self, member: &Member) -> Result<Member, InputOutcome> {
        let replacement = self.bind_grant(member)?.unwrap_or_else(|| member.clone());
        Ok(Member { waiting: member.waiting && replacement.waiting, ..replacement })
    }

    /// The member of this user that holds the grant of the token, and whether it is detached.
    pub(super) fn find_grant_peer(
        &self,
        user: &UserId,
        token: &TokenId,
        except: Option<&PeerId>,
    ) -> Option<(PeerId, bool)> {
        let mut members = self.decision.next_state.members.iter();
        let holder = members.find(|(peer, member)| {
            Some(*peer) != except && member.token.grant() == token.grant() && member.user == *user
        });
        holder.map(|(peer, member)| (peer.clone(), member.owner().is_none()))
    }
}

/// The record of a new peer that replaces a peer of the same grant. What moderators decided about
/// the replaced peer stays in force.
fn replacement_of(before: &Member, new_peer: &Member, roles: &RoomRolePolicy) -> Member {
    let mut member = new_peer.clone();
    if before.overridden {
        (member.role, member.permissions) = (before.role.clone(), before.permissions.clone());
        (member.muted, member.overridden) = (before.muted, true);
    }
    member.waiting = before.waiting && !member.skips_lobby(roles);
    member
}
