//! A newcomer: whether the room takes it in, and whether it waits first.

use super::{
    decide::Batch,
    outcome::{EventKind, Outcome},
    state::{Member, Permission},
};
use signalbox_shared::id::PeerId;

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
        let waiting = settings.lobby && !member.passes_lobby();
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
        // Who moderates may prepare the room.
        if settings.starts_at.is_some_and(|at| at > self.now) && !member.may(Permission::Moderate) {
            return Some(Outcome::NotStarted);
        }
        settings.locked.then_some(Outcome::RoomLocked)
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
