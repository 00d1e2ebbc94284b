//! Actions of moderators and the API, and their permissions.
//!
//! The permissions of a member are checked here, on the state to which the change is committed: a
//! member that has just lost a permission cannot use it. The permission `end` ranks above
//! `moderate`, and `moderate` ranks above all others. No member acts on a member of the same or a
//! higher rank; the API may act on all.
//!
//! Next: `room_lifecycle` changes rooms, `moderation` and `lobby` change members.

use signalbox_protocol::id::PeerId;

use super::{
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    room_input::{ManageRoom, PeerSelector, RoomAction},
    room_settings::RoomPatch,
    room_state::{Member, Permission},
};

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
        let actor = manage.actor.as_ref();
        if let Some(refusal) = actor.and_then(|actor| self.action_refusal(actor, &manage.action)) {
            return refusal;
        }
        match &manage.action {
            RoomAction::Create(_) => InputOutcome::RoomExists,
            RoomAction::Configure(patch) => self.configure_room(patch),
            RoomAction::Lock(locked) => {
                self.configure_room(&RoomPatch { locked: Some(*locked), ..RoomPatch::default() })
            }
            RoomAction::Lobby(lobby) => {
                self.configure_room(&RoomPatch { lobby: Some(*lobby), ..RoomPatch::default() })
            }
            RoomAction::End { lock_room } => self.end_room(*lock_room),
            RoomAction::Delete => self.delete_room(),
            RoomAction::Remove { selector, reason } => self.remove_selected_peers(selector, *reason),
            RoomAction::SetRole { peer, role, permissions, ice_policy } => {
                self.set_role(peer, role, permissions, *ice_policy)
            }
            RoomAction::Mute { peer, muted } => {
                self.set_muted(peer, *muted, actor.is_some_and(|(actor, _)| actor == peer))
            }
            RoomAction::Ban { user, until } => self.ban_user(user, *until),
            RoomAction::LiftSanctions(user) => self.lift_sanctions(user),
            RoomAction::Admit(peer) => self.admit_peer(peer),
            RoomAction::Reject(peer) => self.reject_peer(peer),
            RoomAction::SendMessage { to, data } => self.send_app_message(to.as_ref(), data),
        }
    }

    /// Why a member may not do this.
    fn action_refusal(&self, (actor_id, epoch): &(PeerId, u64), action: &RoomAction) -> Option<InputOutcome> {
        let members = &self.decision.next_state.members;
        // An older connection of the actor must not act any more.
        let Some(actor) = members.get(actor_id).filter(|actor| actor.epoch == *epoch) else {
            return Some(InputOutcome::PeerGone);
        };
        let may = |permission| !actor.waiting && actor.has_permission(permission);
        let outranks = |peer: &PeerId| {
            members.get(peer).is_none_or(|target| moderation_rank(actor) > moderation_rank(target))
        };
        let allowed = match action {
            RoomAction::Lock(_) => may(Permission::Moderate),
            // Without a lobby, all waiting peers are admitted.
            RoomAction::Lobby(_) => may(Permission::Moderate) && may(Permission::Admit),
            RoomAction::End { .. } => may(Permission::End),
            // A member may mute itself, but not lift a mute that another one has set.
            RoomAction::Mute { peer, muted } => {
                may(Permission::Moderate) && (actor_id == peer && *muted || outranks(peer))
            }
            RoomAction::Remove { selector: PeerSelector::Peer(peer), .. }
                if members.get(peer).is_some_and(|m| m.waiting) =>
            {
                may(Permission::Admit) || may(Permission::Moderate)
            }
            RoomAction::Remove { selector: PeerSelector::Peer(peer), .. } => {
                may(Permission::Moderate) && outranks(peer)
            }
            RoomAction::Admit(_) | RoomAction::Reject(_) => may(Permission::Admit),
            RoomAction::Create(_)
            | RoomAction::Configure(_)
            | RoomAction::Delete
            | RoomAction::Remove { .. }
            | RoomAction::Ban { .. }
            | RoomAction::LiftSanctions(_)
            | RoomAction::SetRole { .. }
            | RoomAction::SendMessage { .. } => false,
        };
        (!allowed).then_some(InputOutcome::NotPermitted)
    }
}
