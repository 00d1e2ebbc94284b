//! A claim to a peer: a connection resumes the peer, or a new peer joins in its place.
//!
//! Fencing begins here: each connection that attaches a peer has a higher epoch than the one
//! before, and the older connection is refused.

use std::sync::Arc;

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::RoomEventKind,
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    room_input::{ClaimProof, PeerClaim},
    room_state::Member,
};

impl DecisionBatch<'_> {
    pub(super) fn attach_peer(&mut self, claim: &PeerClaim) -> InputOutcome {
        match self.check_claim(claim) {
            Ok(Some(epoch)) => self.attach_connection(claim, epoch + 1),
            Ok(None) => self.restore_member(claim),
            Err(outcome) => outcome,
        }
    }

    /// The newest epoch of the claimed peer. None: the store has forgotten the peer.
    fn check_claim(&self, claim: &PeerClaim) -> Result<Option<u64>, InputOutcome> {
        let (state, peer) = (&self.decision.next_state, &claim.peer);
        let Some(member) = state.members.get(peer) else {
            return match state.tombstones.get(peer) {
                Some(tombstone) if tombstone.reason == LeaveReason::Expired => {
                    Err(InputOutcome::TokenExpired)
                }
                None if claim.replication_id != state.replication_id => {
                    claim.has_valid_token(None).then_some(None).ok_or(InputOutcome::TokenExpired)
                }
                _ => Err(InputOutcome::PeerGone),
            };
        };
        // A peer belongs to one user, whatever tokens of that user it has.
        if claim.member.user != member.user {
            return Err(InputOutcome::PeerGone);
        }
        // After the resume window the peer is a member until its deadline is checked: the claim is
        // in time.
        match claim.proof {
            ClaimProof::Handle { generation, .. } if generation < member.generation => {
                Err(InputOutcome::Fenced)
            }
            ClaimProof::Connection { epoch } if epoch < member.epoch => Err(InputOutcome::Fenced),
            ClaimProof::Connection { epoch }
                if epoch == member.epoch
                    && member.owner().is_some_and(|node| Some(node) != claim.member.owner()) =>
            {
                Err(InputOutcome::Fenced)
            }
            _ if !claim.has_valid_token(Some(member)) => Err(InputOutcome::TokenExpired),
            // A restored room may know an older epoch than the claimant.
            proof => Ok(Some(member.epoch.max(proof.known_epoch()))),
        }
    }

    fn attach_connection(&mut self, claim: &PeerClaim, epoch: u64) -> InputOutcome {
        let Some(member) = self.decision.next_state.members.get_mut(&claim.peer).map(Arc::make_mut) else {
            return InputOutcome::PeerGone;
        };
        let was_detached = member.owner().is_none() && !member.waiting;
        member.attachment = claim.member.attachment.clone();
        member.epoch = epoch;
        if let ClaimProof::Handle { generation, .. } = claim.proof {
            member.generation = generation;
        }
        self.decision.written_peers.insert(claim.peer.clone());
        if was_detached {
            self.notify_others(&claim.peer, RoomEventKind::Attached);
        }
        self.update_token_from_claim(claim);
        InputOutcome::Attached(epoch)
    }

    /// Makes a peer that the store has forgotten a member again. No limit is checked for a
    /// connection that never ended, since its peer was a member. A handle proves no more than the
    /// token in it, so the room checks the peer as at a join.
    fn restore_member(&mut self, claim: &PeerClaim) -> InputOutcome {
        let epoch = claim.proof.known_epoch().saturating_add(1);
        let member = Member { epoch, ..self.forgotten_record(&claim.member) };
        let restored = match claim.proof {
            ClaimProof::Handle { .. } => self.admit_member(&claim.peer, member),
            ClaimProof::Connection { .. } => self
                .reclaim_grant(&member)
                .map(|member| self.insert_member(&claim.peer, Member { epoch, ..member })),
        };
        restored.map_or_else(|refusal| refusal, |()| InputOutcome::Attached(epoch))
    }

    pub(super) fn replace_peer(
        &mut self,
        old: &PeerClaim,
        new_peer: &PeerId,
        mailbox_version: u64,
    ) -> InputOutcome {
        if self.decision.next_state.members.contains_key(new_peer) {
            return InputOutcome::Done;
        }
        if let Err(refusal) = self.check_claim(old) {
            return refusal;
        }
        let attachment = old.member.attachment.clone();
        let new_member =
            |record: Member| Member { attachment, epoch: 1, generation: 1, mailbox_version, ..record };
        match self.decision.next_state.members.get(&old.peer).map(|known| old.newest_record(known)) {
            Some(record) => {
                self.remove_peer(&old.peer, LeaveReason::Replaced);
                self.insert_member(new_peer, new_member(record));
                InputOutcome::Done
            }
            // The store has forgotten the old peer: see `restore_member`.
            None => {
                let member = new_member(self.forgotten_record(&old.member));
                self.admit_member(new_peer, member).map_or_else(|refusal| refusal, |()| InputOutcome::Done)
            }
        }
    }
}
