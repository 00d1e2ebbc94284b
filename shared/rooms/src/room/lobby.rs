//! The lobby: who waits has a place, and neither hears nor says anything; those hear of it who may let it in.

use signalbox_protocol::{LeftReason, id::PeerId};

use super::{
    decide::Batch,
    outcome::{Event, EventKind, Outcome},
    state::Permission,
};

impl Batch<'_> {
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

    pub(super) fn deny(&mut self, peer: &PeerId) -> Outcome {
        match self.decision.next.members.get(peer) {
            Some(member) if member.waiting => self.remove(peer, LeftReason::Denied),
            _ => Outcome::NoSuchPeer,
        }
    }

    /// Tells those who may let somebody in.
    pub(super) fn tell_admitters(&mut self, about: &PeerId, kind: EventKind) {
        let members = &self.decision.next.members;
        let may = |peer: &&PeerId| members.get(*peer).is_some_and(|member| member.may(Permission::Admit));
        let targets = self.before.iter().filter(|peer| *peer != about).filter(may).cloned().collect();
        self.decision.events.push(Event { kind, about: about.clone(), targets });
    }

    /// Tells one who may let somebody in from now on of those who wait.
    pub(super) fn tell_of_knocks(&mut self, reader: &PeerId) {
        let waiting = self.decision.next.members.iter().filter(|(_, member)| member.waiting);
        let waiting: Vec<_> = waiting.map(|(peer, member)| (peer.clone(), member.clone())).collect();
        for (peer, member) in waiting {
            self.tell_only(&peer, reader, EventKind::Knocked(Box::new(member)));
        }
    }
}
