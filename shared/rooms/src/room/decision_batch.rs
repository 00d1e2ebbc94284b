//! The state of a room while a batch of inputs is decided, and the changes that all inputs share.
//!
//! Owns: the next state, the events and their targets. A peer that joins in a batch receives the
//! room as it is after the whole batch, so events go only to peers that were there before it.
//! Must not: decide whether an input is allowed; the files that `decide` calls do.

use std::{collections::BTreeSet, sync::Arc};

use signalbox_protocol::{LeaveReason, id::PeerId};

use super::{
    decision::{Decision, RoomEvent, RoomEventKind},
    outcome::InputOutcome,
    room_policy::RoomPolicy,
    room_settings::RoomSettings,
    room_state::{Member, Permission, RoomState, Tombstone},
    sanction::SanctionList,
};

/// A batch of inputs while it is decided.
pub(super) struct DecisionBatch<'a> {
    /// The sanctions that the store holds.
    stored_sanctions: Arc<SanctionList>,
    /// The peers that receive events: members before the batch that were not in the lobby.
    event_targets: BTreeSet<PeerId>,
    was_empty: bool,
    pub(super) decision: Decision,
    /// The time of the store, milliseconds since 1970.
    pub(super) now: u64,
    pub(super) policy: &'a RoomPolicy,
}

impl<'a> DecisionBatch<'a> {
    pub(super) fn new(state: &RoomState, now: u64, policy: &'a RoomPolicy) -> Self {
        let present = state.members.iter().filter(|(_, member)| !member.waiting);
        let mut next_state = state.clone();
        if !state.exists(now) {
            // They belong to a room that has ended.
            next_state.sanctions = Arc::default();
        }
        Self {
            stored_sanctions: state.sanctions.clone(),
            event_targets: present.map(|(peer, _)| peer.clone()).collect(),
            was_empty: state.members.is_empty(),
            decision: Decision {
                next_state,
                written_peers: BTreeSet::new(),
                removed_peers: BTreeSet::new(),
                removed_members: Vec::new(),
                expired_tombstones: Vec::new(),
                settings_changed: false,
                sanctions_changed: false,
                has_app_message: false,
                events: Vec::new(),
                outcomes: Vec::new(),
            },
            now,
            policy,
        }
    }

    /// The member, if the epoch owns it.
    pub(super) fn owned_member(&mut self, peer: &PeerId, epoch: u64) -> Option<&mut Member> {
        let member = self.decision.next_state.members.get_mut(peer)?;
        (member.epoch == epoch).then(|| Arc::make_mut(member))
    }

    pub(super) fn insert_member(&mut self, peer: &PeerId, member: Member) {
        self.decision.next_state.members.insert(peer.clone(), Arc::new(member.clone()));
        self.decision.written_peers.insert(peer.clone());
        self.decision.removed_peers.remove(peer);
        if member.waiting {
            self.notify_admitters(peer, RoomEventKind::Knocked(Box::new(member)));
        } else {
            self.notify_others(peer, RoomEventKind::Joined(Box::new(member)));
        }
    }

    pub(super) fn remove_peer(&mut self, peer: &PeerId, reason: LeaveReason) {
        self.remove_peer_as(peer, reason, reason);
    }

    /// Removes a member. The reason that other peers receive may differ from the reason of the
    /// tombstone, which the connection of the peer finds.
    pub(super) fn remove_peer_as(
        &mut self,
        peer: &PeerId,
        event_reason: LeaveReason,
        tombstone_reason: LeaveReason,
    ) {
        let member = self.decision.next_state.members.remove(peer);
        let (epoch, waiting) = member.as_ref().map_or((0, false), |member| (member.epoch, member.waiting));
        let token = member.as_ref().map(|member| member.token.clone());
        self.decision.removed_members.extend(member.map(|member| (peer.clone(), member)));
        let expires_at = self.now + self.policy.resume_window_ms;
        let tombstone = Tombstone { epoch, reason: tombstone_reason, token, expires_at };
        self.decision.next_state.tombstones.insert(peer.clone(), tombstone);
        self.decision.written_peers.remove(peer);
        self.decision.removed_peers.insert(peer.clone());
        if waiting {
            self.notify_admitters(peer, RoomEventKind::KnockEnded(Some(event_reason)));
        } else {
            self.notify_others(peer, RoomEventKind::Left(event_reason));
        }
    }

    /// Sends an event to all other members.
    pub(super) fn notify_others(&mut self, about: &PeerId, kind: RoomEventKind) {
        let targets = self.event_targets.iter().filter(|peer| *peer != about).cloned().collect();
        self.push_event(about, kind, targets);
    }

    /// Sends an event to one member. A member that joins in this batch needs none: the snapshot
    /// that it receives holds the change.
    pub(super) fn notify_peer(&mut self, about: &PeerId, target: &PeerId, kind: RoomEventKind) {
        let targets = self.event_targets.get(target).cloned().into_iter().collect();
        self.push_event(about, kind, targets);
    }

    /// Sends an event to the members that may admit peers from the lobby.
    pub(super) fn notify_admitters(&mut self, about: &PeerId, kind: RoomEventKind) {
        let members = &self.decision.next_state.members;
        let may_admit = |peer: &&PeerId| {
            members.get(*peer).is_some_and(|member| member.has_permission(Permission::Admit))
        };
        let others = self.event_targets.iter().filter(|peer| *peer != about);
        let targets = others.filter(may_admit).cloned().collect();
        self.push_event(about, kind, targets);
    }

    fn push_event(&mut self, about: &PeerId, kind: RoomEventKind, targets: Vec<PeerId>) {
        self.decision.events.push(RoomEvent { kind, about_peer: about.clone(), targets });
    }

    /// Completes the decision after all inputs.
    pub(super) fn finish_decision(mut self, outcomes: Vec<InputOutcome>) -> Decision {
        self.update_life();
        self.expire_tombstones();
        let next = &mut self.decision.next_state;
        for event in &mut self.decision.events {
            // The mailbox of a removed peer is removed too.
            event.targets.retain(|peer| next.members.contains_key(peer));
        }
        self.decision.outcomes = outcomes;
        if !self.decision.is_empty() {
            self.decision.next_state.version += 1;
            self.decision.sanctions_changed = self.stored_sanctions != self.decision.next_state.sanctions;
        }
        self.decision
    }

    /// Sets begin and end of the life of the room. The store sets both by its own clock; these
    /// values are close to them.
    fn update_life(&mut self) {
        let (now, settings_changed) = (self.now, self.decision.settings_changed);
        let next = &mut self.decision.next_state;
        if self.was_empty || next.members.is_empty() {
            next.started_at = if next.members.is_empty() { 0 } else { now };
        }
        if next.started_at == 0 {
            next.ends_at = 0;
        } else if self.was_empty || settings_changed {
            next.ends_at = next.started_at + next.settings.max_life_ms(self.policy.max_room_life_ms);
        }
        if next.members.is_empty() && !next.settings.is_kept(now) {
            // Only tombstones are left of the room.
            next.settings = RoomSettings::shared_default();
            next.sanctions = Arc::default();
        }
    }

    fn expire_tombstones(&mut self) {
        let tombstones = &mut self.decision.next_state.tombstones;
        let expired = tombstones.iter().filter(|(_, tombstone)| tombstone.expires_at <= self.now);
        let expired: Vec<PeerId> = expired.map(|(peer, _)| peer.clone()).collect();
        for peer in &expired {
            tombstones.remove(peer);
        }
        self.decision.expired_tombstones = expired;
    }
}
