//! The lobby: who waits has a place, and neither hears nor says anything; those hear of it who may let it in.

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::{InputOutcome, RoomEvent, RoomEventKind},
    decision_batch::DecisionBatch,
    room_state::Permission,
};

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

    pub(super) fn deny_peer(&mut self, peer: &PeerId) -> InputOutcome {
        match self.decision.next_state.members.get(peer) {
            Some(member) if member.waiting => self.remove_peer(peer, LeaveReason::Denied),
            _ => InputOutcome::NoSuchPeer,
        }
    }

    /// Tells those who may let somebody in.
    pub(super) fn notify_admitters(&mut self, about: &PeerId, kind: RoomEventKind) {
        let members = &self.decision.next_state.members;
        let may = |peer: &&PeerId| {
            members.get(*peer).is_some_and(|member| member.has_permission(Permission::Admit))
        };
        let targets = self.event_targets.iter().filter(|peer| *peer != about).filter(may).cloned().collect();
        self.decision.events.push(RoomEvent { kind, about_peer: about.clone(), targets });
    }

    /// Tells one who may let somebody in from now on of those who wait.
    pub(super) fn notify_of_knocks(&mut self, reader: &PeerId) {
        let waiting = self.decision.next_state.members.iter().filter(|(_, member)| member.waiting);
        let waiting: Vec<_> = waiting.map(|(peer, member)| (peer.clone(), member.clone())).collect();
        for (peer, member) in waiting {
            self.notify_peer(&peer, reader, RoomEventKind::Knocked(Box::new(member)));
        }
    }
}
