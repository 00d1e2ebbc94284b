//! The lobby. A peer in it is a member without a place of the room, and neither sends nor receives
//! anything.

use std::sync::Arc;

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::RoomEventKind, decision_batch::DecisionBatch, outcome::InputOutcome, room_state::Member,
};

impl DecisionBatch<'_> {
    pub(super) fn admit_peer(&mut self, peer: &PeerId) -> InputOutcome {
        let Some(member) = self.decision.next_state.members.get(peer) else {
            return InputOutcome::NoSuchPeer;
        };
        if !member.waiting {
            return InputOutcome::Done;
        }
        if !self.has_room_place(member) {
            return InputOutcome::RoomFull;
        }
        let member = Member { waiting: false, ..Member::clone(member) };
        self.decision.next_state.members.insert(peer.clone(), Arc::new(member.clone()));
        self.decision.written_peers.insert(peer.clone());
        self.notify_admitters(peer, RoomEventKind::KnockEnded(None));
        self.notify_others(peer, RoomEventKind::Joined(Box::new(member)));
        InputOutcome::Done
    }

    pub(super) fn reject_peer(&mut self, peer: &PeerId) -> InputOutcome {
        let is_waiting = self.decision.next_state.members.get(peer).is_some_and(|member| member.waiting);
        if !is_waiting {
            return InputOutcome::NoSuchPeer;
        }
        match self.remove_and_block(vec![(peer.clone(), LeaveReason::Denied)]) {
            InputOutcome::Removed(_) => InputOutcome::Done,
            refusal => refusal,
        }
    }

    /// Sends the peers in the lobby to a member that has just received the permission to admit.
    pub(super) fn notify_of_knocks(&mut self, admitter: &PeerId) {
        let waiting = self.decision.next_state.members.iter().filter(|(_, member)| member.waiting);
        let waiting: Vec<_> = waiting.map(|(peer, member)| (peer.clone(), member.clone())).collect();
        for (peer, member) in waiting {
            self.notify_peer(&peer, admitter, RoomEventKind::Knocked(Box::new(Member::clone(&member))));
        }
    }
}
