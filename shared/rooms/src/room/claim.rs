//! A peer that is, or was, there: a connection takes it over, or a new peer takes its place.
//!
//! Fencing begins here: each connection that takes a peer has a higher epoch than the one before, and the older one is refused.

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::{InputOutcome, RoomEventKind},
    decision_batch::DecisionBatch,
    room_state::{Member, ReplicationId},
};

/// A connection's claim to a peer.
#[derive(Debug, Clone)]
pub struct PeerClaim {
    /// Which peer.
    pub peer: PeerId,
    /// Why it should be believed.
    pub proof: ClaimProof,
    /// Where the peer was last known to be a member.
    pub replication_id: ReplicationId,
    /// The claimant's clock, seconds since 1970: a token that has ended by it gives nothing back. None for a connection that was there
    /// all the time, which watches over its token itself.
    pub now_s: Option<u64>,
    /// Its record in that case, attached to the node of the connection, with a mailbox it never had.
    pub member: Member,
}

/// Why a claim should be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimProof {
    /// The client showed this handle; a newer one makes it void.
    Handle {
        /// Which handle of the peer.
        generation: u64,
        /// The epoch it was made for.
        epoch: u64,
    },
    /// The client's socket has been there all the time, in this epoch; a newer one makes it void.
    Connection {
        /// The epoch.
        epoch: u64,
    },
}

impl ClaimProof {
    /// The newest epoch that the claimant knows of.
    pub fn known_epoch(self) -> u64 {
        match self {
            Self::Handle { epoch, .. } | Self::Connection { epoch } => epoch,
        }
    }
}

impl DecisionBatch<'_> {
    pub(super) fn attach_peer(&mut self, claim: &PeerClaim) -> InputOutcome {
        match self.check_claim(claim) {
            Ok(Some(epoch)) => self.attach_connection(claim, epoch + 1),
            Ok(None) => self.restore_member(claim),
            Err(outcome) => outcome,
        }
    }

    /// The epoch of the peer that is claimed; none where the store has forgotten it.
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
        // One whose window is over is still there until a tick removes it: it came in time.
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
        let Some(member) = self.decision.next_state.members.get_mut(&claim.peer) else {
            return InputOutcome::PeerGone;
        };
        let was_lost = member.owner().is_none() && !member.waiting;
        member.attachment = claim.member.attachment.clone();
        member.epoch = epoch;
        if let ClaimProof::Handle { generation, .. } = claim.proof {
            member.generation = generation;
        }
        self.decision.written_peers.insert(claim.peer.clone());
        if was_lost {
            self.notify_others(&claim.peer, RoomEventKind::Attached);
        }
        self.update_token_from_claim(claim);
        InputOutcome::Attached(epoch)
    }

    /// Back into a room that has forgotten the peer; its place was its own, so no limit is asked.
    fn restore_member(&mut self, claim: &PeerClaim) -> InputOutcome {
        let epoch = claim.proof.known_epoch() + 1;
        match self.rebind_grant(&claim.member) {
            Ok(member) => self.insert_member(&claim.peer, Member { epoch, ..member }),
            Err(outcome) => return outcome,
        }
        InputOutcome::Attached(epoch)
    }

    pub(super) fn replace_peer(&mut self, old: &PeerClaim, peer: &PeerId, mailbox: u64) -> InputOutcome {
        if self.decision.next_state.members.contains_key(peer) {
            return InputOutcome::Done;
        }
        let record = match self.check_claim(old) {
            Ok(Some(_)) => {
                self.decision.next_state.members.get(&old.peer).map(|known| old.newest_record(known))
            }
            Ok(None) => match self.rebind_grant(&old.member) {
                Ok(member) => Some(member),
                Err(outcome) => return outcome,
            },
            Err(outcome) => return outcome,
        };
        let Some(record) = record else { return InputOutcome::PeerGone };
        if self.decision.next_state.members.contains_key(&old.peer) {
            self.remove_peer(&old.peer, LeaveReason::Replaced);
        }
        let presence = old.member.attachment.clone();
        self.insert_member(
            peer,
            Member { attachment: presence, epoch: 1, generation: 1, mailbox_version: mailbox, ..record },
        );
        InputOutcome::Done
    }
}
