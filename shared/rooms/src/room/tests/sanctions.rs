//! Sanctions outlast the peers of a user, and end with the room. Places of the lobby, and of peers
//! that may admit or moderate.

use super::*;

const HOST: &[&str] = &["publish", "message", "moderate", "admit", "end"];
const SPEAKER: &[&str] = &["publish", "message"];

fn permission_list(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn member_with(user: u8, names: &[&str]) -> Box<Member> {
    Box::new(Member { permissions: permission_list(names), ..*test_member(user, 1) })
}

fn join_with(n: u8, member: Box<Member>) -> RoomInput {
    RoomInput::Join { peer: test_peer(n), member }
}

fn guest(user: u8, expires: u64) -> Box<Member> {
    Box::new(Member { caller: CallerId::guest(), expires, ..*member_with(user, SPEAKER) })
}

fn leave(n: u8) -> RoomInput {
    RoomInput::Leave { peer: test_peer(n), epoch: 1, reason: LeaveReason::Left }
}

fn from_api(action: RoomAction) -> RoomInput {
    ManageRoom::from_api(action)
}

fn remove(n: u8) -> RoomInput {
    let (selector, reason) = (PeerSelector::Peer(test_peer(n)), LeaveReason::Removed);
    from_api(RoomAction::Remove { selector, reason })
}

fn mute(n: u8, muted: bool) -> RoomInput {
    from_api(RoomAction::Mute { peer: test_peer(n), muted })
}

fn set_role(n: u8, role: &str, names: &[&str]) -> RoomInput {
    let (role, permissions) = (Role::parse(role).unwrap(), permission_list(names));
    from_api(RoomAction::SetRole { peer: test_peer(n), role, permissions, ice_policy: None })
}

fn state_after(state: &RoomState, inputs: &[RoomInput]) -> RoomState {
    decide(state, 0, inputs, &TEST_POLICY).next_state
}

/// A room that peer 1, a host, keeps open, with the speaker 2.
fn room_with_speaker() -> RoomState {
    room_after(&[join_with(1, member_with(1, HOST)), join_with(2, member_with(2, SPEAKER))])
}

fn outcome(state: &RoomState, now: u64, input: RoomInput) -> InputOutcome {
    decide(state, now, &[input], &TEST_POLICY).outcomes[0]
}

#[test]
fn a_removed_user_cannot_join_with_any_token_until_the_removal_is_lifted() {
    let room = state_after(&room_with_speaker(), &[remove(2)]);
    let again = || join_with(3, member_with(2, SPEAKER));
    assert_eq!(outcome(&room, 0, again()), InputOutcome::UserRemoved);
    assert_eq!(outcome(&room, 0, join_with(3, member_with(3, SPEAKER))), InputOutcome::Done, "another user");
    assert_eq!(outcome(&room, 0, join_with(3, guest(2, 9))), InputOutcome::Done, "a guest with this name");
    let claim = test_claim(2, 1, handle_proof(1), "L0");
    assert_eq!(outcome(&room, 0, RoomInput::Attach(Box::new(claim))), InputOutcome::PeerGone);
    let user = test_member(2, 1).user;
    let lifted = decide(&room, 0, &[from_api(RoomAction::LiftSanctions(user.clone()))], &TEST_POLICY);
    assert!(lifted.outcomes == [InputOutcome::Done] && lifted.sanctions_changed);
    assert_eq!(outcome(&lifted.next_state, 0, again()), InputOutcome::Done);
    let twice = from_api(RoomAction::LiftSanctions(user));
    assert_eq!(outcome(&lifted.next_state, 0, twice), InputOutcome::NoSuchSanction);
}

#[test]
fn a_store_that_has_forgotten_a_removed_peer_does_not_readmit_it() {
    let mut room = state_after(&room_with_speaker(), &[remove(2)]);
    room.tombstones.clear();
    for (proof, refusal) in [
        (handle_proof(1), InputOutcome::UserRemoved),
        (ClaimProof::Connection { epoch: 1 }, InputOutcome::PeerGone),
    ] {
        let claim = test_claim(2, 1, proof, "L0");
        assert_eq!(outcome(&room, 0, RoomInput::Attach(Box::new(claim))), refusal);
    }
}

#[test]
fn a_removed_guest_is_refused_as_long_as_its_token_is_valid() {
    let room = state_after(&room_with_speaker(), &[join_with(3, guest(3, 900)), remove(3)]);
    assert_eq!(outcome(&room, 959_999, join_with(4, guest(3, 900))), InputOutcome::UserRemoved);
    assert_eq!(outcome(&room, 960_000, join_with(4, guest(3, 1_900))), InputOutcome::Done);
    // An expired sanction frees its place.
    let next = decide(&room, 960_000, &[remove(2)], &TEST_POLICY).next_state;
    assert_eq!(next.sanctions.iter().count(), 1);
}

#[test]
fn a_denied_peer_and_a_banned_user_are_refused_with_their_own_codes() {
    let lobby = from_api(RoomAction::Configure(RoomPatch { lobby: Some(true), ..RoomPatch::default() }));
    let room = state_after(&room_with_speaker(), &[lobby, join_with(3, member_with(3, SPEAKER))]);
    assert!(room.members[&test_peer(3)].waiting);
    let denied = state_after(&room, &[from_api(RoomAction::Reject(test_peer(3)))]);
    assert_eq!(outcome(&denied, 0, join_with(4, member_with(3, SPEAKER))), InputOutcome::UserDenied);
    let ban = RoomAction::Ban { user: test_member(2, 1).user, until: 100 };
    let banned = decide(&room, 0, &[from_api(ban)], &TEST_POLICY);
    assert_eq!(banned.outcomes, [InputOutcome::Removed(1)]);
    assert_eq!(outcome(&banned.next_state, 99, join_with(4, guest(2, 9))), InputOutcome::UserBanned);
    assert_eq!(outcome(&banned.next_state, 100, join_with(4, guest(2, 9))), InputOutcome::Done);
}

#[test]
fn a_mute_by_another_applies_to_later_peers_of_the_user_and_a_self_mute_does_not() {
    let publishes = |room: &RoomState, n: u8| room.members[&test_peer(n)].has_permission(Permission::Publish);
    let muted = state_after(
        &room_with_speaker(),
        &[
            mute(2, true),
            leave(2),
            join_with(3, member_with(2, SPEAKER)),
            join_with(4, member_with(4, SPEAKER)),
        ],
    );
    assert!(!publishes(&muted, 3) && muted.members[&test_peer(3)].muted && publishes(&muted, 4));
    let unmuted = state_after(&muted, &[mute(3, false), leave(3), join_with(5, member_with(2, SPEAKER))]);
    assert!(publishes(&unmuted, 5) && unmuted.sanctions.is_empty());
    let by_itself =
        ManageRoom::from_member(test_peer(1), 1, RoomAction::Mute { peer: test_peer(1), muted: true });
    let room = state_after(&room_with_speaker(), &[by_itself, leave(1), join_with(6, member_with(1, HOST))]);
    assert!(publishes(&room, 6));
}

#[test]
fn a_demotion_applies_to_later_peers_and_a_promotion_ends_with_the_peer() {
    let rejoin = |role: &str, names: &[&str]| {
        let again = join_with(3, member_with(2, SPEAKER));
        let room = state_after(&room_with_speaker(), &[set_role(2, role, names), leave(2), again]);
        let member = &room.members[&test_peer(3)];
        (member.role.to_string(), member.permissions.len(), member.has_assigned_permissions)
    };
    assert_eq!(rejoin("viewer", &[]), ("viewer".to_owned(), 0, true));
    assert_eq!(
        rejoin("watcher", SPEAKER),
        ("watcher".to_owned(), 2, true),
        "other rules of the same permissions"
    );
    assert_eq!(
        rejoin("mixed", &["message", "moderate"]),
        ("mixed".to_owned(), 1, true),
        "no permission is gained"
    );
    assert_eq!(rejoin("host", HOST), ("guest".to_owned(), 2, false));
    let muted = [
        set_role(2, "viewer", &[]),
        set_role(2, "guest", SPEAKER),
        leave(2),
        join_with(3, member_with(2, SPEAKER)),
    ];
    assert_eq!(state_after(&room_with_speaker(), &muted).members[&test_peer(3)].permissions.len(), 2);
}

#[test]
fn a_full_list_of_sanctions_refuses_a_removal_and_removes_no_peer() {
    let mut room = room_with_speaker();
    for n in 10..13 {
        room = state_after(&room, &[join_with(n, member_with(n, SPEAKER)), remove(n)]);
    }
    assert_eq!(room.sanctions.iter().count(), TEST_POLICY.max_sanctions);
    for refused in [remove(2), mute(2, true), set_role(2, "viewer", &[])] {
        let decision = decide(&room, 0, &[refused], &TEST_POLICY);
        assert!(decision.is_empty() && decision.outcomes == [InputOutcome::SanctionLimit]);
    }
    let ban = from_api(RoomAction::Ban { user: test_member(2, 1).user, until: 100 });
    assert_eq!(outcome(&room, 0, ban), InputOutcome::SanctionLimit);
    let lift = from_api(RoomAction::LiftSanctions(test_member(10, 1).user));
    assert_eq!(decide(&room, 0, &[lift, remove(2)], &TEST_POLICY).outcomes[1], InputOutcome::Removed(1));
}

#[test]
fn sanctions_end_with_their_room() {
    let room = state_after(&room_with_speaker(), &[remove(2)]);
    let ended = decide(&room, 0, &[leave(1)], &TEST_POLICY);
    assert!(ended.sanctions_changed && ended.next_state.sanctions.is_empty());
    assert_eq!(outcome(&ended.next_state, 0, join_with(3, member_with(2, SPEAKER))), InputOutcome::Done);
    // An older release ends a room and leaves the sanctions.
    let left_over = RoomState { sanctions: room.sanctions.clone(), ..ended.next_state };
    let next = decide(&left_over, 0, &[join_with(3, member_with(2, SPEAKER))], &TEST_POLICY);
    assert!(next.outcomes == [InputOutcome::Done] && next.sanctions_changed);
    assert!(next.next_state.sanctions.is_empty());
    // A kept room keeps them while it is empty.
    let settings = RoomSettings { created_at: 1, kept_until: 50_000, ..RoomSettings::default() };
    let kept = RoomState { settings: settings.into(), ..room };
    let empty = state_after(&kept, &[leave(1)]);
    assert_eq!(outcome(&empty, 0, join_with(3, member_with(2, SPEAKER))), InputOutcome::UserRemoved);
    let deleted = decide(&empty, 0, &[from_api(RoomAction::Delete)], &TEST_POLICY);
    assert!(deleted.next_state.sanctions.is_empty());
}

fn room_with_lobby() -> RoomState {
    let settings = RoomSettings {
        created_at: 1,
        kept_until: 50_000,
        lobby: true,
        max_peers: Some(2),
        ..RoomSettings::default()
    };
    RoomState { settings: settings.into(), version: 1, ..RoomState::new("r".into(), "L1".into()) }
}

#[test]
fn waiting_peers_have_places_of_their_own_and_no_caller_gets_all() {
    let mut room = room_with_lobby();
    for n in 10..13 {
        assert_eq!(outcome(&room, 0, join_with(n, member_with(n, SPEAKER))), InputOutcome::Done);
        room = state_after(&room, &[join_with(n, member_with(n, SPEAKER))]);
    }
    assert_eq!(outcome(&room, 0, join_with(13, member_with(13, SPEAKER))), InputOutcome::RoomFull);
    let room = state_after(&room, &[join_with(14, guest(14, 9)), join_with(1, member_with(1, HOST))]);
    assert_eq!((room.count_present(), room.members.len()), (1, 5), "the host and a guest have joined");
    assert_eq!(outcome(&room, 0, join_with(15, guest(15, 9))), InputOutcome::RoomFull, "the lobby is full");
}

#[test]
fn a_peer_is_admitted_only_while_the_room_has_a_place() {
    let inputs =
        [(1, HOST), (10, SPEAKER), (11, SPEAKER)].map(|(n, names)| join_with(n, member_with(n, names)));
    let room = state_after(&room_with_lobby(), &inputs);
    let admit = |n| ManageRoom::from_member(test_peer(1), 1, RoomAction::Admit(test_peer(n)));
    let decision = decide(&room, 0, &[admit(10), admit(11), leave(10), admit(11)], &TEST_POLICY);
    use InputOutcome::{Done, RoomFull};
    assert_eq!(decision.outcomes, [Done, RoomFull, Done, Done]);
    // When the lobby closes, peers without a place keep waiting.
    let open = from_api(RoomAction::Configure(RoomPatch { lobby: Some(false), ..RoomPatch::default() }));
    let room = state_after(&room, &[open]);
    assert_eq!(room.members.values().filter(|member| member.waiting).count(), 1);
}

#[test]
fn a_moderator_joins_a_full_or_locked_room_within_bounds() {
    let settings =
        RoomSettings { created_at: 1, kept_until: 50_000, max_peers: Some(1), ..RoomSettings::default() };
    let room = RoomState { settings: settings.into(), version: 1, ..RoomState::new("r".into(), "L1".into()) };
    let room = state_after(&room, &[join_with(10, member_with(10, SPEAKER))]);
    assert_eq!(outcome(&room, 0, join_with(11, member_with(11, SPEAKER))), InputOutcome::RoomFull);
    for names in [&["admit"][..], &["moderate"]] {
        let joined = state_after(&room, &[join_with(1, member_with(1, names))]);
        assert_eq!(joined.count_present(), 2, "{names:?}");
        let next = join_with(2, member_with(2, names));
        assert_eq!(outcome(&joined, 0, next), InputOutcome::RoomFull, "one extra place");
    }
    let locked = state_after(&room, &[leave(10), from_api(RoomAction::Lock(true))]);
    assert_eq!(outcome(&locked, 0, join_with(1, member_with(1, HOST))), InputOutcome::Done);
    for names in [&["admit"][..], SPEAKER] {
        assert_eq!(outcome(&locked, 0, join_with(1, member_with(1, names))), InputOutcome::RoomLocked);
    }
}
