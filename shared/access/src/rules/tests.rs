//! What a set of rules says, against a reading of the rules one by one; and that sets merge in any order.

use std::net::IpAddr;

use proptest::prelude::*;
use signalbox_protocol::id::{CallerId, RoomId, TokenId, UserId};

use super::*;
use crate::{Terms, address::parse_denied};

const USERS: [&str; 3] = ["ann", "bob", "carol:x"];
const ROOMS: [&str; 2] = ["red", "blue"];
const GRANTS: [&str; 3] = ["g1", "g2", ""];
const RANGES: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32", "2001:db8::7"];
const ADDRESSES: [&str; 6] =
    ["10.1.2.3", "10.2.0.1", "11.0.0.1", "::ffff:10.1.9.9", "2001:db8::7", "2001:db9::1"];
const KEYS: [&str; 2] = ["backend", "other"];

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn a_key() -> impl Strategy<Value = RuleKey> {
    prop_oneof![
        (0..2_usize).prop_map(|n| RuleKey::Token(TokenId::parse(GRANTS[n]).unwrap())),
        (0..3_usize).prop_map(|n| RuleKey::UserBefore(user(USERS[n]))),
        (0..2_usize).prop_map(|n| RuleKey::RoomBefore(room(ROOMS[n]))),
        Just(RuleKey::AllBefore),
        (0..3_usize, prop::option::of(0..2_usize)).prop_map(|(n, place)| RuleKey::Ban {
            user: user(USERS[n]),
            room: place.map(|p| room(ROOMS[p]))
        }),
        (0..5_usize).prop_map(|n| RuleKey::Deny(parse_denied(RANGES[n]).unwrap())),
        (0..2_usize).prop_map(|n| RuleKey::Key(CallerId::parse(KEYS[n]).unwrap())),
        Just(RuleKey::Limits),
        Just(RuleKey::Shutdown),
    ]
}

/// Times are few, so that many coincide.
fn a_rule() -> impl Strategy<Value = Rule> {
    let numbers = (0..6_u64, 0..9_u64, 0..9_u64, any::<bool>(), 0..3_u32, any::<bool>());
    (a_key(), numbers).prop_map(|(key, (at, until, keep, lifted, what, issued))| {
        let limits = Some(LimitChanges { rate: Some(what + 1), ..LimitChanges::default() });
        let terms = Terms { by: "op".into(), retry_ms: Some(what), issued, limits, reason: None };
        let json = serde_json::to_string(&terms).unwrap();
        let (at, until, keep) = (at * 700, until * 700, (until.max(keep) + 1) * 700);
        let value = format!("{at} {until} {keep} {} {json}", u8::from(lifted));
        Rule::parse(&key.to_string(), &value).unwrap()
    })
}

fn set(rules: &[Rule]) -> Vec<Rule> {
    let mut all = Rules::default();
    for rule in rules {
        all = all.merged([rule.clone()], 0).unwrap_or(all);
    }
    all.all.values().map(|rule| Rule::clone(rule)).collect()
}

/// The reading of the rules one by one.
fn naive(rules: &[Rule], subject: &Subject<'_>, now: u64) -> Result<(), Verdict> {
    let holds = |test: &dyn Fn(&Rule) -> bool| rules.iter().any(|rule| rule.is_in_force(now) && test(rule));
    let before = |rule: &Rule| subject.issued_s.is_some_and(|second| second * 1_000 <= rule.at);
    let in_range = |range: &ipnet::IpNet| subject.address.is_some_and(|a| range.contains(&a.to_canonical()));
    if holds(&|rule| matches!(&rule.key, RuleKey::Deny(range) if in_range(range))) {
        return Err(Verdict::AddressDenied);
    }
    let is_here = |of: &Option<RoomId>| of.is_none() || of.as_ref() == subject.room;
    if holds(
        &|rule| matches!(&rule.key, RuleKey::Ban { user, room } if user == subject.user && is_here(room)),
    ) {
        return Err(Verdict::Banned);
    }
    if holds(&|rule| match &rule.key {
        RuleKey::Token(grant) => grant.as_str() == subject.grant,
        RuleKey::UserBefore(user) => user == subject.user && before(rule),
        RuleKey::RoomBefore(room) => Some(room) == subject.room && before(rule),
        RuleKey::AllBefore => before(rule),
        RuleKey::Key(id) => rule.terms.issued && subject.issuer == Some(id.as_str()),
        _ => false,
    }) {
        return Err(Verdict::Revoked);
    }
    let stop = rules.iter().find(|rule| rule.is_in_force(now) && rule.key == RuleKey::Shutdown);
    stop.map_or(Ok(()), |rule| Err(Verdict::ShutDown { retry_ms: rule.terms.retry_ms.unwrap() }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn sets_merge_in_any_order_and_any_number_of_times(
        rules in prop::collection::vec(a_rule(), 0..24), seed in any::<prop::sample::Index>(),
    ) {
        let once = set(&rules);
        let mut turned = rules.clone();
        turned.reverse();
        let middle = seed.index(rules.len() + 1);
        turned.rotate_left(middle);
        prop_assert_eq!(&set(&turned), &once, "commutative");
        let twice: Vec<Rule> = rules.iter().chain(&turned).cloned().collect();
        prop_assert_eq!(&set(&twice), &once, "idempotent");
        let (left, right) = rules.split_at(middle);
        let joined: Vec<Rule> = set(right).into_iter().chain(set(left)).collect();
        prop_assert_eq!(&set(&joined), &once, "associative");
    }

    #[test]
    fn a_verdict_is_what_the_rules_say_one_by_one(
        rules in prop::collection::vec(a_rule(), 0..24), now in 0..9_u64,
        who in 0..3_usize, place in prop::option::of(0..2_usize), grant in 0..3_usize,
        issued_s in prop::option::of(0..6_u64), address in prop::option::of(0..6_usize), issuer in prop::option::of(0..2_usize),
    ) {
        let now = now * 700;
        let (user, room) = (user(USERS[who]), place.map(|n| room(ROOMS[n])));
        let address = address.map(|n| ADDRESSES[n].parse::<IpAddr>().unwrap());
        let subject = Subject {
            user: &user, room: room.as_ref(), grant: GRANTS[grant], issued_s, address,
            issuer: issuer.map(|n| KEYS[n]),
        };
        let held = Rules::default().merged(rules.clone(), now).unwrap_or_default();
        let merged: Vec<Rule> = set(&rules);
        prop_assert_eq!(held.judge(&subject, now), naive(&merged, &subject, now));
        // What is issued from the first good second on is not taken back by what was there before.
        let fresh = Subject { issued_s: Some(held.first_good_second(&subject, now)), ..subject };
        let revoked_otherwise = held.index.judge(&Subject { issued_s: None, ..subject }, now);
        prop_assert_eq!(held.judge(&fresh, now), revoked_otherwise);
    }
}

#[test]
fn a_lifted_rule_is_remembered_for_as_long_as_the_longest_one_it_lifts() {
    let key = RuleKey::Ban { room: None, user: user("mallory") };
    let long = Rule::new(key.clone(), 1_000, 60_000, Terms::default());
    let held = Rules::default().merged([long.clone()], 1_000).unwrap();
    let mut short = Rule::new(key.clone(), 2_000, 1_000, Terms::default());
    let held = held.merged([short.clone()], 2_000).unwrap();
    assert_eq!(held.remembered(50_000).count(), 1, "the shorter ban ends, and is not forgotten");
    assert!(held.get(&key, 3_500).is_none());
    short.at = 2_500;
    short.lifted = true;
    let held = held.merged([short], 2_500).unwrap();
    assert!(held.merged([long], 2_600).is_none(), "a process that missed both revives nothing");
}

#[test]
fn ten_thousand_rules_are_asked_in_microseconds() {
    let rules = (0..10_000_u32).map(|n| {
        let key = match n % 4 {
            0 => RuleKey::Deny(parse_denied(&format!("10.{}.{}.0/24", n / 250 % 250, n % 250)).unwrap()),
            1 => RuleKey::Token(TokenId::parse(&format!("g{n}")).unwrap()),
            _ => RuleKey::Ban { room: None, user: user(&format!("u{n}")) },
        };
        Rule::new(key, 0, 1_000_000, Terms::default())
    });
    let held = Rules::default().merged(rules, 0).unwrap();
    let (user, room) = (user("somebody"), room("red"));
    let subject = Subject {
        user: &user,
        room: Some(&room),
        grant: "g",
        issued_s: Some(9),
        issuer: None,
        address: Some("192.0.2.1".parse().unwrap()),
    };
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        held.judge(&subject, 5).unwrap();
    }
    assert!(start.elapsed().as_millis() < 500, "{:?} for 10 000 questions, debug build", start.elapsed());
}
