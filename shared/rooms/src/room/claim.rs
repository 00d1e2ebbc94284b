//! A peer that is, or was, there: a connection takes it over, or a new peer takes its place.
//!
//! Fencing begins here: each connection that takes a peer has a higher epoch than the one before, and the older one is refused.

use signalbox_protocol::{LeftReason, id::PeerId};

use super::{
    decide::Batch,
    outcome::{EventKind, Outcome},
    state::{Lineage, Member},
};

/// A connection's claim to a peer.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which peer.
    pub peer: PeerId,
    /// Why it should be believed.
    pub proof: Proof,
    /// Where the peer was last known to be a member.
    pub lineage: Lineage,
    /// The claimant's clock, seconds since 1970: a token that has ended by it gives nothing back. None for a connection that was there
    /// all the time, which watches over its token itself.
    pub now_s: Option<u64>,
    /// Its record in that case, attached to the node of the connection, with a mailbox it never had.
    pub member: Member,
}

/// Why a claim should be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The client showed this handle; a newer one makes it void.
    Handle {
        /// Which handle of the peer.
        generation: u64,
        /// The epoch it was made for.
        epoch: u64,
    },
    /// The client's socket has been there all the time, in this epoch; a newer one makes it void.
    Socket {
        /// The epoch.
        epoch: u64,
    },
}

impl Proof {
    /// The newest epoch that the claimant knows of.
    pub fn epoch(self) -> u64 {
        match self {
            Self::Handle { epoch, .. } | Self::Socket { epoch } => epoch,
        }
    }
}

impl Batch<'_> {
    pub(super) fn attach(&mut self, claim: &Claim) -> Outcome {
        match self.check(claim) {
            Ok(Some(epoch)) => self.take(claim, epoch + 1),
            Ok(None) => self.readmit(claim),
            Err(outcome) => outcome,
        }
    }

    /// The epoch of the peer that is claimed; none where the store has forgotten it.
    fn check(&self, claim: &Claim) -> Result<Option<u64>, Outcome> {
        let (state, peer) = (&self.decision.next, &claim.peer);
        let Some(member) = state.members.get(peer) else {
            return match state.left.get(peer) {
                Some(tombstone) if tombstone.reason == LeftReason::Expired => Err(Outcome::Expired),
                None if claim.lineage != state.lineage => {
                    claim.is_current(None).then_some(None).ok_or(Outcome::Expired)
                }
                _ => Err(Outcome::Gone),
            };
        };
        // One whose window is over is still there until a tick removes it: it came in time.
        match claim.proof {
            Proof::Handle { generation, .. } if generation < member.generation => Err(Outcome::Replaced),
            Proof::Socket { epoch } if epoch < member.epoch => Err(Outcome::Replaced),
            Proof::Socket { epoch }
                if epoch == member.epoch
                    && member.owner().is_some_and(|node| Some(node) != claim.member.owner()) =>
            {
                Err(Outcome::Replaced)
            }
            _ if !claim.is_current(Some(member)) => Err(Outcome::Expired),
            // A restored room may know an older epoch than the claimant.
            proof => Ok(Some(member.epoch.max(proof.epoch()))),
        }
    }

    fn take(&mut self, claim: &Claim, epoch: u64) -> Outcome {
        let Some(member) = self.decision.next.members.get_mut(&claim.peer) else { return Outcome::Gone };
        let was_lost = member.owner().is_none() && !member.waiting;
        member.presence = claim.member.presence.clone();
        member.epoch = epoch;
        if let Proof::Handle { generation, .. } = claim.proof {
            member.generation = generation;
        }
        self.decision.put.insert(claim.peer.clone());
        if was_lost {
            self.tell(&claim.peer, EventKind::Attached);
        }
        self.renew_by(claim);
        Outcome::Attached(epoch)
    }

    /// Back into a room that has forgotten the peer; its place was its own, so no limit is asked.
    fn readmit(&mut self, claim: &Claim) -> Outcome {
        let epoch = claim.proof.epoch() + 1;
        match self.bind_again(&claim.member) {
            Ok(member) => self.insert(&claim.peer, Member { epoch, ..member }),
            Err(outcome) => return outcome,
        }
        Outcome::Attached(epoch)
    }

    pub(super) fn replace(&mut self, old: &Claim, peer: &PeerId, mailbox: u64) -> Outcome {
        if self.decision.next.members.contains_key(peer) {
            return Outcome::Done;
        }
        let record = match self.check(old) {
            Ok(Some(_)) => self.decision.next.members.get(&old.peer).map(|known| old.newest(known)),
            Ok(None) => match self.bind_again(&old.member) {
                Ok(member) => Some(member),
                Err(outcome) => return outcome,
            },
            Err(outcome) => return outcome,
        };
        let Some(record) = record else { return Outcome::Gone };
        if self.decision.next.members.contains_key(&old.peer) {
            self.remove(&old.peer, LeftReason::Replaced);
        }
        let presence = old.member.presence.clone();
        self.insert(peer, Member { presence, epoch: 1, generation: 1, mailbox, ..record });
        Outcome::Done
    }
}
