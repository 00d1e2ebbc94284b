//! What the configuration says of roles: who is taken in where nothing may be read, and who passes a lobby.

use signalbox_config::{CandidateTable, LobbyRule, RoleTemplate};
use signalbox_protocol::{E2ee, IcePolicy};

use super::*;

const SENDS: &[&str] = &["publish", "message", "share", "data"];

fn role(name: &str) -> Role {
    Role::parse(name).unwrap()
}

fn joins(n: u8, name: &str, permissions: &[&str]) -> Input {
    let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
    Input::Join { peer: peer(n), member: Box::new(Member { role: role(name), permissions, ..*member(n, 1) }) }
}

fn rules_with(change: impl FnOnce(&mut Settings)) -> Rules {
    let mut settings = Settings::default();
    change(&mut settings);
    Rules { roles: Arc::new(RoleBook::new(&settings)), ..RULES.clone() }
}

fn room_with(change: impl FnOnce(&mut RoomSettings)) -> RoomState {
    let mut settings = RoomSettings { created_at: 1, kept_until: 50_000, ..RoomSettings::default() };
    change(&mut settings);
    RoomState { settings: settings.into(), ..RoomState::new("r".into(), "L1".into()) }
}

fn one(room: &RoomState, input: Input, rules: &Rules) -> Outcome {
    decide(room, 0, &[input], rules).outcomes[0]
}

fn secret() -> RoomState {
    room_with(|settings| settings.e2ee = E2ee::Required)
}

#[test]
fn where_nothing_may_be_read_nobody_comes_in_who_must_be_read() {
    assert_eq!(one(&secret(), joins(1, "guest", SENDS), &RULES), Outcome::Done);
    assert_eq!(one(&secret(), joins(1, "viewer", &[]), &RULES), Outcome::RoleNotTaken);
    assert_eq!(one(&secret(), joins(1, "guest", &SENDS[..3]), &RULES), Outcome::RoleNotTaken, "no `data`");
    // One that this node's configuration does not have has what its token says.
    assert_eq!(one(&secret(), joins(1, "stranger", SENDS), &RULES), Outcome::Done);
    let all_relayed = rules_with(|settings| settings.ice.policy = IcePolicy::Relay);
    assert_eq!(one(&secret(), joins(1, "stranger", SENDS), &all_relayed), Outcome::RoleNotTaken);
    let filtered = rules_with(|settings| {
        let candidates = CandidateTable { drop_private: true, ..CandidateTable::default() };
        settings.roles.0.insert(role("guest"), RoleTemplate { candidates, ..RoleTemplate::default() });
        let ice = Some(IcePolicy::Relay);
        settings.roles.0.insert(role("speaker"), RoleTemplate { ice, ..RoleTemplate::default() });
    });
    for name in ["guest", "speaker"] {
        assert_eq!(one(&secret(), joins(1, name, SENDS), &filtered), Outcome::RoleNotTaken, "{name}");
    }
    assert_eq!(one(&room_with(|_| {}), joins(1, "viewer", &[]), &all_relayed), Outcome::Done);
}

#[test]
fn a_room_that_names_its_roles_takes_nobody_else_in() {
    let named = room_with(|settings| settings.roles = Some([role("speaker")].into()));
    assert_eq!(one(&named, joins(1, "speaker", &[]), &RULES), Outcome::Done);
    assert_eq!(one(&named, joins(1, "host", SENDS), &RULES), Outcome::RoleNotTaken);
    let locked = room_with(|settings| {
        settings.roles = Some([role("speaker")].into());
        settings.locked = true;
    });
    assert_eq!(one(&locked, joins(1, "host", SENDS), &RULES), Outcome::RoleNotTaken, "waiting does not help");
}

#[test]
fn nobody_who_is_in_comes_to_be_read_where_nothing_may_be() {
    let room = decide(&secret(), 0, &[joins(1, "guest", SENDS), joins(2, "guest", SENDS)], &RULES).next;
    let set_role = |name: &str, permissions: &[&str]| {
        let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
        Manage::api(Act::SetRole { peer: peer(1), role: role(name), permissions, ice_policy: None })
    };
    assert_eq!(one(&room, set_role("viewer", &[]), &RULES), Outcome::RoleNotTaken);
    assert_eq!(one(&room, set_role("speaker", SENDS), &RULES), Outcome::Done);
    let mute = Manage::api(Act::Mute { peer: peer(1), on: true });
    assert_eq!(one(&room, mute, &RULES), Outcome::MustNotRead);
    let record = |name: &str, permissions: &[&str]| {
        let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
        TokenRecord { issued: 9, role: role(name), permissions, ..room.members[&peer(1)].token_record() }
    };
    let refresh = |record| Input::Refresh { peer: peer(1), epoch: 1, record: Box::new(record) };
    assert_eq!(one(&room, refresh(record("viewer", &[])), &RULES), Outcome::RoleNotTaken);
    assert_eq!(one(&room, refresh(record("speaker", SENDS)), &RULES), Outcome::Done);
    // A refresh that only its node has heard of, while the store was away.
    let mut claim = claim(1, 2, handle(1), "L1");
    claim.member.adopt(&record("viewer", &[]));
    let back = decide(&room, 0, &[Input::Attach(Box::new(claim))], &RULES).next;
    assert_eq!(back.members[&peer(1)].role.as_str(), "guest");
}

#[test]
fn encryption_is_not_demanded_while_somebody_is_in_who_is_read() {
    let demand = || Manage::api(Act::Configure(Patch { e2ee: Some(E2ee::Required), ..Patch::default() }));
    let read = decide(&room_with(|_| {}), 0, &[joins(1, "viewer", &[])], &RULES).next;
    assert_eq!(one(&read, demand(), &RULES), Outcome::MustNotRead);
    let unread = decide(&room_with(|_| {}), 0, &[joins(1, "guest", SENDS)], &RULES).next;
    assert_eq!(one(&unread, demand(), &RULES), Outcome::Done);
}

#[test]
fn a_role_passes_the_lobby_where_its_template_says_so() {
    let lobby = room_with(|settings| settings.lobby = true);
    let rules = rules_with(|settings| {
        for (name, lobby) in
            [("speaker", LobbyRule::Pass), ("guest", LobbyRule::Wait), ("host", LobbyRule::Wait)]
        {
            settings.roles.0.entry(role(name)).or_default().lobby = Some(lobby);
        }
    });
    let inputs = [
        joins(1, "speaker", SENDS),
        joins(2, "guest", SENDS),
        joins(3, "viewer", &[]),
        joins(4, "host", &["admit"]),
    ];
    let room = decide(&lobby, 0, &inputs, &rules).next;
    let waits: Vec<_> = (1..=4).map(|n| room.members[&peer(n)].waiting).collect();
    assert_eq!(waits, [false, true, true, false], "who lets in never waits");
    // Who gets such a role is let in by it.
    let act =
        Act::SetRole { peer: peer(2), role: role("speaker"), permissions: Arc::new([]), ice_policy: None };
    assert!(!decide(&room, 0, &[Manage::api(act)], &rules).next.members[&peer(2)].waiting);
    let shown = TokenRecord { issued: 9, role: role("speaker"), ..room.members[&peer(3)].token_record() };
    let refresh = Input::Refresh { peer: peer(3), epoch: 1, record: Box::new(shown) };
    assert!(!decide(&room, 0, &[refresh], &rules).next.members[&peer(3)].waiting);
}
