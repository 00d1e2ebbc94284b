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
    IcePolicy, LeaveReason,
    id::{PeerId, Role, UserId},
};

use super::{
    decision::InputOutcome,
    decision_batch::DecisionBatch,
    room_input::RoomInput,
    room_settings::{RoomPatch, RoomSettings},
    room_state::{Member, Permission},
};

/// An act on a room, and on whose word.
#[derive(Debug, Clone)]
pub struct ManageRoom {
    /// The member who wants it, and the epoch of the connection that says so; none is the API, which may do everything.
    pub actor: Option<(PeerId, u64)>,
    /// What.
    pub action: RoomAction,
}

/// What is done to a room.
#[derive(Debug, Clone)]
pub enum RoomAction {
    /// It is made, with these settings.
    Create(Arc<RoomSettings>),
    /// Its settings change.
    Configure(RoomPatch),
    /// It takes nobody in any more, or somebody again.
    Lock(bool),
    /// Everybody leaves it.
    End {
        /// Whether it takes nobody in afterwards.
        lock_room: bool,
    },
    /// Everybody leaves it, and it is not there any more.
    Delete,
    /// Members leave it.
    Remove {
        /// Who.
        selector: PeerSelector,
        /// What the others are told.
        reason: LeaveReason,
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
        muted: bool,
    },
    /// A peer that waits in the lobby becomes a member.
    Admit(PeerId),
    /// A peer that waits in the lobby is sent away.
    Deny(PeerId),
    /// The members, or one of them, are told something.
    SendMessage {
        /// Who; none is everybody.
        to: Option<PeerId>,
        /// What: any JSON.
        data: Arc<RawValue>,
    },
}

/// Which members.
#[derive(Debug, Clone)]
pub enum PeerSelector {
    /// One.
    Peer(PeerId),
    /// Those with this role.
    Role(Role),
    /// Those of this user.
    User(UserId),
}

impl ManageRoom {
    /// An act of the API.
    pub fn from_api(act: RoomAction) -> RoomInput {
        RoomInput::Manage(Box::new(Self { actor: None, action: act }))
    }

    /// An act that a member asks for, on the connection of an epoch.
    pub fn from_member(peer: PeerId, epoch: u64, act: RoomAction) -> RoomInput {
        RoomInput::Manage(Box::new(Self { actor: Some((peer, epoch)), action: act }))
    }
}

impl PeerSelector {
    pub(super) fn matches_member(&self, peer: &PeerId, member: &Member) -> bool {
        match self {
            Self::Peer(wanted) => wanted == peer,
            Self::Role(role) => *role == member.role,
            Self::User(user) => *user == member.user,
        }
    }
}

/// How high a member stands.
fn moderation_rank(member: &Member) -> u8 {
    if member.has_permission(Permission::End) {
        2
    } else {
        u8::from(member.has_permission(Permission::Moderate))
    }
}

impl DecisionBatch<'_> {
    pub(super) fn apply_action(&mut self, manage: &ManageRoom) -> InputOutcome {
        if let RoomAction::Create(settings) = &manage.action {
            return self.create_room(settings);
        }
        if !self.decision.next_state.exists(self.now) {
            return InputOutcome::NoSuchRoom;
        }
        if let Some(refused) = manage.actor.as_ref().and_then(|by| self.action_refusal(by, &manage.action)) {
            return refused;
        }
        match &manage.action {
            RoomAction::Create(_) => InputOutcome::RoomExists,
            RoomAction::Configure(patch) => self.configure_room(patch),
            RoomAction::Lock(locked) => {
                self.configure_room(&RoomPatch { locked: Some(*locked), ..RoomPatch::default() })
            }
            RoomAction::End { lock_room: lock } => self.end_room(*lock),
            RoomAction::Delete => self.delete_room(),
            RoomAction::Remove { selector: whom, reason } => self.remove_selected_peers(whom, *reason),
            RoomAction::SetRole { peer, role, permissions, ice_policy } => {
                self.set_role(peer, role, permissions, *ice_policy)
            }
            RoomAction::Mute { peer, muted: on } => self.set_muted(peer, *on),
            RoomAction::Admit(peer) => self.admit_peer(peer),
            RoomAction::Deny(peer) => self.deny_peer(peer),
            RoomAction::SendMessage { to, data } => self.send_app_message(to.as_ref(), data),
        }
    }

    /// Why a member may not; none if it may.
    fn action_refusal(&self, (by, epoch): &(PeerId, u64), act: &RoomAction) -> Option<InputOutcome> {
        let members = &self.decision.next_state.members;
        // An older connection of it may still have to say what its client has taken back on the newer one.
        let Some(actor) = members.get(by).filter(|actor| actor.epoch == *epoch) else {
            return Some(InputOutcome::PeerGone);
        };
        let may = |permission| !actor.waiting && actor.has_permission(permission);
        let outranks = |peer: &PeerId| {
            members.get(peer).is_none_or(|target| moderation_rank(actor) > moderation_rank(target))
        };
        let allowed = match act {
            RoomAction::Lock(_) => may(Permission::Moderate),
            RoomAction::End { .. } => may(Permission::End),
            // Nobody lifts what somebody else has laid on it: of itself one only takes.
            RoomAction::Mute { peer, muted: on } => {
                may(Permission::Moderate) && (by == peer && *on || outranks(peer))
            }
            RoomAction::Remove { selector: PeerSelector::Peer(peer), .. }
                if members.get(peer).is_some_and(|m| m.waiting) =>
            {
                may(Permission::Admit) || may(Permission::Moderate)
            }
            RoomAction::Remove { selector: PeerSelector::Peer(peer), .. } => {
                may(Permission::Moderate) && outranks(peer)
            }
            RoomAction::Admit(_) | RoomAction::Deny(_) => may(Permission::Admit),
            RoomAction::Create(_)
            | RoomAction::Configure(_)
            | RoomAction::Delete
            | RoomAction::Remove { .. }
            | RoomAction::SetRole { .. }
            | RoomAction::SendMessage { .. } => false,
        };
        (!allowed).then_some(InputOutcome::NotPermitted)
    }
}
