//! What is done to a room: it is made, its settings change, it ends.

use std::sync::Arc;

use signalbox_protocol::{LeftReason, id::PeerId};

use super::{
    decide::Batch,
    outcome::{EventKind, Outcome},
    settings::{LONGEST_KEPT_MS, Patch, RoomSettings},
    state::Member,
};

impl Batch<'_> {
    pub(super) fn create(&mut self, settings: &Arc<RoomSettings>) -> Outcome {
        let known = &self.decision.next.settings;
        if known.making.is_some() && known.making == settings.making {
            return Outcome::Done;
        }
        if self.decision.next.is_there(self.now) {
            return Outcome::RoomExists;
        }
        self.set(RoomSettings::clone(settings));
        Outcome::Done
    }

    pub(super) fn configure(&mut self, patch: &Patch) -> Outcome {
        let next = patch.apply(&self.decision.next.settings);
        if next.to_json() == self.decision.next.settings.to_json() {
            return Outcome::Done;
        }
        let reads = |member: &Member| self.rules.roles.reads(&member.role, &member.permissions).is_some();
        if next.demands_e2ee() && self.decision.next.members.values().any(reads) {
            return Outcome::MustNotRead;
        }
        let lobby_closes = self.decision.next.settings.lobby && !next.lobby;
        self.set(next);
        if lobby_closes {
            let members = self.decision.next.members.iter();
            let waiting: Vec<PeerId> =
                members.filter(|(_, m)| m.waiting).map(|(peer, _)| peer.clone()).collect();
            waiting.iter().for_each(|peer| _ = self.admit(peer));
        }
        Outcome::Done
    }

    /// Writes the settings and tells the members what they may know of them.
    pub(super) fn set(&mut self, settings: RoomSettings) {
        self.decision.next.settings = Arc::new(settings);
        self.decision.configured = true;
        let kind = EventKind::RoomUpdated(self.decision.next.settings.clone());
        self.tell(&PeerId::nobody(), kind);
    }

    pub(super) fn end(&mut self, lock: bool) -> Outcome {
        if lock {
            // The lock must outlast those who are sent out, or the next one would open the room again.
            let settings = &self.decision.next.settings;
            let kept_until = settings.kept_until.max(self.now + self.rules.kept_ms.min(LONGEST_KEPT_MS));
            if !settings.locked || !settings.is_kept(self.now) {
                self.set(RoomSettings { locked: true, kept_until, ..RoomSettings::clone(settings) });
            }
        }
        self.remove_everybody(LeftReason::Ended)
    }

    pub(super) fn delete(&mut self) -> Outcome {
        let outcome = self.remove_everybody(LeftReason::Ended);
        // What is not kept and has no members is over.
        self.decision.next.settings = Arc::default();
        self.decision.configured = true;
        outcome
    }
}
