//! The rules of the credential store, tested over memory and every kind of Redis.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use signalbox_protocol::{
    CredentialRoot, clock,
    id::{CallerId, RoomId, UserId, random_hex},
};
use signalbox_redis::{RedisClient, redis_keys};
use signalbox_tests::redis_kind::{ExclusiveRedis, REDIS_KINDS};
use signalbox_token::{
    MemoryTicketStore, OpaqueToken, SecretBytes, SharedSecret, TicketHolder, TicketRedemption,
    USED_TICKET_VALUE,
};

use super::{
    CredentialStore, MemoryCredentialStore, RedisCredentialStore,
    contract::{
        CredentialLimits, CredentialStoreError, EXPIRED_RETENTION_MS, FamilyHolder, InviteUse,
        MAX_ROOM_INVITES, NewInvite, NewRefreshFamily, RefreshRotation, RefreshRotationResult,
    },
};
use crate::auth::{
    issuer::{derive_successor, family_id, new_salt},
    keys::SigningKeys,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The store under test and its Redis.
struct StoreUnderTest {
    label: String,
    store: CredentialStore,
    redis: Option<ExclusiveRedis>,
    tickets: MemoryTicketStore,
}

const TEST_LIMITS: CredentialLimits =
    CredentialLimits { root_families: 5, user_families: 3, key_invites: MAX_ROOM_INVITES + 2 };

async fn stores_under_test() -> Vec<StoreUnderTest> {
    let tickets = MemoryTicketStore::default();
    let store = CredentialStore::in_memory(tickets.clone(), TEST_LIMITS);
    let mut stores = vec![StoreUnderTest { label: "memory".to_owned(), store, redis: None, tickets }];
    for kind in REDIS_KINDS {
        let redis = kind.acquire().await;
        let client = RedisClient::start(&redis.url_for("auth"), &redis.settings()).unwrap();
        client.wait_for_servers(Duration::from_secs(10)).await.unwrap();
        let secret =
            SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex()))).unwrap();
        let keys = SigningKeys::from_secret(&secret, None);
        let store = RedisCredentialStore::new(client, keys, TEST_LIMITS);
        let (store, tickets) = (CredentialStore::Redis(Arc::new(store)), MemoryTicketStore::default());
        stores.push(StoreUnderTest { label: format!("{kind:?}"), store, redis: Some(redis), tickets });
    }
    stores
}

/// A refresh family and its tokens until now, oldest first.
struct RefreshChain {
    salt: String,
    tokens: Vec<OpaqueToken>,
}

impl RefreshChain {
    async fn start(store: &CredentialStore, token_life_ms: u64, family_life_ms: u64) -> Self {
        let (token, salt) = (OpaqueToken::random(), new_salt());
        let family = new_family(&token, &salt, token_life_ms, family_life_ms);
        store.start_family(family).await.unwrap();
        Self { salt, tokens: vec![token] }
    }

    fn rotation(&self, index: usize, repeat_ms: u64) -> RefreshRotation {
        let token = &self.tokens[index];
        RefreshRotation {
            family_id: family_id(token),
            holder: holder("key:backend", "u"),
            presented_digest: token.digest(),
            successor_digest: derive_successor(token, &self.salt).digest(),
            repeat_ms,
            successor_life_ms: DAY_MS,
        }
    }

    fn advance(&mut self) {
        let next = derive_successor(self.tokens.last().unwrap(), &self.salt);
        self.tokens.push(next);
    }
}

fn ticket_holder() -> TicketHolder {
    TicketHolder { root: CredentialRoot::App, grant: "g".into() }
}

fn holder(root: &str, user: &str) -> FamilyHolder {
    FamilyHolder { root: CredentialRoot::parse(root).unwrap(), user: UserId::parse(user).unwrap() }
}

fn new_family(token: &OpaqueToken, salt: &str, token_life_ms: u64, family_life_ms: u64) -> NewRefreshFamily {
    NewRefreshFamily {
        family_id: family_id(token),
        salt: salt.to_owned(),
        first_digest: token.digest(),
        terms_json: r#"{"a":1}"#.to_owned(),
        grant: "g".to_owned(),
        holder: holder("key:backend", "u"),
        token_life_ms,
        family_life_ms,
    }
}

#[actix_web::test]
async fn repeated_refresh_token_is_accepted_briefly_and_later_revokes_its_family() {
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        let mut chain = RefreshChain::start(&store, DAY_MS, 30 * DAY_MS).await;
        let family = store.load_family(&chain.rotation(0, 0).family_id).await.unwrap().unwrap();
        assert_eq!(
            (&*family.salt, &*family.terms_json, &*family.grant),
            (&*chain.salt, r#"{"a":1}"#, "g"),
            "{label}"
        );
        assert!(clock::now_ms().abs_diff(family.created_ms) < 5_000, "{label}");
        let use_number = |result| match result {
            RefreshRotationResult::Rotated { number, left_ms }
                if left_ms <= DAY_MS && left_ms > DAY_MS - 60_000 =>
            {
                number
            }
            other => panic!("{label}: {other:?}"),
        };
        assert_eq!(use_number(store.rotate_refresh_token(&chain.rotation(0, 10_000)).await.unwrap()), 1);
        assert_eq!(
            use_number(store.rotate_refresh_token(&chain.rotation(0, 10_000)).await.unwrap()),
            2,
            "the same token again"
        );
        chain.advance();
        assert_eq!(use_number(store.rotate_refresh_token(&chain.rotation(1, 10_000)).await.unwrap()), 3);
        // The token before the last one is too old, even within the repeat time.
        let reused = store.rotate_refresh_token(&chain.rotation(0, 10_000)).await.unwrap();
        assert!(
            matches!(reused, RefreshRotationResult::Reused { first: true, left_ms } if left_ms > 29 * DAY_MS),
            "{label}"
        );
        chain.advance();
        for index in [2, 1, 0] {
            let after = store.rotate_refresh_token(&chain.rotation(index, 10_000)).await.unwrap();
            assert!(
                matches!(after, RefreshRotationResult::Reused { first: false, .. }),
                "{label}: {after:?}"
            );
        }
        assert_eq!(
            store.load_family(&chain.rotation(0, 0).family_id).await.unwrap().unwrap().terms_json,
            "",
            "{label}"
        );
    }
}

#[actix_web::test]
async fn late_repeat_unknown_family_and_expired_token_have_different_results() {
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        let chain = RefreshChain::start(&store, DAY_MS, 30 * DAY_MS).await;
        let unknown = RefreshRotation { family_id: random_hex(), ..chain.rotation(0, 0) };
        assert_eq!(
            store.rotate_refresh_token(&unknown).await.unwrap(),
            RefreshRotationResult::Unknown,
            "{label}"
        );
        assert_eq!(store.load_family(&unknown.family_id).await.unwrap(), None, "{label}");
        store.rotate_refresh_token(&chain.rotation(0, 0)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let late = store.rotate_refresh_token(&chain.rotation(0, 1)).await.unwrap();
        assert!(matches!(late, RefreshRotationResult::Reused { first: true, .. }), "{label}: {late:?}");

        let guessed = RefreshChain::start(&store, DAY_MS, 30 * DAY_MS).await;
        let mut guess = guessed.rotation(0, 10_000);
        guess.presented_digest = OpaqueToken::random().digest();
        let result = store.rotate_refresh_token(&guess).await.unwrap();
        assert!(
            matches!(result, RefreshRotationResult::Reused { .. }),
            "{label}: a secret that was never issued"
        );

        let short = RefreshChain::start(&store, 1, 30 * DAY_MS).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert_eq!(
            store.rotate_refresh_token(&short.rotation(0, 10_000)).await.unwrap(),
            RefreshRotationResult::Expired,
            "{label}"
        );
    }
}

#[actix_web::test]
async fn refresh_successor_expires_no_later_than_its_family() {
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        let chain = RefreshChain::start(&store, DAY_MS, 60_000).await;
        let result = store.rotate_refresh_token(&chain.rotation(0, 10_000)).await.unwrap();
        assert!(
            matches!(result, RefreshRotationResult::Rotated { left_ms, .. } if left_ms <= 60_000 && left_ms > 30_000),
            "{label}: {result:?}"
        );
    }
}

#[actix_web::test]
async fn fifty_concurrent_uses_get_the_same_successor() {
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        let mut chain = RefreshChain::start(&store, DAY_MS, 30 * DAY_MS).await;
        let uses = (0..50).map(|_| {
            let (store, rotation) = (store.clone(), chain.rotation(0, 10_000));
            actix_web::rt::spawn(async move { store.rotate_refresh_token(&rotation).await })
        });
        let uses: Vec<_> = uses.collect();
        let mut numbers = Vec::new();
        for used in uses {
            match used.await.unwrap().unwrap() {
                RefreshRotationResult::Rotated { number, .. } => numbers.push(number),
                other => panic!("{label}: {other:?}"),
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=50).collect::<Vec<_>>(), "{label}");
        chain.advance();
        assert!(matches!(
            store.rotate_refresh_token(&chain.rotation(1, 10_000)).await.unwrap(),
            RefreshRotationResult::Rotated { number: 51, .. }
        ));
    }
}

#[actix_web::test]
async fn ticket_is_stored_under_its_digest_until_it_expires() {
    for StoreUnderTest { label, store, redis, tickets } in stores_under_test().await {
        let (ticket, token) = (OpaqueToken::random(), "header.claims.signature");
        store.put_ticket(&ticket.digest(), token.to_owned(), ticket_holder()).await.unwrap();
        let Some(redis) = redis else {
            assert!(
                tickets.redeem_ticket(&ticket.digest(), clock::now_ms())
                    == TicketRedemption::Token(token.into())
            );
            assert!(matches!(
                tickets.redeem_ticket(&ticket.digest(), clock::now_ms()),
                TicketRedemption::Used
            ));
            continue;
        };
        let key = redis_keys::ticket_key(&ticket.digest());
        assert_eq!(redis.keys().await, std::slice::from_ref(&key), "{label}");
        let mut redeem = redis::cmd("SET");
        redeem.arg(&key).arg(USED_TICKET_VALUE).arg("XX").arg("GET").arg("KEEPTTL");
        let mut before = Vec::new();
        for _ in 0..2 {
            let answers = redis.try_run_on_masters::<Option<String>>(&redeem).await;
            before.extend(answers.into_iter().flatten().flatten());
        }
        assert_eq!(before, [token, USED_TICKET_VALUE], "{label}");
        let mut ttl = redis::cmd("PTTL");
        ttl.arg(&key);
        let lives = redis.try_run_on_masters::<i64>(&ttl).await;
        assert!(lives.iter().flatten().any(|ms| (1..=30_000).contains(ms)), "{label}: {lives:?}");
    }
}

fn new_invite(room: &RoomId, max_uses: u32, life_ms: u64) -> NewInvite {
    NewInvite {
        room: room.clone(),
        id: random_hex(),
        key: CallerId::parse("backend").unwrap(),
        terms_json: r#"{"role":"guest"}"#.to_owned(),
        max_uses,
        life_ms,
    }
}

#[actix_web::test]
async fn invite_is_accepted_up_to_its_limit_and_until_it_expires() {
    let (room, other) = (RoomId::parse("r").unwrap(), RoomId::parse("s").unwrap());
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        let (three, brief) = (new_invite(&room, 3, DAY_MS), new_invite(&room, 3, 1));
        let ends_ms = store.put_invite(three.clone()).await.unwrap();
        assert!(ends_ms.abs_diff(clock::now_ms() + DAY_MS) < 5_000, "{label}");
        store.put_invite(brief.clone()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert_eq!(store.use_invite(&room, &brief.id).await.unwrap(), InviteUse::Expired, "{label}");
        assert_eq!(store.use_invite(&other, &three.id).await.unwrap(), InviteUse::Unknown, "{label}");

        let uses: Vec<_> = (0..20)
            .map(|_| {
                let (store, room, id) = (store.clone(), room.clone(), three.id.clone());
                actix_web::rt::spawn(async move { store.use_invite(&room, &id).await.unwrap() })
            })
            .collect();
        let mut accepted = 0;
        for used in uses {
            match used.await.unwrap() {
                InviteUse::Accepted(terms_json) => {
                    assert_eq!(terms_json, three.terms_json);
                    accepted += 1;
                }
                other => assert_eq!(other, InviteUse::UsedUp, "{label}"),
            }
        }
        assert_eq!(accepted, 3, "{label}");
        let listed = store.list_invites(&room).await.unwrap();
        assert_eq!(listed.len(), 1, "{label}: an expired invite is not listed");
        assert_eq!((&listed[0].id, listed[0].uses, listed[0].max_uses), (&three.id, 3, 3), "{label}");
        assert!(store.delete_invite(&room, &three.id).await.unwrap(), "{label}");
        assert!(!store.delete_invite(&room, &three.id).await.unwrap(), "{label}");
        assert_eq!(store.use_invite(&room, &three.id).await.unwrap(), InviteUse::Unknown, "{label}");
    }
}

#[actix_web::test]
async fn room_has_at_most_100_invites_and_all_can_be_deleted() {
    let room = RoomId::parse("full").unwrap();
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        let first = new_invite(&room, 1, DAY_MS);
        store.put_invite(first.clone()).await.unwrap();
        for _ in 1..MAX_ROOM_INVITES {
            store.put_invite(new_invite(&room, 1, DAY_MS)).await.unwrap();
        }
        assert_eq!(
            store.put_invite(new_invite(&room, 1, DAY_MS)).await,
            Err(CredentialStoreError::Full),
            "{label}"
        );
        store.delete_room_invites(&room).await.unwrap();
        assert_eq!(store.use_invite(&room, &first.id).await.unwrap(), InviteUse::Unknown, "{label}");
        store.put_invite(new_invite(&room, 1, DAY_MS)).await.unwrap();
    }
}

async fn start_family_of(
    store: &CredentialStore,
    root: &str,
    user: &str,
) -> Result<String, CredentialStoreError> {
    let token = OpaqueToken::random();
    let holder = holder(root, user);
    let family = NewRefreshFamily { holder, ..new_family(&token, &new_salt(), DAY_MS, 30 * DAY_MS) };
    store.start_family(family).await.map(|_| family_id(&token))
}

#[actix_web::test]
async fn families_of_a_root_take_no_place_of_another_root() {
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        for n in 0..TEST_LIMITS.root_families {
            start_family_of(&store, "key:acme", &format!("u{n}")).await.unwrap();
        }
        let refused = start_family_of(&store, "key:acme", "u9").await;
        assert_eq!(refused, Err(CredentialStoreError::NoPlace), "{label}");
        // Other roots, also for the same user, have places of their own.
        for root in ["key:globex", "provider:acme", "app"] {
            start_family_of(&store, root, "u0").await.unwrap();
        }
    }
}

#[actix_web::test]
async fn a_user_with_the_most_families_loses_the_one_that_would_expire_first() {
    for StoreUnderTest { label, store, redis, .. } in stores_under_test().await {
        let root = "key:backend";
        let other = start_family_of(&store, root, "v").await.unwrap();
        let token_life = async |days: u64| {
            let chain = RefreshChain::start(&store, days * DAY_MS, 30 * DAY_MS).await;
            (family_id(&chain.tokens[0]), chain)
        };
        let (first, used) = token_life(2).await;
        let (second, _) = token_life(3).await;
        let (third, _) = token_life(4).await;
        // A use moves the end of a family: the second one would expire first now.
        let rotation = RefreshRotation { successor_life_ms: 9 * DAY_MS, ..used.rotation(0, 0) };
        store.rotate_refresh_token(&rotation).await.unwrap();
        let (fourth, _) = token_life(5).await;
        let is_kept = async |id: &str| store.load_family(id).await.unwrap().is_some();
        assert!(!is_kept(&second).await, "{label}: the second family was replaced");
        for kept in [&first, &third, &fourth, &other] {
            assert!(is_kept(kept).await, "{label}");
        }
        // Also while the root is full.
        start_family_of(&store, root, "w").await.unwrap();
        assert_eq!(start_family_of(&store, root, "x").await, Err(CredentialStoreError::NoPlace), "{label}");
        let (fifth, _) = token_life(1).await;
        assert!(!is_kept(&third).await && is_kept(&fifth).await && is_kept(&other).await, "{label}");
        if let Some(redis) = redis {
            let families = redis.keys().await;
            let count = families.iter().filter(|key| key.starts_with("sb:a:refresh:")).count();
            assert_eq!(count, TEST_LIMITS.root_families, "{label}: a replaced family is deleted");
        }
    }
}

#[actix_web::test]
async fn the_place_of_an_expired_family_is_free() {
    let store = MemoryCredentialStore::new(MemoryTicketStore::default(), TEST_LIMITS);
    let start = |user: &str, now_ms| {
        let holder = holder("app", user);
        let family = new_family(&OpaqueToken::random(), &new_salt(), DAY_MS, 30 * DAY_MS);
        store.start_family(NewRefreshFamily { holder, ..family }, now_ms)
    };
    for n in 0..TEST_LIMITS.root_families {
        start(&format!("u{n}"), 1).unwrap();
    }
    assert_eq!(start("v", DAY_MS + EXPIRED_RETENTION_MS), Err(CredentialStoreError::NoPlace));
    assert_eq!(start("v", DAY_MS + EXPIRED_RETENTION_MS + 1), Ok(0));
}

#[actix_web::test]
async fn invites_of_an_api_key_take_no_place_of_another_key() {
    let (one, two) = (RoomId::parse("one").unwrap(), RoomId::parse("two").unwrap());
    for StoreUnderTest { label, store, .. } in stores_under_test().await {
        for _ in 0..MAX_ROOM_INVITES {
            store.put_invite(new_invite(&one, 1, DAY_MS)).await.unwrap();
        }
        // A refusal because of the room takes no place of the key.
        let refused = store.put_invite(new_invite(&one, 1, DAY_MS)).await;
        assert_eq!(refused, Err(CredentialStoreError::Full), "{label}");
        let deleted = new_invite(&two, 1, DAY_MS);
        store.put_invite(deleted.clone()).await.unwrap();
        store.put_invite(new_invite(&two, 1, DAY_MS)).await.unwrap();
        let refused = store.put_invite(new_invite(&two, 1, DAY_MS)).await;
        assert_eq!(refused, Err(CredentialStoreError::NoPlace), "{label}");
        let of_globex = NewInvite { key: CallerId::parse("globex").unwrap(), ..new_invite(&two, 1, DAY_MS) };
        store.put_invite(of_globex).await.unwrap();
        // A deleted invite, and those of a deleted room, give their places back.
        store.delete_invite(&two, &deleted.id).await.unwrap();
        store.put_invite(new_invite(&two, 1, DAY_MS)).await.unwrap();
        store.delete_room_invites(&one).await.unwrap();
        for _ in 0..3 {
            store.put_invite(new_invite(&two, 1, DAY_MS)).await.unwrap();
        }
    }
}

#[actix_web::test]
async fn every_redis_key_has_a_ttl() {
    let room = RoomId::parse("r").unwrap();
    for StoreUnderTest { label, store, redis, .. } in stores_under_test().await {
        let Some(redis) = redis else { continue };
        let live = RefreshChain::start(&store, DAY_MS, 30 * DAY_MS).await;
        store.rotate_refresh_token(&live.rotation(0, 0)).await.unwrap();
        let dead = RefreshChain::start(&store, 1_000, 30 * DAY_MS).await;
        let guess =
            RefreshRotation { presented_digest: OpaqueToken::random().digest(), ..dead.rotation(0, 0) };
        store.rotate_refresh_token(&guess).await.unwrap();
        store.put_ticket(&OpaqueToken::random().digest(), "{}".to_owned(), ticket_holder()).await.unwrap();
        store.put_invite(new_invite(&room, 1, 30 * DAY_MS)).await.unwrap();
        // A short invite does not shorten the life of the key.
        store.put_invite(new_invite(&room, 1, 1_000)).await.unwrap();
        let keys = redis.keys().await;
        assert_eq!(keys.len(), 7, "{label}: {keys:?}");
        for key in keys {
            let mut ttl = redis::cmd("PTTL");
            ttl.arg(&key);
            let answers = redis.try_run_on_masters::<i64>(&ttl).await;
            let ms = answers.into_iter().flatten().find(|ms| *ms != -2).unwrap();
            assert!(ms > 0 && ms as u64 <= 30 * DAY_MS + EXPIRED_RETENTION_MS, "{label}: {key} {ms}");
            let is_long = key.contains("invite") || key.contains("famil");
            assert!(!is_long || ms as u64 > 29 * DAY_MS, "{label}: {key} {ms}");
        }
    }
}

/// The uses of tokens: the distance of each from the newest token, and the time since the use
/// before, ms.
fn random_steps() -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec(
        (prop_oneof![6 => Just(0_usize), 3 => Just(1), 1 => 2..6_usize], 0..8_000_u64),
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// The model knows all tokens by their index. The newest is valid, and the token before it for
    /// the repeat time. Any other token revokes the family.
    #[test]
    fn random_refresh_uses_match_the_model(steps in random_steps()) {
        let store = MemoryCredentialStore::new(MemoryTicketStore::default(), TEST_LIMITS);
        let (token, salt) = (OpaqueToken::random(), new_salt());
        let mut now = 1_000_000;
        store.start_family(new_family(&token, &salt, DAY_MS, 30 * DAY_MS), now).unwrap();
        let mut chain = RefreshChain { salt, tokens: vec![token] };
        let (mut rotated, mut revoked, mut uses) = (None::<u64>, false, 0);
        for (distance, pause_ms) in steps {
            now += pause_ms;
            let newest = chain.tokens.len() - 1;
            let presented = newest.saturating_sub(distance);
            let result = store.rotate_refresh_token(&chain.rotation(presented, 10_000), now);
            let is_repeat = presented + 1 == newest && rotated.is_some_and(|at| now - at <= 10_000);
            if revoked || (presented != newest && !is_repeat) {
                let expected_first = !revoked;
                revoked = true;
                let is_expected =
                    matches!(result, RefreshRotationResult::Reused { first, .. } if first == expected_first);
                prop_assert!(is_expected, "{result:?}");
                continue;
            }
            uses += 1;
            let is_expected = matches!(result, RefreshRotationResult::Rotated { number, .. } if number == uses);
            prop_assert!(is_expected, "{result:?}");
            if presented == newest {
                rotated = Some(now);
                chain.advance();
            }
        }
    }
}

/// The records as a process may leave them that can write every key but has no key of the auth
/// service.
#[actix_web::test]
async fn altered_or_moved_record_does_not_exist() {
    let (room, other) = (RoomId::parse("r").unwrap(), RoomId::parse("s").unwrap());
    for StoreUnderTest { label, store, redis, .. } in stores_under_test().await {
        let Some(redis) = redis else { continue };
        let set = async |key: &str, fields: &[(String, String)]| {
            let mut hset = redis::cmd("HSET");
            hset.arg(key);
            fields.iter().for_each(|(field, value)| _ = hset.arg(field).arg(value));
            redis.try_run_on_masters::<u64>(&hset).await;
        };
        let read = async |key: &str| {
            let mut get = redis::cmd("HGETALL");
            get.arg(key);
            let found = redis.try_run_on_masters::<Vec<(String, String)>>(&get).await;
            found.into_iter().flatten().find(|fields| !fields.is_empty()).unwrap()
        };
        let invite = new_invite(&room, 1, DAY_MS);
        store.put_invite(invite.clone()).await.unwrap();
        let key = redis_keys::invites_key(&room);
        let fields = read(&key).await;
        assert!(!fields.iter().any(|(_, value)| value.contains("guest")), "{label}: the terms are sealed");
        // In another room.
        set(&redis_keys::invites_key(&other), &fields).await;
        assert_eq!(store.use_invite(&other, &invite.id).await.unwrap(), InviteUse::Unknown, "{label}");
        // More uses and a later end.
        set(&key, &[(format!("m:{}", invite.id), "1000".to_owned())]).await;
        set(&key, &[(format!("e:{}", invite.id), (clock::now_ms() + 90 * DAY_MS).to_string())]).await;
        assert!(matches!(store.use_invite(&room, &invite.id).await.unwrap(), InviteUse::Accepted(_)));
        assert_eq!(store.use_invite(&room, &invite.id).await.unwrap(), InviteUse::UsedUp, "{label}");
        assert_eq!(store.list_invites(&room).await.unwrap()[0].max_uses, 1, "{label}");
        // Other terms.
        set(&key, &[(format!("j:{}", invite.id), r#"{"role":"host"}"#.to_owned())]).await;
        set(&key, &[(format!("n:{}", invite.id), "0".to_owned())]).await;
        assert_eq!(store.use_invite(&room, &invite.id).await.unwrap(), InviteUse::Unknown, "{label}");
        assert_eq!(store.list_invites(&room).await.unwrap(), [], "{label}");

        let (one, two) = (
            RefreshChain::start(&store, DAY_MS, 30 * DAY_MS).await,
            RefreshChain::start(&store, DAY_MS, 30 * DAY_MS).await,
        );
        let keys = [&one, &two].map(|chain| redis_keys::refresh_family_key(&family_id(&chain.tokens[0])));
        let fields = read(&keys[0]).await;
        assert!(!fields.iter().any(|(_, value)| value.contains(&one.salt)), "{label}: the salt is sealed");
        set(&keys[1], &fields).await;
        assert_eq!(store.load_family(&family_id(&two.tokens[0])).await.unwrap(), None, "{label}");
        assert!(store.load_family(&family_id(&one.tokens[0])).await.unwrap().is_some(), "{label}");
    }
}
