//! A newcomer: whether the room takes it in, and whether it waits first.

use std::sync::Arc;

use signalbox_protocol::id::{PeerId, Role};

use super::{
    decision::{InputOutcome, RoomEventKind},
    decision_batch::DecisionBatch,
    room_state::{Member, Permission},
};

impl DecisionBatch<'_> {
    pub(super) fn join_room(&mut self, peer: &PeerId, member: &Member) -> InputOutcome {
        if self.decision.next_state.members.contains_key(peer) {
            return InputOutcome::Done;
        }
        if let Some(refused) = self.join_refusal(member) {
            return refused;
        }
        let member = match self.bind_grant(member) {
            Ok(Some(successor)) => {
                // Its place was its own: no limit is asked.
                self.insert_member(peer, successor);
                return InputOutcome::Done;
            }
            Ok(None) => member,
            Err(outcome) => return outcome,
        };
        let settings = &self.decision.next_state.settings;
        let most = settings
            .max_peers
            .map_or(self.policy.max_room_peers, |most| self.policy.max_room_peers.min(most as usize));
        if self.decision.next_state.members.len() >= most {
            return InputOutcome::RoomFull;
        }
        if self.decision.next_state.count_user_peers(&member.user) >= self.policy.max_user_peers {
            return InputOutcome::UserLimit;
        }
        let waiting = settings.lobby && !member.skips_lobby(&self.policy.role_policy);
        self.insert_member(peer, Member { waiting, ..member.clone() });
        InputOutcome::Done
    }

    /// Why the room takes this newcomer in under no circumstances; none if it may.
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
        // Who moderates may prepare the room.
        if settings.starts_at.is_some_and(|at| at > self.now) && !member.has_permission(Permission::Moderate)
        {
            return Some(InputOutcome::RoomNotStarted);
        }
        settings.locked.then_some(InputOutcome::RoomLocked)
    }

    /// Whether somebody with this role, and what it may do, may be in the room at all.
    pub(super) fn accepts_role(&self, role: &Role, permissions: &[Arc<str>]) -> bool {
        let settings = &self.decision.next_state.settings;
        let is_named = settings.roles.as_ref().is_none_or(|roles| roles.contains(role));
        is_named
            && !(settings.requires_e2ee()
                && self.policy.role_policy.inspection_reason(role, permissions).is_some())
    }

    pub(super) fn insert_member(&mut self, peer: &PeerId, member: Member) {
        self.decision.next_state.members.insert(peer.clone(), member.clone());
        self.decision.written_peers.insert(peer.clone());
        self.decision.removed_peers.remove(peer);
        if member.waiting {
            self.notify_admitters(peer, RoomEventKind::Knocked(Box::new(member)));
        } else {
            self.notify_others(peer, RoomEventKind::Joined(Box::new(member)));
        }
    }
}
