//! A simulation: nodes commit decisions to one shared state, while their views are old, inputs are
//! reordered and time is virtual.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// The room as one peer knows it, from its snapshot and the events that it received, in order.
#[derive(Default)]
struct PeerView {
    others: BTreeMap<PeerId, bool>,
    joins: BTreeMap<PeerId, u32>,
    leaves: BTreeMap<PeerId, u32>,
    knocks: BTreeSet<PeerId>,
    permissions: Vec<String>,
    locked: bool,
}

impl PeerView {
    fn from_snapshot(state: &RoomState, me: &PeerId) -> Self {
        let entries = state.peer_entries_for(me);
        let others: BTreeMap<_, _> =
            entries.into_iter().map(|entry| (entry.peer_id, entry.detached)).collect();
        let joins = others.keys().map(|peer| (peer.clone(), 1)).collect();
        let knocks = state.knockers_for(me).into_iter().map(|knocker| knocker.peer_id).collect();
        let permissions = permission_names(&state.members[me]);
        Self { others, joins, leaves: BTreeMap::new(), knocks, permissions, locked: state.settings.locked }
    }

    fn apply_event(&mut self, event: &RoomEvent) {
        let about = event.about_peer.clone();
        match &event.kind {
            RoomEventKind::Joined(member) => {
                // A detached peer may be admitted.
                let detached = member.owner().is_none();
                assert!(self.others.insert(about.clone(), detached).is_none(), "a peer joined twice");
                *self.joins.entry(about).or_default() += 1;
            }
            RoomEventKind::Left(_) => {
                assert!(self.others.remove(&about).is_some(), "an unknown peer left");
                *self.leaves.entry(about).or_default() += 1;
            }
            RoomEventKind::Detached => {
                assert_eq!(
                    self.others.insert(about, true),
                    Some(false),
                    "the peer is unknown or already detached"
                );
            }
            RoomEventKind::Attached => {
                assert_eq!(
                    self.others.insert(about, false),
                    Some(true),
                    "the peer is unknown or already attached"
                );
            }
            RoomEventKind::Updated(_) => {
                assert!(self.others.contains_key(&about), "an unknown peer was updated")
            }
            RoomEventKind::Knocked(_) => assert!(self.knocks.insert(about), "a peer knocked twice"),
            RoomEventKind::KnockEnded(_) => {
                assert!(self.knocks.remove(&about), "a peer that did not knock left the lobby")
            }
            RoomEventKind::PermissionsChanged(member, _) => {
                self.permissions = permission_names(member);
                if !member.has_permission(Permission::Admit) {
                    self.knocks.clear();
                }
            }
            RoomEventKind::RoomUpdated(settings) => self.locked = settings.locked,
            RoomEventKind::AppMessage { .. } => {}
        }
    }
}

fn permission_names(member: &Member) -> Vec<String> {
    member.permissions.iter().map(|name| name.to_string()).collect()
}

/// Two rooms, each with a shared state and two nodes whose views may be old. The shared state
/// accepts only decisions on its version.
struct SimulatedWorld {
    now: u64,
    shared_state: [RoomState; 2],
    node_views: [[RoomState; 2]; 2],
    views: [BTreeMap<PeerId, PeerView>; 2],
    queued_inputs: [[Vec<RoomInput>; 2]; 2],
    ever_joined: [BTreeSet<PeerId>; 2],
}

#[derive(Debug, Clone)]
enum SimulationStep {
    QueueInput { room: usize, node: usize, input: SimulatedInput, peer: u8 },
    ReverseInputs { room: usize, node: usize },
    Commit { room: usize, node: usize },
    ReloadView { room: usize, node: usize },
    AdvanceTime(u64),
}

#[derive(Debug, Clone, Copy)]
enum SimulatedInput {
    Join,
    UpdateRecord,
    Detach,
    Leave,
    CheckDeadlines,
    Resume,
    Replace,
    NodeDied,
    PromoteToHost,
    DemoteToGuest,
    Mute(bool),
    Lock(bool),
    Lobby(bool),
    Admit,
    RemovePeer,
    End(bool),
    Create,
    Delete,
}

fn action_on(kind: SimulatedInput, peer: PeerId) -> RoomAction {
    let role = |name: &str, permissions: &[&str]| RoomAction::SetRole {
        peer: peer.clone(),
        role: Role::parse(name).unwrap(),
        permissions: permissions.iter().map(|name| (*name).into()).collect(),
        ice_policy: None,
    };
    match kind {
        SimulatedInput::PromoteToHost => role("host", &["publish", "moderate", "admit", "end"]),
        SimulatedInput::DemoteToGuest => role("guest", &["publish"]),
        SimulatedInput::Mute(on) => RoomAction::Mute { peer, muted: on },
        SimulatedInput::Admit => RoomAction::Admit(peer),
        _ => RoomAction::Remove { selector: PeerSelector::Peer(peer), reason: LeaveReason::Removed },
    }
}

fn simulation_step() -> impl Strategy<Value = SimulationStep> {
    let at = || (0..2_usize, 0..2_usize);
    let kind = prop_oneof![
        4 => Just(SimulatedInput::Join),
        1 => Just(SimulatedInput::UpdateRecord),
        2 => Just(SimulatedInput::Detach),
        2 => Just(SimulatedInput::Leave),
        1 => Just(SimulatedInput::CheckDeadlines),
        3 => Just(SimulatedInput::Resume),
        1 => Just(SimulatedInput::Replace),
        1 => Just(SimulatedInput::NodeDied),
        2 => Just(SimulatedInput::PromoteToHost),
        1 => Just(SimulatedInput::DemoteToGuest),
        1 => any::<bool>().prop_map(SimulatedInput::Mute),
        1 => any::<bool>().prop_map(SimulatedInput::Lock),
        2 => any::<bool>().prop_map(SimulatedInput::Lobby),
        2 => Just(SimulatedInput::Admit),
        1 => Just(SimulatedInput::RemovePeer),
        1 => any::<bool>().prop_map(SimulatedInput::End),
        1 => Just(SimulatedInput::Create),
        1 => Just(SimulatedInput::Delete),
    ];
    prop_oneof![
        6 => (at(), kind, 0..12_u8).prop_map(|((room, node), input, peer)| SimulationStep::QueueInput { room, node, input, peer }),
        1 => at().prop_map(|(room, node)| SimulationStep::ReverseInputs { room, node }),
        4 => at().prop_map(|(room, node)| SimulationStep::Commit { room, node }),
        1 => at().prop_map(|(room, node)| SimulationStep::ReloadView { room, node }),
        1 => (0..2_000_u64).prop_map(SimulationStep::AdvanceTime),
    ]
}

impl SimulatedWorld {
    fn new() -> Self {
        let rooms = || [RoomState::new("one".into(), "L1".into()), RoomState::new("two".into(), "L1".into())];
        Self {
            now: 0,
            shared_state: rooms(),
            node_views: [rooms(), rooms()],
            views: Default::default(),
            queued_inputs: Default::default(),
            ever_joined: Default::default(),
        }
    }

    fn apply_step(&mut self, step: &SimulationStep) {
        match *step {
            SimulationStep::QueueInput { room, node, input, peer: n } => {
                // Each peer id is used once for each room and node, as random ids are.
                let n = n + 100 * node as u8;
                let peer = PeerId::from_bits(u128::from(n) + 1_000 * room as u128);
                let input = match input {
                    SimulatedInput::Join if !self.ever_joined[room].insert(peer.clone()) => return,
                    SimulatedInput::Join => {
                        RoomInput::Join { peer, member: test_member(n % 4, node as u128) }
                    }
                    SimulatedInput::UpdateRecord => {
                        let epoch = self.epoch_of(room, &peer);
                        RoomInput::UpdateRecord { peer, epoch, name: Some("n".into()), metadata: None }
                    }
                    SimulatedInput::Detach => {
                        RoomInput::Detach { epoch: self.epoch_of(room, &peer), peer, is_going: false }
                    }
                    SimulatedInput::Leave => RoomInput::Leave {
                        epoch: self.epoch_of(room, &peer),
                        peer,
                        reason: LeaveReason::Left,
                    },
                    SimulatedInput::CheckDeadlines => RoomInput::CheckDeadlines,
                    SimulatedInput::PromoteToHost
                    | SimulatedInput::DemoteToGuest
                    | SimulatedInput::Mute(_)
                    | SimulatedInput::Admit
                    | SimulatedInput::RemovePeer => ManageRoom::from_api(action_on(input, peer)),
                    SimulatedInput::Lock(on) => ManageRoom::from_api(RoomAction::Lock(on)),
                    SimulatedInput::Lobby(on) => ManageRoom::from_api(RoomAction::Configure(RoomPatch {
                        lobby: Some(on),
                        ..RoomPatch::default()
                    })),
                    SimulatedInput::End(lock) => ManageRoom::from_api(RoomAction::End { lock_room: lock }),
                    SimulatedInput::Delete => ManageRoom::from_api(RoomAction::Delete),
                    SimulatedInput::Create => {
                        let (created_at, kept_until) = (self.now + 1, self.now + 3_000);
                        let settings = RoomSettings { created_at, kept_until, ..RoomSettings::default() };
                        ManageRoom::from_api(RoomAction::Create(settings.into()))
                    }
                    SimulatedInput::NodeDied => {
                        RoomInput::NodeDied { node: NodeId::from_bits(1 - node as u128) }
                    }
                    SimulatedInput::Resume => RoomInput::Attach(Box::new(self.claim_for(room, node, peer))),
                    SimulatedInput::Replace => {
                        let new = PeerId::from_bits(1 << 32 | u128::from(n) | (room as u128) << 16);
                        if !self.ever_joined[room].insert(new.clone()) {
                            return;
                        }
                        RoomInput::Replace {
                            old_peer: Box::new(self.claim_for(room, node, peer)),
                            new_peer: new,
                            mailbox_version: 1,
                        }
                    }
                };
                self.queued_inputs[node][room].push(input);
            }
            SimulationStep::ReverseInputs { room, node } => self.queued_inputs[node][room].reverse(),
            SimulationStep::Commit { room, node } => self.commit_queued(room, node),
            SimulationStep::ReloadView { room, node } => {
                self.node_views[node][room] = self.shared_state[room].clone()
            }
            SimulationStep::AdvanceTime(ms) => self.now += ms,
        }
    }

    fn epoch_of(&self, room: usize, peer: &PeerId) -> u64 {
        self.shared_state[room].members.get(peer).map_or(1, |member| member.epoch)
    }

    fn claim_for(&self, room: usize, node: usize, peer: PeerId) -> PeerClaim {
        let known = self.shared_state[room].members.get(&peer);
        let (generation, epoch) = known.map_or((1, 1), |member| (member.generation, member.epoch));
        let member = known.map_or_else(|| *test_member(0, node as u128), |member| Member::clone(member));
        let presence = PeerAttachment::Attached(NodeId::from_bits(node as u128));
        PeerClaim {
            peer,
            proof: ClaimProof::Handle { generation, epoch },
            replication_id: "L1".into(),
            now_s: None,
            member: Member { attachment: presence, ..member },
        }
    }

    fn commit_queued(&mut self, room: usize, node: usize) {
        let inputs = std::mem::take(&mut self.queued_inputs[node][room]);
        loop {
            let decision = decide(&self.node_views[node][room], self.now, &inputs, &TEST_POLICY);
            let policy = &*TEST_POLICY;
            let most = policy.max_room_peers + policy.max_extra_moderators + policy.max_waiting_peers;
            assert!(decision.events.len() <= 2 * inputs.len() * (1 + most), "output is bounded by input");
            assert!(decision.events.iter().all(|event| event.targets.len() <= most));
            if decision.is_empty() {
                return;
            }
            if self.node_views[node][room].version == self.shared_state[room].version {
                return self.apply_decision(room, node, decision);
            }
            self.node_views[node][room] = self.shared_state[room].clone();
        }
    }

    fn apply_decision(&mut self, room: usize, node: usize, decision: Decision) {
        let was_in =
            |p: &&PeerId| self.shared_state[room].members.get(*p).is_some_and(|member| !member.waiting);
        let is_in = |p: &&PeerId| decision.next_state.members.get(*p).is_some_and(|member| !member.waiting);
        let joined: Vec<_> =
            decision.written_peers.iter().filter(|p| !was_in(p) && is_in(p)).cloned().collect();
        for event in &decision.events {
            for target in &event.targets {
                let own = matches!(event.kind, RoomEventKind::PermissionsChanged(..));
                assert_eq!(
                    *target == event.about_peer,
                    own,
                    "a peer receives about itself only its permissions"
                );
                // Each room has its own peer ids: an event of another room finds no view here.
                self.views[room]
                    .get_mut(target)
                    .expect("only members of the room hear it")
                    .apply_event(event);
            }
        }
        self.views[room].retain(|peer, _| !decision.removed_peers.contains(peer));
        for peer in joined {
            self.views[room].insert(peer.clone(), PeerView::from_snapshot(&decision.next_state, &peer));
        }
        assert_eq!(
            decision.next_state.version,
            self.shared_state[room].version + 1,
            "the version is contiguous"
        );
        self.shared_state[room] = decision.next_state.clone();
        self.node_views[node][room] = decision.next_state;
    }

    fn check_invariants(&self) {
        for room in 0..2 {
            let truth = &self.shared_state[room];
            assert!(truth.count_present() <= TEST_POLICY.max_room_peers + TEST_POLICY.max_extra_moderators);
            assert!(truth.members.len() - truth.count_present() <= TEST_POLICY.max_waiting_peers);
            assert!(truth.sanctions.iter().count() <= TEST_POLICY.max_sanctions);
            // A room may run out without a commit. Its record stays until the next decision about it.
            if !truth.exists(self.now) {
                let next = decide(truth, self.now, &[], &TEST_POLICY).next_state;
                assert!(next.sanctions.is_empty(), "sanctions end with the room");
            }
            let inside = truth.members.iter().filter(|(_, member)| !member.waiting).map(|(peer, _)| peer);
            assert_eq!(self.views[room].keys().collect::<Vec<_>>(), inside.collect::<Vec<_>>());
            for (me, view) in &self.views[room] {
                assert_eq!(
                    view.locked, truth.settings.locked,
                    "each member knows whether the room is locked"
                );
                assert_eq!(
                    view.permissions,
                    permission_names(&truth.members[me]),
                    "each member knows its permissions"
                );
                let knocks = truth.knockers_for(me).into_iter().map(|knocker| knocker.peer_id).collect();
                assert_eq!(view.knocks, knocks, "admitters know the lobby, other members do not");
                let expected: BTreeMap<_, _> = truth
                    .peer_entries_for(me)
                    .into_iter()
                    .map(|entry| (entry.peer_id, entry.detached))
                    .collect();
                assert_eq!(view.others, expected, "each view of an attached peer agrees with the room");
                for (peer, joins) in &view.joins {
                    let leaves = view.leaves.get(peer).copied().unwrap_or(0);
                    let is_present = u32::from(view.others.contains_key(peer));
                    assert_eq!(*joins, leaves + is_present, "each join has one leave");
                }
            }
        }
    }
}

/// The simulation found this case: the node of a peer in the lobby dies, and the lobby closes
/// in the same batch.
#[test]
fn a_peer_admitted_while_detached_is_seen_as_detached() {
    let mut world = SimulatedWorld::new();
    let at = |node, input, peer| SimulationStep::QueueInput { room: 0, node, input, peer };
    let commit = |node| SimulationStep::Commit { room: 0, node };
    let refresh = |node| SimulationStep::ReloadView { room: 0, node };
    let steps = [
        at(0, SimulatedInput::Join, 0),
        commit(0),
        at(0, SimulatedInput::Lobby(true), 0),
        at(0, SimulatedInput::Join, 1),
        commit(0),
        refresh(1),
        at(1, SimulatedInput::NodeDied, 0),
        at(1, SimulatedInput::Lobby(false), 0),
        commit(1),
    ];
    for step in &steps {
        world.apply_step(step);
        world.check_invariants();
    }
    let inside: Vec<_> =
        world.shared_state[0].members.values().map(|m| (m.waiting, m.owner().is_some())).collect();
    assert_eq!(inside, [(false, false); 2], "both peers are admitted and detached");
}

proptest! {
    // `PROPTEST_CASES=20000` for more.
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_event_leaves_its_room_and_all_views_agree(steps in prop::collection::vec(simulation_step(), 1..120)) {
        let mut world = SimulatedWorld::new();
        for step in &steps {
            world.apply_step(step);
            world.check_invariants();
        }
    }
}
