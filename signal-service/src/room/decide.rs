//! The decision: `(state, now, inputs)` → next state and events.
//!
//! Inputs that waited together are decided together and committed at once (a storm of joins is one commit). A peer that
//! joins in a batch learns the room as it is after the whole batch, so events of the batch go only to peers that were there
//! before it. Every input is idempotent: deciding it again on a state that already holds it changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_shared::{
    id::{NodeId, PeerId},
    protocol::LeftReason,
};

use super::state::{Member, Presence, RoomState};

/// Something that happens to a room.
#[derive(Debug, Clone)]
pub enum Input {
    /// A peer wants in. Ids are made by the caller, so that deciding twice decides the same.
    Join {
        /// Its id.
        peer: PeerId,
        /// Its record, with the node that serves it.
        member: Box<Member>,
    },
    /// A peer changes its public record; what is absent stays.
    Update {
        /// Which peer.
        peer: PeerId,
        /// Its new name.
        name: Option<Arc<str>>,
        /// Its new metadata.
        metadata: Option<Arc<RawValue>>,
    },
    /// A peer's socket is lost. Only the owner of that epoch may say so.
    Detach {
        /// Which peer.
        peer: PeerId,
        /// The epoch whose socket it was.
        epoch: u64,
    },
    /// A peer is gone for good. Only the owner of that epoch may say so.
    Leave {
        /// Which peer.
        peer: PeerId,
        /// The epoch that says so.
        epoch: u64,
        /// What the others are told.
        reason: LeftReason,
    },
    /// Time has passed: detached peers of `node` whose time is over have left.
    Tick {
        /// The node whose peers are looked at.
        node: NodeId,
    },
}

/// What became of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds now.
    Done,
    /// The peer is not there any more, or another epoch owns it.
    Gone,
    /// No place left in the room.
    RoomFull,
    /// No place left for this user.
    UserLimit,
}

/// What the others hear.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub about: PeerId,
    /// Who hears it.
    pub targets: Vec<PeerId>,
}

/// What happened to a peer.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// It joined with this record.
    Joined(Box<Member>),
    /// Its record is now this.
    Updated(Box<Member>),
    /// Its socket is lost.
    Detached,
    /// It has left, finally.
    Left(LeftReason),
}

/// The limits the rules need.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Most peers in a room.
    pub room_peers: usize,
    /// Most peers of one user in a room.
    pub user_peers: usize,
    /// How long a detached peer has, milliseconds.
    pub grace_ms: u64,
}

/// What to commit.
#[derive(Debug)]
pub struct Decision {
    /// The state after the commit, its version one higher if anything changed.
    pub next: RoomState,
    /// Members to write.
    pub put: BTreeSet<PeerId>,
    /// Members to remove.
    pub removed: BTreeSet<PeerId>,
    /// What others hear, in order.
    pub events: Vec<Event>,
    /// One for each input.
    pub outcomes: Vec<Outcome>,
}

impl Decision {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }
}

/// Decides a batch of inputs. Each input makes at most one event per affected peer, to at most `room_peers` targets.
pub fn decide(state: &RoomState, now: u64, inputs: &[Input], rules: &Rules) -> Decision {
    let mut batch = Batch {
        before: state.members.keys().cloned().collect(),
        decision: Decision {
            next: state.clone(),
            put: BTreeSet::new(),
            removed: BTreeSet::new(),
            events: Vec::new(),
            outcomes: Vec::with_capacity(inputs.len()),
        },
        now,
        rules,
    };
    for input in inputs {
        let outcome = batch.input(input);
        batch.decision.outcomes.push(outcome);
    }
    batch.finish()
}

struct Batch<'a> {
    before: BTreeSet<PeerId>,
    decision: Decision,
    now: u64,
    rules: &'a Rules,
}

impl Batch<'_> {
    fn input(&mut self, input: &Input) -> Outcome {
        match input {
            Input::Join { peer, member } => self.join(peer, member),
            Input::Update { peer, name, metadata } => self.update(peer, name.as_ref(), metadata.as_ref()),
            Input::Detach { peer, epoch } => self.detach(peer, *epoch),
            Input::Leave { peer, epoch, reason } => match self.owned(peer, *epoch) {
                Some(_) => self.remove(peer, *reason),
                None => Outcome::Gone,
            },
            Input::Tick { node } => self.tick(node),
        }
    }

    fn owned(&mut self, peer: &PeerId, epoch: u64) -> Option<&mut Member> {
        self.decision.next.members.get_mut(peer).filter(|member| member.epoch == epoch)
    }

    fn join(&mut self, peer: &PeerId, member: &Member) -> Outcome {
        let members = &self.decision.next.members;
        if members.contains_key(peer) {
            return Outcome::Done;
        }
        if members.len() >= self.rules.room_peers {
            return Outcome::RoomFull;
        }
        if self.decision.next.peers_of(&member.user) >= self.rules.user_peers {
            return Outcome::UserLimit;
        }
        self.decision.next.members.insert(peer.clone(), member.clone());
        self.decision.put.insert(peer.clone());
        self.tell(peer, EventKind::Joined(Box::new(member.clone())));
        Outcome::Done
    }

    fn update(
        &mut self,
        peer: &PeerId,
        name: Option<&Arc<str>>,
        metadata: Option<&Arc<RawValue>>,
    ) -> Outcome {
        let Some(member) = self.decision.next.members.get_mut(peer) else { return Outcome::Gone };
        let same_name = name.is_none_or(|name| *name == member.name);
        let same_metadata = metadata.is_none_or(|metadata| metadata.get() == member.metadata.get());
        if same_name && same_metadata {
            return Outcome::Done;
        }
        if let Some(name) = name {
            member.name = name.clone();
        }
        if let Some(metadata) = metadata {
            member.metadata = metadata.clone();
        }
        let member = Box::new(member.clone());
        self.decision.put.insert(peer.clone());
        self.tell(peer, EventKind::Updated(member));
        Outcome::Done
    }

    fn detach(&mut self, peer: &PeerId, epoch: u64) -> Outcome {
        let until = self.now + self.rules.grace_ms;
        let Some(member) = self.owned(peer, epoch) else { return Outcome::Gone };
        if member.presence == Presence::Attached {
            member.presence = Presence::Detached(until);
            self.decision.put.insert(peer.clone());
            self.tell(peer, EventKind::Detached);
        }
        Outcome::Done
    }

    fn tick(&mut self, node: &NodeId) -> Outcome {
        let now = self.now;
        let over = |member: &Member| matches!(member.presence, Presence::Detached(until) if until <= now);
        let members = self.decision.next.members.iter();
        let due: Vec<PeerId> =
            members.filter(|(_, m)| m.owner == *node && over(m)).map(|(peer, _)| peer.clone()).collect();
        for peer in &due {
            self.remove(peer, LeftReason::Timeout);
        }
        Outcome::Done
    }

    fn remove(&mut self, peer: &PeerId, reason: LeftReason) -> Outcome {
        self.decision.next.members.remove(peer);
        self.decision.put.remove(peer);
        self.decision.removed.insert(peer.clone());
        self.tell(peer, EventKind::Left(reason));
        Outcome::Done
    }

    fn tell(&mut self, about: &PeerId, kind: EventKind) {
        let targets = self.before.iter().filter(|peer| *peer != about).cloned().collect();
        self.decision.events.push(Event { kind, about: about.clone(), targets });
    }

    /// Drops targets that the batch itself removed: their mailboxes go with them.
    fn finish(mut self) -> Decision {
        let next = &mut self.decision.next;
        for event in &mut self.decision.events {
            event.targets.retain(|peer| next.members.contains_key(peer));
        }
        if !self.decision.is_empty() {
            self.decision.next.version += 1;
        }
        self.decision
    }
}
