//! Lost connections, leaves and deadlines.

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::RoomEventKind,
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    room_state::{Member, PeerAttachment},
};

impl DecisionBatch<'_> {
    pub(super) fn leave_room(&mut self, peer: &PeerId, epoch: u64, reason: LeaveReason) -> InputOutcome {
        if self.owned_member(peer, epoch).is_none() {
            return InputOutcome::PeerGone;
        }
        self.remove_peer(peer, reason);
        InputOutcome::Done
    }

    pub(super) fn detach_peer(&mut self, peer: &PeerId, epoch: u64, is_going: bool) -> InputOutcome {
        let window_ms = if is_going { self.policy.going_window_ms } else { self.policy.resume_window_ms };
        let leaves_at = self.now + window_ms;
        let Some(member) = self.owned_member(peer, epoch) else { return InputOutcome::PeerGone };
        if member.owner().is_some() {
            member.attachment = PeerAttachment::Detached(leaves_at);
            let waiting = member.waiting;
            self.decision.written_peers.insert(peer.clone());
            if !waiting {
                self.notify_others(peer, RoomEventKind::Detached);
            }
        }
        InputOutcome::Done
    }

    pub(super) fn detach_matching(&mut self, matches: impl Fn(&Member, &PeerId) -> bool) -> InputOutcome {
        let members = self.decision.next_state.members.iter();
        let matching = members.filter(|(peer, member)| matches(member, peer));
        let matching: Vec<_> = matching.map(|(peer, member)| (peer.clone(), member.epoch)).collect();
        for (peer, epoch) in &matching {
            self.detach_peer(peer, *epoch, false);
        }
        InputOutcome::Done
    }

    pub(super) fn check_deadlines(&mut self) -> InputOutcome {
        let (now, state) = (self.now, &self.decision.next_state);
        let is_over = state.ends_at > 0 && state.ends_at <= now;
        // A room with a limit of its own has ended. At the limit of all rooms the peers leave, and
        // they may join again.
        let own_limit =
            state.settings.max_life_ms(self.policy.max_room_life_ms) < self.policy.max_room_life_ms;
        let window_is_over =
            |member: &Member| matches!(member.attachment, PeerAttachment::Detached(until) if until <= now);
        let due = state.members.iter().filter(|(_, member)| is_over || window_is_over(member));
        let due: Vec<PeerId> = due.map(|(peer, _)| peer.clone()).collect();
        for peer in &due {
            match (is_over, own_limit) {
                (true, true) => self.remove_peer(peer, LeaveReason::Ended),
                (true, false) => self.remove_peer_as(peer, LeaveReason::Ended, LeaveReason::Timeout),
                (false, _) => self.remove_peer(peer, LeaveReason::Timeout),
            }
        }
        let next = &self.decision.next_state;
        if next.members.is_empty() && next.settings.kept_until > 0 && !next.settings.is_kept(now) {
            // The retention of the empty room has ended.
            self.decision.settings_changed = true;
        }
        InputOutcome::Done
    }
}
