//! What is done to a room and its members by somebody who may: the API, or a member with a permission.
//!
//! A member's permissions are asked here, on the state that the change is committed to, so that one who lost them a moment ago has lost
//! them. The ranks: `end` stands above `moderate`, which stands above everybody else. Nobody acts on a member of the same rank or a
//! higher one; the API does.
//!
//! Owns: the acts, and who may. Next: what is done to a room is in `set`, what is done to members in `moderate` and `lobby`.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeftReason,
    id::{PeerId, Role, UserId},
};

use super::{
    decide::Batch,
    input::Input,
    outcome::Outcome,
    settings::{Patch, RoomSettings},
    state::{Member, Permission},
};

/// An act on a room, and on whose word.
#[derive(Debug, Clone)]
pub struct Manage {
    /// The member who wants it, and the epoch of the connection that says so; none is the API, which may do everything.
    pub by: Option<(PeerId, u64)>,
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

    /// An act that a member asks for, on the connection of an epoch.
    pub fn member(peer: PeerId, epoch: u64, act: Act) -> Input {
        Input::Manage(Box::new(Self { by: Some((peer, epoch)), act }))
    }
}

impl Whom {
    pub(super) fn fits(&self, peer: &PeerId, member: &Member) -> bool {
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
            Act::Deny(peer) => self.deny(peer),
            Act::Say { to, data } => self.say(to.as_ref(), data),
        }
    }

    /// Why a member may not; none if it may.
    fn refuse(&self, (by, epoch): &(PeerId, u64), act: &Act) -> Option<Outcome> {
        let members = &self.decision.next.members;
        // An older connection of it may still have to say what its client has taken back on the newer one.
        let Some(actor) = members.get(by).filter(|actor| actor.epoch == *epoch) else {
            return Some(Outcome::Gone);
        };
        let may = |permission| !actor.waiting && actor.may(permission);
        let outranks = |peer: &PeerId| members.get(peer).is_none_or(|target| rank(actor) > rank(target));
        let allowed = match act {
            Act::Lock(_) => may(Permission::Moderate),
            Act::End { .. } => may(Permission::End),
            // Nobody lifts what somebody else has laid on it: of itself one only takes.
            Act::Mute { peer, on } => may(Permission::Moderate) && (by == peer && *on || outranks(peer)),
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
}
