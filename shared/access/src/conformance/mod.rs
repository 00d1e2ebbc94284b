//! The contract of the log and of those who follow it, over memory and over every kind of Redis.
//!
//! Next: `redis` for what only a server can do: restart, forget, be full, refuse.

mod redis;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use signalbox_config as config;
use signalbox_protocol::id::{CallerId, RoomId, TokenId, UserId};
use signalbox_redis::Link;
use signalbox_redis::keys;
use signalbox_tests::{
    redis::TestRedis,
    redis_kinds::{KINDS, Kind, Lease},
};
use tokio::time::timeout;

use crate::{
    ApplyError, Audience, Change, Control, LimitChanges, Log, MemoryLog, RedisLog, Rule, RuleKey, Rules,
    Subject, Terms, Verdict, Word, log::Place, scripts,
};

const MINUTE: u64 = 60_000;

/// Who may be waited for.
const SOON: Duration = Duration::from_secs(5);

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn ban(name: &str) -> RuleKey {
    RuleKey::Ban { room: None, user: user(name) }
}

fn change(key: RuleKey, life_ms: u64) -> Change {
    Change { key, life_ms, terms: Terms { by: "op".into(), ..Terms::default() } }
}

fn judge(control: &Control, name: &str) -> Result<(), Verdict> {
    let user = user(name);
    control.judge(&Subject {
        user: &user,
        room: None,
        grant: "g",
        issued_s: Some(u64::MAX),
        issuer: None,
        address: None,
    })
}

/// Waits until what is held satisfies.
async fn until(control: &Control, what: &str, holds: impl Fn(&Rules) -> bool) {
    let mut rules = control.watch();
    let outcome = timeout(SOON, rules.wait_for(|rules| holds(rules))).await;
    assert!(matches!(outcome, Ok(Ok(_))), "not in time: {what}");
}

async fn until_current(control: &Control) {
    let current = async {
        while !control.is_current() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, current).await.expect("current in time");
}

fn bans(rules: &Rules, control: &Control, name: &str) -> bool {
    rules.get(&ban(name), control.now_ms()).is_some()
}

/// Makes processes that share one log.
enum Backend {
    Memory(Arc<MemoryLog>),
    Redis(String, config::Redis),
}

impl Backend {
    fn of(lease: &Lease) -> Self {
        Self::Redis(lease.url(), lease.settings())
    }

    fn at(address: SocketAddr) -> Self {
        Self::Redis(format!("redis://{address}/0"), config::Redis::default())
    }

    fn log(&self) -> Log {
        match self {
            Self::Memory(log) => Log::Memory(log.clone()),
            Self::Redis(url, settings) => {
                Log::Redis(RedisLog::over(Link::connect(url, settings, scripts()).unwrap(), 0))
            }
        }
    }

    /// One that follows.
    async fn process(&self, most: usize) -> Arc<Control> {
        let control = Control::new(self.log(), most);
        tokio::spawn(Control::follow(&control));
        until_current(&control).await;
        control
    }
}

/// Runs a test over memory and over every kind of Redis.
macro_rules! everywhere {
    ($($name:ident),* $(,)?) => {
        mod over_memory {$(
            #[tokio::test]
            async fn $name() {
                super::$name(super::Backend::Memory(std::sync::Arc::default())).await;
            }
        )*}
        mod over_redis {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                for kind in super::KINDS {
                    let lease = kind.lease().await;
                    super::$name(super::Backend::of(&lease)).await;
                }
            }
        )*}
    };
}

everywhere![
    a_rule_is_held_at_once_where_it_was_written_and_soon_elsewhere,
    a_lifted_rule_is_in_force_nowhere,
    there_are_so_many_rules_and_single_ones_always,
    a_word_is_heard_by_whoever_follows_and_by_nobody_later,
    what_a_rule_says_arrives_whole,
    a_rule_that_is_over_makes_room,
];

async fn a_rule_is_held_at_once_where_it_was_written_and_soon_elsewhere(backend: Backend) {
    let (one, two) = (backend.process(100).await, backend.process(100).await);
    assert!(one.is_current() && two.is_current(), "nothing is held, and nothing was ever there");
    let rule = one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    assert_eq!(judge(&one, "mallory"), Err(Verdict::Banned));
    assert!(rule.until - rule.at == MINUTE && rule.at.abs_diff(one.now_ms()) < 5_000);
    until(&two, "the ban", |rules| bans(rules, &two, "mallory")).await;
    assert_eq!(judge(&two, "mallory"), Err(Verdict::Banned));
    assert_eq!(judge(&two, "alice"), Ok(()));
    let late = backend.process(100).await;
    assert_eq!(
        judge(&late, "mallory"),
        Err(Verdict::Banned),
        "one that comes later has it when it is current"
    );
}

async fn a_lifted_rule_is_in_force_nowhere(backend: Backend) {
    let (one, two) = (backend.process(100).await, backend.process(100).await);
    let terms = || Terms { by: "op".into(), ..Terms::default() };
    assert_eq!(one.lift(&ban("mallory"), terms()).await, Err(ApplyError::NoSuchRule));
    let first = one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    until(&two, "the ban", |rules| bans(rules, &two, "mallory")).await;
    let lifted = two.lift(&ban("mallory"), terms()).await.unwrap();
    assert!(lifted.lifted && lifted.at > first.at && lifted.keep == first.keep);
    assert_eq!(judge(&two, "mallory"), Ok(()));
    until(&one, "the end of it", |rules| !bans(rules, &one, "mallory")).await;
    assert_eq!(two.lift(&ban("mallory"), terms()).await, Err(ApplyError::NoSuchRule));
    // What one holds that missed it revives nothing.
    one.log.restore(&[Arc::new(first.clone())]).await.unwrap();
    assert_eq!(judge(&*backend.process(100).await, "mallory"), Ok(()));
    one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    until(&two, "the next ban", |rules| bans(rules, &two, "mallory")).await;
    // A shorter one is remembered until none of those before it could be in force.
    let short = one.apply(change(ban("mallory"), 10)).await.unwrap();
    assert!(short.keep >= first.keep && short.until < first.until, "{short:?}");
}

async fn there_are_so_many_rules_and_single_ones_always(backend: Backend) {
    let one = backend.process(3).await;
    for n in 0..3 {
        one.apply(change(ban(&format!("u{n}")), MINUTE)).await.unwrap();
    }
    assert_eq!(one.apply(change(ban("u3"), MINUTE)).await, Err(ApplyError::Full));
    one.apply(change(ban("u2"), MINUTE)).await.expect("the same rule again");
    for key in [RuleKey::Shutdown, RuleKey::AllBefore, RuleKey::Limits] {
        one.apply(change(key, MINUTE)).await.expect("an emergency");
    }
}

async fn a_word_is_heard_by_whoever_follows_and_by_nobody_later(backend: Backend) {
    let (one, two) = (backend.process(100).await, backend.process(100).await);
    let mut ears = [one.words(), two.words()];
    let room = RoomId::parse("stand-up").unwrap();
    for to in [Audience::All, Audience::Room(room), Audience::User(user("ann:x"))] {
        let word = Word { to, code: "maintenance".into(), message: "back \"soon\"\n".into() };
        one.say(&word).await.unwrap();
        for ear in &mut ears {
            assert_eq!(*timeout(SOON, ear.recv()).await.expect("in time").unwrap(), word);
        }
    }
    let late = backend.process(100).await;
    let mut ear = late.words();
    one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    until(&late, "the ban", |rules| bans(rules, &late, "mallory")).await;
    assert!(ear.try_recv().is_err(), "what was said before");
}

async fn what_a_rule_says_arrives_whole(backend: Backend) {
    let (one, two) = (backend.process(100).await, backend.process(100).await);
    let room = RoomId::parse("r.1").unwrap();
    let keys = [
        RuleKey::Token(TokenId::parse("3f:a~b").unwrap()),
        RuleKey::UserBefore(user("a:b@c")),
        RuleKey::RoomBefore(room.clone()),
        RuleKey::AllBefore,
        RuleKey::Ban { room: Some(room), user: user("a:b@c") },
        RuleKey::Deny("2001:db8::/48".parse().unwrap()),
        RuleKey::Key(CallerId::parse("backend").unwrap()),
        RuleKey::Limits,
        RuleKey::Shutdown,
    ];
    for key in keys {
        let terms = Terms {
            by: "op".into(),
            reason: Some("spam; \"quoted\" \\ ünïcode 100 %".into()),
            issued: true,
            limits: Some(LimitChanges { rate: Some(7), ..LimitChanges::default() }),
            retry_ms: Some(1_234),
        };
        let rule =
            one.apply(Change { key: key.clone(), life_ms: MINUTE, terms: terms.clone() }).await.unwrap();
        assert_eq!(rule.terms, terms);
        until(&two, key.kind(), |rules| rules.get(&key, two.now_ms()).is_some_and(|held| **held == rule))
            .await;
    }
    assert_eq!(two.rules().limits(two.now_ms()).rate, Some(7));
}

async fn a_rule_that_is_over_makes_room(backend: Backend) {
    let one = backend.process(1).await;
    let short = one.apply(change(ban("u0"), 1)).await.unwrap();
    while one.now_ms() <= short.keep {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(judge(&one, "u0"), Ok(()));
    one.apply(change(ban("u1"), MINUTE)).await.expect("the first one is over");
    assert_eq!(one.rules().remembered(0).count(), 1);
}

/// What a process holds survives a store that has forgotten it.
#[tokio::test]
async fn memory_that_was_emptied_gets_back_what_is_held() {
    let log = Arc::new(MemoryLog::default());
    let backend = Backend::Memory(log.clone());
    let (one, two) = (backend.process(100).await, backend.process(100).await);
    let before = one.apply(change(ban("mallory"), MINUTE)).await.unwrap();
    until(&two, "the ban", |rules| bans(rules, &two, "mallory")).await;
    log.forget();
    one.apply(change(ban("eve"), MINUTE)).await.unwrap();
    until(&two, "the next ban", |rules| bans(rules, &two, "eve")).await;
    let late = backend.process(100).await;
    until(&late, "the ban from before", |rules| bans(rules, &late, "mallory")).await;
    assert_eq!(late.rules().get(&ban("mallory"), late.now_ms()).unwrap().at, before.at);
}
