//! The decision: `(state, now, inputs)` → next state and events.
//!
//! Inputs that waited together are decided together and committed at once (a storm of joins is one commit). A peer that
//! joins in a batch learns the room as it is after the whole batch, so events of the batch go only to peers that were there
//! before it. Every input is idempotent: deciding it again on a state that already holds it changes nothing.
//!
//! Owns: a batch from its begin to its end. Next: each kind of input has a file of its own, see `DecisionBatch::apply_input`.

use std::{collections::BTreeSet, sync::Arc};

use signalbox_protocol::id::PeerId;

use super::{
    decision::{Decision, InputOutcome},
    room_input::RoomInput,
    room_policy::RoomPolicy,
    room_state::{Member, RoomState},
};

/// Decides a batch of inputs; `now` is the store's time. Each input makes at most one event per affected peer, to at most `room_peers` targets.
pub fn decide(state: &RoomState, now: u64, inputs: &[RoomInput], rules: &RoomPolicy) -> Decision {
    let mut batch = DecisionBatch {
        event_targets: state
            .members
            .iter()
            .filter(|(_, m)| !m.waiting)
            .map(|(peer, _)| peer.clone())
            .collect(),
        was_empty: state.members.is_empty(),
        decision: Decision {
            next_state: state.clone(),
            written_peers: BTreeSet::new(),
            removed_peers: BTreeSet::new(),
            removed_members: Vec::new(),
            expired_tombstones: Vec::new(),
            settings_changed: false,
            has_app_message: false,
            events: Vec::new(),
            outcomes: Vec::with_capacity(inputs.len()),
        },
        now,
        policy: rules,
    };
    for input in inputs {
        let outcome = batch.apply_input(input);
        batch.decision.outcomes.push(outcome);
    }
    batch.finish_decision()
}

/// A batch while it is decided.
pub(super) struct DecisionBatch<'a> {
    /// Who hears of it: who was there before and did not wait.
    pub(super) event_targets: BTreeSet<PeerId>,
    was_empty: bool,
    pub(super) decision: Decision,
    pub(super) now: u64,
    pub(super) policy: &'a RoomPolicy,
}

impl DecisionBatch<'_> {
    fn apply_input(&mut self, input: &RoomInput) -> InputOutcome {
        match input {
            RoomInput::Join { peer, member } => self.join_room(peer, member),
            RoomInput::UpdateRecord { peer, epoch, name, metadata } => {
                self.update_record(peer, *epoch, name.as_ref(), metadata.as_ref())
            }
            RoomInput::RefreshToken { peer, epoch, token_record: record } => {
                self.refresh_token(peer, *epoch, record)
            }
            RoomInput::Detach { peer, epoch } => self.detach_peer(peer, *epoch),
            RoomInput::Leave { peer, epoch, reason } => match self.owned_member(peer, *epoch) {
                Some(_) => self.remove_peer(peer, *reason),
                None => InputOutcome::PeerGone,
            },
            RoomInput::Attach(claim) => self.attach_peer(claim),
            RoomInput::Replace { old_peer: old, new_peer: peer, mailbox_version: mailbox } => {
                self.replace_peer(old, peer, *mailbox)
            }
            RoomInput::NodeDied { node } => self.detach_matching(|member, _| member.owner() == Some(node)),
            RoomInput::ReconcileNode { node, connected_peers: live } => {
                self.detach_matching(|member, peer| member.owner() == Some(node) && !live.contains(peer))
            }
            RoomInput::CheckDeadlines => self.check_deadlines(),
            RoomInput::Manage(manage) => self.apply_action(manage),
        }
    }

    pub(super) fn owned_member(&mut self, peer: &PeerId, epoch: u64) -> Option<&mut Member> {
        self.decision.next_state.members.get_mut(peer).filter(|member| member.epoch == epoch)
    }

    /// Drops targets that the batch itself removed: their mailboxes go with them.
    fn finish_decision(mut self) -> Decision {
        let (now, configured) = (self.now, self.decision.settings_changed);
        let next = &mut self.decision.next_state;
        if self.was_empty || next.members.is_empty() {
            // Another life begins, or one is over. The store sets the moments by its own clock; these are close to them.
            next.started_at = if next.members.is_empty() { 0 } else { now };
        }
        if next.started_at == 0 {
            next.ends_at = 0;
        } else if self.was_empty || configured {
            next.ends_at = next.started_at + next.settings.max_life_ms(self.policy.max_room_life_ms);
        }
        if next.members.is_empty() && !next.settings.is_kept(now) {
            // Nothing of it is left but tombstones.
            next.settings = Arc::default();
        }
        let over = next.tombstones.iter().filter(|(_, tombstone)| tombstone.expires_at <= now);
        self.decision.expired_tombstones = over.map(|(peer, _)| peer.clone()).collect();
        for peer in &self.decision.expired_tombstones {
            next.tombstones.remove(peer);
        }
        for event in &mut self.decision.events {
            event.targets.retain(|peer| next.members.contains_key(peer));
        }
        if !self.decision.is_empty() {
            self.decision.next_state.version += 1;
        }
        self.decision
    }
}
