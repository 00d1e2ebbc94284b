//! Losing a socket, and leaving for good: by itself, at a deadline, or because somebody says so.

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::{InputOutcome, RoomEventKind},
    decision_batch::DecisionBatch,
    room_state::{Member, PeerAttachment, Tombstone},
};

impl DecisionBatch<'_> {
    pub(super) fn detach_peer(&mut self, peer: &PeerId, epoch: u64) -> InputOutcome {
        let until = self.now + self.policy.resume_window_ms;
        let Some(member) = self.owned_member(peer, epoch) else { return InputOutcome::PeerGone };
        if member.owner().is_some() {
            member.attachment = PeerAttachment::Detached(until);
            let waiting = member.waiting;
            self.decision.written_peers.insert(peer.clone());
            if !waiting {
                self.notify_others(peer, RoomEventKind::Detached);
            }
        }
        InputOutcome::Done
    }

    pub(super) fn detach_matching(&mut self, whose: impl Fn(&Member, &PeerId) -> bool) -> InputOutcome {
        let members = self.decision.next_state.members.iter();
        let lost: Vec<_> =
            members.filter(|(peer, m)| whose(m, peer)).map(|(peer, m)| (peer.clone(), m.epoch)).collect();
        for (peer, epoch) in &lost {
            self.detach_peer(peer, *epoch);
        }
        InputOutcome::Done
    }

    pub(super) fn check_deadlines(&mut self) -> InputOutcome {
        let (now, state) = (self.now, &self.decision.next_state);
        // Where the room's own limit came first it has ended; at the end of the longest life of any room another one may begin.
        let own = state.settings.max_life_ms(self.policy.max_room_life_ms) < self.policy.max_room_life_ms;
        let ended = state.ends_at > 0 && state.ends_at <= now;
        let over = |m: &Member| matches!(m.attachment, PeerAttachment::Detached(until) if until <= now);
        let members = state.members.iter();
        let due: Vec<PeerId> =
            members.filter(|(_, m)| ended || over(m)).map(|(peer, _)| peer.clone()).collect();
        for peer in &due {
            match (ended, own) {
                (true, true) => self.remove_peer(peer, LeaveReason::Ended),
                (true, false) => self.remove_peer_as(peer, LeaveReason::Ended, LeaveReason::Timeout),
                (false, _) => self.remove_peer(peer, LeaveReason::Timeout),
            };
        }
        let next = &self.decision.next_state;
        if next.members.is_empty() && next.settings.kept_until > 0 && !next.settings.is_kept(now) {
            // It was kept for long enough.
            self.decision.settings_changed = true;
        }
        InputOutcome::Done
    }

    pub(super) fn remove_peer(&mut self, peer: &PeerId, reason: LeaveReason) -> InputOutcome {
        self.remove_peer_as(peer, reason, reason)
    }

    /// Removes a member; what its own connection finds may differ from what the others are told.
    fn remove_peer_as(&mut self, peer: &PeerId, told: LeaveReason, reason: LeaveReason) -> InputOutcome {
        let member = self.decision.next_state.members.remove(peer);
        let (epoch, waiting) = member.as_ref().map_or((0, false), |member| (member.epoch, member.waiting));
        self.decision.removed_members.extend(member.map(|member| (peer.clone(), member)));
        let until = self.now + self.policy.resume_window_ms;
        self.decision
            .next_state
            .tombstones
            .insert(peer.clone(), Tombstone { epoch, reason, expires_at: until });
        self.decision.written_peers.remove(peer);
        self.decision.removed_peers.insert(peer.clone());
        if waiting {
            self.notify_admitters(peer, RoomEventKind::KnockEnded(Some(told)));
        } else {
            self.notify_others(peer, RoomEventKind::Left(told));
        }
        InputOutcome::Done
    }
}
