//! Actions on a room: create, configure, end, delete.

use std::sync::Arc;

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::RoomEventKind,
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    room_settings::{MAX_ROOM_RETENTION_MS, RoomPatch, RoomSettings},
    room_state::Member,
};

impl DecisionBatch<'_> {
    pub(super) fn create_room(&mut self, settings: &Arc<RoomSettings>) -> InputOutcome {
        let known = &self.decision.next_state.settings;
        if known.creation_id.is_some() && known.creation_id == settings.creation_id {
            return InputOutcome::Done;
        }
        if self.decision.next_state.exists(self.now) {
            return InputOutcome::RoomExists;
        }
        self.write_settings(RoomSettings::clone(settings));
        InputOutcome::Done
    }

    pub(super) fn configure_room(&mut self, patch: &RoomPatch) -> InputOutcome {
        let next = patch.apply_to(&self.decision.next_state.settings);
        if next.to_json() == self.decision.next_state.settings.to_json() {
            return InputOutcome::Done;
        }
        let is_inspected = |member: &Arc<Member>| {
            self.policy.role_policy.inspects_payloads(&member.role, &member.permissions)
        };
        if next.requires_e2ee() && self.decision.next_state.members.values().any(is_inspected) {
            return InputOutcome::E2eeRequired;
        }
        let lobby_closes = self.decision.next_state.settings.lobby && !next.lobby;
        self.write_settings(next);
        if lobby_closes {
            let members = self.decision.next_state.members.iter();
            let waiting: Vec<PeerId> =
                members.filter(|(_, m)| m.waiting).map(|(peer, _)| peer.clone()).collect();
            waiting.iter().for_each(|peer| _ = self.admit_peer(peer));
        }
        InputOutcome::Done
    }

    /// Changes the settings and sends the public ones to the members.
    fn write_settings(&mut self, settings: RoomSettings) {
        self.decision.next_state.settings = Arc::new(settings);
        self.decision.settings_changed = true;
        let kind = RoomEventKind::RoomUpdated(self.decision.next_state.settings.clone());
        self.notify_others(&PeerId::no_peer(), kind);
    }

    pub(super) fn end_room(&mut self, lock: bool) -> InputOutcome {
        if lock {
            // The lock must outlast the members, or the next peer would open the room again.
            let settings = &self.decision.next_state.settings;
            let kept_until = settings
                .kept_until
                .max(self.now + self.policy.ended_room_retention_ms.min(MAX_ROOM_RETENTION_MS));
            if !settings.locked || !settings.is_kept(self.now) {
                self.write_settings(RoomSettings {
                    locked: true,
                    kept_until,
                    ..RoomSettings::clone(settings)
                });
            }
        }
        self.remove_all_peers(LeaveReason::Ended)
    }

    pub(super) fn delete_room(&mut self) -> InputOutcome {
        let outcome = self.remove_all_peers(LeaveReason::Ended);
        // A room that has no members and is not kept ends.
        self.decision.next_state.settings = RoomSettings::shared_default();
        self.decision.settings_changed = true;
        outcome
    }
}
