//! Join, detach, resume and leave.

use super::*;

#[test]
fn a_full_room_refuses_the_next_peer() {
    let inputs: Vec<_> = (0..6).map(|n| join_input(n, n)).collect();
    let decision = decide(&RoomState::new("r".into(), "L1".into()), 0, &inputs, &TEST_POLICY);
    assert_eq!(decision.outcomes[4..], [InputOutcome::Done, InputOutcome::RoomFull]);
    assert_eq!(decision.next_state.members.len(), 5);
}

#[test]
fn a_user_cannot_exceed_its_peer_limit() {
    let decision = decide(
        &RoomState::new("r".into(), "L1".into()),
        0,
        &[join_input(1, 7), join_input(2, 7), join_input(3, 7)],
        &TEST_POLICY,
    );
    assert_eq!(decision.outcomes, [InputOutcome::Done, InputOutcome::Done, InputOutcome::UserLimit]);
}

#[test]
fn peers_that_join_together_learn_of_each_other_from_the_snapshot_only() {
    let room = room_after(&[join_input(1, 1)]);
    let decision = decide(&room, 0, &[join_input(2, 2), join_input(3, 3)], &TEST_POLICY);
    assert!(decision.events.iter().all(|event| event.targets == [test_peer(1)]), "{:?}", decision.events);
    assert_eq!(decision.next_state.peer_entries_for(&test_peer(2)).len(), 2);
}

#[test]
fn a_detached_peer_leaves_when_its_resume_window_ends() {
    let room = room_after(&[join_input(1, 1), join_input(2, 2)]);
    let detached = decide(
        &room,
        500,
        &[RoomInput::Detach { peer: test_peer(1), epoch: 1, is_going: false }],
        &TEST_POLICY,
    )
    .next_state;
    let tick = [RoomInput::CheckDeadlines];
    assert!(decide(&detached, 1_499, &tick, &TEST_POLICY).is_empty());
    let decision = decide(&detached, 1_500, &tick, &TEST_POLICY);
    assert!(matches!(decision.events[0].kind, RoomEventKind::Left(LeaveReason::Timeout)));
    assert!(decision.removed_peers.contains(&test_peer(1)));
}

#[test]
fn a_peer_whose_page_closes_leaves_when_the_short_window_ends() {
    let room = room_after(&[join_input(1, 1), join_input(2, 2)]);
    let going = RoomInput::Detach { peer: test_peer(1), epoch: 1, is_going: true };
    let again = RoomInput::Detach { peer: test_peer(1), epoch: 1, is_going: false };
    let detached = decide(&room, 500, &[going, again], &TEST_POLICY).next_state;
    let tick = [RoomInput::CheckDeadlines];
    assert!(decide(&detached, 699, &tick, &TEST_POLICY).is_empty());
    let decision = decide(&detached, 700, &tick, &TEST_POLICY);
    assert!(matches!(decision.events[0].kind, RoomEventKind::Left(LeaveReason::Timeout)));
    let back = decide(&detached, 600, &[attach_input(1, 7, handle_proof(1))], &TEST_POLICY).next_state;
    assert!(decide(&back, 700, &tick, &TEST_POLICY).is_empty(), "a peer that resumes stays");
}

#[test]
fn a_detached_peer_resumes_on_another_node_without_a_leave_event() {
    let room = room_after(&[join_input(1, 1), join_input(2, 2)]);
    let detached = decide(
        &room,
        0,
        &[RoomInput::Detach { peer: test_peer(1), epoch: 1, is_going: false }],
        &TEST_POLICY,
    )
    .next_state;
    assert!(detached.members[&test_peer(1)].owner().is_none(), "no node may write for the peer");
    let decision = decide(&detached, 10, &[attach_input(1, 7, handle_proof(1))], &TEST_POLICY);
    assert_eq!(decision.outcomes, [InputOutcome::Attached(2)]);
    assert_eq!(decision.next_state.members[&test_peer(1)].owner(), Some(&NodeId::from_bits(7)));
    assert!(matches!(decision.events[..], [RoomEvent { kind: RoomEventKind::Attached, .. }]));
}

#[test]
fn a_resume_before_the_detach_is_not_announced() {
    let room = room_after(&[join_input(1, 1), join_input(2, 2)]);
    let decision = decide(&room, 0, &[attach_input(1, 7, handle_proof(1))], &TEST_POLICY);
    assert_eq!((decision.outcomes, decision.events.len()), (vec![InputOutcome::Attached(2)], 0));
}

#[test]
fn only_the_two_newest_handles_are_valid() {
    let room = room_after(&[join_input(1, 1)]);
    let again = decide(&room, 0, &[attach_input(1, 2, handle_proof(1))], &TEST_POLICY).next_state;
    // The answer to the first resume was lost.
    let third = decide(&again, 0, &[attach_input(1, 3, handle_proof(1))], &TEST_POLICY).next_state;
    assert_eq!(third.members[&test_peer(1)].epoch, 3);
    // The answer to the second resume arrived: handle 2 was used.
    let fourth = decide(&third, 0, &[attach_input(1, 4, handle_proof(2))], &TEST_POLICY).next_state;
    assert_eq!(
        decide(&fourth, 0, &[attach_input(1, 5, handle_proof(1))], &TEST_POLICY).outcomes,
        [InputOutcome::Fenced]
    );
}

#[test]
fn a_connection_reclaims_its_peer_unless_it_is_fenced() {
    let room = room_after(&[join_input(1, 1)]);
    let taken_for_dead =
        decide(&room, 0, &[RoomInput::NodeDied { node: NodeId::from_bits(1) }], &TEST_POLICY).next_state;
    let back = decide(&taken_for_dead, 0, &[attach_input(1, 1, connection_proof(1))], &TEST_POLICY);
    assert_eq!(back.outcomes, [InputOutcome::Attached(2)]);
    let elsewhere =
        decide(&taken_for_dead, 0, &[attach_input(1, 2, handle_proof(1))], &TEST_POLICY).next_state;
    assert_eq!(
        decide(&elsewhere, 0, &[attach_input(1, 1, connection_proof(1))], &TEST_POLICY).outcomes,
        [InputOutcome::Fenced]
    );
}

#[test]
fn the_last_peer_of_a_grant_is_known_until_its_tombstone_expires() {
    let room = room_after(&[join_input(1, 1), join_input(2, 2)]);
    let grant = room.members[&test_peer(1)].token.grant();
    assert_eq!(room.last_left_of_grant(grant), None, "it has not left");
    let leave = RoomInput::Leave { peer: test_peer(1), epoch: 1, reason: LeaveReason::Left };
    let left = decide(&room, 0, &[leave], &TEST_POLICY).next_state;
    assert_eq!(left.last_left_of_grant(grant), Some((test_peer(1), 1)));
    let later = decide(&left, 1_000, &[join_input(3, 3)], &TEST_POLICY).next_state;
    assert_eq!(later.last_left_of_grant(grant), None);
}

#[test]
fn a_peer_that_left_cannot_return_but_a_forgotten_peer_can() {
    let room = room_after(&[join_input(1, 1), join_input(2, 2)]);
    let left = decide(
        &room,
        0,
        &[RoomInput::Leave { peer: test_peer(1), epoch: 1, reason: LeaveReason::Left }],
        &TEST_POLICY,
    )
    .next_state;
    assert_eq!(
        decide(&left, 0, &[attach_input(1, 1, handle_proof(1))], &TEST_POLICY).outcomes,
        [InputOutcome::PeerGone]
    );
    // The store fails over to a replica that knows the leave: it has the tombstone.
    let known = RoomState { replication_id: "L2".into(), ..left.clone() };
    assert_eq!(
        decide(&known, 0, &[attach_input(1, 1, handle_proof(1))], &TEST_POLICY).outcomes,
        [InputOutcome::PeerGone]
    );
    // Without a tombstone, only another replication id means that the peer was forgotten.
    let silent = RoomState { tombstones: BTreeMap::new(), ..left };
    assert_eq!(
        decide(&silent, 0, &[attach_input(1, 1, handle_proof(1))], &TEST_POLICY).outcomes,
        [InputOutcome::PeerGone]
    );
    let forgotten = RoomState { replication_id: "L2".into(), ..silent };
    let decision = decide(&forgotten, 0, &[attach_input(1, 1, handle_proof(1))], &TEST_POLICY);
    assert_eq!(
        (decision.outcomes, decision.next_state.members[&test_peer(1)].epoch),
        (vec![InputOutcome::Attached(2)], 2)
    );
    let mut expired = test_claim(1, 1, handle_proof(1), "L1");
    expired.now_s = Some(1);
    assert_eq!(
        decide(&forgotten, 0, &[RoomInput::Attach(Box::new(expired))], &TEST_POLICY).outcomes,
        [InputOutcome::TokenExpired]
    );
}

#[test]
fn a_takeover_replaces_its_peer_even_in_a_full_room() {
    let inputs: Vec<_> = (0..5).map(|n| join_input(n, n)).collect();
    let room = room_after(&inputs);
    let old = Box::new(test_claim(1, 9, handle_proof(1), "L1"));
    let decision = decide(
        &room,
        0,
        &[RoomInput::Replace { old_peer: old, new_peer: test_peer(77), mailbox_version: 5 }],
        &TEST_POLICY,
    );
    assert_eq!(decision.outcomes, [InputOutcome::Done]);
    assert!(decision.removed_peers.contains(&test_peer(1)) && decision.next_state.members.len() == 5);
    let kinds: Vec<_> = decision.events.iter().map(|event| (&event.kind, &event.about_peer)).collect();
    assert!(
        matches!(kinds[..], [(RoomEventKind::Left(LeaveReason::Replaced), _), (RoomEventKind::Joined(_), _)]),
        "{kinds:?}"
    );
    let new = &decision.next_state.members[&test_peer(77)];
    assert_eq!((new.mailbox_version, new.epoch, new.user.as_str()), (5, 1, "user-1"));
}

#[test]
fn only_the_peers_of_the_dead_node_are_detached() {
    let room =
        room_after(&[join_input(1, 1), RoomInput::Join { peer: test_peer(2), member: test_member(2, 2) }]);
    let decision = decide(&room, 0, &[RoomInput::NodeDied { node: NodeId::from_bits(2) }], &TEST_POLICY);
    assert_eq!(decision.written_peers.iter().collect::<Vec<_>>(), [&test_peer(2)]);
    let live = [test_peer(1)].into();
    assert!(
        decide(
            &room,
            0,
            &[RoomInput::ReconcileNode { node: NodeId::from_bits(1), connected_peers: live }],
            &TEST_POLICY
        )
        .is_empty()
    );
}

#[test]
fn all_members_leave_when_the_room_life_ends() {
    let room = RoomState { ends_at: 500, ..room_after(&[join_input(1, 1), join_input(2, 2)]) };
    assert!(decide(&room, 499, &[RoomInput::CheckDeadlines], &TEST_POLICY).is_empty());
    let decision = decide(&room, 500, &[RoomInput::CheckDeadlines], &TEST_POLICY);
    assert_eq!((decision.removed_peers.len(), decision.next_state.members.len()), (2, 0));
}

#[test]
fn an_older_epoch_can_neither_detach_nor_remove_its_successor() {
    let room = room_after(&[join_input(1, 1)]);
    let stale = [
        RoomInput::Detach { peer: test_peer(1), epoch: 0, is_going: false },
        RoomInput::Leave { peer: test_peer(1), epoch: 0, reason: LeaveReason::Left },
    ];
    let decision = decide(&room, 0, &stale, &TEST_POLICY);
    assert!(decision.is_empty());
    assert_eq!(decision.outcomes, [InputOutcome::PeerGone, InputOutcome::PeerGone]);
}

#[test]
fn a_repeated_input_changes_nothing() {
    let inputs =
        [join_input(1, 1), RoomInput::Leave { peer: test_peer(2), epoch: 1, reason: LeaveReason::Left }];
    let room = room_after(&inputs);
    assert!(decide(&room, 0, &inputs, &TEST_POLICY).is_empty());
}
