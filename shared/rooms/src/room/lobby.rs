//! The lobby. A peer in it counts as a member, but neither sends nor receives anything.

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{decision::RoomEventKind, decision_batch::DecisionBatch, outcome::InputOutcome};

impl DecisionBatch<'_> {
    pub(super) fn admit_peer(&mut self, peer: &PeerId) -> InputOutcome {
        let Some(member) = self.decision.next_state.members.get_mut(peer) else {
            return InputOutcome::NoSuchPeer;
        };
        if !std::mem::replace(&mut member.waiting, false) {
            return InputOutcome::Done;
        }
        let member = member.clone();
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
        self.remove_peer(peer, LeaveReason::Denied);
        InputOutcome::Done
    }

    /// Sends the peers in the lobby to a member that has just received the permission to admit.
    pub(super) fn notify_of_knocks(&mut self, admitter: &PeerId) {
        let waiting = self.decision.next_state.members.iter().filter(|(_, member)| member.waiting);
        let waiting: Vec<_> = waiting.map(|(peer, member)| (peer.clone(), member.clone())).collect();
        for (peer, member) in waiting {
            self.notify_peer(&peer, admitter, RoomEventKind::Knocked(Box::new(member)));
        }
    }
}
