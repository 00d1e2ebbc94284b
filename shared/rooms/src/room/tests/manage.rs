//! What the API and moderators may do to a room, as sentences.

use super::*;

const HOST: &[&str] = &["publish", "message", "moderate", "admit", "end"];
const MODERATOR: &[&str] = &["publish", "message", "moderate", "admit"];

fn permissions(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// Joins with permissions, each as a user of its own.
fn join_as(n: u8, names: &[&str]) -> Input {
    Input::Join {
        peer: peer(n),
        member: Box::new(Member { permissions: permissions(names), ..*member(n, 1) }),
    }
}

fn after(state: &RoomState, now: u64, inputs: &[Input]) -> RoomState {
    decide(state, now, inputs, &RULES).next
}

fn outcome(state: &RoomState, now: u64, input: Input) -> Outcome {
    decide(state, now, &[input], &RULES).outcomes[0]
}

fn set(change: impl FnOnce(&mut RoomSettings)) -> Input {
    let mut settings = RoomSettings { created_at: 1, kept_until: 50_000, ..RoomSettings::default() };
    change(&mut settings);
    settings.making = Some(settings.created_at.to_string().into());
    Manage::api(Act::Create(settings.into()))
}

fn made(change: impl FnOnce(&mut RoomSettings)) -> RoomState {
    after(&RoomState::new("r".into(), "L1".into()), 0, &[set(change)])
}

fn kick(by: u8, whom: u8) -> Input {
    let act = Act::Remove { whom: Whom::Peer(peer(whom)), reason: LeftReason::Removed };
    Manage::member(peer(by), 1, act)
}

fn told(decision: &Decision, about: u8) -> Vec<(&EventKind, &[PeerId])> {
    let events = decision.events.iter().filter(|event| event.about == peer(about));
    events.map(|event| (&event.kind, &event.targets[..])).collect()
}

#[test]
fn a_room_is_made_once_and_the_same_making_again_is_no_other() {
    let room = made(|_| {});
    assert!(decide(&room, 0, &[set(|_| {})], &RULES).is_empty(), "the answer was lost and it is asked again");
    assert_eq!(outcome(&room, 0, set(|settings| settings.created_at = 2)), Outcome::RoomExists);
    let in_use = room_of(&[join(1, 1)]);
    assert_eq!(outcome(&in_use, 0, set(|_| {})), Outcome::RoomExists, "nor is one that is in use");
}

#[test]
fn a_made_room_is_there_without_anybody_until_its_time_is_over() {
    let room = made(|settings| settings.max_peers = Some(2));
    let used = after(&room, 10, &[join(1, 1)]);
    let leave = Input::Leave { peer: peer(1), epoch: 1, reason: LeftReason::Left };
    let left = after(&used, 20, &[leave]);
    assert_eq!((left.settings.max_peers, left.members.len()), (Some(2), 0));
    assert!(decide(&left, 49_999, &[Input::Tick], &RULES).is_empty());
    let over = decide(&left, 50_000, &[Input::Tick], &RULES);
    assert!(over.configured && !over.next.settings.is_made() && !over.next.is_there(50_000));
    // Whoever is in it then may stay; with the last one it is gone.
    assert!(decide(&used, 50_000, &[Input::Tick], &RULES).is_empty());
}

#[test]
fn each_rule_of_a_room_has_its_own_refusal() {
    let refused = |change: fn(&mut RoomSettings)| outcome(&made(change), 100, join(1, 1));
    assert_eq!(refused(|settings| settings.locked = true), Outcome::RoomLocked);
    assert_eq!(refused(|settings| settings.enabled = false), Outcome::RoomDisabled);
    assert_eq!(refused(|settings| settings.starts_at = Some(101)), Outcome::NotStarted);
    assert_eq!(refused(|settings| settings.starts_at = Some(100)), Outcome::Done);
    assert_eq!(refused(|settings| settings.max_peers = Some(0)), Outcome::RoomFull);
    let early = made(|settings| settings.starts_at = Some(101));
    assert_eq!(outcome(&early, 100, join_as(1, MODERATOR)), Outcome::Done, "who moderates prepares it");
    let rules = Rules { implicit: false, ..RULES.clone() };
    let nowhere = RoomState::new("r".into(), "L1".into());
    assert_eq!(decide(&nowhere, 0, &[join(1, 1)], &rules).outcomes, [Outcome::NotAllowed]);
    assert_eq!(decide(&made(|_| {}), 0, &[join(1, 1)], &rules).outcomes, [Outcome::Done]);
}

#[test]
fn a_lock_that_is_committed_with_a_join_holds_or_came_too_late_and_nothing_between() {
    let room = room_of(&[join_as(1, HOST)]);
    let lock = || Manage::member(peer(1), 1, Act::Lock(true));
    assert_eq!(decide(&room, 0, &[lock(), join(2, 2)], &RULES).outcomes[1], Outcome::RoomLocked);
    let late = decide(&room, 0, &[join(2, 2), lock()], &RULES);
    assert!(late.next.members.contains_key(&peer(2)) && late.next.settings.locked);
    // Who is a member comes back through a locked door.
    let detached = after(&late.next, 0, &[Input::Detach { peer: peer(2), epoch: 1 }]);
    assert_eq!(outcome(&detached, 0, attach(2, 3, handle(1))), Outcome::Attached(2));
}

#[test]
fn the_limit_of_a_room_ends_it_for_everybody_and_it_may_begin_again() {
    let room = after(&made(|settings| settings.max_duration = Some(1)), 100, &[join(1, 1), join(2, 2)]);
    assert_eq!(room.ends_at, 1_100);
    let ended = decide(&room, 1_100, &[Input::Tick], &RULES);
    assert_eq!(ended.next.left[&peer(1)].reason, LeftReason::Ended);
    assert_eq!(outcome(&ended.next, 1_200, join(3, 3)), Outcome::Done);
    // The end of the longest life of any room is no verdict: its connections may come back.
    let plain = after(&RoomState::new("r".into(), "L1".into()), 1, &[join(1, 1)]);
    let over = decide(&plain, 1 + RULES.room_life_ms, &[Input::Tick], &RULES);
    assert_eq!(over.next.left[&peer(1)].reason, LeftReason::Timeout);
}

#[test]
fn who_moderates_removes_those_below_and_who_may_end_removes_who_moderates() {
    let room = room_of(&[join_as(1, HOST), join_as(2, MODERATOR), join(3, 3), join_as(4, HOST)]);
    for (by, whom, expected) in [
        (2, 3, Outcome::Removed(1)),
        (1, 2, Outcome::Removed(1)),
        (2, 1, Outcome::NotPermitted),
        (1, 4, Outcome::NotPermitted),
        (3, 2, Outcome::NotPermitted),
        (2, 9, Outcome::NoSuchPeer),
        (9, 3, Outcome::Gone),
    ] {
        assert_eq!(outcome(&room, 0, kick(by, whom)), expected, "{by} removes {whom}");
    }
    let api = Act::Remove { whom: Whom::Peer(peer(1)), reason: LeftReason::Removed };
    assert_eq!(outcome(&room, 0, Manage::api(api)), Outcome::Removed(1));
}

#[test]
fn who_lost_a_permission_a_moment_ago_has_lost_it() {
    let room = room_of(&[join_as(1, HOST), join(2, 2)]);
    let role = Role::parse("viewer").unwrap();
    let demote =
        Manage::api(Act::SetRole { peer: peer(1), role, permissions: permissions(&[]), ice_policy: None });
    let decision = decide(&room, 0, &[demote, kick(1, 2)], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Done, Outcome::NotPermitted]);
    assert!(decision.next.members[&peer(1)].overridden);
    assert!(matches!(told(&decision, 1)[0], (EventKind::Standing(..), [only]) if *only == peer(1)));
    assert!(matches!(told(&decision, 1)[1], (EventKind::Updated(_), [only]) if *only == peer(2)));
}

#[test]
fn who_was_removed_is_remembered_and_cannot_come_back_with_the_handle() {
    let room = room_of(&[join_as(1, HOST), join(2, 2)]);
    let removed = after(&room, 0, &[kick(1, 2)]);
    assert_eq!(removed.left[&peer(2)].reason, LeftReason::Removed);
    assert_eq!(outcome(&removed, 1, attach(2, 3, handle(1))), Outcome::Gone);
}

#[test]
fn a_muted_member_may_not_publish_and_may_again_what_it_might_before() {
    let room = room_of(&[join_as(1, HOST), join_as(2, &["message", "publish"]), join(3, 3)]);
    let mute = |peer, on| Manage::member(super::peer(1), 1, Act::Mute { peer, on });
    let muted = after(&room, 0, &[mute(peer(2), true)]);
    assert!(!muted.members[&peer(2)].may(Permission::Publish) && muted.members[&peer(2)].muted);
    let again = after(&muted, 0, &[mute(peer(2), false)]);
    assert!(again.members[&peer(2)].may(Permission::Publish) && !again.members[&peer(2)].muted);
    // One that never might does not gain it.
    assert!(decide(&room, 0, &[mute(peer(3), true), mute(peer(3), false)], &RULES).is_empty());
}

#[test]
fn who_waits_has_a_place_and_nobody_hears_of_it_but_who_may_let_it_in() {
    let room =
        after(&made(|settings| settings.lobby = true), 0, &[join_as(1, HOST), join_as(2, &["message"])]);
    assert!(room.members[&peer(2)].waiting && !room.members[&peer(1)].waiting);
    let inside = after(&room, 0, &[Manage::member(peer(1), 1, Act::Admit(peer(2)))]);
    let knocked = decide(&inside, 0, &[join(3, 3)], &RULES);
    assert!(matches!(told(&knocked, 3)[..], [(EventKind::Knocked(_), [only])] if *only == peer(1)));
    assert_eq!(knocked.next.entries_for(&peer(2)).len(), 1, "the host");
    assert_eq!(knocked.next.knockers_for(&peer(1)).len(), 1);
    assert_eq!(knocked.next.knockers_for(&peer(2)).len(), 0);
    // It comes and goes unheard.
    let lost = decide(&knocked.next, 0, &[Input::Detach { peer: peer(3), epoch: 1 }], &RULES);
    assert!(lost.events.is_empty());
    let gone = decide(&lost.next, 1_000, &[Input::Tick], &RULES);
    let ended = told(&gone, 3);
    assert!(
        matches!(ended[..], [(EventKind::KnockEnded(Some(LeftReason::Timeout)), [only])] if *only == peer(1))
    );
}

#[test]
fn an_admitted_peer_is_new_to_all_and_admitting_it_twice_changes_nothing() {
    let room = after(&made(|s| s.lobby = true), 0, &[join_as(1, HOST), join_as(2, MODERATOR), join(3, 3)]);
    let admit = || Manage::member(peer(1), 1, Act::Admit(peer(3)));
    let decision = decide(&room, 0, &[admit(), admit()], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Done, Outcome::Done]);
    let events = told(&decision, 3);
    assert!(
        matches!(events[..], [(EventKind::KnockEnded(None), _), (EventKind::Joined(_), [_, _])]),
        "{events:?}"
    );
    assert_eq!(
        outcome(&decision.next, 0, Manage::member(peer(3), 1, Act::Admit(peer(3)))),
        Outcome::NotPermitted
    );
}

#[test]
fn who_is_denied_or_removed_while_waiting_was_denied() {
    let room = after(&made(|s| s.lobby = true), 0, &[join_as(1, HOST), join(2, 2), join(3, 3)]);
    let deny = Manage::member(peer(1), 1, Act::Deny(peer(2)));
    let next = after(&room, 0, &[deny, kick(1, 3)]);
    assert_eq!(
        (next.left[&peer(2)].reason, next.left[&peer(3)].reason),
        (LeftReason::Denied, LeftReason::Denied)
    );
    assert_eq!(outcome(&room, 0, Manage::api(Act::Deny(peer(1)))), Outcome::NoSuchPeer, "it does not wait");
}

#[test]
fn those_who_wait_count_and_the_end_of_the_lobby_lets_them_in() {
    let waiting: Vec<_> = (2..6).map(|n| join(n, n)).collect();
    let room = after(&after(&made(|s| s.lobby = true), 0, &[join_as(1, HOST)]), 0, &waiting);
    assert_eq!(outcome(&room, 0, join(6, 6)), Outcome::RoomFull);
    let open = Manage::api(Act::Configure(Patch { lobby: Some(false), ..Patch::default() }));
    assert!(after(&room, 0, &[open]).members.values().all(|member| !member.waiting));
}

#[test]
fn who_may_let_in_from_now_on_is_told_of_those_who_wait() {
    let room = after(&made(|s| s.lobby = true), 0, &[join_as(1, HOST), join_as(2, MODERATOR), join(3, 3)]);
    let role = |peer, names| {
        let role = Role::parse("x").unwrap();
        Manage::api(Act::SetRole { peer, role, permissions: permissions(names), ice_policy: None })
    };
    let lowered = after(&room, 0, &[role(peer(2), &[])]);
    let raised = decide(&lowered, 0, &[role(peer(2), MODERATOR)], &RULES);
    assert!(matches!(told(&raised, 3)[..], [(EventKind::Knocked(_), [only])] if *only == peer(2)));
}

#[test]
fn the_end_of_a_room_sends_everybody_out_and_its_lock_outlasts_them() {
    let room = room_of(&[join_as(1, HOST), join(2, 2)]);
    let ended = decide(&room, 0, &[Manage::member(peer(1), 1, Act::End { lock: true })], &RULES);
    assert_eq!((ended.outcomes[0], ended.next.members.len()), (Outcome::Removed(2), 0));
    assert_eq!(ended.next.left[&peer(1)].reason, LeftReason::Ended);
    assert_eq!(outcome(&ended.next, 10, join(3, 3)), Outcome::RoomLocked);
    let open = after(&room, 0, &[Manage::api(Act::End { lock: false })]);
    assert_eq!(outcome(&open, 10, join(3, 3)), Outcome::Done);
    let deleted = after(&ended.next, 20, &[Manage::api(Act::Delete)]);
    assert_eq!(outcome(&deleted, 30, Manage::api(Act::Lock(true))), Outcome::NoSuchRoom);
}

#[test]
fn what_the_api_says_reaches_members_and_nobody_who_waits() {
    let room = after(&made(|s| s.lobby = true), 0, &[join_as(1, HOST), join(2, 2)]);
    let say = |to: Option<PeerId>| {
        let data = RawValue::from_string("[1]".into()).unwrap().into();
        Manage::api(Act::Say { to, data })
    };
    let decision = decide(&room, 0, &[say(None)], &RULES);
    assert_eq!((&decision.events[0].targets[..], decision.is_empty()), (&[peer(1)][..], false));
    assert_eq!(outcome(&room, 0, say(Some(peer(2)))), Outcome::NoSuchPeer);
}

#[test]
fn what_is_set_survives_a_store_that_has_forgotten_the_room() {
    let room = after(&made(|s| s.locked = false), 0, &[join(1, 1)]);
    let locked = after(&room, 0, &[Manage::api(Act::Lock(true))]);
    let restored = locked.restored("L2".into(), 5);
    assert!(restored.settings.locked && restored.version == 0);
    assert_eq!(outcome(&restored, 5, join(2, 2)), Outcome::RoomLocked);
}

#[test]
fn who_was_muted_cannot_lift_it_itself() {
    let room = room_of(&[join_as(1, HOST), join_as(2, MODERATOR)]);
    let mute = |by: u8, on| Manage::member(peer(by), 1, Act::Mute { peer: peer(2), on });
    let muted = after(&room, 0, &[mute(1, true)]);
    assert_eq!(outcome(&muted, 0, mute(2, false)), Outcome::NotPermitted);
    assert_eq!(outcome(&muted, 0, mute(1, false)), Outcome::Done);
    assert_eq!(outcome(&room, 0, mute(2, true)), Outcome::Done, "of itself it may take");
}

/// Its frames may still lie in a buffer when its client has gone on elsewhere, and said something else there.
#[test]
fn an_older_connection_can_neither_rename_its_peer_nor_act_for_it() {
    let room = after(&room_of(&[join_as(1, HOST), join(2, 2)]), 0, &[attach(1, 7, handle(1))]);
    let rename = |epoch| Input::Update { peer: peer(1), epoch, name: Some("late".into()), metadata: None };
    let lock = |epoch| Manage::member(peer(1), epoch, Act::Lock(true));
    let late = decide(&room, 0, &[rename(1), lock(1)], &RULES);
    assert!(late.is_empty());
    assert_eq!(late.outcomes, [Outcome::Gone, Outcome::Gone]);
    assert_eq!(decide(&room, 0, &[rename(2), lock(2)], &RULES).outcomes, [Outcome::Done, Outcome::Done]);
}

#[test]
fn who_joins_and_is_removed_in_one_commit_does_not_come_back_either() {
    let room = room_of(&[join_as(1, HOST)]);
    let everybody = Act::Remove { whom: Whom::User(member(2, 1).user), reason: LeftReason::Removed };
    let newcomer = member(2, 1);
    let token = newcomer.token.clone();
    let joins = Input::Join { peer: peer(2), member: newcomer };
    let decision = decide(&room, 0, &[joins, Manage::api(everybody)], &RULES);
    assert_eq!(decision.outcomes, [Outcome::Done, Outcome::Removed(1)]);
    let back: Vec<_> = crate::taken_back::taken_back(&decision).map(|who| who.token).collect();
    assert_eq!(back, [token]);
}
