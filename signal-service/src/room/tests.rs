//! The rules as sentences, and a simulation of nodes that commit what they decided against one shared state while their
//! views lag, inputs are reordered and time is virtual.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::value::RawValue;
use signalbox_shared::{
    id::{NodeId, PeerId, Role, UserId},
    protocol::LeftReason,
};

use super::*;

const RULES: Rules = Rules { room_peers: 5, user_peers: 2, grace_ms: 1_000 };

fn member(user: u8, node: u128) -> Box<Member> {
    Box::new(Member {
        user: UserId::parse(&format!("user-{user}")).unwrap(),
        role: Role::parse("guest").unwrap(),
        name: "".into(),
        metadata: RawValue::from_string("{}".into()).unwrap().into(),
        presence: Presence::Attached,
        owner: NodeId::from_bits(node),
        epoch: 1,
    })
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bits(u128::from(n))
}

fn join(n: u8, user: u8) -> Input {
    Input::Join { peer: peer(n), member: member(user, 1) }
}

fn room_of(inputs: &[Input]) -> RoomState {
    decide(&RoomState::new("r".into()), 0, inputs, &RULES).next
}

#[test]
fn a_room_takes_as_many_as_it_may_and_refuses_the_next() {
    let inputs: Vec<_> = (0..6).map(|n| join(n, n)).collect();
    let decision = decide(&RoomState::new("r".into()), 0, &inputs, &RULES);
    assert_eq!(decision.outcomes[4..], [Outcome::Done, Outcome::RoomFull]);
    assert_eq!(decision.next.members.len(), 5);
}

#[test]
fn a_user_has_so_many_places_and_no_more() {
    let decision = decide(&RoomState::new("r".into()), 0, &[join(1, 7), join(2, 7), join(3, 7)], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Done, Outcome::Done, Outcome::UserLimit]);
}

#[test]
fn peers_that_join_together_learn_of_each_other_from_the_snapshot_only() {
    let room = room_of(&[join(1, 1)]);
    let decision = decide(&room, 0, &[join(2, 2), join(3, 3)], &RULES);
    assert!(decision.events.iter().all(|event| event.targets == [peer(1)]), "{:?}", decision.events);
    assert_eq!(decision.next.entries_for(&peer(2)).len(), 2);
}

#[test]
fn a_detached_peer_has_left_when_its_grace_is_over_and_not_before() {
    let room = room_of(&[join(1, 1), join(2, 2)]);
    let detached = decide(&room, 500, &[Input::Detach { peer: peer(1), epoch: 1 }], &RULES).next;
    let tick = [Input::Tick { node: NodeId::from_bits(1) }];
    assert!(decide(&detached, 1_499, &tick, &RULES).is_empty());
    let decision = decide(&detached, 1_500, &tick, &RULES);
    assert!(matches!(decision.events[0].kind, EventKind::Left(LeftReason::Timeout)));
    assert!(decision.removed.contains(&peer(1)));
}

#[test]
fn another_nodes_tick_leaves_our_detached_peer_alone() {
    let room = room_of(&[join(1, 1)]);
    let detached = decide(&room, 0, &[Input::Detach { peer: peer(1), epoch: 1 }], &RULES).next;
    assert!(decide(&detached, 9_999, &[Input::Tick { node: NodeId::from_bits(2) }], &RULES).is_empty());
}

#[test]
fn an_older_epoch_can_neither_detach_nor_remove_its_successor() {
    let room = room_of(&[join(1, 1)]);
    let stale = [
        Input::Detach { peer: peer(1), epoch: 0 },
        Input::Leave { peer: peer(1), epoch: 0, reason: LeftReason::Left },
    ];
    let decision = decide(&room, 0, &stale, &RULES);
    assert!(decision.is_empty());
    assert_eq!(decision.outcomes, [Outcome::Gone, Outcome::Gone]);
}

#[test]
fn deciding_again_what_already_holds_changes_nothing() {
    let inputs = [join(1, 1), Input::Leave { peer: peer(2), epoch: 1, reason: LeftReason::Left }];
    let room = room_of(&inputs);
    assert!(decide(&room, 0, &inputs, &RULES).is_empty());
}

/// What one peer believes, built from its snapshot and the events it was sent, in order.
#[derive(Default)]
struct View {
    others: BTreeMap<PeerId, bool>,
    joins: BTreeMap<PeerId, u32>,
    leaves: BTreeMap<PeerId, u32>,
}

impl View {
    fn of(state: &RoomState, me: &PeerId) -> Self {
        let entries = state.entries_for(me);
        let others: BTreeMap<_, _> =
            entries.into_iter().map(|entry| (entry.peer_id, entry.detached)).collect();
        let joins = others.keys().map(|peer| (peer.clone(), 1)).collect();
        Self { others, joins, leaves: BTreeMap::new() }
    }

    fn hear(&mut self, event: &Event) {
        let about = event.about.clone();
        match &event.kind {
            EventKind::Joined(_) => {
                assert!(self.others.insert(about.clone(), false).is_none(), "a peer joined twice");
                *self.joins.entry(about).or_default() += 1;
            }
            EventKind::Left(_) => {
                assert!(self.others.remove(&about).is_some(), "a peer left that was not there");
                *self.leaves.entry(about).or_default() += 1;
            }
            EventKind::Detached => {
                assert!(self.others.insert(about, true).is_some(), "a stranger was detached")
            }
            EventKind::Updated(_) => assert!(self.others.contains_key(&about), "a stranger was updated"),
        }
    }
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
}

fn step() -> impl Strategy<Value = Step> {
    let at = || (0..2_usize, 0..2_usize);
    let kind = prop_oneof![
        4 => Just(Kind::Join),
        1 => Just(Kind::Update),
        2 => Just(Kind::Detach),
        2 => Just(Kind::Leave),
        1 => Just(Kind::Tick)
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
        let rooms = || [RoomState::new("one".into()), RoomState::new("two".into())];
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
                    Kind::Update => Input::Update { peer, name: Some("n".into()), metadata: None },
                    Kind::Detach => Input::Detach { peer, epoch: 1 },
                    Kind::Leave => Input::Leave { peer, epoch: 1, reason: LeftReason::Left },
                    Kind::Tick => Input::Tick { node: NodeId::from_bits(node as u128) },
                };
                self.queued[node][room].push(input);
            }
            Step::Shuffle { room, node } => self.queued[node][room].reverse(),
            Step::Commit { room, node } => self.commit(room, node),
            Step::Refresh { room, node } => self.copies[node][room] = self.truth[room].clone(),
            Step::Pass(ms) => self.now += ms,
        }
    }

    fn commit(&mut self, room: usize, node: usize) {
        let inputs = std::mem::take(&mut self.queued[node][room]);
        loop {
            let decision = decide(&self.copies[node][room], self.now, &inputs, &RULES);
            assert!(decision.events.len() <= inputs.len() + RULES.room_peers, "output is bounded by input");
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
        let joined: Vec<_> =
            decision.put.iter().filter(|p| !self.truth[room].members.contains_key(*p)).cloned().collect();
        for event in &decision.events {
            for target in &event.targets {
                assert!(!event.targets.contains(&event.about), "a peer hears of itself");
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
            assert_eq!(self.views[room].keys().collect::<Vec<_>>(), truth.members.keys().collect::<Vec<_>>());
            for (me, view) in &self.views[room] {
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

proptest! {
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
