//! A join: whether the room accepts a new peer, and what happens to an older peer with the same
//! grant.
//!
//! A token and all tokens that were refreshed from it belong to one grant. A grant belongs to one
//! user, and no two members of a room have the same grant.
//!
//! A member is the record of a peer in the state of the room. A member without an owner (the node
//! that holds its connection) is detached. A [`DecisionBatch`] handles several inputs in order:
//! `decision.next_state` is the state after those so far, and each input gets an [`InputOutcome`].

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
    /// Decides the join of a peer. A repeated join of a member changes nothing.
    pub(super) fn join_room(&mut self, peer: &PeerId, member: &Member) -> InputOutcome {
        if self.decision.next_state.members.contains_key(peer) {
            return InputOutcome::Done;
        }
        self.admit_member(peer, member.clone()).map_or_else(|refusal| refusal, |()| InputOutcome::Done)
    }

    /// Adds a member if the room accepts it: its settings, the limits and the grant of the member
    /// are checked, and the sanctions of its user apply. The member waits in the lobby if the room has
    /// one, or if the record says so.
    pub(super) fn admit_member(&mut self, peer: &PeerId, member: Member) -> Result<(), InputOutcome> {
        let member = self.decision.next_state.sanctions.apply_to(member);
        if let Some(refusal) = self.join_refusal(&member) {
            return Err(refusal);
        }
        if let Some(replacement) = self.claim_grant(&member)? {
            // The room has one peer less, so this peer needs no free place.
            self.insert_member(peer, replacement);
            return Ok(());
        }
        let (state, policy) = (&self.decision.next_state, self.policy);
        let must_wait = state.settings.lobby || member.waiting;
        let waiting = must_wait && !member.skips_lobby(&policy.role_policy);
        if waiting && !self.has_lobby_place(&member) || !waiting && !self.has_room_place(&member) {
            return Err(InputOutcome::RoomFull);
        }
        if state.count_user_peers(&member.user) >= policy.max_user_peers {
            return Err(InputOutcome::UserLimit);
        }
        self.insert_member(peer, Member { waiting, ..member });
        Ok(())
    }

    /// Whether one more member may be in the room. Peers in the lobby take no place. A member that
    /// may admit or moderate gets a place beyond the limit, of which there are a few.
    pub(super) fn has_room_place(&self, member: &Member) -> bool {
        let (state, policy) = (&self.decision.next_state, self.policy);
        let room_limit = state.settings.max_peers.map_or(usize::MAX, |limit| limit as usize);
        let extra = if member.is_moderator() { policy.max_extra_moderators } else { 0 };
        state.count_present() < policy.max_room_peers.min(room_limit) + extra
    }

    /// Whether one more peer may wait in the lobby. No caller gets all places of the lobby.
    fn has_lobby_place(&self, member: &Member) -> bool {
        let members = self.decision.next_state.members.values();
        let waiting: Vec<_> = members.filter(|other| other.waiting).collect();
        let root = member.credential_root();
        let of_caller = waiting.iter().filter(|other| other.credential_root() == root).count();
        waiting.len() < self.policy.max_waiting_peers && of_caller < self.policy.max_waiting_per_caller
    }

    /// Why the settings and the sanctions of the room refuse this peer; `None` if they do not. The
    /// limits and the grant are checked later.
    fn join_refusal(&self, member: &Member) -> Option<InputOutcome> {
        let (state, settings) = (&self.decision.next_state, &self.decision.next_state.settings);
        if !self.policy.auto_create_rooms && !state.exists(self.now) {
            return Some(InputOutcome::AutoCreateDisabled);
        }
        if !settings.accepts_creation(member.creation.as_ref()) {
            return Some(InputOutcome::OtherCreation);
        }
        if let Some(refusal) = state.sanctions.join_refusal(member, self.now) {
            return Some(refusal);
        }
        if !settings.enabled {
            return Some(InputOutcome::RoomDisabled);
        }
        if !self.accepts_role(&member.role, &member.permissions) {
            return Some(InputOutcome::RoleRefused);
        }
        // A moderator may prepare the room before it starts, and join it while it is locked.
        let may_moderate = member.has_permission(Permission::Moderate);
        let is_early = settings.starts_at.is_some_and(|at| at > self.now);
        if is_early && !may_moderate {
            return Some(InputOutcome::RoomNotStarted);
        }
        (settings.locked && !may_moderate).then_some(InputOutcome::RoomLocked)
    }

    /// Whether the room accepts members with this role and these permissions. A room that requires
    /// end-to-end encryption refuses a role whose payloads the server must inspect.
    pub(super) fn accepts_role(&self, role: &Role, permissions: &[Arc<str>]) -> bool {
        let settings = &self.decision.next_state.settings;
        let is_listed = settings.roles.as_ref().is_none_or(|roles| roles.contains(role));
        let is_inspected = || self.policy.role_policy.inspects_payloads(role, permissions);
        is_listed && !(settings.requires_e2ee() && is_inspected())
    }

    /// Takes the grant for a new peer from the member that holds it.
    ///
    /// - No member holds the grant: `Ok(None)`.
    /// - The holder is detached: its client probably joins again without its resume handle. The holder
    ///   is removed. `Ok(Some(record))`, to insert in its place.
    /// - The holder is attached: `Err`, because the token of the new peer may be stolen.
    fn claim_grant(&mut self, member: &Member) -> Result<Option<Member>, InputOutcome> {
        let Some((holder, is_detached)) = self.find_grant_holder(&member.user, &member.token, None) else {
            return Ok(None);
        };
        if !is_detached {
            return Err(InputOutcome::TokenInUse);
        }
        let before = self.decision.next_state.members.get(&holder).cloned();
        self.remove_peer(&holder, LeaveReason::Replaced);
        Ok(before.map(|before| replacement_of(&before, member, &self.policy.role_policy)))
    }

    /// The record to insert when a node reports a connected peer that the store has forgotten, after
    /// Redis lost data. The sanctions of its user apply. Meanwhile another peer may have joined with
    /// the same grant: [`claim_grant`](Self::claim_grant) then removes that other peer if it is
    /// detached, and refuses this one if not. If the other peer was removed, this peer waits in the
    /// lobby only if both waited there.
    pub(super) fn reclaim_grant(&mut self, member: &Member) -> Result<Member, InputOutcome> {
        if !self.decision.next_state.settings.accepts_creation(member.creation.as_ref()) {
            return Err(InputOutcome::OtherCreation);
        }
        let sanctions = &self.decision.next_state.sanctions;
        if sanctions.join_refusal(member, self.now).is_some() {
            return Err(InputOutcome::PeerGone);
        }
        let member = &sanctions.apply_to(member.clone());
        let replacement = self.claim_grant(member)?.unwrap_or_else(|| member.clone());
        Ok(Member { waiting: member.waiting && replacement.waiting, ..replacement })
    }

    /// The record of a peer that the store has forgotten. The store may have forgotten the creation
    /// of the room too; then the record fits the room without a creation.
    pub(super) fn forgotten_record(&self, member: &Member) -> Member {
        let is_created = self.decision.next_state.settings.is_created();
        Member { creation: member.creation.clone().filter(|_| is_created), ..member.clone() }
    }

    /// The member of this user that has the grant of this token, and whether that member is detached.
    /// `requesting_peer` is skipped: a peer may refresh to a token of its own grant.
    pub(super) fn find_grant_holder(
        &self,
        user: &UserId,
        token: &TokenId,
        requesting_peer: Option<&PeerId>,
    ) -> Option<(PeerId, bool)> {
        let mut members = self.decision.next_state.members.iter();
        let holder = members.find(|(peer, member)| {
            Some(*peer) != requesting_peer && member.token.grant() == token.grant() && member.user == *user
        });
        holder.map(|(peer, member)| (peer.clone(), member.owner().is_none()))
    }
}

/// The record of a new peer that replaces a peer of the same grant. The new peer keeps the role,
/// permissions and mute that a moderator gave to the replaced peer. If that peer waited in the lobby,
/// the new peer waits too, unless its role skips the lobby.
fn replacement_of(before: &Member, new_peer: &Member, roles: &RoomRolePolicy) -> Member {
    let mut member = new_peer.clone();
    if before.has_assigned_permissions {
        (member.role, member.permissions) = (before.role.clone(), before.permissions.clone());
        (member.muted, member.has_assigned_permissions) = (before.muted, true);
    }
    member.waiting = before.waiting && !member.skips_lobby(roles);
    member
}
