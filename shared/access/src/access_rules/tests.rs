//! Compares the index of the rules with a check of each rule, and tests that rules merge in any
//! order.

use std::net::IpAddr;

use proptest::prelude::*;
use signalbox_protocol::{
    CredentialRoot,
    id::{RoomId, TokenId, UserId},
};

use super::*;
use crate::{RuleTerms, denied_range::parse_denied_range};

const USERS: [&str; 3] = ["ann", "bob", "carol:x"];
const ROOMS: [&str; 2] = ["red", "blue"];
const GRANTS: [&str; 3] = ["g1", "g2", ""];
const RANGES: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32", "2001:db8::7"];
const ADDRESSES: [&str; 6] =
    ["10.1.2.3", "10.2.0.1", "11.0.0.1", "::ffff:10.1.9.9", "2001:db8::7", "2001:db9::1"];
const ROOTS: [&str; 4] = ["key:backend", "provider:https://id.example", "app", "guest"];

fn test_user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn test_room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn any_rule_key() -> impl Strategy<Value = RuleKey> {
    prop_oneof![
        (0..2_usize).prop_map(|n| RuleKey::Grant(TokenId::parse(GRANTS[n]).unwrap())),
        (0..3_usize).prop_map(|n| RuleKey::UserBefore(test_user(USERS[n]))),
        (0..2_usize).prop_map(|n| RuleKey::RoomBefore(test_room(ROOMS[n]))),
        Just(RuleKey::AllBefore),
        (0..3_usize, prop::option::of(0..2_usize)).prop_map(|(n, room)| RuleKey::Ban {
            user: test_user(USERS[n]),
            room: room.map(|n| test_room(ROOMS[n]))
        }),
        (0..5_usize).prop_map(|n| RuleKey::Deny(parse_denied_range(RANGES[n]).unwrap())),
        (0..4_usize).prop_map(|n| RuleKey::Root(CredentialRoot::parse(ROOTS[n]).unwrap())),
        Just(RuleKey::Limits),
        Just(RuleKey::Shutdown),
    ]
}

/// Times come from a small range, so that many are equal.
fn any_rule() -> impl Strategy<Value = AccessRule> {
    let numbers = (0..6_u64, 0..9_u64, 0..9_u64, any::<bool>(), 0..3_u32, any::<bool>());
    (any_rule_key(), numbers).prop_map(|(key, (at, until, keep, lifted, number, issued))| {
        let limits = Some(LimitChanges { rate: Some(number + 1), ..LimitChanges::default() });
        let terms = RuleTerms {
            author: "op".into(),
            retry_ms: Some(number),
            revokes_issued: issued,
            limits,
            reason: None,
            charged_to: None,
            room: None,
        };
        let json = serde_json::to_string(&terms).unwrap();
        let (at, until, keep) = (at * 700, until * 700, (until.max(keep) + 1) * 700);
        let value = format!("{at} {until} {keep} {} k~s {json}", u8::from(lifted));
        AccessRule::parse(&key.to_string(), &value).unwrap()
    })
}

fn merged_rules(rules: &[AccessRule]) -> Vec<AccessRule> {
    let mut all = AccessRules::default();
    for rule in rules {
        all = all.with_rules([rule.clone()], 0).unwrap_or(all);
    }
    all.by_key.values().map(|rule| AccessRule::clone(rule)).collect()
}

/// Checks a subject against each rule, without the index.
fn check_one_by_one(
    rules: &[AccessRule],
    subject: &AccessSubject<'_>,
    now: u64,
) -> Result<(), AccessRefusal> {
    let holds =
        |test: &dyn Fn(&AccessRule) -> bool| rules.iter().any(|rule| rule.is_in_force(now) && test(rule));
    let before = |rule: &AccessRule| subject.issued_s.is_some_and(|second| second * 1_000 <= rule.written_at);
    let in_range = |range: &ipnet::IpNet| subject.address.is_some_and(|a| range.contains(&a.to_canonical()));
    if holds(&|rule| matches!(&rule.key, RuleKey::Deny(range) if in_range(range))) {
        return Err(AccessRefusal::AddressDenied);
    }
    let applies_to_room = |room: &Option<RoomId>| room.is_none() || room.as_ref() == subject.room;
    if holds(
        &|rule| matches!(&rule.key, RuleKey::Ban { user, room } if user == subject.user && applies_to_room(room)),
    ) {
        return Err(AccessRefusal::Banned);
    }
    if holds(&|rule| match &rule.key {
        RuleKey::Grant(grant) => grant.as_str() == subject.grant,
        RuleKey::UserBefore(user) => user == subject.user && before(rule),
        RuleKey::RoomBefore(room) => Some(room) == subject.room && before(rule),
        RuleKey::AllBefore => before(rule),
        RuleKey::Root(root) => rule.terms.revokes_issued && subject.root == Some(root),
        _ => false,
    }) {
        return Err(AccessRefusal::Revoked);
    }
    let shutdown = rules.iter().find(|rule| rule.is_in_force(now) && rule.key == RuleKey::Shutdown);
    shutdown.map_or(Ok(()), |rule| Err(AccessRefusal::ShutDown { retry_ms: rule.terms.retry_ms.unwrap() }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn rule_sets_merge_in_any_order_and_any_number_of_times(
        rules in prop::collection::vec(any_rule(), 0..24), seed in any::<prop::sample::Index>(),
    ) {
        let once = merged_rules(&rules);
        let mut reordered = rules.clone();
        reordered.reverse();
        let middle = seed.index(rules.len() + 1);
        reordered.rotate_left(middle);
        prop_assert_eq!(&merged_rules(&reordered), &once, "commutative");
        let twice: Vec<AccessRule> = rules.iter().chain(&reordered).cloned().collect();
        prop_assert_eq!(&merged_rules(&twice), &once, "idempotent");
        let (left, right) = rules.split_at(middle);
        let joined: Vec<AccessRule> = merged_rules(right).into_iter().chain(merged_rules(left)).collect();
        prop_assert_eq!(&merged_rules(&joined), &once, "associative");
    }

    #[test]
    fn the_index_agrees_with_a_check_of_each_rule(
        rules in prop::collection::vec(any_rule(), 0..24), now in 0..9_u64,
        user_index in 0..3_usize, room_index in prop::option::of(0..2_usize), grant in 0..3_usize,
        issued_s in prop::option::of(0..6_u64), address in prop::option::of(0..6_usize), root in prop::option::of(0..4_usize),
    ) {
        let now = now * 700;
        let (user, room) = (test_user(USERS[user_index]), room_index.map(|n| test_room(ROOMS[n])));
        let address = address.map(|n| ADDRESSES[n].parse::<IpAddr>().unwrap());
        let root = root.map(|n| CredentialRoot::parse(ROOTS[n]).unwrap());
        let subject = AccessSubject {
            user: &user, room: room.as_ref(), grant: GRANTS[grant], issued_s, address,
            root: root.as_ref(),
        };
        let held_rules = AccessRules::default().with_rules(rules.clone(), now).unwrap_or_default();
        let merged: Vec<AccessRule> = merged_rules(&rules);
        prop_assert_eq!(held_rules.check_access(&subject, now), check_one_by_one(&merged, &subject, now));
        // No earlier rule revokes a token that is issued from the first valid second on.
        let fresh = AccessSubject { issued_s: Some(held_rules.first_valid_issue_second(&subject, now)), ..subject };
        let revoked_otherwise = held_rules.check_access(&AccessSubject { issued_s: None, ..subject }, now);
        prop_assert_eq!(held_rules.check_access(&fresh, now), revoked_otherwise);
    }
}

#[test]
fn a_lifted_rule_is_remembered_as_long_as_any_rule_it_lifts() {
    let key = RuleKey::Ban { room: None, user: test_user("mallory") };
    let long = AccessRule::new(key.clone(), 1_000, 60_000, RuleTerms::default());
    let held_rules = AccessRules::default().with_rules([long.clone()], 1_000).unwrap();
    let mut short = AccessRule::new(key.clone(), 2_000, 1_000, RuleTerms::default());
    let held_rules = held_rules.with_rules([short.clone()], 2_000).unwrap();
    assert_eq!(held_rules.remembered_rules(50_000).count(), 1, "the shorter ban has ended and is remembered");
    assert!(held_rules.rule_in_force(&key, 3_500).is_none());
    short.written_at = 2_500;
    short.is_lifted = true;
    let held_rules = held_rules.with_rules([short], 2_500).unwrap();
    assert!(
        held_rules.with_rules([long], 2_600).is_none(),
        "a process that missed both rules restores nothing"
    );
}

#[test]
fn ten_thousand_rules_are_checked_in_microseconds() {
    let rules = (0..10_000_u32).map(|n| {
        let key = match n % 4 {
            0 => {
                RuleKey::Deny(parse_denied_range(&format!("10.{}.{}.0/24", n / 250 % 250, n % 250)).unwrap())
            }
            1 => RuleKey::Grant(TokenId::parse(&format!("g{n}")).unwrap()),
            _ => RuleKey::Ban { room: None, user: test_user(&format!("u{n}")) },
        };
        AccessRule::new(key, 0, 1_000_000, RuleTerms::default())
    });
    let held_rules = AccessRules::default().with_rules(rules, 0).unwrap();
    let (user, room) = (test_user("someone-else"), test_room("red"));
    let subject = AccessSubject {
        user: &user,
        room: Some(&room),
        grant: "g",
        issued_s: Some(9),
        root: None,
        address: Some("192.0.2.1".parse().unwrap()),
    };
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        held_rules.check_access(&subject, 5).unwrap();
    }
    assert!(start.elapsed().as_millis() < 500, "{:?} for 10 000 questions, debug build", start.elapsed());
}
