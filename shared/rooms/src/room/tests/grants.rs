//! Grants and tokens of members.

use super::*;

fn member_with_token(user: u8, token: &str) -> Box<Member> {
    Box::new(Member { token: TokenId::parse(token).unwrap(), ..*test_member(user, 1) })
}

fn join_with_token(n: u8, user: u8, token: &str) -> RoomInput {
    RoomInput::Join { peer: test_peer(n), member: member_with_token(user, token) }
}

fn outcome_of(room: &RoomState, input: RoomInput) -> InputOutcome {
    decide(room, 0, &[input], &TEST_POLICY).outcomes[0]
}

#[test]
fn one_grant_serves_one_connected_peer() {
    let room = room_after(&[join_with_token(1, 1, "g.7")]);
    assert_eq!(outcome_of(&room, join_with_token(2, 1, "g")), InputOutcome::TokenInUse);
    assert_eq!(outcome_of(&room, join_with_token(2, 1, "g.8")), InputOutcome::TokenInUse);
    assert_eq!(outcome_of(&room, join_with_token(2, 1, "other")), InputOutcome::Done);
    assert_eq!(
        outcome_of(&room, join_with_token(2, 2, "g.7")),
        InputOutcome::Done,
        "an application may number its users' tokens"
    );
    assert_eq!(
        outcome_of(&room, join_with_token(1, 1, "g.7")),
        InputOutcome::Done,
        "deciding twice decides the same"
    );
    let new = RoomState::new("r".into(), "L1".into());
    let both = decide(&new, 0, &[join_with_token(1, 1, "g"), join_with_token(2, 1, "g")], &TEST_POLICY);
    assert_eq!(both.outcomes, [InputOutcome::Done, InputOutcome::TokenInUse]);
}

#[test]
fn a_detached_peer_is_replaced_by_its_grant_even_in_a_full_room() {
    let all: Vec<_> = (1..=5).map(|n| join_with_token(n, n, &format!("g{n}"))).collect();
    let lost = [RoomInput::Detach { peer: test_peer(1), epoch: 1, is_going: false }];
    let room = decide(&room_after(&all), 0, &lost, &TEST_POLICY).next_state;
    let decision = decide(&room, 0, &[join_with_token(9, 1, "g1.2")], &TEST_POLICY);
    assert_eq!(decision.outcomes, [InputOutcome::Done]);
    assert!(
        decision.removed_peers.contains(&test_peer(1))
            && decision.next_state.members.contains_key(&test_peer(9))
    );
    let kinds: Vec<_> = decision.events.iter().map(|event| (&event.kind, event.about_peer.clone())).collect();
    assert!(matches!(
        kinds[..],
        [(RoomEventKind::Left(LeaveReason::Replaced), _), (RoomEventKind::Joined(_), _)]
    ));
    assert_eq!(outcome_of(&room, join_with_token(9, 9, "g9")), InputOutcome::RoomFull);
}

#[test]
fn a_replacement_keeps_the_role_mute_and_lobby_of_its_predecessor() {
    let lost = [RoomInput::Detach { peer: test_peer(1), epoch: 1, is_going: false }];
    let mut room = decide(&room_after(&[join_with_token(1, 1, "g")]), 0, &lost, &TEST_POLICY).next_state;
    let known = Arc::make_mut(room.members.get_mut(&test_peer(1)).unwrap());
    (known.role, known.has_assigned_permissions, known.muted) = (Role::parse("viewer").unwrap(), true, true);
    let next = decide(&room, 0, &[join_with_token(9, 1, "g.1")], &TEST_POLICY).next_state;
    let member = &next.members[&test_peer(9)];
    assert_eq!((member.role.as_str(), member.has_assigned_permissions, member.muted), ("viewer", true, true));
    Arc::make_mut(room.members.get_mut(&test_peer(1)).unwrap()).waiting = true;
    assert!(
        decide(&room, 0, &[join_with_token(9, 1, "g.1")], &TEST_POLICY).next_state.members[&test_peer(9)]
            .waiting
    );
}

#[test]
fn a_refreshed_moderator_token_leaves_the_lobby() {
    let mut room = room_after(&[join_with_token(1, 1, "g"), join_with_token(2, 2, "h")]);
    Arc::make_mut(room.members.get_mut(&test_peer(1)).unwrap()).waiting = true;
    let quiet = decide(&room, 0, &[refresh_token(1, 1, token_record("g.1", 10, 20, "guest"))], &TEST_POLICY);
    assert!(
        quiet.next_state.members[&test_peer(1)].waiting
            != quiet.next_state.members[&test_peer(1)].skips_lobby(&TEST_POLICY.role_policy)
    );
    let decision =
        decide(&room, 0, &[refresh_token(1, 1, token_record("g.2", 11, 20, "moderator"))], &TEST_POLICY);
    assert!(!decision.next_state.members[&test_peer(1)].waiting);
    assert!(decision.events.iter().any(|event| matches!(event.kind, RoomEventKind::Joined(_))));
}

fn token_record(token: &str, issued: u64, expires: u64, role: &str) -> Box<TokenRecord> {
    let role = Role::parse(role).unwrap();
    let record = member_with_token(1, token).token_record();
    Box::new(TokenRecord { issued, expires, role, permissions: vec![moderate_permission()].into(), ..record })
}

fn moderate_permission() -> std::sync::Arc<str> {
    "moderate".into()
}

fn refresh_token(n: u8, epoch: u64, record: Box<TokenRecord>) -> RoomInput {
    RoomInput::RefreshToken { peer: test_peer(n), epoch, token_record: record }
}

#[test]
fn the_newest_token_counts_and_a_new_role_is_announced() {
    let room = room_after(&[join_with_token(1, 1, "g"), join_with_token(2, 2, "h")]);
    let decision =
        decide(&room, 0, &[refresh_token(1, 1, token_record("g2", 10, 20, "moderator"))], &TEST_POLICY);
    assert!(matches!(&decision.events[..], [RoomEvent { kind: RoomEventKind::Updated(_), .. }]));
    let member = &decision.next_state.members[&test_peer(1)];
    assert_eq!((member.expires, member.role.as_str(), member.token.grant()), (20, "moderator", "g2"));
    assert_eq!(member.permissions[..], [moderate_permission()]);
    // An older token that arrives late changes nothing, nor does the same token twice.
    for late in [
        token_record("g3", 9, 99, "guest"),
        token_record("g3", 10, 19, "guest"),
        token_record("g2", 10, 20, "moderator"),
    ] {
        assert!(decide(&decision.next_state, 0, &[refresh_token(1, 1, late)], &TEST_POLICY).is_empty());
    }
    let quiet = decide(
        &decision.next_state,
        0,
        &[refresh_token(1, 1, token_record("g3", 10, 30, "moderator"))],
        &TEST_POLICY,
    );
    assert_eq!((quiet.events.len(), quiet.written_peers.len()), (0, 1));
    assert_eq!(
        outcome_of(&room, refresh_token(1, 2, token_record("g2", 10, 20, "guest"))),
        InputOutcome::PeerGone,
        "another epoch"
    );
    assert_eq!(
        outcome_of(&room, refresh_token(3, 1, token_record("g2", 10, 20, "guest"))),
        InputOutcome::PeerGone,
        "no such peer"
    );
}

#[test]
fn an_assigned_role_survives_token_refreshes() {
    let mut room = room_after(&[join_with_token(1, 1, "g")]);
    let member = Arc::make_mut(room.members.get_mut(&test_peer(1)).unwrap());
    (member.role, member.has_assigned_permissions) = (Role::parse("viewer").unwrap(), true);
    let next =
        decide(&room, 0, &[refresh_token(1, 1, token_record("g.1", 10, 20, "moderator"))], &TEST_POLICY)
            .next_state;
    let member = &next.members[&test_peer(1)];
    assert_eq!((member.role.as_str(), member.expires, member.permissions.len()), ("viewer", 20, 0));
}

#[test]
fn a_refresh_cannot_use_the_grant_of_another_peer() {
    let room = room_after(&[join_with_token(1, 1, "g"), join_with_token(2, 1, "h")]);
    assert_eq!(
        outcome_of(&room, refresh_token(1, 1, token_record("h.1", 10, 20, "guest"))),
        InputOutcome::TokenInUse
    );
    assert_eq!(
        outcome_of(&room, refresh_token(2, 1, token_record("h.1", 10, 20, "guest"))),
        InputOutcome::Done
    );
}

fn claim_with_token_times(expires: u64, issued: u64, now_s: u64) -> Box<PeerClaim> {
    let mut claim = test_claim(1, 2, handle_proof(1), "L1");
    (claim.member.expires, claim.member.issued) = (expires, issued);
    Box::new(PeerClaim { now_s: Some(now_s), ..claim })
}

#[test]
fn the_newer_record_of_room_and_handle_sets_the_token_expiry() {
    let room = room_after(&[join_with_token(1, 1, "g")]);
    let room = decide(&room, 0, &[refresh_token(1, 1, token_record("g.1", 10, 20, "guest"))], &TEST_POLICY)
        .next_state;
    let attach = |claim| outcome_of(&room, RoomInput::Attach(claim));
    let replace = |old| {
        outcome_of(&room, RoomInput::Replace { old_peer: old, new_peer: test_peer(7), mailbox_version: 1 })
    };
    assert_eq!(
        attach(claim_with_token_times(5, 1, 19)),
        InputOutcome::Attached(2),
        "an old handle of a refreshed peer"
    );
    assert_eq!(attach(claim_with_token_times(5, 1, 20)), InputOutcome::TokenExpired);
    assert_eq!(
        attach(claim_with_token_times(99, 1, 20)),
        InputOutcome::TokenExpired,
        "an older token that would end later"
    );
    assert_eq!(
        attach(claim_with_token_times(30, 11, 29)),
        InputOutcome::Attached(2),
        "a refresh that the room does not know"
    );
    assert_eq!(attach(claim_with_token_times(30, 11, 30)), InputOutcome::TokenExpired);
    assert_eq!(replace(claim_with_token_times(30, 11, 29)), InputOutcome::Done);
    assert_eq!(replace(claim_with_token_times(5, 1, 20)), InputOutcome::TokenExpired);
    let next =
        decide(&room, 0, &[RoomInput::Attach(claim_with_token_times(30, 11, 29))], &TEST_POLICY).next_state;
    assert_eq!(next.members[&test_peer(1)].expires, 30);
    let input = [RoomInput::Replace {
        old_peer: claim_with_token_times(30, 11, 29),
        new_peer: test_peer(7),
        mailbox_version: 1,
    }];
    assert_eq!(decide(&room, 0, &input, &TEST_POLICY).next_state.members[&test_peer(7)].expires, 30);
}

#[test]
fn an_expired_token_is_reported_as_expired() {
    let room = room_after(&[join_with_token(1, 1, "g"), join_with_token(2, 2, "h")]);
    let leave = RoomInput::Leave { peer: test_peer(1), epoch: 1, reason: LeaveReason::Expired };
    let left = decide(&room, 0, &[leave], &TEST_POLICY).next_state;
    assert_eq!(
        outcome_of(&left, RoomInput::Attach(claim_with_token_times(99, 1, 1))),
        InputOutcome::TokenExpired
    );
    let forgotten = RoomState { tombstones: [].into(), replication_id: "L2".into(), ..left };
    assert_eq!(
        outcome_of(&forgotten, RoomInput::Attach(claim_with_token_times(99, 1, 99))),
        InputOutcome::TokenExpired
    );
    assert_eq!(
        outcome_of(&forgotten, RoomInput::Attach(claim_with_token_times(99, 1, 98))),
        InputOutcome::Attached(2)
    );
    assert!(matches!(forgotten.members[&test_peer(2)].attachment, PeerAttachment::Attached(_)));
}

/// Otherwise two connections with one stolen token could both be members after the store forgot the
/// first peer.
#[test]
fn one_grant_serves_one_peer_after_the_store_forgot_the_peer() {
    let claim_by_same_token = |n: u8, replication_id: &str| {
        let mut claim = test_claim(n, 2, ClaimProof::Connection { epoch: 1 }, replication_id);
        claim.member.token = TokenId::parse("g").unwrap();
        Box::new(claim)
    };
    // Peer 1 was a member with the grant, the store forgot it, and peer 9 joined with the grant.
    let room = RoomState { replication_id: "L2".into(), ..room_after(&[join_with_token(9, 1, "g")]) };
    assert_eq!(outcome_of(&room, RoomInput::Attach(claim_by_same_token(1, "L1"))), InputOutcome::TokenInUse);
    let replace = |old| RoomInput::Replace { old_peer: old, new_peer: test_peer(7), mailbox_version: 1 };
    assert_eq!(outcome_of(&room, replace(claim_by_same_token(1, "L1"))), InputOutcome::TokenInUse);
    let lost = decide(
        &room,
        0,
        &[RoomInput::Detach { peer: test_peer(9), epoch: 1, is_going: false }],
        &TEST_POLICY,
    )
    .next_state;
    for input in [RoomInput::Attach(claim_by_same_token(1, "L1")), replace(claim_by_same_token(1, "L1"))] {
        let next = decide(&lost, 0, &[input], &TEST_POLICY).next_state;
        assert_eq!((next.members.len(), next.tombstones[&test_peer(9)].reason), (1, LeaveReason::Replaced));
    }
}

#[test]
fn a_claim_cannot_use_the_grant_of_another_peer() {
    let room = room_after(&[join_with_token(1, 1, "g"), join_with_token(2, 1, "h")]);
    let mut claim = claim_with_token_times(30, 11, 1);
    claim.member.token = TokenId::parse("h.1").unwrap();
    let decision = decide(&room, 0, &[RoomInput::Attach(claim)], &TEST_POLICY);
    assert_eq!(decision.outcomes, [InputOutcome::Attached(2)]);
    assert_eq!(decision.next_state.members[&test_peer(1)].token.grant(), "g");
}

/// A handle proves no more than its token, so the room checks a forgotten peer as at a join. The
/// connection of a peer that never ended proves that the peer was a member.
#[test]
fn a_forgotten_peer_with_a_handle_is_checked_as_at_a_join() {
    type Change = fn(&mut RoomSettings);
    let changes: [(Change, InputOutcome); 5] = [
        (|_| {}, InputOutcome::Attached(2)),
        (|settings| settings.locked = true, InputOutcome::RoomLocked),
        (|settings| settings.enabled = false, InputOutcome::RoomDisabled),
        (
            |settings| settings.roles = Some([Role::parse("unused").unwrap()].into()),
            InputOutcome::RoleRefused,
        ),
        (|settings| settings.max_peers = Some(1), InputOutcome::RoomFull),
    ];
    for (change, expected) in changes {
        let mut room = RoomState { replication_id: "L2".into(), ..room_after(&[join_input(2, 2)]) };
        change(Arc::make_mut(&mut room.settings));
        let by_handle = RoomInput::Attach(Box::new(test_claim(1, 2, handle_proof(1), "L1")));
        assert_eq!(outcome_of(&room, by_handle), expected);
        let old_peer = Box::new(test_claim(1, 2, handle_proof(1), "L1"));
        let takeover = RoomInput::Replace { old_peer, new_peer: test_peer(7), mailbox_version: 1 };
        let expected = if expected == InputOutcome::Attached(2) { InputOutcome::Done } else { expected };
        assert_eq!(outcome_of(&room, takeover), expected);
        let by_connection = RoomInput::Attach(Box::new(test_claim(1, 2, connection_proof(1), "L1")));
        assert_eq!(outcome_of(&room, by_connection), InputOutcome::Attached(2));
    }
    let mut room = RoomState { replication_id: "L2".into(), ..room_after(&[join_input(2, 2)]) };
    Arc::make_mut(&mut room.settings).lobby = true;
    let by_handle = RoomInput::Attach(Box::new(test_claim(1, 2, handle_proof(1), "L1")));
    let next = decide(&room, 0, &[by_handle], &TEST_POLICY).next_state;
    assert!(next.members[&test_peer(1)].waiting);
}

#[test]
fn a_claim_with_the_token_of_another_user_does_not_open_a_peer() {
    let room = room_after(&[join_input(1, 1), join_input(2, 2)]);
    let mut claim = test_claim(1, 2, handle_proof(9), "L1");
    claim.member.user = test_member(2, 1).user;
    assert_eq!(outcome_of(&room, RoomInput::Attach(Box::new(claim))), InputOutcome::PeerGone);
}
