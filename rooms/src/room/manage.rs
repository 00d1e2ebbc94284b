//! What is done to a room and its members by somebody who may: the API, or a member with a permission.
//!
//! A member's permissions are asked here, on the state that the change is committed to, so that one who lost them a moment ago has lost
//! them. The ranks: `end` stands above `moderate`, which stands above everybody else. Nobody acts on a member of the same rank or a
//! higher one; the API does.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_shared::{
    id::{PeerId, Role, UserId},
    protocol::{IcePolicy, LeftReason},
};

use super::{
    decide::{Batch, EventKind, Input, Outcome},
    settings::{LONGEST_KEPT_MS, Patch, RoomSettings},
    state::{Member, Permission},
};

/// An act on a room, and on whose word.
#[derive(Debug, Clone)]
pub struct Manage {
    /// The member who wants it; none is the API, which may do everything.
    pub by: Option<PeerId>,
    /// What.
    pub act: Act,
}

/// What is done to a room.
#[derive(Debug, Clone)]
pub enum Act {
    /// It is made, with these settings.
    Create(Arc<RoomSettings>),
    /// Its settings change.
    Configure(Patch),
    /// It takes nobody in any more, or somebody again.
    Lock(bool),
    /// Everybody leaves it.
    End {
        /// Whether it takes nobody in afterwards.
        lock: bool,
    },
    /// Everybody leaves it, and it is not there any more.
    Delete,
    /// Members leave it.
    Remove {
        /// Who.
        whom: Whom,
        /// What the others are told.
        reason: LeftReason,
    },
    /// A member has another role from now on, whatever its token says.
    SetRole {
        /// Who.
        peer: PeerId,
        /// Its role.
        role: Role,
        /// What that may do.
        permissions: Arc<[Arc<str>]>,
        /// What it is told of ICE with it.
        ice_policy: Option<IcePolicy>,
    },
    /// A member may not publish any more, or again.
    Mute {
        /// Who.
        peer: PeerId,
        /// Whether it may not.
        on: bool,
    },
    /// A peer that waits in the lobby becomes a member.
    Admit(PeerId),
    /// A peer that waits in the lobby is sent away.
    Deny(PeerId),
    /// The members, or one of them, are told something.
    Say {
        /// Who; none is everybody.
        to: Option<PeerId>,
        /// What: any JSON.
        data: Arc<RawValue>,
    },
}

/// Which members.
#[derive(Debug, Clone)]
pub enum Whom {
    /// One.
    Peer(PeerId),
    /// Those with this role.
    Role(Role),
    /// Those of this user.
    User(UserId),
}

impl Manage {
    /// An act of the API.
    pub fn api(act: Act) -> Input {
        Input::Manage(Box::new(Self { by: None, act }))
    }

    /// An act that a member asks for.
    pub fn member(peer: PeerId, act: Act) -> Input {
        Input::Manage(Box::new(Self { by: Some(peer), act }))
    }
}

impl Whom {
    fn fits(&self, peer: &PeerId, member: &Member) -> bool {
        match self {
            Self::Peer(wanted) => wanted == peer,
            Self::Role(role) => *role == member.role,
            Self::User(user) => *user == member.user,
        }
    }
}

/// How high a member stands.
fn rank(member: &Member) -> u8 {
    if member.may(Permission::End) { 2 } else { u8::from(member.may(Permission::Moderate)) }
}

impl Batch<'_> {
    pub(super) fn manage(&mut self, manage: &Manage) -> Outcome {
        if let Act::Create(settings) = &manage.act {
            return self.create(settings);
        }
        if !self.decision.next.is_there(self.now) {
            return Outcome::NoSuchRoom;
        }
        if let Some(refused) = manage.by.as_ref().and_then(|by| self.refuse(by, &manage.act)) {
            return refused;
        }
        match &manage.act {
            Act::Create(_) => Outcome::RoomExists,
            Act::Configure(patch) => self.configure(patch),
            Act::Lock(locked) => self.configure(&Patch { locked: Some(*locked), ..Patch::default() }),
            Act::End { lock } => self.end(*lock),
            Act::Delete => self.delete(),
            Act::Remove { whom, reason } => self.remove_all(whom, *reason),
            Act::SetRole { peer, role, permissions, ice_policy } => {
                self.set_role(peer, role, permissions, *ice_policy)
            }
            Act::Mute { peer, on } => self.mute(peer, *on),
            Act::Admit(peer) => self.admit(peer),
            Act::Deny(peer) => match self.decision.next.members.get(peer) {
                Some(member) if member.waiting => self.remove(peer, LeftReason::Denied),
                _ => Outcome::NoSuchPeer,
            },
            Act::Say { to, data } => self.say(to.as_ref(), data),
        }
    }

    /// Why a member may not; none if it may.
    fn refuse(&self, by: &PeerId, act: &Act) -> Option<Outcome> {
        let members = &self.decision.next.members;
        let Some(actor) = members.get(by) else { return Some(Outcome::Gone) };
        let may = |permission| !actor.waiting && actor.may(permission);
        let outranks = |peer: &PeerId| members.get(peer).is_none_or(|target| rank(actor) > rank(target));
        let allowed = match act {
            Act::Lock(_) => may(Permission::Moderate),
            Act::End { .. } => may(Permission::End),
            Act::Mute { peer, .. } => may(Permission::Moderate) && (by == peer || outranks(peer)),
            Act::Remove { whom: Whom::Peer(peer), .. } if members.get(peer).is_some_and(|m| m.waiting) => {
                may(Permission::Admit) || may(Permission::Moderate)
            }
            Act::Remove { whom: Whom::Peer(peer), .. } => may(Permission::Moderate) && outranks(peer),
            Act::Admit(_) | Act::Deny(_) => may(Permission::Admit),
            Act::Create(_)
            | Act::Configure(_)
            | Act::Delete
            | Act::Remove { .. }
            | Act::SetRole { .. }
            | Act::Say { .. } => false,
        };
        (!allowed).then_some(Outcome::NotPermitted)
    }

    fn create(&mut self, settings: &Arc<RoomSettings>) -> Outcome {
        let known = &self.decision.next.settings;
        if known.making.is_some() && known.making == settings.making {
            return Outcome::Done;
        }
        if self.decision.next.is_there(self.now) {
            return Outcome::RoomExists;
        }
        self.set(RoomSettings::clone(settings));
        Outcome::Done
    }

    fn configure(&mut self, patch: &Patch) -> Outcome {
        let next = patch.apply(&self.decision.next.settings);
        if next.to_json() == self.decision.next.settings.to_json() {
            return Outcome::Done;
        }
        let lobby_closes = self.decision.next.settings.lobby && !next.lobby;
        self.set(next);
        if lobby_closes {
            let members = self.decision.next.members.iter();
            let waiting: Vec<PeerId> =
                members.filter(|(_, m)| m.waiting).map(|(peer, _)| peer.clone()).collect();
            waiting.iter().for_each(|peer| _ = self.admit(peer));
        }
        Outcome::Done
    }

    /// Writes the settings and tells the members what they may know of them.
    pub(super) fn set(&mut self, settings: RoomSettings) {
        self.decision.next.settings = Arc::new(settings);
        self.decision.configured = true;
        let kind = EventKind::RoomUpdated(self.decision.next.settings.clone());
        self.tell(&PeerId::nobody(), kind);
    }

    fn end(&mut self, lock: bool) -> Outcome {
        if lock {
            // The lock must outlast those who are sent out, or the next one would open the room again.
            let settings = &self.decision.next.settings;
            let kept_until = settings.kept_until.max(self.now + self.rules.kept_ms.min(LONGEST_KEPT_MS));
            if !settings.locked || !settings.is_kept(self.now) {
                self.set(RoomSettings { locked: true, kept_until, ..RoomSettings::clone(settings) });
            }
        }
        self.remove_everybody(LeftReason::Ended)
    }

    fn delete(&mut self) -> Outcome {
        let outcome = self.remove_everybody(LeftReason::Ended);
        // What is not kept and has no members is over.
        self.decision.next.settings = Arc::default();
        self.decision.configured = true;
        outcome
    }

    fn remove_everybody(&mut self, reason: LeftReason) -> Outcome {
        let everybody: Vec<PeerId> = self.decision.next.members.keys().cloned().collect();
        everybody.iter().for_each(|peer| _ = self.remove(peer, reason));
        Outcome::Removed(everybody.len())
    }

    fn remove_all(&mut self, whom: &Whom, reason: LeftReason) -> Outcome {
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

    fn set_role(
        &mut self,
        peer: &PeerId,
        role: &Role,
        permissions: &Arc<[Arc<str>]>,
        ice_policy: Option<IcePolicy>,
    ) -> Outcome {
        let Some(member) = self.decision.next.members.get_mut(peer) else { return Outcome::NoSuchPeer };
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
            return if member.passes_lobby() { self.admit(peer) } else { Outcome::Done };
        }
        if looks_different {
            self.tell(peer, EventKind::Updated(Box::new(member.clone())));
        }
        if member.may(Permission::Admit) && !knew_of_knocks {
            self.tell_of_knocks(peer);
        }
        Outcome::Done
    }

    fn mute(&mut self, peer: &PeerId, on: bool) -> Outcome {
        const PUBLISH: &str = Permission::Publish.as_str();
        let Some(member) = self.decision.next.members.get_mut(peer).filter(|member| !member.waiting) else {
            return Outcome::NoSuchPeer;
        };
        let may_publish = member.may(Permission::Publish);
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

    pub(super) fn admit(&mut self, peer: &PeerId) -> Outcome {
        let Some(member) = self.decision.next.members.get_mut(peer) else { return Outcome::NoSuchPeer };
        if !std::mem::replace(&mut member.waiting, false) {
            return Outcome::Done;
        }
        let member = member.clone();
        self.decision.put.insert(peer.clone());
        self.tell_admitters(peer, EventKind::KnockEnded(None));
        self.tell(peer, EventKind::Joined(Box::new(member)));
        Outcome::Done
    }

    fn say(&mut self, to: Option<&PeerId>, data: &Arc<RawValue>) -> Outcome {
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
