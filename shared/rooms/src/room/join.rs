//! A newcomer: whether the room takes it in, and whether it waits first.

use std::sync::Arc;

use signalbox_protocol::id::{PeerId, Role};

use super::{
    decide::Batch,
    outcome::{EventKind, Outcome},
    state::{Member, Permission},
};

impl Batch<'_> {
    pub(super) fn join(&mut self, peer: &PeerId, member: &Member) -> Outcome {
        if self.decision.next.members.contains_key(peer) {
            return Outcome::Done;
        }
        if let Some(refused) = self.closed_to(member) {
            return refused;
        }
        let member = match self.bind(member) {
            Ok(Some(successor)) => {
                // Its place was its own: no limit is asked.
                self.insert(peer, successor);
                return Outcome::Done;
            }
            Ok(None) => member,
            Err(outcome) => return outcome,
        };
        let settings = &self.decision.next.settings;
        let most =
            settings.max_peers.map_or(self.rules.room_peers, |most| self.rules.room_peers.min(most as usize));
        if self.decision.next.members.len() >= most {
            return Outcome::RoomFull;
        }
        if self.decision.next.peers_of(&member.user) >= self.rules.user_peers {
            return Outcome::UserLimit;
        }
        let waiting = settings.lobby && !member.passes_lobby(&self.rules.roles);
        self.insert(peer, Member { waiting, ..member.clone() });
        Outcome::Done
    }

    /// Why the room takes this newcomer in under no circumstances; none if it may.
    fn closed_to(&self, member: &Member) -> Option<Outcome> {
        let (state, settings) = (&self.decision.next, &self.decision.next.settings);
        if !self.rules.implicit && !state.is_there(self.now) {
            return Some(Outcome::NotAllowed);
        }
        if !settings.enabled {
            return Some(Outcome::RoomDisabled);
        }
        if !self.takes(&member.role, &member.permissions) {
            return Some(Outcome::RoleNotTaken);
        }
        // Who moderates may prepare the room.
        if settings.starts_at.is_some_and(|at| at > self.now) && !member.may(Permission::Moderate) {
            return Some(Outcome::NotStarted);
        }
        settings.locked.then_some(Outcome::RoomLocked)
    }

    /// Whether somebody with this role, and what it may do, may be in the room at all.
    pub(super) fn takes(&self, role: &Role, permissions: &[Arc<str>]) -> bool {
        let settings = &self.decision.next.settings;
        let is_named = settings.roles.as_ref().is_none_or(|roles| roles.contains(role));
        is_named && !(settings.demands_e2ee() && self.rules.roles.reads(role, permissions).is_some())
    }

    pub(super) fn insert(&mut self, peer: &PeerId, member: Member) {
        self.decision.next.members.insert(peer.clone(), member.clone());
        self.decision.put.insert(peer.clone());
        self.decision.removed.remove(peer);
        if member.waiting {
            self.tell_admitters(peer, EventKind::Knocked(Box::new(member)));
        } else {
            self.tell(peer, EventKind::Joined(Box::new(member)));
        }
    }
}
