//! Losing a socket, and leaving for good: by itself, at a deadline, or because somebody says so.

use signalbox_protocol::{LeftReason, id::PeerId};

use super::{
    decide::Batch,
    outcome::{EventKind, Outcome},
    state::{Member, Presence, Tombstone},
};

impl Batch<'_> {
    pub(super) fn detach(&mut self, peer: &PeerId, epoch: u64) -> Outcome {
        let until = self.now + self.rules.window_ms;
        let Some(member) = self.owned(peer, epoch) else { return Outcome::Gone };
        if member.owner().is_some() {
            member.presence = Presence::Detached(until);
            let waiting = member.waiting;
            self.decision.put.insert(peer.clone());
            if !waiting {
                self.tell(peer, EventKind::Detached);
            }
        }
        Outcome::Done
    }

    pub(super) fn detach_all(&mut self, whose: impl Fn(&Member, &PeerId) -> bool) -> Outcome {
        let members = self.decision.next.members.iter();
        let lost: Vec<_> =
            members.filter(|(peer, m)| whose(m, peer)).map(|(peer, m)| (peer.clone(), m.epoch)).collect();
        for (peer, epoch) in &lost {
            self.detach(peer, *epoch);
        }
        Outcome::Done
    }

    pub(super) fn tick(&mut self) -> Outcome {
        let (now, state) = (self.now, &self.decision.next);
        // Where the room's own limit came first it has ended; at the end of the longest life of any room another one may begin.
        let own = state.settings.life_ms(self.rules.room_life_ms) < self.rules.room_life_ms;
        let ended = state.ends_at > 0 && state.ends_at <= now;
        let over = |m: &Member| matches!(m.presence, Presence::Detached(until) if until <= now);
        let members = state.members.iter();
        let due: Vec<PeerId> =
            members.filter(|(_, m)| ended || over(m)).map(|(peer, _)| peer.clone()).collect();
        for peer in &due {
            match (ended, own) {
                (true, true) => self.remove(peer, LeftReason::Ended),
                (true, false) => self.remove_as(peer, LeftReason::Ended, LeftReason::Timeout),
                (false, _) => self.remove(peer, LeftReason::Timeout),
            };
        }
        let next = &self.decision.next;
        if next.members.is_empty() && next.settings.kept_until > 0 && !next.settings.is_kept(now) {
            // It was kept for long enough.
            self.decision.configured = true;
        }
        Outcome::Done
    }

    pub(super) fn remove(&mut self, peer: &PeerId, reason: LeftReason) -> Outcome {
        self.remove_as(peer, reason, reason)
    }

    /// Removes a member; what its own connection finds may differ from what the others are told.
    fn remove_as(&mut self, peer: &PeerId, told: LeftReason, reason: LeftReason) -> Outcome {
        let member = self.decision.next.members.remove(peer);
        let (epoch, waiting) = member.as_ref().map_or((0, false), |member| (member.epoch, member.waiting));
        self.decision.left.extend(member.map(|member| (peer.clone(), member)));
        let until = self.now + self.rules.window_ms;
        self.decision.next.left.insert(peer.clone(), Tombstone { epoch, reason, until });
        self.decision.put.remove(peer);
        self.decision.removed.insert(peer.clone());
        if waiting {
            self.tell_admitters(peer, EventKind::KnockEnded(Some(told)));
        } else {
            self.tell(peer, EventKind::Left(told));
        }
        Outcome::Done
    }
}
