//! Configured roles: which roles an e2ee room accepts, and which roles skip the lobby.

use signalbox_config::{CandidateSettings, LobbyPolicy, RoleTemplate};
use signalbox_protocol::{E2eeMode, IcePolicy};

use super::*;

const SENDER_PERMISSIONS: &[&str] = &["publish", "message", "share", "data"];

fn test_role(name: &str) -> Role {
    Role::parse(name).unwrap()
}

fn join_with_role(n: u8, name: &str, permissions: &[&str]) -> RoomInput {
    let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
    RoomInput::Join {
        peer: test_peer(n),
        member: Box::new(Member { role: test_role(name), permissions, ..*test_member(n, 1) }),
    }
}

fn policy_with(change: impl FnOnce(&mut ServiceSettings)) -> RoomPolicy {
    let mut settings = ServiceSettings::default();
    change(&mut settings);
    RoomPolicy { role_policy: Arc::new(RoomRolePolicy::new(&settings)), ..TEST_POLICY.clone() }
}

fn room_with_settings(change: impl FnOnce(&mut RoomSettings)) -> RoomState {
    let mut settings = RoomSettings { created_at: 1, kept_until: 50_000, ..RoomSettings::default() };
    change(&mut settings);
    RoomState { settings: settings.into(), ..RoomState::new("r".into(), "L1".into()) }
}

fn outcome_with(room: &RoomState, input: RoomInput, rules: &RoomPolicy) -> InputOutcome {
    decide(room, 0, &[input], rules).outcomes[0]
}

fn e2ee_room() -> RoomState {
    room_with_settings(|settings| settings.e2ee = E2eeMode::Required)
}

#[test]
fn an_e2ee_room_refuses_roles_that_need_inspection() {
    assert_eq!(
        outcome_with(&e2ee_room(), join_with_role(1, "guest", SENDER_PERMISSIONS), &TEST_POLICY),
        InputOutcome::Done
    );
    assert_eq!(
        outcome_with(&e2ee_room(), join_with_role(1, "viewer", &[]), &TEST_POLICY),
        InputOutcome::RoleRefused
    );
    assert_eq!(
        outcome_with(&e2ee_room(), join_with_role(1, "guest", &SENDER_PERMISSIONS[..3]), &TEST_POLICY),
        InputOutcome::RoleRefused,
        "no `data`"
    );
    // A role that is not configured has the permissions of its token.
    assert_eq!(
        outcome_with(&e2ee_room(), join_with_role(1, "stranger", SENDER_PERMISSIONS), &TEST_POLICY),
        InputOutcome::Done
    );
    let all_relayed = policy_with(|settings| settings.ice.policy = IcePolicy::Relay);
    assert_eq!(
        outcome_with(&e2ee_room(), join_with_role(1, "stranger", SENDER_PERMISSIONS), &all_relayed),
        InputOutcome::RoleRefused
    );
    let filtered = policy_with(|settings| {
        let candidates = CandidateSettings { drop_private: true, ..CandidateSettings::default() };
        settings.roles.0.insert(test_role("guest"), RoleTemplate { candidates, ..RoleTemplate::default() });
        let ice = Some(IcePolicy::Relay);
        settings.roles.0.insert(test_role("speaker"), RoleTemplate { ice, ..RoleTemplate::default() });
    });
    for name in ["guest", "speaker"] {
        assert_eq!(
            outcome_with(&e2ee_room(), join_with_role(1, name, SENDER_PERMISSIONS), &filtered),
            InputOutcome::RoleRefused,
            "{name}"
        );
    }
    assert_eq!(
        outcome_with(&room_with_settings(|_| {}), join_with_role(1, "viewer", &[]), &all_relayed),
        InputOutcome::Done
    );
}

#[test]
fn a_room_with_named_roles_refuses_other_roles() {
    let named = room_with_settings(|settings| settings.roles = Some([test_role("speaker")].into()));
    assert_eq!(outcome_with(&named, join_with_role(1, "speaker", &[]), &TEST_POLICY), InputOutcome::Done);
    assert_eq!(
        outcome_with(&named, join_with_role(1, "host", SENDER_PERMISSIONS), &TEST_POLICY),
        InputOutcome::RoleRefused
    );
    let locked = room_with_settings(|settings| {
        settings.roles = Some([test_role("speaker")].into());
        settings.locked = true;
    });
    assert_eq!(
        outcome_with(&locked, join_with_role(1, "host", SENDER_PERMISSIONS), &TEST_POLICY),
        InputOutcome::RoleRefused,
        "waiting does not help"
    );
}

#[test]
fn a_member_of_an_e2ee_room_cannot_get_a_role_that_needs_inspection() {
    let room = decide(
        &e2ee_room(),
        0,
        &[join_with_role(1, "guest", SENDER_PERMISSIONS), join_with_role(2, "guest", SENDER_PERMISSIONS)],
        &TEST_POLICY,
    )
    .next_state;
    let set_role = |name: &str, permissions: &[&str]| {
        let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
        ManageRoom::from_api(RoomAction::SetRole {
            peer: test_peer(1),
            role: test_role(name),
            permissions,
            ice_policy: None,
        })
    };
    assert_eq!(outcome_with(&room, set_role("viewer", &[]), &TEST_POLICY), InputOutcome::RoleRefused);
    assert_eq!(
        outcome_with(&room, set_role("speaker", SENDER_PERMISSIONS), &TEST_POLICY),
        InputOutcome::Done
    );
    let mute = ManageRoom::from_api(RoomAction::Mute { peer: test_peer(1), muted: true });
    assert_eq!(outcome_with(&room, mute, &TEST_POLICY), InputOutcome::E2eeRequired);
    let record = |name: &str, permissions: &[&str]| {
        let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
        TokenRecord {
            issued: 9,
            role: test_role(name),
            permissions,
            ..room.members[&test_peer(1)].token_record()
        }
    };
    let refresh =
        |record| RoomInput::RefreshToken { peer: test_peer(1), epoch: 1, token_record: Box::new(record) };
    assert_eq!(outcome_with(&room, refresh(record("viewer", &[])), &TEST_POLICY), InputOutcome::RoleRefused);
    assert_eq!(
        outcome_with(&room, refresh(record("speaker", SENDER_PERMISSIONS)), &TEST_POLICY),
        InputOutcome::Done
    );
    // A refresh while the store was unavailable: only its node knows it.
    let mut claim = test_claim(1, 2, handle_proof(1), "L1");
    claim.member.apply_token_record(&record("viewer", &[]));
    let back = decide(&room, 0, &[RoomInput::Attach(Box::new(claim))], &TEST_POLICY).next_state;
    assert_eq!(back.members[&test_peer(1)].role.as_str(), "guest");
}

#[test]
fn e2ee_cannot_be_required_while_a_member_needs_inspection() {
    let demand = || {
        ManageRoom::from_api(RoomAction::Configure(RoomPatch {
            e2ee: Some(E2eeMode::Required),
            ..RoomPatch::default()
        }))
    };
    let read =
        decide(&room_with_settings(|_| {}), 0, &[join_with_role(1, "viewer", &[])], &TEST_POLICY).next_state;
    assert_eq!(outcome_with(&read, demand(), &TEST_POLICY), InputOutcome::E2eeRequired);
    let unread = decide(
        &room_with_settings(|_| {}),
        0,
        &[join_with_role(1, "guest", SENDER_PERMISSIONS)],
        &TEST_POLICY,
    )
    .next_state;
    assert_eq!(outcome_with(&unread, demand(), &TEST_POLICY), InputOutcome::Done);
}

#[test]
fn a_role_skips_the_lobby_if_its_template_says_so() {
    let lobby = room_with_settings(|settings| settings.lobby = true);
    let rules = policy_with(|settings| {
        for (name, lobby) in
            [("speaker", LobbyPolicy::Pass), ("guest", LobbyPolicy::Wait), ("host", LobbyPolicy::Wait)]
        {
            settings.roles.0.entry(test_role(name)).or_default().lobby = Some(lobby);
        }
    });
    let inputs = [
        join_with_role(1, "speaker", SENDER_PERMISSIONS),
        join_with_role(2, "guest", SENDER_PERMISSIONS),
        join_with_role(3, "viewer", &[]),
        join_with_role(4, "host", &["admit"]),
    ];
    let room = decide(&lobby, 0, &inputs, &rules).next_state;
    let waits: Vec<_> = (1..=4).map(|n| room.members[&test_peer(n)].waiting).collect();
    assert_eq!(waits, [false, true, true, false], "a peer that may admit never waits");
    // A peer in the lobby that is assigned such a role is admitted.
    let act = RoomAction::SetRole {
        peer: test_peer(2),
        role: test_role("speaker"),
        permissions: Arc::new([]),
        ice_policy: None,
    };
    assert!(
        !decide(&room, 0, &[ManageRoom::from_api(act)], &rules).next_state.members[&test_peer(2)].waiting
    );
    let shown =
        TokenRecord { issued: 9, role: test_role("speaker"), ..room.members[&test_peer(3)].token_record() };
    let refresh = RoomInput::RefreshToken { peer: test_peer(3), epoch: 1, token_record: Box::new(shown) };
    assert!(!decide(&room, 0, &[refresh], &rules).next_state.members[&test_peer(3)].waiting);
}
