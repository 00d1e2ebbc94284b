//! Tokens and their peers.

use super::*;

fn with(user: u8, token: &str) -> Box<Member> {
    Box::new(Member { token: TokenId::parse(token).unwrap(), ..*member(user, 1) })
}

fn join(n: u8, user: u8, token: &str) -> Input {
    Input::Join { peer: peer(n), member: with(user, token) }
}

fn one(room: &RoomState, input: Input) -> Outcome {
    decide(room, 0, &[input], &RULES).outcomes[0]
}

#[test]
fn a_grant_is_one_connected_peers() {
    let room = room_of(&[join(1, 1, "g.7")]);
    assert_eq!(one(&room, join(2, 1, "g")), Outcome::TokenInUse);
    assert_eq!(one(&room, join(2, 1, "g.8")), Outcome::TokenInUse);
    assert_eq!(one(&room, join(2, 1, "other")), Outcome::Done);
    assert_eq!(one(&room, join(2, 2, "g.7")), Outcome::Done, "an application may number its users' tokens");
    assert_eq!(one(&room, join(1, 1, "g.7")), Outcome::Done, "deciding twice decides the same");
    let new = RoomState::new("r".into(), "L1".into());
    let both = decide(&new, 0, &[join(1, 1, "g"), join(2, 1, "g")], &RULES);
    assert_eq!(both.outcomes, [Outcome::Done, Outcome::TokenInUse]);
}

#[test]
fn a_peer_that_lost_its_socket_gives_way_to_its_grant_in_a_full_room_too() {
    let all: Vec<_> = (1..=5).map(|n| join(n, n, &format!("g{n}"))).collect();
    let lost = [Input::Detach { peer: peer(1), epoch: 1 }];
    let room = decide(&room_of(&all), 0, &lost, &RULES).next;
    let decision = decide(&room, 0, &[join(9, 1, "g1.2")], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Done]);
    assert!(decision.removed.contains(&peer(1)) && decision.next.members.contains_key(&peer(9)));
    let kinds: Vec<_> = decision.events.iter().map(|event| (&event.kind, event.about.clone())).collect();
    assert!(matches!(kinds[..], [(EventKind::Left(LeftReason::Replaced), _), (EventKind::Joined(_), _)]));
    assert_eq!(one(&room, join(9, 9, "g9")), Outcome::RoomFull);
}

#[test]
fn who_takes_the_place_of_a_peer_gets_around_nothing_that_was_decided_about_it() {
    let lost = [Input::Detach { peer: peer(1), epoch: 1 }];
    let mut room = decide(&room_of(&[join(1, 1, "g")]), 0, &lost, &RULES).next;
    let known = room.members.get_mut(&peer(1)).unwrap();
    (known.role, known.overridden, known.muted) = (Role::parse("viewer").unwrap(), true, true);
    let next = decide(&room, 0, &[join(9, 1, "g.1")], &RULES).next;
    let member = &next.members[&peer(9)];
    assert_eq!((member.role.as_str(), member.overridden, member.muted), ("viewer", true, true));
    room.members.get_mut(&peer(1)).unwrap().waiting = true;
    assert!(decide(&room, 0, &[join(9, 1, "g.1")], &RULES).next.members[&peer(9)].waiting);
}

#[test]
fn a_token_that_may_let_itself_in_does() {
    let mut room = room_of(&[join(1, 1, "g"), join(2, 2, "h")]);
    room.members.get_mut(&peer(1)).unwrap().waiting = true;
    let quiet = decide(&room, 0, &[refresh(1, 1, shown("g.1", 10, 20, "guest"))], &RULES);
    assert!(quiet.next.members[&peer(1)].waiting != quiet.next.members[&peer(1)].passes_lobby(&RULES.roles));
    let decision = decide(&room, 0, &[refresh(1, 1, shown("g.2", 11, 20, "moderator"))], &RULES);
    assert!(!decision.next.members[&peer(1)].waiting);
    assert!(decision.events.iter().any(|event| matches!(event.kind, EventKind::Joined(_))));
}

fn shown(token: &str, issued: u64, expires: u64, role: &str) -> Box<TokenRecord> {
    let role = Role::parse(role).unwrap();
    let record = with(1, token).token_record();
    Box::new(TokenRecord { issued, expires, role, permissions: vec![role_permission()].into(), ..record })
}

fn role_permission() -> std::sync::Arc<str> {
    "moderate".into()
}

fn refresh(n: u8, epoch: u64, record: Box<TokenRecord>) -> Input {
    Input::Refresh { peer: peer(n), epoch, record }
}

#[test]
fn the_newest_token_counts_and_others_hear_of_another_role() {
    let room = room_of(&[join(1, 1, "g"), join(2, 2, "h")]);
    let decision = decide(&room, 0, &[refresh(1, 1, shown("g2", 10, 20, "moderator"))], &RULES);
    assert!(matches!(&decision.events[..], [Event { kind: EventKind::Updated(_), .. }]));
    let member = &decision.next.members[&peer(1)];
    assert_eq!((member.expires, member.role.as_str(), member.token.grant()), (20, "moderator", "g2"));
    assert_eq!(member.permissions[..], [role_permission()]);
    // One that was on its way for longer changes nothing; nor does the same one again.
    for late in [shown("g3", 9, 99, "guest"), shown("g3", 10, 19, "guest"), shown("g2", 10, 20, "moderator")]
    {
        assert!(decide(&decision.next, 0, &[refresh(1, 1, late)], &RULES).is_empty());
    }
    let quiet = decide(&decision.next, 0, &[refresh(1, 1, shown("g3", 10, 30, "moderator"))], &RULES);
    assert_eq!((quiet.events.len(), quiet.put.len()), (0, 1));
    assert_eq!(one(&room, refresh(1, 2, shown("g2", 10, 20, "guest"))), Outcome::Gone, "another epoch");
    assert_eq!(one(&room, refresh(3, 1, shown("g2", 10, 20, "guest"))), Outcome::Gone, "nobody");
}

#[test]
fn a_role_that_was_set_outlives_refreshes() {
    let mut room = room_of(&[join(1, 1, "g")]);
    let member = room.members.get_mut(&peer(1)).unwrap();
    (member.role, member.overridden) = (Role::parse("viewer").unwrap(), true);
    let next = decide(&room, 0, &[refresh(1, 1, shown("g.1", 10, 20, "moderator"))], &RULES).next;
    let member = &next.members[&peer(1)];
    assert_eq!((member.role.as_str(), member.expires, member.permissions.len()), ("viewer", 20, 0));
}

#[test]
fn the_grant_of_another_peer_cannot_be_refreshed_into() {
    let room = room_of(&[join(1, 1, "g"), join(2, 1, "h")]);
    assert_eq!(one(&room, refresh(1, 1, shown("h.1", 10, 20, "guest"))), Outcome::TokenInUse);
    assert_eq!(one(&room, refresh(2, 1, shown("h.1", 10, 20, "guest"))), Outcome::Done);
}

fn comes_back(expires: u64, issued: u64, now_s: u64) -> Box<Claim> {
    let mut claim = claim(1, 2, handle(1), "L1");
    (claim.member.expires, claim.member.issued) = (expires, issued);
    Box::new(Claim { now_s: Some(now_s), ..claim })
}

#[test]
fn the_newer_of_room_and_handle_says_when_the_token_ends() {
    let room = room_of(&[join(1, 1, "g")]);
    let room = decide(&room, 0, &[refresh(1, 1, shown("g.1", 10, 20, "guest"))], &RULES).next;
    let attach = |claim| one(&room, Input::Attach(claim));
    let replace = |old| one(&room, Input::Replace { old, peer: peer(7), mailbox: 1 });
    assert_eq!(attach(comes_back(5, 1, 19)), Outcome::Attached(2), "an old handle of a refreshed peer");
    assert_eq!(attach(comes_back(5, 1, 20)), Outcome::Expired);
    assert_eq!(attach(comes_back(99, 1, 20)), Outcome::Expired, "an older token that would end later");
    assert_eq!(attach(comes_back(30, 11, 29)), Outcome::Attached(2), "a refresh the room never heard of");
    assert_eq!(attach(comes_back(30, 11, 30)), Outcome::Expired);
    assert_eq!(replace(comes_back(30, 11, 29)), Outcome::Done);
    assert_eq!(replace(comes_back(5, 1, 20)), Outcome::Expired);
    let next = decide(&room, 0, &[Input::Attach(comes_back(30, 11, 29))], &RULES).next;
    assert_eq!(next.members[&peer(1)].expires, 30);
    let input = [Input::Replace { old: comes_back(30, 11, 29), peer: peer(7), mailbox: 1 }];
    assert_eq!(decide(&room, 0, &input, &RULES).next.members[&peer(7)].expires, 30);
}

#[test]
fn whose_token_has_ended_hears_so_and_not_that_its_window_is_over() {
    let room = room_of(&[join(1, 1, "g"), join(2, 2, "h")]);
    let leave = Input::Leave { peer: peer(1), epoch: 1, reason: LeftReason::Expired };
    let left = decide(&room, 0, &[leave], &RULES).next;
    assert_eq!(one(&left, Input::Attach(comes_back(99, 1, 1))), Outcome::Expired);
    let forgotten = RoomState { left: [].into(), lineage: "L2".into(), ..left };
    assert_eq!(one(&forgotten, Input::Attach(comes_back(99, 1, 99))), Outcome::Expired);
    assert_eq!(one(&forgotten, Input::Attach(comes_back(99, 1, 98))), Outcome::Attached(2));
    assert!(matches!(forgotten.members[&peer(2)].presence, Presence::Attached(_)));
}

/// Two connections with one stolen token would both be in, had the store but once forgotten the first.
#[test]
fn a_grant_stays_one_peers_when_the_store_has_forgotten_whose_it_was() {
    let comes = |n: u8, lineage: &str| {
        let mut claim = claim(n, 2, Proof::Socket { epoch: 1 }, lineage);
        claim.member.token = TokenId::parse("g").unwrap();
        Box::new(claim)
    };
    // Peer 1 was in with the grant; the store forgot; peer 9 has joined with it since.
    let room = RoomState { lineage: "L2".into(), ..room_of(&[join(9, 1, "g")]) };
    assert_eq!(one(&room, Input::Attach(comes(1, "L1"))), Outcome::TokenInUse);
    let replace = |old| Input::Replace { old, peer: peer(7), mailbox: 1 };
    assert_eq!(one(&room, replace(comes(1, "L1"))), Outcome::TokenInUse);
    let lost = decide(&room, 0, &[Input::Detach { peer: peer(9), epoch: 1 }], &RULES).next;
    for input in [Input::Attach(comes(1, "L1")), replace(comes(1, "L1"))] {
        let next = decide(&lost, 0, &[input], &RULES).next;
        assert_eq!((next.members.len(), next.left[&peer(9)].reason), (1, LeftReason::Replaced));
    }
}

#[test]
fn a_refresh_that_only_the_claim_knows_of_takes_no_other_peers_grant() {
    let room = room_of(&[join(1, 1, "g"), join(2, 1, "h")]);
    let mut claim = comes_back(30, 11, 1);
    claim.member.token = TokenId::parse("h.1").unwrap();
    let decision = decide(&room, 0, &[Input::Attach(claim)], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Attached(2)]);
    assert_eq!(decision.next.members[&peer(1)].token.grant(), "g");
}
