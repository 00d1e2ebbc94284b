//! Actions on members: removal, roles, muting, messages of the application. `room_action` checks
//! the permissions.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeaveReason,
    id::{PeerId, Role, UserId},
};

use super::{
    decision::RoomEventKind,
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    room_input::PeerSelector,
    room_state::{Member, Permission},
    sanction::{AssignedRole, BlockReason, JoinBlock, Sanction, SanctionList, TooManySanctions},
};

impl DecisionBatch<'_> {
    pub(super) fn remove_all_peers(&mut self, reason: LeaveReason) -> InputOutcome {
        let members: Vec<PeerId> = self.decision.next_state.members.keys().cloned().collect();
        members.iter().for_each(|peer| self.remove_peer(peer, reason));
        InputOutcome::Removed(members.len())
    }

    pub(super) fn remove_selected_peers(
        &mut self,
        selector: &PeerSelector,
        reason: LeaveReason,
    ) -> InputOutcome {
        let members = self.decision.next_state.members.iter();
        let selected = members.filter(|(peer, member)| selector.matches_member(peer, member));
        let selected: Vec<_> = selected.map(|(peer, member)| (peer.clone(), member.waiting)).collect();
        if selected.is_empty() && matches!(selector, PeerSelector::Peer(_)) {
            return InputOutcome::NoSuchPeer;
        }
        let reason_of = |waiting: bool| match reason {
            LeaveReason::Removed if waiting => LeaveReason::Denied,
            reason => reason,
        };
        let reasons = selected.into_iter().map(|(peer, waiting)| (peer, reason_of(waiting)));
        self.remove_and_block(reasons.collect())
    }

    /// Removes members. The users of members that were removed or rejected may not join again. If
    /// there is no place for a sanction, no member is removed: it could return at once.
    pub(super) fn remove_and_block(&mut self, removals: Vec<(PeerId, LeaveReason)>) -> InputOutcome {
        let (state, limit) = (&self.decision.next_state, self.policy.max_sanctions);
        let mut sanctions = SanctionList::clone(&state.sanctions);
        for (peer, reason) in &removals {
            let block = match reason {
                LeaveReason::Removed => BlockReason::Removed,
                LeaveReason::Denied => BlockReason::Denied,
                _ => continue,
            };
            let Some(member) = state.members.get(peer) else { continue };
            let block = JoinBlock::for_removed(member, block);
            if sanctions.change_for(member, self.now, limit, |sanction| sanction.extend_block(block)).is_err()
            {
                return InputOutcome::SanctionLimit;
            }
        }
        self.replace_sanctions(sanctions);
        removals.iter().for_each(|(peer, reason)| self.remove_peer(peer, *reason));
        InputOutcome::Removed(removals.len())
    }

    /// Bans a user of any source from the room, and removes the peers of the user.
    pub(super) fn ban_user(&mut self, user: &UserId, until: u64) -> InputOutcome {
        let block = JoinBlock { reason: BlockReason::Banned, until: Some(until) };
        let mut sanctions = SanctionList::clone(&self.decision.next_state.sanctions);
        let (now, limit) = (self.now, self.policy.max_sanctions);
        if sanctions.change(user, None, now, limit, |sanction| sanction.block = Some(block)).is_err() {
            return InputOutcome::SanctionLimit;
        }
        self.replace_sanctions(sanctions);
        self.remove_selected_peers(&PeerSelector::User(user.clone()), LeaveReason::Banned)
    }

    /// Lifts all sanctions of a user. The connected peers of the user stay as they are.
    pub(super) fn lift_sanctions(&mut self, user: &UserId) -> InputOutcome {
        let mut sanctions = SanctionList::clone(&self.decision.next_state.sanctions);
        if !sanctions.lift_user(user) {
            return InputOutcome::NoSuchSanction;
        }
        self.replace_sanctions(sanctions);
        InputOutcome::Done
    }

    /// Changes the sanction of the user of a member.
    fn sanction_member(
        &mut self,
        member: &Member,
        change: impl FnOnce(&mut Sanction),
    ) -> Result<(), InputOutcome> {
        let mut sanctions = SanctionList::clone(&self.decision.next_state.sanctions);
        let result = sanctions.change_for(member, self.now, self.policy.max_sanctions, change);
        result.map_err(|TooManySanctions| InputOutcome::SanctionLimit)?;
        self.replace_sanctions(sanctions);
        Ok(())
    }

    fn replace_sanctions(&mut self, sanctions: SanctionList) {
        if *self.decision.next_state.sanctions != sanctions {
            self.decision.next_state.sanctions = Arc::new(sanctions);
            self.decision.sanctions_changed = true;
        }
    }

    pub(super) fn set_role(
        &mut self,
        peer: &PeerId,
        role: &Role,
        permissions: &Arc<[Arc<str>]>,
        ice_policy: Option<IcePolicy>,
    ) -> InputOutcome {
        let is_accepted = self.accepts_role(role, permissions);
        let Some(member) = self.decision.next_state.members.get(peer).cloned() else {
            return InputOutcome::NoSuchPeer;
        };
        if !is_accepted {
            return InputOutcome::RoleRefused;
        }
        let assigned = AssignedRole { role: role.clone(), permissions: permissions.clone() };
        // A promotion ends with the peer: a sanction only takes permissions.
        let outlasts = member.has_assigned_permissions || !assigned.promotes(&member);
        let sanctioned = self.sanction_member(&member, |sanction| {
            (sanction.role, sanction.muted) = (outlasts.then_some(assigned), false);
        });
        if let Err(refusal) = sanctioned {
            return refusal;
        }
        let Some(member) = self.decision.next_state.members.get_mut(peer).map(Arc::make_mut) else {
            return InputOutcome::NoSuchPeer;
        };
        if member.role == *role
            && member.permissions == *permissions
            && member.has_assigned_permissions
            && !member.muted
        {
            return InputOutcome::Done;
        }
        let could_admit = member.has_permission(Permission::Admit);
        let is_visible = member.role != *role || member.muted;
        member.role = role.clone();
        member.permissions = permissions.clone();
        member.has_assigned_permissions = true;
        member.muted = false;
        let member = member.clone();
        self.notify_permissions(peer, &member, ice_policy);
        if member.waiting {
            if member.skips_lobby(&self.policy.role_policy) {
                // In a full room the peer waits for a place.
                let _ = self.admit_peer(peer);
            }
            return InputOutcome::Done;
        }
        if is_visible {
            self.notify_others(peer, RoomEventKind::Updated(Box::new(member.clone())));
        }
        if member.has_permission(Permission::Admit) && !could_admit {
            self.notify_of_knocks(peer);
        }
        InputOutcome::Done
    }

    /// Mutes or unmutes a member. Unless the member mutes itself (`by_itself`), all later peers of
    /// its user are muted too.
    pub(super) fn set_muted(&mut self, peer: &PeerId, muted: bool, by_itself: bool) -> InputOutcome {
        const PUBLISH: &str = Permission::Publish.as_str();
        let state = &self.decision.next_state;
        let requires_e2ee = state.settings.requires_e2ee();
        let Some(member) = state.members.get(peer).filter(|member| !member.waiting).cloned() else {
            return InputOutcome::NoSuchPeer;
        };
        let may_publish = member.has_permission(Permission::Publish);
        if muted && may_publish && requires_e2ee {
            return InputOutcome::E2eeRequired;
        }
        if !by_itself && let Err(refusal) = self.sanction_member(&member, |sanction| sanction.muted = muted) {
            return refusal;
        }
        let Some(member) = self.decision.next_state.members.get_mut(peer).map(Arc::make_mut) else {
            return InputOutcome::NoSuchPeer;
        };
        if muted && may_publish {
            member.mute();
        } else if !muted && member.muted {
            member.permissions =
                std::iter::once(Arc::from(PUBLISH)).chain(member.permissions.iter().cloned()).collect();
            member.muted = false;
        } else {
            return InputOutcome::Done;
        }
        member.has_assigned_permissions = true;
        let member = member.clone();
        self.notify_permissions(peer, &member, None);
        self.notify_others(peer, RoomEventKind::Updated(Box::new(member)));
        InputOutcome::Done
    }

    fn notify_permissions(&mut self, peer: &PeerId, member: &Member, ice_policy: Option<IcePolicy>) {
        self.decision.written_peers.insert(peer.clone());
        if !member.waiting {
            self.notify_peer(
                peer,
                peer,
                RoomEventKind::PermissionsChanged(Box::new(member.clone()), ice_policy),
            );
        }
    }

    pub(super) fn send_app_message(&mut self, to: Option<&PeerId>, data: &Arc<RawValue>) -> InputOutcome {
        let kind = RoomEventKind::AppMessage { addressed_to_room: to.is_none(), data: data.clone() };
        match to {
            None => self.notify_others(&PeerId::no_peer(), kind),
            Some(peer) => {
                if self.decision.next_state.members.get(peer).is_none_or(|member| member.waiting) {
                    return InputOutcome::NoSuchPeer;
                }
                self.notify_peer(&PeerId::no_peer(), peer, kind);
            }
        }
        self.decision.has_app_message = true;
        InputOutcome::Done
    }
}
