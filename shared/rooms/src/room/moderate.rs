//! What is done to members: they are removed, get another role, may not publish, are told something. Who may do it: `manage`.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeftReason,
    id::{PeerId, Role},
};

use super::{
    decide::Batch,
    manage::Whom,
    outcome::{EventKind, Outcome},
    state::{Member, Permission},
};

impl Batch<'_> {
    pub(super) fn remove_everybody(&mut self, reason: LeftReason) -> Outcome {
        let everybody: Vec<PeerId> = self.decision.next.members.keys().cloned().collect();
        everybody.iter().for_each(|peer| _ = self.remove(peer, reason));
        Outcome::Removed(everybody.len())
    }

    pub(super) fn remove_all(&mut self, whom: &Whom, reason: LeftReason) -> Outcome {
        let members = self.decision.next.members.iter();
        let fitting = members.filter(|(peer, member)| whom.fits(peer, member));
        let fitting: Vec<_> = fitting.map(|(peer, member)| (peer.clone(), member.waiting)).collect();
        if fitting.is_empty() && matches!(whom, Whom::Peer(_)) {
            return Outcome::NoSuchPeer;
        }
        for (peer, waiting) in &fitting {
            let denied = *waiting && reason == LeftReason::Removed;
            self.remove(peer, if denied { LeftReason::Denied } else { reason });
        }
        Outcome::Removed(fitting.len())
    }

    pub(super) fn set_role(
        &mut self,
        peer: &PeerId,
        role: &Role,
        permissions: &Arc<[Arc<str>]>,
        ice_policy: Option<IcePolicy>,
    ) -> Outcome {
        let takes = self.takes(role, permissions);
        let Some(member) = self.decision.next.members.get_mut(peer) else { return Outcome::NoSuchPeer };
        if !takes {
            return Outcome::RoleNotTaken;
        }
        if member.role == *role && member.permissions == *permissions && member.overridden && !member.muted {
            return Outcome::Done;
        }
        let knew_of_knocks = member.may(Permission::Admit);
        let looks_different = member.role != *role || member.muted;
        member.role = role.clone();
        member.permissions = permissions.clone();
        member.overridden = true;
        member.muted = false;
        let member = member.clone();
        self.standing_changed(peer, &member, ice_policy);
        if member.waiting {
            return if member.passes_lobby(&self.rules.roles) { self.admit(peer) } else { Outcome::Done };
        }
        if looks_different {
            self.tell(peer, EventKind::Updated(Box::new(member.clone())));
        }
        if member.may(Permission::Admit) && !knew_of_knocks {
            self.tell_of_knocks(peer);
        }
        Outcome::Done
    }

    pub(super) fn mute(&mut self, peer: &PeerId, on: bool) -> Outcome {
        const PUBLISH: &str = Permission::Publish.as_str();
        let closed = self.decision.next.settings.demands_e2ee();
        let Some(member) = self.decision.next.members.get_mut(peer).filter(|member| !member.waiting) else {
            return Outcome::NoSuchPeer;
        };
        let may_publish = member.may(Permission::Publish);
        if on && may_publish && closed {
            return Outcome::MustNotRead;
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
            return Outcome::Done;
        }
        member.overridden = true;
        let member = member.clone();
        self.standing_changed(peer, &member, None);
        self.tell(peer, EventKind::Updated(Box::new(member)));
        Outcome::Done
    }

    fn standing_changed(&mut self, peer: &PeerId, member: &Member, ice_policy: Option<IcePolicy>) {
        self.decision.put.insert(peer.clone());
        if !member.waiting {
            self.tell_only(peer, peer, EventKind::Standing(Box::new(member.clone()), ice_policy));
        }
    }

    pub(super) fn say(&mut self, to: Option<&PeerId>, data: &Arc<RawValue>) -> Outcome {
        let kind = EventKind::Said { to_room: to.is_none(), data: data.clone() };
        match to {
            None => self.tell(&PeerId::nobody(), kind),
            Some(peer) => {
                if self.decision.next.members.get(peer).is_none_or(|member| member.waiting) {
                    return Outcome::NoSuchPeer;
                }
                self.tell_only(&PeerId::nobody(), peer, kind);
            }
        }
        self.decision.said = true;
        Outcome::Done
    }
}
