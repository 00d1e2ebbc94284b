//! What the store promises, over memory and every kind of Redis.

use std::sync::Arc;

use proptest::prelude::*;
use signalbox_protocol::{
    clock,
    id::{RoomId, random_hex},
};
use signalbox_tests::redis_kinds::{KINDS, Lease};
use signalbox_token::{Opaque, Redeemed, TICKET_USED, TicketShelf};

use super::{
    AuthStore, MemoryStore, RedisStore,
    contract::{Invited, MOST_INVITES, NewFamily, NewInvite, Refusal, SLACK_MS, Turn, Turned},
};
use crate::issuer::{family_of, new_salt, successor};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The store under test, and where it is.
struct Place {
    name: String,
    store: AuthStore,
    redis: Option<Lease>,
    tickets: TicketShelf,
}

async fn places() -> Vec<Place> {
    let tickets = TicketShelf::default();
    let store = AuthStore::memory(tickets.clone());
    let mut places = vec![Place { name: "memory".to_owned(), store, redis: None, tickets }];
    for kind in KINDS {
        let redis = kind.lease().await;
        let store = RedisStore::open(&redis.url_for("auth"), &redis.settings()).unwrap();
        let (store, tickets) = (AuthStore::Redis(Arc::new(store)), TicketShelf::default());
        places.push(Place { name: format!("{kind:?}"), store, redis: Some(redis), tickets });
    }
    places
}

/// A family, and the way of its tokens.
struct Walk {
    salt: String,
    tokens: Vec<Opaque>,
}

impl Walk {
    async fn start(store: &AuthStore, life_ms: u64, longest_ms: u64) -> Self {
        let (token, salt) = (Opaque::random(), new_salt());
        let family = new_family(&token, &salt, life_ms, longest_ms);
        store.start_family(family).await.unwrap();
        Self { salt, tokens: vec![token] }
    }

    fn turn(&self, place: usize, grace_ms: u64) -> Turn {
        let token = &self.tokens[place];
        Turn {
            name: family_of(token),
            shown: token.digest(),
            successor: successor(token, &self.salt).digest(),
            grace_ms,
            life_ms: DAY_MS,
        }
    }

    fn go_on(&mut self) {
        let next = successor(self.tokens.last().unwrap(), &self.salt);
        self.tokens.push(next);
    }
}

fn new_family(token: &Opaque, salt: &str, life_ms: u64, longest_ms: u64) -> NewFamily {
    NewFamily {
        name: family_of(token),
        salt: salt.to_owned(),
        digest: token.digest(),
        what: r#"{"a":1}"#.to_owned(),
        grant: "g".to_owned(),
        life_ms,
        longest_ms,
    }
}

#[actix_web::test]
async fn a_refresh_token_is_used_once_and_repeated_for_a_while_and_then_ends_its_family() {
    for Place { name, store, .. } in places().await {
        let mut walk = Walk::start(&store, DAY_MS, 30 * DAY_MS).await;
        let family = store.family(&walk.turn(0, 0).name).await.unwrap().unwrap();
        assert_eq!(
            (&*family.salt, &*family.what, &*family.grant),
            (&*walk.salt, r#"{"a":1}"#, "g"),
            "{name}"
        );
        assert!(clock::now_ms().abs_diff(family.born_ms) < 5_000, "{name}");
        let used = |turned| match turned {
            Turned::Next { number, left_ms } if left_ms <= DAY_MS && left_ms > DAY_MS - 60_000 => number,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(used(store.turn(&walk.turn(0, 10_000)).await.unwrap()), 1);
        assert_eq!(used(store.turn(&walk.turn(0, 10_000)).await.unwrap()), 2, "the same one again");
        walk.go_on();
        assert_eq!(used(store.turn(&walk.turn(1, 10_000)).await.unwrap()), 3);
        // Two steps back is too old, however soon it comes.
        let reused = store.turn(&walk.turn(0, 10_000)).await.unwrap();
        assert!(matches!(reused, Turned::Reused { first: true, left_ms } if left_ms > 29 * DAY_MS), "{name}");
        walk.go_on();
        for place in [2, 1, 0] {
            let after = store.turn(&walk.turn(place, 10_000)).await.unwrap();
            assert!(matches!(after, Turned::Reused { first: false, .. }), "{name}: {after:?}");
        }
        assert_eq!(store.family(&walk.turn(0, 0).name).await.unwrap().unwrap().what, "", "{name}");
    }
}

#[actix_web::test]
async fn a_repeat_after_the_grace_a_stranger_and_a_late_comer_are_told_apart() {
    for Place { name, store, .. } in places().await {
        let walk = Walk::start(&store, DAY_MS, 30 * DAY_MS).await;
        let strange = Turn { name: random_hex(), ..walk.turn(0, 0) };
        assert_eq!(store.turn(&strange).await.unwrap(), Turned::Unknown, "{name}");
        assert_eq!(store.family(&strange.name).await.unwrap(), None, "{name}");
        store.turn(&walk.turn(0, 0)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let late = store.turn(&walk.turn(0, 1)).await.unwrap();
        assert!(matches!(late, Turned::Reused { first: true, .. }), "{name}: {late:?}");

        let guessed = Walk::start(&store, DAY_MS, 30 * DAY_MS).await;
        let mut guess = guessed.turn(0, 10_000);
        guess.shown = Opaque::random().digest();
        let turned = store.turn(&guess).await.unwrap();
        assert!(matches!(turned, Turned::Reused { .. }), "{name}: a proof that nobody gave");

        let short = Walk::start(&store, 1, 30 * DAY_MS).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert_eq!(store.turn(&short.turn(0, 10_000)).await.unwrap(), Turned::Expired, "{name}");
    }
}

#[actix_web::test]
async fn no_successor_outlives_its_family() {
    for Place { name, store, .. } in places().await {
        let walk = Walk::start(&store, DAY_MS, 60_000).await;
        let turned = store.turn(&walk.turn(0, 10_000)).await.unwrap();
        assert!(
            matches!(turned, Turned::Next { left_ms, .. } if left_ms <= 60_000 && left_ms > 30_000),
            "{name}: {turned:?}"
        );
    }
}

#[actix_web::test]
async fn of_fifty_uses_at_once_all_get_the_one_successor() {
    for Place { name, store, .. } in places().await {
        let mut walk = Walk::start(&store, DAY_MS, 30 * DAY_MS).await;
        let uses = (0..50).map(|_| {
            let (store, turn) = (store.clone(), walk.turn(0, 10_000));
            actix_web::rt::spawn(async move { store.turn(&turn).await })
        });
        let uses: Vec<_> = uses.collect();
        let mut numbers = Vec::new();
        for used in uses {
            match used.await.unwrap().unwrap() {
                Turned::Next { number, .. } => numbers.push(number),
                other => panic!("{name}: {other:?}"),
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=50).collect::<Vec<_>>(), "{name}");
        walk.go_on();
        assert!(matches!(store.turn(&walk.turn(1, 10_000)).await.unwrap(), Turned::Next { number: 51, .. }));
    }
}

#[actix_web::test]
async fn a_ticket_is_kept_for_its_life_under_its_digest() {
    for Place { name, store, redis, tickets } in places().await {
        let (ticket, claims) = (Opaque::random(), r#"{"iss":"x"}"#);
        store.put_ticket(&ticket.digest(), claims.to_owned()).await.unwrap();
        let Some(redis) = redis else {
            // These claims are none, so that what is there shows as unknown, and as used afterwards.
            assert!(matches!(tickets.redeem(&ticket.digest(), clock::now_ms()), Redeemed::Unknown));
            assert!(matches!(tickets.redeem(&ticket.digest(), clock::now_ms()), Redeemed::Used));
            continue;
        };
        let key = signalbox_redis::keys::ticket(&ticket.digest());
        assert_eq!(redis.keys().await, std::slice::from_ref(&key), "{name}");
        let mut redeem = redis::cmd("SET");
        redeem.arg(&key).arg(TICKET_USED).arg("XX").arg("GET").arg("KEEPTTL");
        let mut before = Vec::new();
        for _ in 0..2 {
            let answers = redis.try_everywhere::<Option<String>>(&redeem).await;
            before.extend(answers.into_iter().flatten().flatten());
        }
        assert_eq!(before, [claims, TICKET_USED], "{name}");
        let mut ttl = redis::cmd("PTTL");
        ttl.arg(&key);
        let lives = redis.try_everywhere::<i64>(&ttl).await;
        assert!(lives.iter().flatten().any(|ms| (1..=30_000).contains(ms)), "{name}: {lives:?}");
    }
}

fn invite(room: &RoomId, max_uses: u32, life_ms: u64) -> NewInvite {
    NewInvite {
        room: room.clone(),
        id: random_hex(),
        what: r#"{"role":"guest"}"#.to_owned(),
        max_uses,
        life_ms,
    }
}

#[actix_web::test]
async fn an_invite_is_used_as_often_as_it_says_and_until_it_ends() {
    let (room, other) = (RoomId::parse("r").unwrap(), RoomId::parse("s").unwrap());
    for Place { name, store, .. } in places().await {
        let (three, brief) = (invite(&room, 3, DAY_MS), invite(&room, 3, 1));
        let ends_ms = store.put_invite(three.clone()).await.unwrap();
        assert!(ends_ms.abs_diff(clock::now_ms() + DAY_MS) < 5_000, "{name}");
        store.put_invite(brief.clone()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert_eq!(store.use_invite(&room, &brief.id).await.unwrap(), Invited::Expired, "{name}");
        assert_eq!(store.use_invite(&other, &three.id).await.unwrap(), Invited::Unknown, "{name}");

        let uses: Vec<_> = (0..20)
            .map(|_| {
                let (store, room, id) = (store.clone(), room.clone(), three.id.clone());
                actix_web::rt::spawn(async move { store.use_invite(&room, &id).await.unwrap() })
            })
            .collect();
        let mut good = 0;
        for used in uses {
            match used.await.unwrap() {
                Invited::Good(what) => {
                    assert_eq!(what, three.what);
                    good += 1;
                }
                other => assert_eq!(other, Invited::UsedUp, "{name}"),
            }
        }
        assert_eq!(good, 3, "{name}");
        let listed = store.invites(&room).await.unwrap();
        assert_eq!(listed.len(), 1, "{name}: what is over is not listed");
        assert_eq!((&listed[0].id, listed[0].uses, listed[0].max_uses), (&three.id, 3, 3), "{name}");
        assert!(store.drop_invite(&room, &three.id).await.unwrap(), "{name}");
        assert!(!store.drop_invite(&room, &three.id).await.unwrap(), "{name}");
        assert_eq!(store.use_invite(&room, &three.id).await.unwrap(), Invited::Unknown, "{name}");
    }
}

#[actix_web::test]
async fn a_room_has_only_so_many_invites_and_can_lose_them_all() {
    let room = RoomId::parse("full").unwrap();
    for Place { name, store, .. } in places().await {
        let first = invite(&room, 1, DAY_MS);
        store.put_invite(first.clone()).await.unwrap();
        for _ in 1..MOST_INVITES {
            store.put_invite(invite(&room, 1, DAY_MS)).await.unwrap();
        }
        assert_eq!(store.put_invite(invite(&room, 1, DAY_MS)).await, Err(Refusal::Full), "{name}");
        store.drop_invites(&room).await.unwrap();
        assert_eq!(store.use_invite(&room, &first.id).await.unwrap(), Invited::Unknown, "{name}");
        store.put_invite(invite(&room, 1, DAY_MS)).await.unwrap();
    }
}

#[actix_web::test]
async fn every_key_has_an_end() {
    let room = RoomId::parse("r").unwrap();
    for Place { name, store, redis, .. } in places().await {
        let Some(redis) = redis else { continue };
        let live = Walk::start(&store, DAY_MS, 30 * DAY_MS).await;
        store.turn(&live.turn(0, 0)).await.unwrap();
        let dead = Walk::start(&store, 1_000, 30 * DAY_MS).await;
        let guess = Turn { shown: Opaque::random().digest(), ..dead.turn(0, 0) };
        store.turn(&guess).await.unwrap();
        store.put_ticket(&Opaque::random().digest(), "{}".to_owned()).await.unwrap();
        store.put_invite(invite(&room, 1, 30 * DAY_MS)).await.unwrap();
        // A short one does not shorten the life of the longer one's key.
        store.put_invite(invite(&room, 1, 1_000)).await.unwrap();
        let keys = redis.keys().await;
        assert_eq!(keys.len(), 4, "{name}: {keys:?}");
        for key in keys {
            let mut ttl = redis::cmd("PTTL");
            ttl.arg(&key);
            let answers = redis.try_everywhere::<i64>(&ttl).await;
            let ms = answers.into_iter().flatten().find(|ms| *ms != -2).unwrap();
            assert!(ms > 0 && ms as u64 <= 30 * DAY_MS + SLACK_MS, "{name}: {key} {ms}");
            assert!(!key.contains("invite") || ms as u64 > 29 * DAY_MS, "{name}: {key} {ms}");
        }
    }
}

/// A step of the walk: which token is shown, counted back from the newest, and how much later.
fn steps() -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec(
        (prop_oneof![6 => Just(0_usize), 3 => Just(1), 1 => 2..6_usize], 0..8_000_u64),
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// The model knows all tokens by their place: the newest is good; the one before for the grace; any other ends it all.
    #[test]
    fn a_walk_of_uses_is_what_the_rules_say(steps in steps()) {
        let store = MemoryStore::new(TicketShelf::default());
        let (token, salt) = (Opaque::random(), new_salt());
        let mut now = 1_000_000;
        store.start_family(new_family(&token, &salt, DAY_MS, 30 * DAY_MS), now).unwrap();
        let mut walk = Walk { salt, tokens: vec![token] };
        let (mut rotated, mut dead, mut uses) = (None::<u64>, false, 0);
        for (back, later) in steps {
            now += later;
            let newest = walk.tokens.len() - 1;
            let shown = newest.saturating_sub(back);
            let turned = store.turn(&walk.turn(shown, 10_000), now);
            let again = shown + 1 == newest && rotated.is_some_and(|at| now - at <= 10_000);
            if dead || (shown != newest && !again) {
                let expected_first = !dead;
                dead = true;
                let told = matches!(turned, Turned::Reused { first, .. } if first == expected_first);
                prop_assert!(told, "{turned:?}");
                continue;
            }
            uses += 1;
            let told = matches!(turned, Turned::Next { number, .. } if number == uses);
            prop_assert!(told, "{turned:?}");
            if shown == newest {
                rotated = Some(now);
                walk.go_on();
            }
        }
    }
}
