//! Actions of the API and of moderators.

use signalbox_protocol::id::CreationId;

use super::*;

const HOST_PERMISSIONS: &[&str] = &["publish", "message", "moderate", "admit", "end"];
const MODERATOR_PERMISSIONS: &[&str] = &["publish", "message", "moderate", "admit"];

fn permission_list(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// Joins with permissions; each peer has its own user.
fn join_with_permissions(n: u8, names: &[&str]) -> RoomInput {
    RoomInput::Join {
        peer: test_peer(n),
        member: Box::new(Member { permissions: permission_list(names), ..*test_member(n, 1) }),
    }
}

fn state_after(state: &RoomState, now: u64, inputs: &[RoomInput]) -> RoomState {
    decide(state, now, inputs, &TEST_POLICY).next_state
}

fn outcome_at(state: &RoomState, now: u64, input: RoomInput) -> InputOutcome {
    decide(state, now, &[input], &TEST_POLICY).outcomes[0]
}

fn create_room(change: impl FnOnce(&mut RoomSettings)) -> RoomInput {
    let mut settings = RoomSettings { created_at: 1, kept_until: 50_000, ..RoomSettings::default() };
    change(&mut settings);
    settings.creation_id = Some(CreationId::parse(&format!("{:032x}", settings.created_at)).unwrap());
    ManageRoom::from_api(RoomAction::Create(settings.into()))
}

fn room_with_settings(change: impl FnOnce(&mut RoomSettings)) -> RoomState {
    state_after(&RoomState::new("r".into(), "L1".into()), 0, &[create_room(change)])
}

fn remove_peer(by: u8, target: u8) -> RoomInput {
    let act =
        RoomAction::Remove { selector: PeerSelector::Peer(test_peer(target)), reason: LeaveReason::Removed };
    ManageRoom::from_member(test_peer(by), 1, act)
}

fn events_about(decision: &Decision, about: u8) -> Vec<(&RoomEventKind, &[PeerId])> {
    let events = decision.events.iter().filter(|event| event.about_peer == test_peer(about));
    events.map(|event| (&event.kind, &event.targets[..])).collect()
}

#[test]
fn a_repeated_room_creation_changes_nothing() {
    let room = room_with_settings(|_| {});
    assert!(
        decide(&room, 0, &[create_room(|_| {})], &TEST_POLICY).is_empty(),
        "the answer was lost and it is asked again"
    );
    assert_eq!(
        outcome_at(&room, 0, create_room(|settings| settings.created_at = 2)),
        InputOutcome::RoomExists
    );
    let in_use = room_after(&[join_input(1, 1)]);
    assert_eq!(
        outcome_at(&in_use, 0, create_room(|_| {})),
        InputOutcome::RoomExists,
        "nor is one that is in use"
    );
}

#[test]
fn a_created_room_exists_empty_until_its_retention_ends() {
    let room = room_with_settings(|settings| settings.max_peers = Some(2));
    let used = state_after(&room, 10, &[join_input(1, 1)]);
    let leave = RoomInput::Leave { peer: test_peer(1), epoch: 1, reason: LeaveReason::Left };
    let left = state_after(&used, 20, &[leave]);
    assert_eq!((left.settings.max_peers, left.members.len()), (Some(2), 0));
    assert!(decide(&left, 49_999, &[RoomInput::CheckDeadlines], &TEST_POLICY).is_empty());
    let over = decide(&left, 50_000, &[RoomInput::CheckDeadlines], &TEST_POLICY);
    assert!(
        over.settings_changed && !over.next_state.settings.is_created() && !over.next_state.exists(50_000)
    );
    // Members may stay when the retention ends; the room ends with the last of them.
    assert!(decide(&used, 50_000, &[RoomInput::CheckDeadlines], &TEST_POLICY).is_empty());
}

#[test]
fn each_room_setting_has_its_own_refusal() {
    let refused =
        |change: fn(&mut RoomSettings)| outcome_at(&room_with_settings(change), 100, join_input(1, 1));
    assert_eq!(refused(|settings| settings.locked = true), InputOutcome::RoomLocked);
    assert_eq!(refused(|settings| settings.enabled = false), InputOutcome::RoomDisabled);
    assert_eq!(refused(|settings| settings.starts_at = Some(101)), InputOutcome::RoomNotStarted);
    assert_eq!(refused(|settings| settings.starts_at = Some(100)), InputOutcome::Done);
    assert_eq!(refused(|settings| settings.max_peers = Some(0)), InputOutcome::RoomFull);
    let early = room_with_settings(|settings| settings.starts_at = Some(101));
    assert_eq!(
        outcome_at(&early, 100, join_with_permissions(1, MODERATOR_PERMISSIONS)),
        InputOutcome::Done,
        "a moderator prepares the room"
    );
    let rules = RoomPolicy { auto_create_rooms: false, ..TEST_POLICY.clone() };
    let nowhere = RoomState::new("r".into(), "L1".into());
    assert_eq!(decide(&nowhere, 0, &[join_input(1, 1)], &rules).outcomes, [InputOutcome::AutoCreateDisabled]);
    assert_eq!(
        decide(&room_with_settings(|_| {}), 0, &[join_input(1, 1)], &rules).outcomes,
        [InputOutcome::Done]
    );
}

#[test]
fn a_lock_in_one_batch_with_a_join_applies_in_input_order() {
    let room = room_after(&[join_with_permissions(1, HOST_PERMISSIONS)]);
    let lock = || ManageRoom::from_member(test_peer(1), 1, RoomAction::Lock(true));
    assert_eq!(
        decide(&room, 0, &[lock(), join_input(2, 2)], &TEST_POLICY).outcomes[1],
        InputOutcome::RoomLocked
    );
    let late = decide(&room, 0, &[join_input(2, 2), lock()], &TEST_POLICY);
    assert!(late.next_state.members.contains_key(&test_peer(2)) && late.next_state.settings.locked);
    // A member resumes although the room is locked.
    let detached = state_after(
        &late.next_state,
        0,
        &[RoomInput::Detach { peer: test_peer(2), epoch: 1, is_going: false }],
    );
    assert_eq!(outcome_at(&detached, 0, attach_input(2, 3, handle_proof(1))), InputOutcome::Attached(2));
}

#[test]
fn a_room_ends_at_its_duration_limit_and_can_start_again() {
    let room = state_after(
        &room_with_settings(|settings| settings.max_duration = Some(1)),
        100,
        &[join_input(1, 1), join_input(2, 2)],
    );
    assert_eq!(room.ends_at, 1_100);
    let ended = decide(&room, 1_100, &[RoomInput::CheckDeadlines], &TEST_POLICY);
    assert_eq!(ended.next_state.tombstones[&test_peer(1)].reason, LeaveReason::Ended);
    assert_eq!(outcome_at(&ended.next_state, 1_200, join_input(3, 3)), InputOutcome::Done);
    // At the limit of all rooms the members leave, and their connections may join again.
    let plain = state_after(&RoomState::new("r".into(), "L1".into()), 1, &[join_input(1, 1)]);
    let over = decide(&plain, 1 + TEST_POLICY.max_room_life_ms, &[RoomInput::CheckDeadlines], &TEST_POLICY);
    assert_eq!(over.next_state.tombstones[&test_peer(1)].reason, LeaveReason::Timeout);
}

#[test]
fn a_moderator_removes_only_members_of_a_lower_rank() {
    let room = room_after(&[
        join_with_permissions(1, HOST_PERMISSIONS),
        join_with_permissions(2, MODERATOR_PERMISSIONS),
        join_input(3, 3),
        join_with_permissions(4, HOST_PERMISSIONS),
    ]);
    for (by, target, expected) in [
        (2, 3, InputOutcome::Removed(1)),
        (1, 2, InputOutcome::Removed(1)),
        (2, 1, InputOutcome::NotPermitted),
        (1, 4, InputOutcome::NotPermitted),
        (3, 2, InputOutcome::NotPermitted),
        (2, 9, InputOutcome::NoSuchPeer),
        (9, 3, InputOutcome::PeerGone),
    ] {
        assert_eq!(outcome_at(&room, 0, remove_peer(by, target)), expected, "{by} removes {target}");
    }
    let api = RoomAction::Remove { selector: PeerSelector::Peer(test_peer(1)), reason: LeaveReason::Removed };
    assert_eq!(outcome_at(&room, 0, ManageRoom::from_api(api)), InputOutcome::Removed(1));
}

#[test]
fn a_permission_removed_in_the_same_batch_is_not_usable() {
    let room = room_after(&[join_with_permissions(1, HOST_PERMISSIONS), join_input(2, 2)]);
    let role = Role::parse("viewer").unwrap();
    let demote = ManageRoom::from_api(RoomAction::SetRole {
        peer: test_peer(1),
        role,
        permissions: permission_list(&[]),
        ice_policy: None,
    });
    let decision = decide(&room, 0, &[demote, remove_peer(1, 2)], &TEST_POLICY);
    assert_eq!(decision.outcomes, [InputOutcome::Done, InputOutcome::NotPermitted]);
    assert!(decision.next_state.members[&test_peer(1)].has_assigned_permissions);
    assert!(
        matches!(events_about(&decision, 1)[0], (RoomEventKind::PermissionsChanged(..), [only]) if *only == test_peer(1))
    );
    assert!(
        matches!(events_about(&decision, 1)[1], (RoomEventKind::Updated(_), [only]) if *only == test_peer(2))
    );
}

#[test]
fn a_removed_peer_cannot_return_with_its_handle() {
    let room = room_after(&[join_with_permissions(1, HOST_PERMISSIONS), join_input(2, 2)]);
    let removed = state_after(&room, 0, &[remove_peer(1, 2)]);
    assert_eq!(removed.tombstones[&test_peer(2)].reason, LeaveReason::Removed);
    assert_eq!(outcome_at(&removed, 1, attach_input(2, 3, handle_proof(1))), InputOutcome::PeerGone);
}

#[test]
fn unmuting_restores_only_the_former_permissions() {
    let room = room_after(&[
        join_with_permissions(1, HOST_PERMISSIONS),
        join_with_permissions(2, &["message", "publish"]),
        join_input(3, 3),
    ]);
    let mute =
        |peer, on| ManageRoom::from_member(super::test_peer(1), 1, RoomAction::Mute { peer, muted: on });
    let muted = state_after(&room, 0, &[mute(test_peer(2), true)]);
    assert!(
        !muted.members[&test_peer(2)].has_permission(Permission::Publish)
            && muted.members[&test_peer(2)].muted
    );
    let again = state_after(&muted, 0, &[mute(test_peer(2), false)]);
    assert!(
        again.members[&test_peer(2)].has_permission(Permission::Publish)
            && !again.members[&test_peer(2)].muted
    );
    // A member that never had the permission does not gain it.
    assert!(
        decide(&room, 0, &[mute(test_peer(3), true), mute(test_peer(3), false)], &TEST_POLICY).is_empty()
    );
}

#[test]
fn only_admitters_hear_of_a_peer_in_the_lobby() {
    let room = state_after(
        &room_with_settings(|settings| settings.lobby = true),
        0,
        &[join_with_permissions(1, HOST_PERMISSIONS), join_with_permissions(2, &["message"])],
    );
    assert!(room.members[&test_peer(2)].waiting && !room.members[&test_peer(1)].waiting);
    let inside =
        state_after(&room, 0, &[ManageRoom::from_member(test_peer(1), 1, RoomAction::Admit(test_peer(2)))]);
    let knocked = decide(&inside, 0, &[join_input(3, 3)], &TEST_POLICY);
    assert!(
        matches!(events_about(&knocked, 3)[..], [(RoomEventKind::Knocked(_), [only])] if *only == test_peer(1))
    );
    assert_eq!(knocked.next_state.peer_entries_for(&test_peer(2)).len(), 1, "the host");
    assert_eq!(knocked.next_state.knockers_for(&test_peer(1)).len(), 1);
    assert_eq!(knocked.next_state.knockers_for(&test_peer(2)).len(), 0);
    // Only the admitter receives events about a peer that detaches and leaves in the lobby.
    let lost = decide(
        &knocked.next_state,
        0,
        &[RoomInput::Detach { peer: test_peer(3), epoch: 1, is_going: false }],
        &TEST_POLICY,
    );
    assert!(lost.events.is_empty());
    let decision = decide(&lost.next_state, 1_000, &[RoomInput::CheckDeadlines], &TEST_POLICY);
    let ended = events_about(&decision, 3);
    assert!(
        matches!(ended[..], [(RoomEventKind::KnockEnded(Some(LeaveReason::Timeout)), [only])] if *only == test_peer(1))
    );
}

#[test]
fn waiting_peers_are_resynced_when_the_first_admitter_comes_or_the_last_one_leaves() {
    let waiting = &test_peer(3);
    let join_moderator = |number| join_with_permissions(number, MODERATOR_PERMISSIONS);
    let leave = |number| RoomInput::Leave { peer: test_peer(number), epoch: 1, reason: LeaveReason::Left };
    let mut room = state_after(
        &room_with_settings(|settings| settings.lobby = true),
        0,
        &[join_with_permissions(3, &["message"])],
    );
    for (input, has_admitter, is_resynced) in [
        (join_moderator(1), true, true),
        (join_moderator(2), true, false),
        (leave(1), true, false),
        (leave(2), false, true),
    ] {
        let decision = decide(&room, 0, std::slice::from_ref(&input), &TEST_POLICY);
        let resynced = decision.peers_to_resync(&room).any(|(_, peer)| peer == waiting);
        assert_eq!((decision.next_state.has_admitter(), resynced), (has_admitter, is_resynced), "{input:?}");
        room = decision.next_state;
    }
}

#[test]
fn an_admitted_peer_is_announced_once() {
    let room = state_after(
        &room_with_settings(|s| s.lobby = true),
        0,
        &[
            join_with_permissions(1, HOST_PERMISSIONS),
            join_with_permissions(2, MODERATOR_PERMISSIONS),
            join_input(3, 3),
        ],
    );
    let admit = || ManageRoom::from_member(test_peer(1), 1, RoomAction::Admit(test_peer(3)));
    let decision = decide(&room, 0, &[admit(), admit()], &TEST_POLICY);
    assert_eq!(decision.outcomes, [InputOutcome::Done, InputOutcome::Done]);
    let events = events_about(&decision, 3);
    assert!(
        matches!(events[..], [(RoomEventKind::KnockEnded(None), _), (RoomEventKind::Joined(_), [_, _])]),
        "{events:?}"
    );
    assert_eq!(
        outcome_at(
            &decision.next_state,
            0,
            ManageRoom::from_member(test_peer(3), 1, RoomAction::Admit(test_peer(3)))
        ),
        InputOutcome::NotPermitted
    );
}

#[test]
fn a_peer_removed_from_the_lobby_counts_as_rejected() {
    let room = state_after(
        &room_with_settings(|s| s.lobby = true),
        0,
        &[join_with_permissions(1, HOST_PERMISSIONS), join_input(2, 2), join_input(3, 3)],
    );
    let reject = ManageRoom::from_member(test_peer(1), 1, RoomAction::Reject(test_peer(2)));
    let next = state_after(&room, 0, &[reject, remove_peer(1, 3)]);
    assert_eq!(
        (next.tombstones[&test_peer(2)].reason, next.tombstones[&test_peer(3)].reason),
        (LeaveReason::Denied, LeaveReason::Denied)
    );
    assert_eq!(
        outcome_at(&room, 0, ManageRoom::from_api(RoomAction::Reject(test_peer(1)))),
        InputOutcome::NoSuchPeer,
        "it does not wait"
    );
}

#[test]
fn lobby_peers_count_and_are_admitted_when_the_lobby_closes() {
    let waiting: Vec<_> = (2..6).map(|n| join_input(n, n)).collect();
    let room = state_after(
        &state_after(
            &room_with_settings(|s| s.lobby = true),
            0,
            &[join_with_permissions(1, HOST_PERMISSIONS)],
        ),
        0,
        &waiting,
    );
    assert_eq!(outcome_at(&room, 0, join_input(6, 6)), InputOutcome::RoomFull);
    let open =
        ManageRoom::from_api(RoomAction::Configure(RoomPatch { lobby: Some(false), ..RoomPatch::default() }));
    assert!(state_after(&room, 0, &[open]).members.values().all(|member| !member.waiting));
}

#[test]
fn a_new_admitter_hears_of_the_peers_in_the_lobby() {
    let room = state_after(
        &room_with_settings(|s| s.lobby = true),
        0,
        &[
            join_with_permissions(1, HOST_PERMISSIONS),
            join_with_permissions(2, MODERATOR_PERMISSIONS),
            join_input(3, 3),
        ],
    );
    let role = |peer, names| {
        let role = Role::parse("x").unwrap();
        ManageRoom::from_api(RoomAction::SetRole {
            peer,
            role,
            permissions: permission_list(names),
            ice_policy: None,
        })
    };
    let lowered = state_after(&room, 0, &[role(test_peer(2), &[])]);
    let raised = decide(&lowered, 0, &[role(test_peer(2), MODERATOR_PERMISSIONS)], &TEST_POLICY);
    assert!(
        matches!(events_about(&raised, 3)[..], [(RoomEventKind::Knocked(_), [only])] if *only == test_peer(2))
    );
}

#[test]
fn ending_a_room_removes_all_members_and_keeps_its_lock() {
    let room = room_after(&[join_with_permissions(1, HOST_PERMISSIONS), join_input(2, 2)]);
    let ended = decide(
        &room,
        0,
        &[ManageRoom::from_member(test_peer(1), 1, RoomAction::End { lock_room: true })],
        &TEST_POLICY,
    );
    assert_eq!((ended.outcomes[0], ended.next_state.members.len()), (InputOutcome::Removed(2), 0));
    assert_eq!(ended.next_state.tombstones[&test_peer(1)].reason, LeaveReason::Ended);
    assert_eq!(outcome_at(&ended.next_state, 10, join_input(3, 3)), InputOutcome::RoomLocked);
    let open = state_after(&room, 0, &[ManageRoom::from_api(RoomAction::End { lock_room: false })]);
    assert_eq!(outcome_at(&open, 10, join_input(3, 3)), InputOutcome::Done);
    let deleted = state_after(&ended.next_state, 20, &[ManageRoom::from_api(RoomAction::Delete)]);
    assert_eq!(
        outcome_at(&deleted, 30, ManageRoom::from_api(RoomAction::Lock(true))),
        InputOutcome::NoSuchRoom
    );
}

#[test]
fn an_application_message_reaches_members_but_not_the_lobby() {
    let room = state_after(
        &room_with_settings(|s| s.lobby = true),
        0,
        &[join_with_permissions(1, HOST_PERMISSIONS), join_input(2, 2)],
    );
    let say = |to: Option<PeerId>| {
        let data = RawValue::from_string("[1]".into()).unwrap().into();
        ManageRoom::from_api(RoomAction::SendMessage { to, data })
    };
    let decision = decide(&room, 0, &[say(None)], &TEST_POLICY);
    assert_eq!((&decision.events[0].targets[..], decision.is_empty()), (&[test_peer(1)][..], false));
    assert_eq!(outcome_at(&room, 0, say(Some(test_peer(2)))), InputOutcome::NoSuchPeer);
}

#[test]
fn room_settings_survive_a_store_that_forgot_the_room() {
    let room = state_after(&room_with_settings(|s| s.locked = false), 0, &[join_input(1, 1)]);
    let locked = state_after(&room, 0, &[ManageRoom::from_api(RoomAction::Lock(true))]);
    let restored = locked.rebuild_for_store("L2".into(), 5);
    assert!(restored.settings.locked && restored.version == 0);
    assert_eq!(outcome_at(&restored, 5, join_input(2, 2)), InputOutcome::RoomLocked);
}

#[test]
fn a_muted_member_cannot_unmute_itself() {
    let room = room_after(&[
        join_with_permissions(1, HOST_PERMISSIONS),
        join_with_permissions(2, MODERATOR_PERMISSIONS),
    ]);
    let mute = |by: u8, on| {
        ManageRoom::from_member(test_peer(by), 1, RoomAction::Mute { peer: test_peer(2), muted: on })
    };
    let muted = state_after(&room, 0, &[mute(1, true)]);
    assert_eq!(outcome_at(&muted, 0, mute(2, false)), InputOutcome::NotPermitted);
    assert_eq!(outcome_at(&muted, 0, mute(1, false)), InputOutcome::Done);
    assert_eq!(outcome_at(&room, 0, mute(2, true)), InputOutcome::Done, "a member may mute itself");
}

/// Its frames may still wait in a buffer after its client has resumed on another connection.
#[test]
fn an_older_connection_can_neither_rename_its_peer_nor_act_for_it() {
    let room = state_after(
        &room_after(&[join_with_permissions(1, HOST_PERMISSIONS), join_input(2, 2)]),
        0,
        &[attach_input(1, 7, handle_proof(1))],
    );
    let rename = |epoch| RoomInput::UpdateRecord {
        peer: test_peer(1),
        epoch,
        name: Some("late".into()),
        metadata: None,
    };
    let lock = |epoch| ManageRoom::from_member(test_peer(1), epoch, RoomAction::Lock(true));
    let late = decide(&room, 0, &[rename(1), lock(1)], &TEST_POLICY);
    assert!(late.is_empty());
    assert_eq!(late.outcomes, [InputOutcome::PeerGone, InputOutcome::PeerGone]);
    assert_eq!(
        decide(&room, 0, &[rename(2), lock(2)], &TEST_POLICY).outcomes,
        [InputOutcome::Done, InputOutcome::Done]
    );
}

#[test]
fn a_peer_that_joins_and_is_removed_in_one_commit_cannot_return() {
    let room = room_after(&[join_with_permissions(1, HOST_PERMISSIONS)]);
    let remove_user = RoomAction::Remove {
        selector: PeerSelector::User(test_member(2, 1).user),
        reason: LeaveReason::Removed,
    };
    let newcomer = test_member(2, 1);
    let token = newcomer.token.clone();
    let joins = RoomInput::Join { peer: test_peer(2), member: newcomer };
    let decision = decide(&room, 0, &[joins, ManageRoom::from_api(remove_user)], &TEST_POLICY);
    assert_eq!(decision.outcomes, [InputOutcome::Done, InputOutcome::Removed(1)]);
    let tokens: Vec<_> = crate::removal::removed_peers(&decision).map(|removed| removed.token).collect();
    assert_eq!(tokens, [token]);
}

fn join_for_creation(n: u8, creation: Option<u64>) -> RoomInput {
    let creation = creation.map(|number| CreationId::parse(&format!("{number:032x}")).unwrap());
    RoomInput::Join { peer: test_peer(n), member: Box::new(Member { creation, ..*test_member(n, 1) }) }
}

#[test]
fn a_token_is_for_one_creation_of_its_room() {
    let second = room_with_settings(|settings| settings.created_at = 2);
    let opened_by_a_join = room_after(&[join_input(9, 9)]);
    for (room, creation, expected) in [
        (&second, Some(2), InputOutcome::Done),
        (&second, Some(1), InputOutcome::OtherCreation),
        (&second, None, InputOutcome::Done),
        (&opened_by_a_join, Some(1), InputOutcome::OtherCreation),
        (&opened_by_a_join, None, InputOutcome::Done),
    ] {
        assert_eq!(outcome_at(room, 0, join_for_creation(1, creation)), expected, "{creation:?}");
    }
    let deleted = state_after(&second, 0, &[ManageRoom::from_api(RoomAction::Delete)]);
    assert_eq!(outcome_at(&deleted, 0, join_for_creation(1, Some(2))), InputOutcome::OtherCreation);
}

#[test]
fn a_newer_token_or_a_forgotten_peer_of_an_earlier_room_is_refused() {
    let room = state_after(
        &room_with_settings(|settings| settings.created_at = 2),
        0,
        &[join_for_creation(1, None)],
    );
    let record = |creation: u64| {
        let RoomInput::Join { member, .. } = join_for_creation(1, Some(creation)) else { unreachable!() };
        let token_record = Box::new(TokenRecord { issued: 9, expires: 99, ..member.token_record() });
        RoomInput::RefreshToken { peer: test_peer(1), epoch: 1, token_record }
    };
    assert_eq!(outcome_at(&room, 0, record(1)), InputOutcome::OtherCreation);
    assert_eq!(outcome_at(&room, 0, record(2)), InputOutcome::Done);
    // A store that has forgotten the whole room has forgotten its creation too.
    let forgotten = RoomState::new("r".into(), "L1".into());
    for (room, creation, is_admitted) in [(&room, 1, false), (&room, 2, true), (&forgotten, 1, true)] {
        let mut claim = test_claim(3, 1, handle_proof(1), "another history");
        let RoomInput::Join { member, .. } = join_for_creation(3, Some(creation)) else { unreachable!() };
        claim.member = *member;
        let outcome = outcome_at(room, 0, RoomInput::Attach(Box::new(claim)));
        assert_eq!(matches!(outcome, InputOutcome::Attached(_)), is_admitted, "{creation}: {outcome:?}");
        assert_eq!(outcome == InputOutcome::OtherCreation, !is_admitted, "{creation}: {outcome:?}");
    }
}
