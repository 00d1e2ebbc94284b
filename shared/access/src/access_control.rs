//! What a process holds of the rules, and the task that keeps it true.
//!
//! A process decides on what it holds: a question costs no trip, and none waits for the store. Every 250 ms it asks for what is new. Where
//! the store is another one, or has forgotten, it writes back what it holds, reads all rules, and only then counts as current. Of another store
//! it does so after a quiet time only: a rule may have been answered and lost with the old one before this process heard of it, and whoever
//! wrote it finds the new one at another moment.
//!
//! The store's clock is the only one that counts. Between two answers it goes on by the process' own steady one.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use signalbox_protocol::{clock, id::TokenId};
use signalbox_redis::{InterruptionClock, RedisUnavailable};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    AccessRefusal, AccessRule, AccessRules, AccessSubject, Notice, RuleChange, RuleKey, RuleLog, RuleTerms,
    rule_log::{LogPosition, LogState, LogUpdate, RuleLogEntry, RuleWriteResult},
};

/// How many words may wait for one listener.
const MAX_QUEUED_NOTICES: usize = 256;

/// How often it is tried to take a grant back.
const MAX_REVOKE_ATTEMPTS: usize = 120;

/// How long one who must know what was written just now waits for it.
const LATEST_RULES_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what was heard is good for.
const MAX_LAG: Duration = Duration::from_secs(2);

/// How often the store may change while it is read, before it is asked again later.
const MAX_RELOAD_ATTEMPTS: usize = 4;

/// Why a rule was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleWriteError {
    /// There are as many rules as there may be.
    #[error("there are as many rules as limits.rules allows; lift some")]
    TooManyRules,
    /// There is no such rule in force.
    #[error("there is no such rule in force")]
    NoSuchRule,
    /// The store does not answer: it may or may not have been written.
    #[error("the store does not answer; the rule may or may not be in force")]
    Unavailable,
}

impl From<RedisUnavailable> for RuleWriteError {
    fn from(_: RedisUnavailable) -> Self {
        Self::Unavailable
    }
}

/// The store's time at a moment of ours.
#[derive(Clone, Copy)]
pub(crate) struct StoreTime {
    pub(crate) store_ms: u64,
    pub(crate) read_at: Instant,
    /// Whether it was the store that said so.
    pub(crate) is_from_store: bool,
}

/// What this process holds. Made once, shared by all that judge.
pub struct AccessControl {
    pub(crate) log: RuleLog,
    interruption_clock: Option<InterruptionClock>,
    max_rules: usize,
    rules: watch::Sender<Arc<AccessRules>>,
    notices: broadcast::Sender<Arc<Notice>>,
    // A std mutex: held to read or write two numbers.
    pub(crate) store_time: Mutex<StoreTime>,
    is_synchronized: AtomicBool,
    /// Until when others may still write back to another store what they hold.
    // A std mutex: held to read or write one moment.
    restore_wait_until: Mutex<Option<Instant>>,
    /// How far was read when this was made.
    start_position: Mutex<Option<LogPosition>>,
    /// Somebody cannot wait for the next look.
    poll_requested: Arc<Notify>,
    /// The number of the look that began last, and of the last one that came to its end.
    polls_started: AtomicU64,
    last_finished_poll: watch::Sender<u64>,
}

impl AccessControl {
    /// Of a shared log nothing is known yet: [`AccessControl::follow`] must run. There may be `most` rules.
    pub fn new(log: RuleLog, most: usize) -> Arc<Self> {
        let heard = StoreTime { store_ms: clock::now_ms(), read_at: Instant::now(), is_from_store: false };
        let (mut start, mut rules) = (None, AccessRules::default());
        if let RuleLog::Memory(log) = &log {
            let (at, all) = log.load_rules();
            rules = rules.with_rules(all, at.now_ms).unwrap_or_default();
            start = Some(at.position);
        }
        Arc::new(Self {
            is_synchronized: AtomicBool::new(start.is_some()),
            restore_wait_until: Mutex::default(),
            start_position: Mutex::new(start),
            interruption_clock: log.interruption_clock(),
            log,
            max_rules: most,
            rules: watch::Sender::new(Arc::new(rules)),
            notices: broadcast::Sender::new(MAX_QUEUED_NOTICES),
            store_time: Mutex::new(heard),
            poll_requested: Arc::default(),
            polls_started: AtomicU64::new(0),
            last_finished_poll: watch::Sender::new(0),
        })
    }

    /// The rules as they are held now.
    pub fn rules(&self) -> Arc<AccessRules> {
        self.rules.borrow().clone()
    }

    /// The rules, and word of every change of them.
    pub fn watch_rules(&self) -> watch::Receiver<Arc<AccessRules>> {
        self.rules.subscribe()
    }

    /// The words that are said from now on.
    pub fn subscribe_notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// Milliseconds since 1970 by the store's clock.
    pub fn now_ms(&self) -> u64 {
        let heard = self.store_time();
        heard.store_ms + heard.read_at.elapsed().as_millis() as u64
    }

    fn store_time(&self) -> StoreTime {
        *self.store_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all that was written is held, as far as can be known: new connections wait until it is.
    pub fn is_current(&self) -> bool {
        let is_fresh = || self.lag().is_some_and(|lag| lag <= MAX_LAG);
        self.is_synchronized() && (!self.log.is_shared() || is_fresh())
    }

    /// Whether the rules were read, and written back where the store had forgotten them, by others too. While the store is away this stays as it
    /// was: what is held is decided on. When it is found again nothing is known until it was asked whether it is the same.
    pub fn is_synchronized(&self) -> bool {
        let heard_since = |clock: &InterruptionClock| self.lag().is_none_or(|lag| lag <= clock.elapsed());
        self.is_synchronized.load(Ordering::Acquire)
            && self.interruption_clock.as_ref().is_none_or(heard_since)
    }

    /// How long ago the store was heard; none if it never was.
    pub fn lag(&self) -> Option<Duration> {
        let heard = self.store_time();
        heard.is_from_store.then(|| heard.read_at.elapsed())
    }

    /// Whether somebody may be here, by what is held now.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub fn check_access(&self, subject: &AccessSubject<'_>) -> Result<(), AccessRefusal> {
        self.rules.borrow().check_access(subject, self.now_ms())
    }

    /// Writes a rule. It is held here when this returns, and elsewhere when the next question is answered.
    ///
    /// # Errors
    /// [`RuleWriteError`].
    pub async fn write_rule(&self, change: RuleChange) -> Result<AccessRule, RuleWriteError> {
        let written = self.log.write_rule(&change, self.max_rules).await?;
        self.finish_write(written)
    }

    /// Takes a grant back whose peer was removed from its room; goes on trying for a while where the store does not answer.
    pub async fn revoke_grant(&self, token: &TokenId, life_ms: u64, by: &str) {
        let Ok(grant) = TokenId::parse(token.grant()) else { return };
        for _ in 0..MAX_REVOKE_ATTEMPTS {
            let terms = RuleTerms { author: by.into(), ..RuleTerms::default() };
            match self.write_rule(RuleChange { key: RuleKey::Grant(grant.clone()), life_ms, terms }).await {
                Err(RuleWriteError::Unavailable) => sleep(crate::rule_log::POLL_INTERVAL).await,
                Err(error) => return tracing::error!(event = "grant_not_taken_back", %error),
                Ok(_) => return,
            }
        }
        tracing::error!(event = "grant_not_taken_back", error = "the store did not answer");
    }

    /// Lifts a rule.
    ///
    /// # Errors
    /// [`RuleWriteError`].
    pub async fn lift_rule(&self, key: &RuleKey, by: RuleTerms) -> Result<AccessRule, RuleWriteError> {
        let written = self.log.lift_rule(key, &by).await?;
        self.finish_write(written)
    }

    fn finish_write(&self, written: RuleWriteResult) -> Result<AccessRule, RuleWriteError> {
        match written {
            RuleWriteResult::Written(rule) => {
                self.merge_rules(vec![rule.clone()]);
                Ok(rule)
            }
            RuleWriteResult::TooManyRules => Err(RuleWriteError::TooManyRules),
            RuleWriteResult::NoSuchRule => Err(RuleWriteError::NoSuchRule),
        }
    }

    /// Says a word to whoever is connected.
    ///
    /// # Errors
    /// [`RuleWriteError::Unavailable`].
    pub async fn send_notice(&self, word: &Notice) -> Result<(), RuleWriteError> {
        Ok(self.log.append_notice(word).await?)
    }

    /// Waits until whatever was answered elsewhere before this call is held here. Costs a look at once, which all who wait share.
    ///
    /// # Errors
    /// [`Unavailable`]: the store does not answer.
    pub async fn wait_for_latest_rules(&self) -> Result<(), RedisUnavailable> {
        if !self.log.is_shared() {
            return Ok(());
        }
        // One that has begun may have asked before that answer.
        let begun = self.polls_started.load(Ordering::SeqCst);
        let mut ended = self.last_finished_poll.subscribe();
        self.poll_requested.notify_one();
        let caught_up = timeout(LATEST_RULES_TIMEOUT, ended.wait_for(|ended| *ended > begun)).await;
        caught_up.ok().and_then(Result::ok).map(drop).ok_or(RedisUnavailable)
    }

    fn merge_rules(&self, rules: Vec<AccessRule>) {
        let now = self.now_ms();
        self.rules.send_if_modified(|held| {
            let merged = held.with_rules(rules, now);
            let changed = merged.is_some();
            if let Some(merged) = merged {
                *held = Arc::new(merged);
            }
            changed
        });
    }

    /// Takes the time from an answer. One of another store than before says first that nobody is let in until others have written back, too.
    fn update_store_time(&self, at: &LogState, before: Option<&LogPosition>) {
        if before.is_some_and(|before| before.replication_id != at.position.replication_id) {
            *self.restore_wait_until() = Some(Instant::now() + self.log.restore_wait());
            self.is_synchronized.store(false, Ordering::Release);
        }
        let heard = StoreTime { store_ms: at.now_ms, read_at: Instant::now(), is_from_store: true };
        *self.store_time.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }

    /// Follows the log for as long as somebody holds the rules.
    pub fn follow_log(control: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let start = control.start_position.lock().unwrap_or_else(PoisonError::into_inner).take();
        run_follower(Arc::downgrade(control), start)
    }

    pub(crate) async fn poll_log(&self, place: &mut Option<LogPosition>) -> Result<(), RedisUnavailable> {
        let Some(known) = place else { return self.reload_rules(place, false).await };
        let is_quiet = self.is_waiting_for_restores();
        let (at, news) = self.log.poll_entries(known).await?;
        self.update_store_time(&at, Some(known));
        match news {
            LogUpdate::Unchanged => {}
            LogUpdate::NewEntries(entries) => {
                self.handle_entries(entries);
                *place = Some(at.position);
            }
            LogUpdate::TooFarBehind => self.reload_rules(place, false).await?,
            LogUpdate::DifferentLog => self.reload_rules(place, true).await?,
        }
        // A look that began in the quiet time may have missed what was written back at its end.
        if !is_quiet && !self.is_waiting_for_restores() {
            *self.restore_wait_until() = None;
            self.is_synchronized.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn restore_wait_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.restore_wait_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_waiting_for_restores(&self) -> bool {
        self.restore_wait_until().is_some_and(|until| Instant::now() < until)
    }

    fn handle_entries(&self, entries: Vec<RuleLogEntry>) {
        let mut rules = Vec::new();
        for entry in entries {
            match entry {
                RuleLogEntry::Rule(rule) => rules.push(rule),
                // An error only says that nobody listens.
                RuleLogEntry::Notice(word) => drop(self.notices.send(Arc::new(word))),
                RuleLogEntry::Unknown => {
                    tracing::warn!(event = "rule_unknown", "a rule of another release is not followed");
                }
            }
        }
        self.merge_rules(rules);
    }

    /// Reads all rules, after writing back those that are held where the store may lack them.
    async fn reload_rules(
        &self,
        place: &mut Option<LogPosition>,
        store_forgot: bool,
    ) -> Result<(), RedisUnavailable> {
        for _ in 0..MAX_RELOAD_ATTEMPTS {
            let now = self.now_ms();
            let held: Vec<_> =
                if store_forgot { self.rules().remembered_rules(now).cloned().collect() } else { Vec::new() };
            let mut written = None;
            if !held.is_empty() {
                self.is_synchronized.store(false, Ordering::Release);
                tracing::warn!(
                    event = "rules_restored",
                    rules = held.len(),
                    "the store may have forgotten rules"
                );
                written = Some(self.log.restore_rules(&held).await?.position);
            }
            let (at, rules) = self.log.load_rules().await?;
            self.update_store_time(&at, place.as_ref());
            let is_where_it_was_written = written.is_none_or(|written| {
                written.replication_id == at.position.replication_id
                    && written.instance_id == at.position.instance_id
            });
            if is_where_it_was_written {
                self.merge_rules(rules);
                *place = Some(at.position);
                let is_over = self.restore_wait_until().is_none();
                self.is_synchronized.store(is_over, Ordering::Release);
                return Ok(());
            }
        }
        Err(RedisUnavailable)
    }
}

async fn run_follower(control: Weak<AccessControl>, mut place: Option<LogPosition>) {
    while let Some(held) = control.upgrade() {
        let number = held.polls_started.fetch_add(1, Ordering::SeqCst) + 1;
        // What fails is tried again with the next look; meanwhile what is held is decided on.
        if held.poll_log(&mut place).await.is_ok() {
            held.last_finished_poll.send_replace(number);
        }
        let seen = place.as_ref().map_or(0, |place| place.entry_number);
        let wait = held.log.wait_for_next_poll(seen);
        let wanted = held.poll_requested.clone();
        drop(held);
        tokio::select! {
            () = wait => {}
            () = wanted.notified() => {}
        }
    }
}
