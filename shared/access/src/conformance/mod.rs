//! The contract of the rule log and its followers, tested over memory and every kind of Redis.
//!
//! Next: `redis_server` for tests that need a server: restarts, lost data, full memory, refusals.

mod redis_server;

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey};
use signalbox_config as config;
use signalbox_protocol::{
    CredentialRoot,
    id::{RoomId, TokenId, UserId, random_hex},
};
use signalbox_redis::RedisClient;
use signalbox_redis::redis_keys;
use signalbox_tests::{
    redis_kind::{ExclusiveRedis, REDIS_KINDS, RedisKind},
    test_redis::TestRedis,
};
use signalbox_token::{SecretBytes, SharedSecret, TokenVerifier, signed_statement};
use tokio::time::timeout;

use crate::{
    AccessControl, AccessRefusal, AccessRule, AccessRules, AccessSubject, GrantRevocation, LimitChanges,
    MemoryRuleLog, Notice, NoticeAudience, RedisRuleLog, RuleChange, RuleKey, RuleLimits, RuleLog, RuleProof,
    RuleTerms, RuleWriteError, StatementSigner,
    rule_log::{LogPositions, RuleRepair},
};

const MINUTE: u64 = 60_000;

/// The time for which a test waits for a change.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

fn test_user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn ban_key(name: &str) -> RuleKey {
    RuleKey::Ban { room: None, user: test_user(name) }
}

fn rule_change(key: RuleKey, life_ms: u64) -> RuleChange {
    RuleChange { key, life_ms, terms: RuleTerms { author: "op".into(), ..RuleTerms::default() } }
}

fn check_user(control: &AccessControl, name: &str) -> Result<(), AccessRefusal> {
    let user = test_user(name);
    control.check_access(&AccessSubject {
        user: &user,
        room: None,
        grant: "g",
        issued_s: Some(u64::MAX),
        root: None,
        address: None,
    })
}

/// Waits until the held rules satisfy the condition.
async fn wait_until(control: &AccessControl, expected: &str, is_reached: impl Fn(&AccessRules) -> bool) {
    let mut rules = control.watch_rules();
    let outcome = timeout(WAIT_TIMEOUT, rules.wait_for(|rules| is_reached(rules))).await;
    assert!(matches!(outcome, Ok(Ok(_))), "not in time: {expected}");
}

async fn wait_until_current(control: &AccessControl) {
    let current = async {
        while !control.is_current() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT_TIMEOUT, current).await.expect("current in time");
}

fn has_ban(rules: &AccessRules, control: &AccessControl, name: &str) -> bool {
    rules.rule_in_force(&ban_key(name), control.now_ms()).is_some()
}

/// The keys of an auth service, with a shared secret.
struct TestSigner(SharedSecret);

impl TestSigner {
    /// The secret of all processes of a test.
    fn secret() -> SharedSecret {
        static SECRET: LazyLock<String> = LazyLock::new(|| format!("{}{}", random_hex(), random_hex()));
        SharedSecret::new(SecretBytes::new(SECRET.as_bytes())).unwrap()
    }

    fn proof() -> RuleProof {
        RuleProof::Signer(Arc::new(Self(Self::secret())))
    }
}

impl StatementSigner for TestSigner {
    fn sign_statement(&self, purpose: &str, statement: &str) -> Option<String> {
        let key = EncodingKey::from_secret(self.0.expose());
        let bytes = signed_statement(purpose, statement);
        let signature = jsonwebtoken::crypto::sign(bytes.as_bytes(), &key, Algorithm::HS256).unwrap();
        Some(format!("{}~{signature}", self.0.kid()))
    }
    fn verify_statement(&self, purpose: &str, statement: &str, signature: &str) -> bool {
        TokenVerifier::from_secrets([&Self::secret(), &self.0])
            .verify_statement(purpose, statement, signature)
    }
    fn is_current_signature(&self, signature: &str) -> bool {
        signature.starts_with(&self.0.kid())
    }
}

/// Starts processes that share one log.
enum LogBackend {
    Memory(Arc<MemoryRuleLog>),
    Redis(String, config::RedisSettings),
}

impl LogBackend {
    fn over_lease(lease: &ExclusiveRedis) -> Self {
        Self::Redis(lease.url_for("auth"), lease.settings())
    }

    fn over_address(address: SocketAddr) -> Self {
        Self::Redis(format!("redis://{address}/0"), config::RedisSettings::default())
    }

    fn open_log(&self) -> RuleLog {
        match self {
            Self::Memory(log) => RuleLog::Memory(log.clone()),
            Self::Redis(url, settings) => RuleLog::Redis(RedisRuleLog::new(
                RedisClient::connect(url, settings).unwrap(),
                TestSigner::proof(),
            )),
        }
    }

    /// The log of a signaling node, which has no key that signs.
    fn open_node_log(&self, lease: &ExclusiveRedis) -> RuleLog {
        let client = RedisClient::connect(&lease.url_for("signal"), &lease.settings()).unwrap();
        let proof = RuleProof::Verifier(TokenVerifier::from_secrets([&TestSigner::secret()]));
        RuleLog::Redis(RedisRuleLog::new(client, proof))
    }

    /// Starts a process that follows the log.
    async fn start_follower(&self, max_rules: u32) -> Arc<AccessControl> {
        self.start_limited_follower(RuleLimits::with_rules(max_rules)).await
    }

    async fn start_limited_follower(&self, limits: RuleLimits) -> Arc<AccessControl> {
        let control = AccessControl::new(self.open_log(), limits);
        tokio::spawn(AccessControl::follow_log(&control));
        wait_until_current(&control).await;
        control
    }
}

/// Runs a test over memory and over every kind of Redis.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod over_memory {$(
            #[tokio::test]
            async fn $name() {
                super::$name(super::LogBackend::Memory(std::sync::Arc::default())).await;
            }
        )*}
        mod over_redis {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                for kind in super::REDIS_KINDS {
                    let lease = kind.acquire().await;
                    super::$name(super::LogBackend::over_lease(&lease)).await;
                }
            }
        )*}
    };
}

on_every_backend![
    a_rule_applies_at_once_on_its_node_and_soon_on_others,
    a_lifted_rule_is_in_force_on_no_node,
    emergency_rules_are_accepted_beyond_the_rule_limit,
    a_notice_reaches_current_followers_only,
    all_terms_of_a_rule_reach_other_processes,
    an_expired_rule_frees_its_place,
    each_caller_and_each_room_has_a_share_and_an_operator_has_the_rest,
    concurrent_writes_of_one_caller_stay_within_its_share,
];

async fn a_rule_applies_at_once_on_its_node_and_soon_on_others(backend: LogBackend) {
    let (one, two) = (backend.start_follower(100).await, backend.start_follower(100).await);
    assert!(one.is_current() && two.is_current(), "an empty log is current");
    let rule = one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    assert_eq!(check_user(&one, "mallory"), Err(AccessRefusal::Banned));
    assert!(
        rule.in_force_until - rule.written_at == MINUTE && rule.written_at.abs_diff(one.now_ms()) < 5_000
    );
    wait_until(&two, "the ban", |rules| has_ban(rules, &two, "mallory")).await;
    assert_eq!(check_user(&two, "mallory"), Err(AccessRefusal::Banned));
    assert_eq!(check_user(&two, "alice"), Ok(()));
    let late = backend.start_follower(100).await;
    assert_eq!(
        check_user(&late, "mallory"),
        Err(AccessRefusal::Banned),
        "a later process holds the rule when it is current"
    );
}

async fn a_lifted_rule_is_in_force_on_no_node(backend: LogBackend) {
    let (one, two) = (backend.start_follower(100).await, backend.start_follower(100).await);
    let terms = || RuleTerms { author: "op".into(), ..RuleTerms::default() };
    assert_eq!(one.lift_rule(&ban_key("mallory"), terms()).await, Err(RuleWriteError::NoSuchRule));
    let first = one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    wait_until(&two, "the ban", |rules| has_ban(rules, &two, "mallory")).await;
    let lifted = two.lift_rule(&ban_key("mallory"), terms()).await.unwrap();
    assert!(
        lifted.is_lifted
            && lifted.written_at > first.written_at
            && lifted.remembered_until == first.remembered_until
    );
    assert_eq!(check_user(&two, "mallory"), Ok(()));
    wait_until(&one, "the lifted ban", |rules| !has_ban(rules, &one, "mallory")).await;
    assert_eq!(two.lift_rule(&ban_key("mallory"), terms()).await, Err(RuleWriteError::NoSuchRule));
    // A process that missed the lifting restores the first rule without effect.
    one.log.restore_rules(&[Arc::new(first.clone()).into()]).await.unwrap();
    assert_eq!(check_user(&*backend.start_follower(100).await, "mallory"), Ok(()));
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    wait_until(&two, "the next ban", |rules| has_ban(rules, &two, "mallory")).await;
    // A shorter rule is remembered until no earlier rule can be in force.
    let short = one.write_rule(rule_change(ban_key("mallory"), 10)).await.unwrap();
    assert!(
        short.remembered_until >= first.remembered_until && short.in_force_until < first.in_force_until,
        "{short:?}"
    );
}

async fn emergency_rules_are_accepted_beyond_the_rule_limit(backend: LogBackend) {
    let one = backend.start_follower(3).await;
    for n in 0..3 {
        one.write_rule(rule_change(ban_key(&format!("u{n}")), MINUTE)).await.unwrap();
    }
    assert_eq!(one.write_rule(rule_change(ban_key("u3"), MINUTE)).await, Err(RuleWriteError::TooManyRules));
    one.write_rule(rule_change(ban_key("u2"), MINUTE)).await.expect("the same rule again");
    for key in [RuleKey::Shutdown, RuleKey::AllBefore, RuleKey::Limits] {
        one.write_rule(rule_change(key, MINUTE)).await.expect("an emergency");
    }
}

async fn a_notice_reaches_current_followers_only(backend: LogBackend) {
    let (one, two) = (backend.start_follower(100).await, backend.start_follower(100).await);
    let mut receivers = [one.subscribe_notices(), two.subscribe_notices()];
    let room = RoomId::parse("stand-up").unwrap();
    for to in [NoticeAudience::All, NoticeAudience::Room(room), NoticeAudience::User(test_user("ann:x"))] {
        let notice = Notice { to, code: "maintenance".into(), message: "back \"soon\"\n".into() };
        one.send_notice(&notice).await.unwrap();
        for receiver in &mut receivers {
            assert_eq!(*timeout(WAIT_TIMEOUT, receiver.recv()).await.expect("in time").unwrap(), notice);
        }
    }
    let late = backend.start_follower(100).await;
    let mut receiver = late.subscribe_notices();
    one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    wait_until(&late, "the ban", |rules| has_ban(rules, &late, "mallory")).await;
    assert!(receiver.try_recv().is_err(), "earlier notices are not delivered");
}

async fn all_terms_of_a_rule_reach_other_processes(backend: LogBackend) {
    let (one, two) = (backend.start_follower(100).await, backend.start_follower(100).await);
    let room = RoomId::parse("r.1").unwrap();
    let keys = [
        RuleKey::Grant(TokenId::parse("3f:a~b").unwrap()),
        RuleKey::UserBefore(test_user("a:b@c")),
        RuleKey::RoomBefore(room.clone()),
        RuleKey::AllBefore,
        RuleKey::Ban { room: Some(room), user: test_user("a:b@c") },
        RuleKey::Deny("2001:db8::/48".parse().unwrap()),
        RuleKey::Root(CredentialRoot::parse("key:backend").unwrap()),
        RuleKey::Root(CredentialRoot::parse("provider:https://id.example/a").unwrap()),
        RuleKey::Root(CredentialRoot::Guest),
        RuleKey::Limits,
        RuleKey::Shutdown,
    ];
    for key in keys {
        let terms = RuleTerms {
            author: "op".into(),
            reason: Some("spam; \"quoted\" \\ ünïcode 100 %".into()),
            revokes_issued: true,
            limits: Some(LimitChanges { rate: Some(7), ..LimitChanges::default() }),
            retry_ms: Some(1_234),
            charged_to: Some("acme".into()),
            room: Some(RoomId::parse("r.2").unwrap()),
        };
        let rule = one
            .write_rule(RuleChange { key: key.clone(), life_ms: MINUTE, terms: terms.clone() })
            .await
            .unwrap();
        assert_eq!(rule.terms, terms);
        wait_until(&two, key.kind(), |rules| {
            rules.rule_in_force(&key, two.now_ms()).is_some_and(|current| **current == rule)
        })
        .await;
    }
    assert_eq!(two.rules().limit_changes(two.now_ms()).rate, Some(7));
}

async fn an_expired_rule_frees_its_place(backend: LogBackend) {
    let one = backend.start_follower(1).await;
    let short = one.write_rule(rule_change(ban_key("u0"), 1)).await.unwrap();
    while one.now_ms() <= short.remembered_until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(check_user(&one, "u0"), Ok(()));
    one.write_rule(rule_change(ban_key("u1"), MINUTE)).await.expect("the first rule has expired");
    assert_eq!(one.rules().remembered_rules(0).count(), 1);
}

fn room_ban(caller: &str, room: &str, user: &str) -> RuleChange {
    let key = RuleKey::Ban { room: Some(RoomId::parse(room).unwrap()), user: test_user(user) };
    let terms = RuleTerms { charged_to: Some(caller.into()), ..RuleTerms::default() };
    RuleChange { key, life_ms: MINUTE, terms }
}

async fn each_caller_and_each_room_has_a_share_and_an_operator_has_the_rest(backend: LogBackend) {
    let limits = RuleLimits { rules: 10, rules_of_callers: 8, caller_rules: 4, room_rules: 3 };
    let one = backend.start_limited_follower(limits).await;
    let two = backend.start_limited_follower(limits).await;
    use RuleWriteError::{TooManyRules, TooManyRulesOfCaller, TooManyRulesOfRoom};
    for (caller, room, user, refusal) in [
        ("acme", "a1", "u1", None),
        ("acme", "a1", "u2", None),
        ("acme", "a1", "u3", None),
        ("acme", "a1", "u4", Some(TooManyRulesOfRoom)),
        ("acme", "a1", "u3", None),
        ("other", "a1", "u5", Some(TooManyRulesOfRoom)),
        ("acme", "a2", "u1", None),
        ("acme", "a3", "u1", Some(TooManyRulesOfCaller)),
        ("globex", "g1", "u1", None),
        ("globex", "g2", "u1", None),
        ("globex", "g3", "u1", None),
        ("globex", "g4", "u1", None),
        ("initech", "i1", "u1", Some(TooManyRules)),
        ("acme", "a2", "u1", None),
    ] {
        let written = one.write_rule(room_ban(caller, room, user)).await;
        assert_eq!(written.err(), refusal, "{caller} {room} {user}");
    }
    wait_until(&two, "the rules of the other process", |rules| rules.len() == 8).await;
    let other_process = two.write_rule(room_ban("acme", "a4", "u1")).await;
    assert_eq!(other_process.err(), Some(TooManyRulesOfCaller));
    // The kick of a peer is charged to the caller of its token, and to its room.
    let revocation = GrantRevocation {
        token: TokenId::parse("g.1").unwrap(),
        room: RoomId::parse("a5").unwrap(),
        charged_to: "acme".into(),
        life_ms: MINUTE,
    };
    one.revoke_grant(revocation).await;
    assert_eq!(one.rules().len(), 8);
    for user in ["o1", "o2"] {
        one.write_rule(rule_change(ban_key(user), MINUTE)).await.expect("an operator has the reserve");
    }
    assert_eq!(one.write_rule(rule_change(ban_key("o3"), MINUTE)).await, Err(TooManyRules));
    let refused: Vec<_> = one.refused_rules().map(|(limit, count)| (limit.code(), count)).collect();
    assert_eq!(refused, [("rule_limit", 2), ("key_rule_limit", 2), ("room_rule_limit", 2)]);
}

async fn concurrent_writes_of_one_caller_stay_within_its_share(backend: LogBackend) {
    let limits = RuleLimits { rules: 100, rules_of_callers: 80, caller_rules: 5, room_rules: 80 };
    let control = backend.start_limited_follower(limits).await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..20 {
        let control = control.clone();
        writes.spawn(async move { control.write_rule(room_ban("acme", "a", &format!("u{n}"))).await });
    }
    let results = writes.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
    assert_eq!(control.rules().len(), 5);
}

/// The rules that a process holds survive a store that loses them.
#[tokio::test]
async fn an_emptied_memory_log_gets_its_rules_back() {
    let log = Arc::new(MemoryRuleLog::default());
    let backend = LogBackend::Memory(log.clone());
    let (one, two) = (backend.start_follower(100).await, backend.start_follower(100).await);
    let before = one.write_rule(rule_change(ban_key("mallory"), MINUTE)).await.unwrap();
    wait_until(&two, "the ban", |rules| has_ban(rules, &two, "mallory")).await;
    log.forget_all();
    one.write_rule(rule_change(ban_key("eve"), MINUTE)).await.unwrap();
    wait_until(&two, "the next ban", |rules| has_ban(rules, &two, "eve")).await;
    let late = backend.start_follower(100).await;
    wait_until(&late, "the ban from before", |rules| has_ban(rules, &late, "mallory")).await;
    assert_eq!(
        late.rules().rule_in_force(&ban_key("mallory"), late.now_ms()).unwrap().written_at,
        before.written_at
    );
}
