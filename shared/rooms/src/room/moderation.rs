//! Actions on members: removal, roles, muting, messages of the application. `room_action` checks
//! the permissions.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeaveReason,
    id::{PeerId, Role},
};

use super::{
    decision::RoomEventKind,
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    room_input::PeerSelector,
    room_state::{Member, Permission},
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
        for (peer, waiting) in &selected {
            let is_rejection = *waiting && reason == LeaveReason::Removed;
            self.remove_peer(peer, if is_rejection { LeaveReason::Denied } else { reason });
        }
        InputOutcome::Removed(selected.len())
    }

    pub(super) fn set_role(
        &mut self,
        peer: &PeerId,
        role: &Role,
        permissions: &Arc<[Arc<str>]>,
        ice_policy: Option<IcePolicy>,
    ) -> InputOutcome {
        let is_accepted = self.accepts_role(role, permissions);
        let Some(member) = self.decision.next_state.members.get_mut(peer) else {
            return InputOutcome::NoSuchPeer;
        };
        if !is_accepted {
            return InputOutcome::RoleRefused;
        }
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
            return if member.skips_lobby(&self.policy.role_policy) {
                self.admit_peer(peer)
            } else {
                InputOutcome::Done
            };
        }
        if is_visible {
            self.notify_others(peer, RoomEventKind::Updated(Box::new(member.clone())));
        }
        if member.has_permission(Permission::Admit) && !could_admit {
            self.notify_of_knocks(peer);
        }
        InputOutcome::Done
    }

    pub(super) fn set_muted(&mut self, peer: &PeerId, muted: bool) -> InputOutcome {
        const PUBLISH: &str = Permission::Publish.as_str();
        let requires_e2ee = self.decision.next_state.settings.requires_e2ee();
        let Some(member) = self.decision.next_state.members.get_mut(peer).filter(|member| !member.waiting)
        else {
            return InputOutcome::NoSuchPeer;
        };
        let may_publish = member.has_permission(Permission::Publish);
        if muted && may_publish && requires_e2ee {
            return InputOutcome::E2eeRequired;
        }
        if muted && may_publish {
            member.permissions =
                member.permissions.iter().filter(|name| &***name != PUBLISH).cloned().collect();
            member.muted = true;
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
