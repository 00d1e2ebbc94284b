//! Joining, losing a socket, coming back, leaving.

use super::*;

#[test]
fn a_room_takes_as_many_as_it_may_and_refuses_the_next() {
    let inputs: Vec<_> = (0..6).map(|n| join(n, n)).collect();
    let decision = decide(&RoomState::new("r".into(), "L1".into()), 0, &inputs, &RULES);
    assert_eq!(decision.outcomes[4..], [Outcome::Done, Outcome::RoomFull]);
    assert_eq!(decision.next.members.len(), 5);
}

#[test]
fn a_user_has_so_many_places_and_no_more() {
    let decision =
        decide(&RoomState::new("r".into(), "L1".into()), 0, &[join(1, 7), join(2, 7), join(3, 7)], &RULES);
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
fn a_detached_peer_has_left_when_its_window_is_over_and_not_before() {
    let room = room_of(&[join(1, 1), join(2, 2)]);
    let detached = decide(&room, 500, &[Input::Detach { peer: peer(1), epoch: 1 }], &RULES).next;
    let tick = [Input::Tick];
    assert!(decide(&detached, 1_499, &tick, &RULES).is_empty());
    let decision = decide(&detached, 1_500, &tick, &RULES);
    assert!(matches!(decision.events[0].kind, EventKind::Left(LeftReason::Timeout)));
    assert!(decision.removed.contains(&peer(1)));
}

#[test]
fn a_detached_peer_that_comes_back_is_there_again_on_another_node_and_nobody_hears_a_leave() {
    let room = room_of(&[join(1, 1), join(2, 2)]);
    let detached = decide(&room, 0, &[Input::Detach { peer: peer(1), epoch: 1 }], &RULES).next;
    assert!(detached.members[&peer(1)].owner().is_none(), "nobody may write for it");
    let decision = decide(&detached, 10, &[attach(1, 7, handle(1))], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Attached(2)]);
    assert_eq!(decision.next.members[&peer(1)].owner(), Some(&NodeId::from_bits(7)));
    assert!(matches!(decision.events[..], [Event { kind: EventKind::Attached, .. }]));
}

#[test]
fn who_comes_back_before_anybody_noticed_is_not_announced() {
    let room = room_of(&[join(1, 1), join(2, 2)]);
    let decision = decide(&room, 0, &[attach(1, 7, handle(1))], &RULES);
    assert_eq!((decision.outcomes, decision.events.len()), (vec![Outcome::Attached(2)], 0));
}

#[test]
fn the_newest_handle_and_the_one_before_it_are_good_and_no_older_one() {
    let room = room_of(&[join(1, 1)]);
    let again = decide(&room, 0, &[attach(1, 2, handle(1))], &RULES).next;
    // The answer to the first was lost.
    let third = decide(&again, 0, &[attach(1, 3, handle(1))], &RULES).next;
    assert_eq!(third.members[&peer(1)].epoch, 3);
    // The answer to the second came: handle 2 was used.
    let fourth = decide(&third, 0, &[attach(1, 4, handle(2))], &RULES).next;
    assert_eq!(decide(&fourth, 0, &[attach(1, 5, handle(1))], &RULES).outcomes, [Outcome::Replaced]);
}

#[test]
fn a_socket_takes_its_peer_back_unless_a_newer_one_has_it() {
    let room = room_of(&[join(1, 1)]);
    let taken_for_dead = decide(&room, 0, &[Input::Bury { node: NodeId::from_bits(1) }], &RULES).next;
    let back = decide(&taken_for_dead, 0, &[attach(1, 1, socket(1))], &RULES);
    assert_eq!(back.outcomes, [Outcome::Attached(2)]);
    let elsewhere = decide(&taken_for_dead, 0, &[attach(1, 2, handle(1))], &RULES).next;
    assert_eq!(decide(&elsewhere, 0, &[attach(1, 1, socket(1))], &RULES).outcomes, [Outcome::Replaced]);
}

#[test]
fn who_has_left_stays_away_and_who_was_forgotten_does_not() {
    let room = room_of(&[join(1, 1), join(2, 2)]);
    let left =
        decide(&room, 0, &[Input::Leave { peer: peer(1), epoch: 1, reason: LeftReason::Left }], &RULES).next;
    assert_eq!(decide(&left, 0, &[attach(1, 1, handle(1))], &RULES).outcomes, [Outcome::Gone]);
    // The store fails over to one that knows of the leave: the tombstone tells.
    let known = RoomState { lineage: "L2".into(), ..left.clone() };
    assert_eq!(decide(&known, 0, &[attach(1, 1, handle(1))], &RULES).outcomes, [Outcome::Gone]);
    // Where it tells nothing, only another lineage can have forgotten the peer.
    let silent = RoomState { left: BTreeMap::new(), ..left };
    assert_eq!(decide(&silent, 0, &[attach(1, 1, handle(1))], &RULES).outcomes, [Outcome::Gone]);
    let forgotten = RoomState { lineage: "L2".into(), ..silent };
    let decision = decide(&forgotten, 0, &[attach(1, 1, handle(1))], &RULES);
    assert_eq!((decision.outcomes, decision.next.members[&peer(1)].epoch), (vec![Outcome::Attached(2)], 2));
    let mut expired = claim(1, 1, handle(1), "L1");
    expired.now_s = Some(1);
    assert_eq!(
        decide(&forgotten, 0, &[Input::Attach(Box::new(expired))], &RULES).outcomes,
        [Outcome::Expired]
    );
}

#[test]
fn a_reloaded_page_takes_the_place_of_its_peer_even_in_a_full_room() {
    let inputs: Vec<_> = (0..5).map(|n| join(n, n)).collect();
    let room = room_of(&inputs);
    let old = Box::new(claim(1, 9, handle(1), "L1"));
    let decision = decide(&room, 0, &[Input::Replace { old, peer: peer(77), mailbox: 5 }], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Done]);
    assert!(decision.removed.contains(&peer(1)) && decision.next.members.len() == 5);
    let kinds: Vec<_> = decision.events.iter().map(|event| (&event.kind, &event.about)).collect();
    assert!(
        matches!(kinds[..], [(EventKind::Left(LeftReason::Replaced), _), (EventKind::Joined(_), _)]),
        "{kinds:?}"
    );
    let new = &decision.next.members[&peer(77)];
    assert_eq!((new.mailbox, new.epoch, new.user.as_str()), (5, 1, "user-1"));
}

#[test]
fn only_the_peers_of_the_dead_node_are_detached() {
    let room = room_of(&[join(1, 1), Input::Join { peer: peer(2), member: member(2, 2) }]);
    let decision = decide(&room, 0, &[Input::Bury { node: NodeId::from_bits(2) }], &RULES);
    assert_eq!(decision.put.iter().collect::<Vec<_>>(), [&peer(2)]);
    let live = [peer(1)].into();
    assert!(decide(&room, 0, &[Input::Sweep { node: NodeId::from_bits(1), live }], &RULES).is_empty());
}

#[test]
fn at_the_end_of_its_longest_life_everybody_leaves_the_room() {
    let room = RoomState { ends_at: 500, ..room_of(&[join(1, 1), join(2, 2)]) };
    assert!(decide(&room, 499, &[Input::Tick], &RULES).is_empty());
    let decision = decide(&room, 500, &[Input::Tick], &RULES);
    assert_eq!((decision.removed.len(), decision.next.members.len()), (2, 0));
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
