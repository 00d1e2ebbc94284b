//! The rules that a process holds, and the task that keeps them current.
//!
//! Owns: the current [`AccessRules`], the clock of the store, and the state of synchronization. A
//! check uses the held rules: it takes no round trip and never waits for the store.
//! Must not: parse scripts or replies; `rule_log` does.
//!
//! Every 250 ms the process asks the log for new entries. If the store is another one or may have
//! lost rules, the process restores the rules that it holds, loads all rules, and only then is
//! current again. With another store it first waits: a rule may have been confirmed and lost with
//! the old store before this process received it. The process that wrote the rule restores it, but
//! may find the new store later.
//!
//! Every ten seconds the process compares the store with the rules that it holds. A rule that is
//! missing, altered or set back stays in force here and is reported; a process that may write the set
//! restores it. A rule that is not authentic is ignored and reported.
//!
//! Only the clock of the store counts. Between two replies it is advanced by the monotonic clock of
//! the process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use signalbox_protocol::{
    clock,
    id::{RoomId, TokenId},
};
use signalbox_redis::{InterruptionClock, RedisUnavailable};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    AccessRefusal, AccessRule, AccessRules, AccessSubject, Notice, RuleChange, RuleKey, RuleLimits, RuleLog,
    RuleTerms,
    rule_log::{
        LogPosition, LogPositions, LogState, LogUpdate, RuleLogEntry, RuleRepair, RuleSet, RuleWriteResult,
        StoredRules,
    },
    rule_shares::RuleShares,
    rule_write_error::RuleWriteError,
};

/// The number of notices that may wait for one receiver.
const MAX_QUEUED_NOTICES: usize = 256;

/// The number of attempts to revoke a grant.
const MAX_REVOKE_ATTEMPTS: usize = 120;

/// The time for which a caller waits for the latest rules.
const LATEST_RULES_TIMEOUT: Duration = Duration::from_secs(2);

/// The age of the last reply of the store up to which the rules count as current.
const MAX_LAG: Duration = Duration::from_secs(2);

/// The number of attempts to reload the rules while the store changes. The next poll tries again.
const MAX_RELOAD_ATTEMPTS: usize = 4;

/// Between two comparisons of the store with the held rules.
const AUDIT_INTERVAL: Duration = Duration::from_secs(10);

/// The grant of a peer that was removed from its room.
#[derive(Debug, Clone)]
pub struct GrantRevocation {
    /// A token of the grant.
    pub token: TokenId,
    /// The room.
    pub room: RoomId,
    /// The root of the token: the rule takes a place of its share.
    pub charged_to: Arc<str>,
    /// For how long a credential of the grant may be valid, milliseconds.
    pub life_ms: u64,
}

/// The time of the store, and the moment at which this process read it.
#[derive(Clone, Copy)]
pub(crate) struct StoreTime {
    pub(crate) store_ms: u64,
    pub(crate) read_at: Instant,
    /// Whether the store has given this time. Before its first reply the local clock is used.
    pub(crate) is_from_store: bool,
}

/// The rules of this process. Created once and shared by all callers that check access.
pub struct AccessControl {
    pub(crate) log: RuleLog,
    interruption_clock: Option<InterruptionClock>,
    shares: RuleShares,
    rules: watch::Sender<Arc<AccessRules>>,
    notices: broadcast::Sender<Arc<Notice>>,
    // A std mutex: held to read or write one value.
    pub(crate) store_time: Mutex<StoreTime>,
    is_synchronized: AtomicBool,
    /// The time until which other processes may still restore rules to another store.
    // A std mutex: held to read or write one value.
    restore_wait_until: Mutex<Option<Instant>>,
    /// The position in the log after the first load.
    start_positions: Mutex<LogPositions>,
    /// When the next comparison with the store is due.
    // A std mutex: held to read or write one value.
    next_audit: Mutex<Instant>,
    /// See [`AccessControl::rejected_rules`].
    rejected_rules: [AtomicUsize; 2],
    /// See [`AccessControl::lost_rules`].
    lost_rules: AtomicU64,
    /// Other rules than before are not authentic.
    rule_rejected: Notify,
    is_node_set_readable: AtomicBool,
    /// A caller cannot wait for the next regular poll.
    poll_requested: Arc<Notify>,
    /// The number of the last poll that has started.
    polls_started: AtomicU64,
    /// The number of the last poll that has succeeded.
    last_finished_poll: watch::Sender<u64>,
}

impl AccessControl {
    /// The rules of a shared log are not loaded until [`AccessControl::follow_log`] runs.
    pub fn new(log: RuleLog, limits: RuleLimits) -> Arc<Self> {
        let local_time =
            StoreTime { store_ms: clock::now_ms(), read_at: Instant::now(), is_from_store: false };
        let (mut start, mut rules) = (LogPositions::default(), AccessRules::default());
        if let RuleLog::Memory(log) = &log {
            let (state, stored) = log.load_rules();
            rules = rules.with_rules(stored, state.now_ms).unwrap_or_default();
            start[RuleSet::Auth as usize] = Some(state.position);
        }
        Arc::new(Self {
            is_synchronized: AtomicBool::new(!log.is_shared()),
            restore_wait_until: Mutex::default(),
            start_positions: Mutex::new(start),
            next_audit: Mutex::new(Instant::now() + AUDIT_INTERVAL),
            rejected_rules: Default::default(),
            lost_rules: AtomicU64::new(0),
            rule_rejected: Notify::new(),
            is_node_set_readable: AtomicBool::new(true),
            interruption_clock: log.interruption_clock(),
            log,
            shares: RuleShares::new(limits),
            rules: watch::Sender::new(Arc::new(rules)),
            notices: broadcast::Sender::new(MAX_QUEUED_NOTICES),
            store_time: Mutex::new(local_time),
            poll_requested: Arc::default(),
            polls_started: AtomicU64::new(0),
            last_finished_poll: watch::Sender::new(0),
        })
    }

    /// The current rules.
    pub fn rules(&self) -> Arc<AccessRules> {
        self.rules.borrow().clone()
    }

    /// The current rules, and each later set of rules.
    pub fn watch_rules(&self) -> watch::Receiver<Arc<AccessRules>> {
        self.rules.subscribe()
    }

    /// The notices that are sent from now on.
    pub fn subscribe_notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// Milliseconds since 1970 by the clock of the store.
    pub fn now_ms(&self) -> u64 {
        let time = self.store_time();
        time.store_ms + time.read_at.elapsed().as_millis() as u64
    }

    fn store_time(&self) -> StoreTime {
        *self.store_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process holds every written rule, as far as it can know. New connections are
    /// admitted only then.
    pub fn is_current(&self) -> bool {
        let is_fresh = || self.lag().is_some_and(|lag| lag <= MAX_LAG);
        self.is_synchronized() && (!self.log.is_shared() || is_fresh())
    }

    /// Whether the rules are loaded, and restored if the store had lost them, also by other
    /// processes. While the store is unavailable this does not change: the held rules are used.
    /// After it is found again, this is false until the store has shown that it is the same.
    pub fn is_synchronized(&self) -> bool {
        let replied_since = |clock: &InterruptionClock| self.lag().is_none_or(|lag| lag <= clock.elapsed());
        self.is_synchronized.load(Ordering::Acquire)
            && self.interruption_clock.as_ref().is_none_or(replied_since)
    }

    /// The time since the last reply of the store. `None` before its first reply.
    pub fn lag(&self) -> Option<Duration> {
        let time = self.store_time();
        time.is_from_store.then(|| time.read_at.elapsed())
    }

    /// Checks a subject against the held rules.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub fn check_access(&self, subject: &AccessSubject<'_>) -> Result<(), AccessRefusal> {
        self.rules.borrow().check_access(subject, self.now_ms())
    }

    /// Writes a rule. This process holds it when the call returns; other processes hold it after
    /// their next poll.
    ///
    /// # Errors
    /// [`RuleWriteError`].
    pub async fn write_rule(&self, change: RuleChange) -> Result<AccessRule, RuleWriteError> {
        let result = self.write_within_share(&change).await;
        result.inspect_err(|error| self.shares.count_refusal(*error))
    }

    async fn write_within_share(&self, change: &RuleChange) -> Result<AccessRule, RuleWriteError> {
        let place = self.shares.reserve_place(change, &self.rules(), self.log.own_set(), self.now_ms())?;
        let result = self.log.write_rule(change, place.max_rules).await?;
        // The place ends when the rule itself is counted.
        self.finish_write(result)
    }

    /// The number of rules that a limit has refused, by the limit.
    pub fn refused_rules(&self) -> impl Iterator<Item = (RuleWriteError, u64)> {
        self.shares.refusals()
    }

    /// Revokes the grant of a peer that was removed from its room. Retries for a while if the store
    /// does not answer. If there is no place for the rule, the sanction of the room still refuses the
    /// user.
    pub async fn revoke_grant(&self, revocation: GrantRevocation) {
        let GrantRevocation { token, room, charged_to, life_ms } = revocation;
        let Ok(grant) = TokenId::parse(token.grant()) else { return };
        let terms = RuleTerms {
            author: "room".into(),
            charged_to: Some(charged_to),
            room: Some(room),
            ..RuleTerms::default()
        };
        let change = RuleChange { key: RuleKey::Grant(grant), life_ms, terms };
        for _ in 0..MAX_REVOKE_ATTEMPTS {
            match self.write_rule(change.clone()).await {
                Err(RuleWriteError::Unavailable) => sleep(crate::rule_log::POLL_INTERVAL).await,
                Err(error) => return tracing::warn!(event = "grant_not_revoked", %error),
                Ok(_) => return,
            }
        }
        tracing::error!(event = "grant_not_revoked", error = "the store did not answer");
    }

    /// Lifts a rule.
    ///
    /// # Errors
    /// [`RuleWriteError`].
    pub async fn lift_rule(&self, key: &RuleKey, terms: RuleTerms) -> Result<AccessRule, RuleWriteError> {
        let held = self.rules().rule_of_nodes(key).cloned();
        let result = self.log.lift_rule(key, &terms, held.as_deref()).await?;
        self.finish_write(result)
    }

    fn finish_write(&self, result: RuleWriteResult) -> Result<AccessRule, RuleWriteError> {
        match result {
            RuleWriteResult::Written(rule) => {
                self.merge_rules(vec![AccessRule::clone(&rule)]);
                Ok(*rule)
            }
            RuleWriteResult::TooManyRules => Err(RuleWriteError::TooManyRules),
            RuleWriteResult::NoSuchRule => Err(RuleWriteError::NoSuchRule),
        }
    }

    /// Sends a notice to connected peers.
    ///
    /// # Errors
    /// [`RuleWriteError::Unavailable`].
    pub async fn send_notice(&self, notice: &Notice) -> Result<(), RuleWriteError> {
        Ok(self.log.append_notice(notice).await?)
    }

    /// Waits until this process holds every rule that was confirmed before the call. Starts a poll
    /// at once, which all waiting callers share.
    ///
    /// # Errors
    /// [`RedisUnavailable`]: the store does not answer.
    pub async fn wait_for_latest_rules(&self) -> Result<(), RedisUnavailable> {
        if !self.log.is_shared() {
            return Ok(());
        }
        // A poll that is running may have read the log before the confirmation.
        let started = self.polls_started.load(Ordering::SeqCst);
        let mut finished = self.last_finished_poll.subscribe();
        self.poll_requested.notify_one();
        let caught_up = timeout(LATEST_RULES_TIMEOUT, finished.wait_for(|number| *number > started)).await;
        caught_up.ok().and_then(Result::ok).map(drop).ok_or(RedisUnavailable)
    }

    fn merge_rules(&self, mut rules: Vec<AccessRule>) {
        let now = self.now_ms();
        self.rules.send_if_modified(|current| {
            // A node writes without a limit that it cannot break, so the reader has one.
            let mut places = self.shares.max_rules().saturating_sub(current.count_rules_of_nodes());
            rules.retain(|rule| {
                let is_new = rule.is_from_node && current.counterpart(rule).is_none();
                let is_kept = !is_new || places > 0;
                places -= usize::from(is_new && is_kept);
                is_kept
            });
            let merged = current.with_rules(std::mem::take(&mut rules), now);
            let changed = merged.is_some();
            if let Some(merged) = merged {
                *current = Arc::new(merged);
            }
            changed
        });
    }

    /// Reads the time from a reply. A reply of another store first ends the synchronization, until
    /// the other processes have had time to restore their rules.
    fn update_store_time(&self, state: &LogState, before: Option<&LogPosition>) {
        if before.is_some_and(|before| before.replication_id != state.position.replication_id) {
            *self.restore_wait_until() = Some(Instant::now() + self.log.restore_wait());
            self.is_synchronized.store(false, Ordering::Release);
        }
        let time = StoreTime { store_ms: state.now_ms, read_at: Instant::now(), is_from_store: true };
        *self.store_time.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Follows the log until the last reference to `control` is dropped.
    pub fn follow_log(control: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let start =
            std::mem::take(&mut *control.start_positions.lock().unwrap_or_else(PoisonError::into_inner));
        run_follower(Arc::downgrade(control), start)
    }

    pub(crate) async fn poll_log(&self, positions: &mut LogPositions) -> Result<(), RedisUnavailable> {
        let was_waiting = self.is_waiting_for_restores();
        let is_audit_due = self.log.is_shared() && self.is_audit_due();
        for set in self.log.sets() {
            let position = &mut positions[*set as usize];
            let read = async {
                self.poll_set(*set, position).await?;
                if is_audit_due { self.audit_set(*set, position).await } else { Ok(()) }
            };
            match read.await {
                // Redis answers, but a node may have broken the set of the nodes. That must not stop
                // the rules of the auth service.
                Err(RedisUnavailable) if *set == RuleSet::Node => self.report_node_set(false),
                Err(RedisUnavailable) => return Err(RedisUnavailable),
                Ok(()) if *set == RuleSet::Node => self.report_node_set(true),
                Ok(()) => {}
            }
        }
        // A poll that began during the wait may have missed a rule that was restored at its end.
        if !was_waiting && !self.is_waiting_for_restores() {
            *self.restore_wait_until() = None;
            self.is_synchronized.store(true, Ordering::Release);
        }
        Ok(())
    }

    async fn poll_set(
        &self,
        set: RuleSet,
        position: &mut Option<LogPosition>,
    ) -> Result<(), RedisUnavailable> {
        let Some(known) = position else { return self.reload_rules(set, position, false).await };
        let (state, update) = self.log.poll_entries(set, known).await?;
        self.update_store_time(&state, Some(known));
        match update {
            LogUpdate::Unchanged => {}
            LogUpdate::NewEntries(entries) => {
                self.handle_entries(entries);
                *position = Some(state.position);
            }
            LogUpdate::TooFarBehind => self.reload_rules(set, position, false).await?,
            LogUpdate::DifferentLog => self.reload_rules(set, position, true).await?,
        }
        Ok(())
    }

    fn report_node_set(&self, is_readable: bool) {
        if self.is_node_set_readable.swap(is_readable, Ordering::Relaxed) && !is_readable {
            tracing::warn!(event = "node_rules_unreadable", "the rules of nodes could not be read");
        }
    }

    fn is_audit_due(&self) -> bool {
        let mut next = self.next_audit.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = Instant::now() >= *next;
        if is_due {
            *next = Instant::now() + AUDIT_INTERVAL;
        }
        is_due
    }

    /// Makes the next poll compare the store with the held rules.
    pub fn request_audit(&self) {
        *self.next_audit.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.poll_requested.notify_one();
    }

    /// Compares a set with the held rules of its writers, and repairs it if this process writes it.
    async fn audit_set(&self, set: RuleSet, position: &Option<LogPosition>) -> Result<(), RedisUnavailable> {
        // First, so that no rule is missed that another task writes meanwhile.
        let held = self.rules();
        let (state, stored) = self.log.load_rules(set, &held).await?;
        let is_same_log = position.as_ref().is_some_and(|position| {
            position.replication_id == state.position.replication_id
                && position.instance_id == state.position.instance_id
        });
        if !is_same_log {
            // The next poll finds the other log and restores the rules.
            return Ok(());
        }
        let repairs = self.find_repairs(set, &held, &stored, state.now_ms);
        self.accept_stored_rules(set, stored);
        if set == self.log.own_set() && !repairs.is_empty() {
            self.log.restore_rules(&repairs).await?;
        }
        Ok(())
    }

    /// The held rules that the set lacks or has in an earlier version, and the rules whose key signs
    /// no more.
    fn find_repairs(
        &self,
        set: RuleSet,
        held: &AccessRules,
        stored: &StoredRules,
        now_ms: u64,
    ) -> Vec<RuleRepair> {
        let by_key: HashMap<&RuleKey, &AccessRule> =
            stored.rules.iter().map(|rule| (&rule.key, rule)).collect();
        let rejected: HashMap<&str, &str> =
            stored.rejected.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let written_here = held
            .remembered_rules(now_ms + AUDIT_INTERVAL.as_millis() as u64)
            .filter(|rule| rule.is_from_node == (set == RuleSet::Node));
        let mut repairs = Vec::new();
        for rule in written_here {
            let found = by_key.get(&rule.key).copied();
            if found.is_none_or(|found| rule.is_later_than(found)) {
                let replaced = rejected.get(rule.key.to_string().as_str()).copied().unwrap_or_default();
                let rule = self.log.sign_again(rule).map_or_else(|| rule.clone(), Arc::new);
                repairs.push(RuleRepair { rule, replaced: replaced.to_owned() });
            }
        }
        if !repairs.is_empty() {
            self.lost_rules.fetch_add(repairs.len() as u64, Ordering::Relaxed);
            let is_restored = set == self.log.own_set();
            tracing::warn!(
                event = "access_rules_lost",
                rules = repairs.len(),
                ?set,
                is_restored,
                "the store lacks rules that this process holds; they stay in force"
            );
        }
        let resigned = stored.rules.iter().filter_map(|rule| {
            let next = self.log.sign_again(rule)?;
            Some(RuleRepair { rule: Arc::new(next), replaced: rule.to_stored_text() })
        });
        repairs.extend(resigned.filter(|_| set == self.log.own_set()));
        repairs
    }

    /// Merges the authentic rules of a set, and reports the others.
    fn accept_stored_rules(&self, set: RuleSet, stored: StoredRules) {
        let count = stored.rejected.len();
        let before = self.rejected_rules[set as usize].swap(count, Ordering::Relaxed);
        if count > 0 && count != before {
            tracing::warn!(
                event = "access_rule_rejected",
                rules = count,
                ?set,
                "rules without a valid signature are ignored"
            );
            self.rule_rejected.notify_one();
        }
        self.merge_rules(stored.rules);
    }

    /// The number of stored rules that are not authentic, at the last load.
    pub fn rejected_rules(&self) -> usize {
        self.rejected_rules.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Waits until other rules than before are not authentic. Perhaps their key is new.
    pub async fn wait_for_rejected_rules(&self) {
        self.rule_rejected.notified().await;
    }

    /// How often the store lacked a rule that this process held, or had it in an earlier version.
    pub fn lost_rules(&self) -> u64 {
        self.lost_rules.load(Ordering::Relaxed)
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
                // Without a receiver the notice is not needed.
                RuleLogEntry::Notice(notice) => drop(self.notices.send(Arc::new(notice))),
                // The comparison with the store counts and reports it.
                RuleLogEntry::Rejected => self.request_audit(),
            }
        }
        self.merge_rules(rules);
    }

    /// Loads all rules of a set. First restores the held rules if the store may lack them.
    async fn reload_rules(
        &self,
        set: RuleSet,
        position: &mut Option<LogPosition>,
        store_forgot: bool,
    ) -> Result<(), RedisUnavailable> {
        for _ in 0..MAX_RELOAD_ATTEMPTS {
            let to_restore = if store_forgot { self.rules_to_restore(set) } else { Vec::new() };
            let mut restored_at = None;
            if !to_restore.is_empty() {
                if set == RuleSet::Auth {
                    self.is_synchronized.store(false, Ordering::Release);
                }
                tracing::warn!(
                    event = "rules_restored",
                    rules = to_restore.len(),
                    "restoring rules, because the store may have lost them"
                );
                let restored = self.log.restore_rules(&to_restore).await?;
                restored_at = Some(restored.position).filter(|_| set == self.log.own_set());
            }
            let (state, stored) = self.log.load_rules(set, &self.rules()).await?;
            self.update_store_time(&state, position.as_ref());
            let is_same_log = restored_at.is_none_or(|restored| {
                restored.replication_id == state.position.replication_id
                    && restored.instance_id == state.position.instance_id
            });
            if is_same_log {
                self.accept_stored_rules(set, stored);
                *position = Some(state.position);
                return Ok(());
            }
        }
        Err(RedisUnavailable)
    }

    /// The rules that this process writes into its own set after the store has forgotten a set. The
    /// auth service may not run, so a node keeps copies of its signed rules.
    fn rules_to_restore(&self, forgotten: RuleSet) -> Vec<RuleRepair> {
        if self.log.own_set() == RuleSet::Auth && forgotten == RuleSet::Node {
            return Vec::new();
        }
        let rules = self.rules();
        let of_set = |rule: &&Arc<AccessRule>| rule.is_from_node == (forgotten == RuleSet::Node);
        rules.remembered_rules(self.now_ms()).filter(of_set).cloned().map(RuleRepair::from).collect()
    }
}

async fn run_follower(weak_control: Weak<AccessControl>, mut positions: LogPositions) {
    while let Some(control) = weak_control.upgrade() {
        let number = control.polls_started.fetch_add(1, Ordering::SeqCst) + 1;
        // After a failure the held rules stay in use until the next poll.
        if control.poll_log(&mut positions).await.is_ok() {
            control.last_finished_poll.send_replace(number);
        }
        let last_read = positions[0].as_ref().map_or(0, |position| position.entry_number);
        let wait = control.log.wait_for_next_poll(last_read);
        let poll_requested = control.poll_requested.clone();
        drop(control);
        tokio::select! {
            () = wait => {}
            () = poll_requested.notified() => {}
        }
    }
}
