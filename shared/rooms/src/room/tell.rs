//! Who hears of what: only those who were in the room before the batch, since a newcomer learns the rest from its snapshot.

use signalbox_protocol::id::PeerId;

use super::{
    decide::Batch,
    outcome::{Event, EventKind},
};

impl Batch<'_> {
    pub(super) fn tell(&mut self, about: &PeerId, kind: EventKind) {
        let targets = self.before.iter().filter(|peer| *peer != about).cloned().collect();
        self.decision.events.push(Event { kind, about: about.clone(), targets });
    }

    /// Tells one member. One that is new in this batch learns it from its snapshot.
    pub(super) fn tell_only(&mut self, about: &PeerId, target: &PeerId, kind: EventKind) {
        let targets = self.before.get(target).cloned().into_iter().collect();
        self.decision.events.push(Event { kind, about: about.clone(), targets });
    }
}
