//! What is done to members: they are removed, get another role, may not publish, are told something. Who may do it: `manage`.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeaveReason,
    id::{PeerId, Role},
};

use super::{
    decision::{InputOutcome, RoomEventKind},
    decision_batch::DecisionBatch,
    room_action::PeerSelector,
    room_state::{Member, Permission},
};

impl DecisionBatch<'_> {
    pub(super) fn remove_all_peers(&mut self, reason: LeaveReason) -> InputOutcome {
        let everybody: Vec<PeerId> = self.decision.next_state.members.keys().cloned().collect();
        everybody.iter().for_each(|peer| _ = self.remove_peer(peer, reason));
        InputOutcome::Removed(everybody.len())
    }

    pub(super) fn remove_selected_peers(&mut self, whom: &PeerSelector, reason: LeaveReason) -> InputOutcome {
        let members = self.decision.next_state.members.iter();
        let fitting = members.filter(|(peer, member)| whom.matches_member(peer, member));
        let fitting: Vec<_> = fitting.map(|(peer, member)| (peer.clone(), member.waiting)).collect();
        if fitting.is_empty() && matches!(whom, PeerSelector::Peer(_)) {
            return InputOutcome::NoSuchPeer;
        }
        for (peer, waiting) in &fitting {
            let denied = *waiting && reason == LeaveReason::Removed;
            self.remove_peer(peer, if denied { LeaveReason::Denied } else { reason });
        }
        InputOutcome::Removed(fitting.len())
    }

    pub(super) fn set_role(
        &mut self,
        peer: &PeerId,
        role: &Role,
        permissions: &Arc<[Arc<str>]>,
        ice_policy: Option<IcePolicy>,
    ) -> InputOutcome {
        let takes = self.accepts_role(role, permissions);
        let Some(member) = self.decision.next_state.members.get_mut(peer) else {
            return InputOutcome::NoSuchPeer;
        };
        if !takes {
            return InputOutcome::RoleRefused;
        }
        if member.role == *role && member.permissions == *permissions && member.overridden && !member.muted {
            return InputOutcome::Done;
        }
        let knew_of_knocks = member.has_permission(Permission::Admit);
        let looks_different = member.role != *role || member.muted;
        member.role = role.clone();
        member.permissions = permissions.clone();
        member.overridden = true;
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
        if looks_different {
            self.notify_others(peer, RoomEventKind::Updated(Box::new(member.clone())));
        }
        if member.has_permission(Permission::Admit) && !knew_of_knocks {
            self.notify_of_knocks(peer);
        }
        InputOutcome::Done
    }

    pub(super) fn set_muted(&mut self, peer: &PeerId, on: bool) -> InputOutcome {
        const PUBLISH: &str = Permission::Publish.as_str();
        let closed = self.decision.next_state.settings.requires_e2ee();
        let Some(member) = self.decision.next_state.members.get_mut(peer).filter(|member| !member.waiting)
        else {
            return InputOutcome::NoSuchPeer;
        };
        let may_publish = member.has_permission(Permission::Publish);
        if on && may_publish && closed {
            return InputOutcome::E2eeRequired;
        }
        if on && may_publish {
            member.permissions =
                member.permissions.iter().filter(|name| &***name != PUBLISH).cloned().collect();
            member.muted = true;
        } else if !on && member.muted {
            member.permissions =
                std::iter::once(Arc::from(PUBLISH)).chain(member.permissions.iter().cloned()).collect();
            member.muted = false;
        } else {
            return InputOutcome::Done;
        }
        member.overridden = true;
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
