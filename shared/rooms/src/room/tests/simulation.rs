//! A simulation of nodes that commit what they decided against one shared state while their views lag, inputs are
//! reordered and time is virtual.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What one peer believes, built from its snapshot and the events it was sent, in order.
#[derive(Default)]
struct View {
    others: BTreeMap<PeerId, bool>,
    joins: BTreeMap<PeerId, u32>,
    leaves: BTreeMap<PeerId, u32>,
    knocks: BTreeSet<PeerId>,
    permissions: Vec<String>,
    locked: bool,
}

impl View {
    fn of(state: &RoomState, me: &PeerId) -> Self {
        let entries = state.entries_for(me);
        let others: BTreeMap<_, _> =
            entries.into_iter().map(|entry| (entry.peer_id, entry.detached)).collect();
        let joins = others.keys().map(|peer| (peer.clone(), 1)).collect();
        let knocks = state.knockers_for(me).into_iter().map(|knocker| knocker.peer_id).collect();
        let permissions = permissions_of(&state.members[me]);
        Self { others, joins, leaves: BTreeMap::new(), knocks, permissions, locked: state.settings.locked }
    }

    fn hear(&mut self, event: &Event) {
        let about = event.about.clone();
        match &event.kind {
            EventKind::Joined(member) => {
                // One may be let in while its socket is lost.
                let detached = member.owner().is_none();
                assert!(self.others.insert(about.clone(), detached).is_none(), "a peer joined twice");
                *self.joins.entry(about).or_default() += 1;
            }
            EventKind::Left(_) => {
                assert!(self.others.remove(&about).is_some(), "a peer left that was not there");
                *self.leaves.entry(about).or_default() += 1;
            }
            EventKind::Detached => {
                assert_eq!(self.others.insert(about, true), Some(false), "not there, or detached already");
            }
            EventKind::Attached => {
                assert_eq!(self.others.insert(about, false), Some(true), "not there, or there already");
            }
            EventKind::Updated(_) => assert!(self.others.contains_key(&about), "a stranger was updated"),
            EventKind::Knocked(_) => assert!(self.knocks.insert(about), "one knocked twice"),
            EventKind::KnockEnded(_) => assert!(self.knocks.remove(&about), "one ends that did not knock"),
            EventKind::Standing(member, _) => {
                self.permissions = permissions_of(member);
                if !member.may(Permission::Admit) {
                    self.knocks.clear();
                }
            }
            EventKind::RoomUpdated(settings) => self.locked = settings.locked,
            EventKind::Said { .. } => {}
        }
    }
}

fn permissions_of(member: &Member) -> Vec<String> {
    member.permissions.iter().map(|name| name.to_string()).collect()
}

/// Two rooms, each the shared truth of two nodes whose copies may lag; the truth accepts only what was decided on its version.
struct World {
    now: u64,
    truth: [RoomState; 2],
    copies: [[RoomState; 2]; 2],
    views: [BTreeMap<PeerId, View>; 2],
    queued: [[Vec<Input>; 2]; 2],
    ever_joined: [BTreeSet<PeerId>; 2],
}

#[derive(Debug, Clone)]
enum Step {
    Queue { room: usize, node: usize, input: Kind, peer: u8 },
    Shuffle { room: usize, node: usize },
    Commit { room: usize, node: usize },
    Refresh { room: usize, node: usize },
    Pass(u64),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Join,
    Update,
    Detach,
    Leave,
    Tick,
    Resume,
    Replace,
    Bury,
    Promote,
    Demote,
    Mute(bool),
    Lock(bool),
    Lobby(bool),
    Admit,
    Kick,
    End(bool),
    Create,
    Delete,
}

fn act_on(kind: Kind, peer: PeerId) -> Act {
    let role = |name: &str, permissions: &[&str]| Act::SetRole {
        peer: peer.clone(),
        role: Role::parse(name).unwrap(),
        permissions: permissions.iter().map(|name| (*name).into()).collect(),
        ice_policy: None,
    };
    match kind {
        Kind::Promote => role("host", &["publish", "moderate", "admit", "end"]),
        Kind::Demote => role("guest", &["publish"]),
        Kind::Mute(on) => Act::Mute { peer, on },
        Kind::Admit => Act::Admit(peer),
        _ => Act::Remove { whom: Whom::Peer(peer), reason: LeftReason::Removed },
    }
}

fn step() -> impl Strategy<Value = Step> {
    let at = || (0..2_usize, 0..2_usize);
    let kind = prop_oneof![
        4 => Just(Kind::Join),
        1 => Just(Kind::Update),
        2 => Just(Kind::Detach),
        2 => Just(Kind::Leave),
        1 => Just(Kind::Tick),
        3 => Just(Kind::Resume),
        1 => Just(Kind::Replace),
        1 => Just(Kind::Bury),
        2 => Just(Kind::Promote),
        1 => Just(Kind::Demote),
        1 => any::<bool>().prop_map(Kind::Mute),
        1 => any::<bool>().prop_map(Kind::Lock),
        2 => any::<bool>().prop_map(Kind::Lobby),
        2 => Just(Kind::Admit),
        1 => Just(Kind::Kick),
        1 => any::<bool>().prop_map(Kind::End),
        1 => Just(Kind::Create),
        1 => Just(Kind::Delete),
    ];
    prop_oneof![
        6 => (at(), kind, 0..12_u8).prop_map(|((room, node), input, peer)| Step::Queue { room, node, input, peer }),
        1 => at().prop_map(|(room, node)| Step::Shuffle { room, node }),
        4 => at().prop_map(|(room, node)| Step::Commit { room, node }),
        1 => at().prop_map(|(room, node)| Step::Refresh { room, node }),
        1 => (0..2_000_u64).prop_map(Step::Pass),
    ]
}

impl World {
    fn new() -> Self {
        let rooms = || [RoomState::new("one".into(), "L1".into()), RoomState::new("two".into(), "L1".into())];
        Self {
            now: 0,
            truth: rooms(),
            copies: [rooms(), rooms()],
            views: Default::default(),
            queued: Default::default(),
            ever_joined: Default::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Queue { room, node, input, peer: n } => {
                // A peer id is used once per room and node in its life, as random ids are.
                let n = n + 100 * node as u8;
                let peer = PeerId::from_bits(u128::from(n) + 1_000 * room as u128);
                let input = match input {
                    Kind::Join if !self.ever_joined[room].insert(peer.clone()) => return,
                    Kind::Join => Input::Join { peer, member: member(n % 4, node as u128) },
                    Kind::Update => {
                        let epoch = self.epoch(room, &peer);
                        Input::Update { peer, epoch, name: Some("n".into()), metadata: None }
                    }
                    Kind::Detach => Input::Detach { epoch: self.epoch(room, &peer), peer },
                    Kind::Leave => {
                        Input::Leave { epoch: self.epoch(room, &peer), peer, reason: LeftReason::Left }
                    }
                    Kind::Tick => Input::Tick,
                    Kind::Promote | Kind::Demote | Kind::Mute(_) | Kind::Admit | Kind::Kick => {
                        Manage::api(act_on(input, peer))
                    }
                    Kind::Lock(on) => Manage::api(Act::Lock(on)),
                    Kind::Lobby(on) => {
                        Manage::api(Act::Configure(Patch { lobby: Some(on), ..Patch::default() }))
                    }
                    Kind::End(lock) => Manage::api(Act::End { lock }),
                    Kind::Delete => Manage::api(Act::Delete),
                    Kind::Create => {
                        let (created_at, kept_until) = (self.now + 1, self.now + 3_000);
                        let settings = RoomSettings { created_at, kept_until, ..RoomSettings::default() };
                        Manage::api(Act::Create(settings.into()))
                    }
                    Kind::Bury => Input::Bury { node: NodeId::from_bits(1 - node as u128) },
                    Kind::Resume => Input::Attach(Box::new(self.claim(room, node, peer))),
                    Kind::Replace => {
                        let new = PeerId::from_bits(1 << 32 | u128::from(n) | (room as u128) << 16);
                        if !self.ever_joined[room].insert(new.clone()) {
                            return;
                        }
                        Input::Replace { old: Box::new(self.claim(room, node, peer)), peer: new, mailbox: 1 }
                    }
                };
                self.queued[node][room].push(input);
            }
            Step::Shuffle { room, node } => self.queued[node][room].reverse(),
            Step::Commit { room, node } => self.commit(room, node),
            Step::Refresh { room, node } => self.copies[node][room] = self.truth[room].clone(),
            Step::Pass(ms) => self.now += ms,
        }
    }

    fn epoch(&self, room: usize, peer: &PeerId) -> u64 {
        self.truth[room].members.get(peer).map_or(1, |member| member.epoch)
    }

    fn claim(&self, room: usize, node: usize, peer: PeerId) -> Claim {
        let known = self.truth[room].members.get(&peer);
        let (generation, epoch) = known.map_or((1, 1), |member| (member.generation, member.epoch));
        let member = known.cloned().unwrap_or_else(|| *member(0, node as u128));
        let presence = Presence::Attached(NodeId::from_bits(node as u128));
        Claim {
            peer,
            proof: Proof::Handle { generation, epoch },
            lineage: "L1".into(),
            now_s: None,
            member: Member { presence, ..member },
        }
    }

    fn commit(&mut self, room: usize, node: usize) {
        let inputs = std::mem::take(&mut self.queued[node][room]);
        loop {
            let decision = decide(&self.copies[node][room], self.now, &inputs, &RULES);
            assert!(
                decision.events.len() <= 2 * inputs.len() * (1 + RULES.room_peers),
                "output is bounded by input"
            );
            assert!(decision.events.iter().all(|event| event.targets.len() <= RULES.room_peers));
            if decision.is_empty() {
                return;
            }
            if self.copies[node][room].version == self.truth[room].version {
                return self.apply(room, node, decision);
            }
            self.copies[node][room] = self.truth[room].clone();
        }
    }

    fn apply(&mut self, room: usize, node: usize, decision: Decision) {
        let was_in = |p: &&PeerId| self.truth[room].members.get(*p).is_some_and(|member| !member.waiting);
        let is_in = |p: &&PeerId| decision.next.members.get(*p).is_some_and(|member| !member.waiting);
        let joined: Vec<_> = decision.put.iter().filter(|p| !was_in(p) && is_in(p)).cloned().collect();
        for event in &decision.events {
            for target in &event.targets {
                let own = matches!(event.kind, EventKind::Standing(..));
                assert_eq!(*target == event.about, own, "a peer hears of itself only how it stands");
                // Each room has its own peer ids: an event that strays finds no view here.
                self.views[room].get_mut(target).expect("only members of the room hear it").hear(event);
            }
        }
        self.views[room].retain(|peer, _| !decision.removed.contains(peer));
        for peer in joined {
            self.views[room].insert(peer.clone(), View::of(&decision.next, &peer));
        }
        assert_eq!(decision.next.version, self.truth[room].version + 1, "the version is contiguous");
        self.truth[room] = decision.next.clone();
        self.copies[node][room] = decision.next;
    }

    fn check(&self) {
        for room in 0..2 {
            let truth = &self.truth[room];
            assert!(truth.members.len() <= RULES.room_peers);
            let inside = truth.members.iter().filter(|(_, member)| !member.waiting).map(|(peer, _)| peer);
            assert_eq!(self.views[room].keys().collect::<Vec<_>>(), inside.collect::<Vec<_>>());
            for (me, view) in &self.views[room] {
                assert_eq!(view.locked, truth.settings.locked, "everybody knows whether it is locked");
                assert_eq!(view.permissions, permissions_of(&truth.members[me]), "and what it may do");
                let knocks = truth.knockers_for(me).into_iter().map(|knocker| knocker.peer_id).collect();
                assert_eq!(view.knocks, knocks, "who may let in knows who waits, and nobody else does");
                let expected: BTreeMap<_, _> =
                    truth.entries_for(me).into_iter().map(|entry| (entry.peer_id, entry.detached)).collect();
                assert_eq!(view.others, expected, "every live view agrees with the room");
                for (peer, joins) in &view.joins {
                    let leaves = view.leaves.get(peer).copied().unwrap_or(0);
                    let here = u32::from(view.others.contains_key(peer));
                    assert_eq!(*joins, leaves + here, "each join has one leave");
                }
            }
        }
    }
}

/// A case that the simulation has found: somebody who waits loses its node, and the lobby closes in the same batch.
#[test]
fn who_is_let_in_while_its_socket_is_lost_is_seen_as_lost() {
    let mut world = World::new();
    let at = |node, input, peer| Step::Queue { room: 0, node, input, peer };
    let commit = |node| Step::Commit { room: 0, node };
    let refresh = |node| Step::Refresh { room: 0, node };
    let steps = [
        at(0, Kind::Join, 0),
        commit(0),
        at(0, Kind::Lobby(true), 0),
        at(0, Kind::Join, 1),
        commit(0),
        refresh(1),
        at(1, Kind::Bury, 0),
        at(1, Kind::Lobby(false), 0),
        commit(1),
    ];
    for step in &steps {
        world.step(step);
        world.check();
    }
    let inside: Vec<_> = world.truth[0].members.values().map(|m| (m.waiting, m.owner().is_some())).collect();
    assert_eq!(inside, [(false, false); 2], "both are in, and their sockets are lost");
}

proptest! {
    // `PROPTEST_CASES=20000` for more.
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_its_room_and_every_view_agrees(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}
