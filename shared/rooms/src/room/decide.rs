//! The decision: `(state, now, inputs)` → next state and events.
//!
//! Inputs that waited together are decided together and committed at once (a storm of joins is one commit). A peer that
//! joins in a batch learns the room as it is after the whole batch, so events of the batch go only to peers that were there
//! before it. Every input is idempotent: deciding it again on a state that already holds it changes nothing.
//!
//! Owns: a batch from its begin to its end. Next: each kind of input has a file of its own, see `Batch::input`.

use std::{collections::BTreeSet, sync::Arc};

use signalbox_protocol::id::PeerId;

use super::{
    input::Input,
    outcome::{Decision, Outcome},
    rules::Rules,
    state::{Member, RoomState},
};

/// Decides a batch of inputs; `now` is the store's time. Each input makes at most one event per affected peer, to at most `room_peers` targets.
pub fn decide(state: &RoomState, now: u64, inputs: &[Input], rules: &Rules) -> Decision {
    let mut batch = Batch {
        before: state.members.iter().filter(|(_, m)| !m.waiting).map(|(peer, _)| peer.clone()).collect(),
        was_empty: state.members.is_empty(),
        decision: Decision {
            next: state.clone(),
            put: BTreeSet::new(),
            removed: BTreeSet::new(),
            left: Vec::new(),
            forgotten: Vec::new(),
            configured: false,
            said: false,
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

/// A batch while it is decided.
pub(super) struct Batch<'a> {
    /// Who hears of it: who was there before and did not wait.
    pub(super) before: BTreeSet<PeerId>,
    was_empty: bool,
    pub(super) decision: Decision,
    pub(super) now: u64,
    pub(super) rules: &'a Rules,
}

impl Batch<'_> {
    fn input(&mut self, input: &Input) -> Outcome {
        match input {
            Input::Join { peer, member } => self.join(peer, member),
            Input::Update { peer, epoch, name, metadata } => {
                self.update(peer, *epoch, name.as_ref(), metadata.as_ref())
            }
            Input::Refresh { peer, epoch, record } => self.refresh(peer, *epoch, record),
            Input::Detach { peer, epoch } => self.detach(peer, *epoch),
            Input::Leave { peer, epoch, reason } => match self.owned(peer, *epoch) {
                Some(_) => self.remove(peer, *reason),
                None => Outcome::Gone,
            },
            Input::Attach(claim) => self.attach(claim),
            Input::Replace { old, peer, mailbox } => self.replace(old, peer, *mailbox),
            Input::Bury { node } => self.detach_all(|member, _| member.owner() == Some(node)),
            Input::Sweep { node, live } => {
                self.detach_all(|member, peer| member.owner() == Some(node) && !live.contains(peer))
            }
            Input::Tick => self.tick(),
            Input::Manage(manage) => self.manage(manage),
        }
    }

    pub(super) fn owned(&mut self, peer: &PeerId, epoch: u64) -> Option<&mut Member> {
        self.decision.next.members.get_mut(peer).filter(|member| member.epoch == epoch)
    }

    /// Drops targets that the batch itself removed: their mailboxes go with them.
    fn finish(mut self) -> Decision {
        let (now, configured) = (self.now, self.decision.configured);
        let next = &mut self.decision.next;
        if self.was_empty || next.members.is_empty() {
            // Another life begins, or one is over. The store sets the moments by its own clock; these are close to them.
            next.began_at = if next.members.is_empty() { 0 } else { now };
        }
        if next.began_at == 0 {
            next.ends_at = 0;
        } else if self.was_empty || configured {
            next.ends_at = next.began_at + next.settings.life_ms(self.rules.room_life_ms);
        }
        if next.members.is_empty() && !next.settings.is_kept(now) {
            // Nothing of it is left but tombstones.
            next.settings = Arc::default();
        }
        let over = next.left.iter().filter(|(_, tombstone)| tombstone.until <= now);
        self.decision.forgotten = over.map(|(peer, _)| peer.clone()).collect();
        for peer in &self.decision.forgotten {
            next.left.remove(peer);
        }
        for event in &mut self.decision.events {
            event.targets.retain(|peer| next.members.contains_key(peer));
        }
        if !self.decision.is_empty() {
            self.decision.next.version += 1;
        }
        self.decision
    }
}
