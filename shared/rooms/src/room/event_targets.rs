//! Who hears of what: only those who were in the room before the batch, since a newcomer learns the rest from its snapshot.

use signalbox_protocol::id::PeerId;

use super::{
    decision::{RoomEvent, RoomEventKind},
    decision_batch::DecisionBatch,
};

impl DecisionBatch<'_> {
    pub(super) fn notify_others(&mut self, about: &PeerId, kind: RoomEventKind) {
        let targets = self.event_targets.iter().filter(|peer| *peer != about).cloned().collect();
        self.decision.events.push(RoomEvent { kind, about_peer: about.clone(), targets });
    }

    /// Tells one member. One that is new in this batch learns it from its snapshot.
    pub(super) fn notify_peer(&mut self, about: &PeerId, target: &PeerId, kind: RoomEventKind) {
        let targets = self.event_targets.get(target).cloned().into_iter().collect();
        self.decision.events.push(RoomEvent { kind, about_peer: about.clone(), targets });
    }
}
