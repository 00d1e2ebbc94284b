//! The log of access rules that all processes share.
//!
//! Owns: the contract below and its two backends. Must not: check access; `access_rules` does.
//! Next: `memory_rule_log` and `redis_rule_log`.
//!
//! The contract:
//! - A write is one step: the rule, its entry in the log, and the TTLs. The store dates the rule by
//!   its own clock, and later than the previous rule with the same key.
//! - A rule that is lifted or replaced by a shorter one is remembered until no earlier rule with
//!   its key can be in force.
//! - The log is bounded. A reader that has missed more entries than the log holds is informed and
//!   loads all rules.
//! - If the store may have lost rules, its position changes. Readers then restore the rules that
//!   they hold. The later rule with a key wins, as it does in a write.
//! - The store is not an authority. A rule of the auth service is signed, and a rule that is not
//!   authentic is ignored (`rule_proof`). In Redis there are two sets of rules: only the auth service
//!   may write the one, and only nodes the other.
//! - Every failure to answer in time is [`RedisUnavailable`]: the outcome is unknown. It does no
//!   harm to write a rule again.

mod memory_rule_log;
mod redis_rule_log;
mod rule_proof;

use std::{sync::Arc, time::Duration};

use signalbox_redis::{InterruptionClock, RedisUnavailable};
use tokio::time::sleep;

pub use memory_rule_log::MemoryRuleLog;
pub use redis_rule_log::RedisRuleLog;
pub use rule_proof::{RuleProof, StatementSigner};

use crate::{
    access_rule::{AccessRule, RuleTerms},
    access_rules::AccessRules,
    notice::Notice,
    rule_key::RuleKey,
};

/// The time between two polls of a process.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The number of entries that the log holds.
pub(crate) const MAX_LOG_ENTRIES: usize = 1024;

/// A set of rules, by its writers. Every process reads both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleSet {
    /// The rules of the auth service, all of them signed. In memory it is the only set.
    Auth,
    /// The revoked grants of nodes, and signed rules that nodes have restored.
    Node,
}

impl RuleSet {
    const MEMORY: &[Self] = &[Self::Auth];
    const REDIS: &[Self] = &[Self::Auth, Self::Node];
}

/// The position in the log of each set.
pub(crate) type LogPositions = [Option<LogPosition>; 2];

/// The rules that a set has in the store.
#[derive(Debug, Default)]
pub(crate) struct StoredRules {
    /// The authentic rules.
    pub(crate) rules: Vec<AccessRule>,
    /// Key and text of each rule that is not authentic.
    pub(crate) rejected: Vec<(String, String)>,
}

/// A rule to restore, and the stored text that it replaces in any case, or an empty text.
#[derive(Debug)]
pub(crate) struct RuleRepair {
    pub(crate) rule: Arc<AccessRule>,
    pub(crate) replaced: String,
}

impl From<Arc<AccessRule>> for RuleRepair {
    fn from(rule: Arc<AccessRule>) -> Self {
        Self { rule, replaced: String::new() }
    }
}

/// A rule to write.
#[derive(Debug, Clone)]
pub struct RuleChange {
    /// The subject of the rule.
    pub key: RuleKey,
    /// The time for which the rule is in force, milliseconds.
    pub life_ms: u64,
    /// The content of the rule.
    pub terms: RuleTerms,
}

/// The position up to which a process has read the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// Changes when acknowledged writes may be lost.
    pub(crate) replication_id: Arc<str>,
    /// Changes when the log was empty and begins again.
    pub(crate) instance_id: Arc<str>,
    /// The number of the last entry.
    pub(crate) entry_number: u64,
}

/// The position and the time of the store, milliseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct LogState {
    pub(crate) position: LogPosition,
    pub(crate) now_ms: u64,
}

/// The result of a poll.
#[derive(Debug)]
pub(crate) enum LogUpdate {
    /// There are no new entries.
    Unchanged,
    /// The new entries, in order.
    NewEntries(Vec<RuleLogEntry>),
    /// The process has missed more entries than the log holds.
    TooFarBehind,
    /// The store is another one, or may have lost rules.
    DifferentLog,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub(crate) enum RuleLogEntry {
    Rule(AccessRule),
    Notice(Notice),
    /// Not an authentic rule, or an entry of a later release.
    Rejected,
}

/// The result of a write.
#[derive(Debug)]
pub(crate) enum RuleWriteResult {
    Written(Box<AccessRule>),
    /// `limits.rules` is reached.
    TooManyRules,
    /// No rule with this key is in force.
    NoSuchRule,
}

/// The log in use.
pub enum RuleLog {
    /// The memory of this process.
    Memory(Arc<MemoryRuleLog>),
    /// Shared through Redis.
    Redis(RedisRuleLog),
}

impl RuleLog {
    /// The sets that this process reads.
    pub(crate) fn sets(&self) -> &'static [RuleSet] {
        match self {
            Self::Memory(_) => RuleSet::MEMORY,
            Self::Redis(_) => RuleSet::REDIS,
        }
    }

    /// The set that this process writes.
    pub(crate) fn own_set(&self) -> RuleSet {
        match self {
            Self::Memory(_) => RuleSet::Auth,
            Self::Redis(log) => log.own_set(),
        }
    }

    /// The rule with a signature of the current key, if the stored one is of a former key.
    pub(crate) fn sign_again(&self, rule: &AccessRule) -> Option<AccessRule> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(log) => log.sign_again(rule),
        }
    }

    pub(crate) async fn write_rule(
        &self,
        change: &RuleChange,
        max_rules: usize,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.write_rule(change, max_rules)),
            Self::Redis(log) => log.write_rule(change, max_rules).await,
        }
    }

    pub(crate) async fn lift_rule(
        &self,
        key: &RuleKey,
        terms: &RuleTerms,
        held: Option<&AccessRule>,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.lift_rule(key, terms)),
            Self::Redis(log) => log.lift_rule(key, terms, held).await,
        }
    }

    pub(crate) async fn append_notice(&self, notice: &Notice) -> Result<(), RedisUnavailable> {
        match self {
            Self::Memory(log) => log.append_notice(notice),
            Self::Redis(log) => log.append_notice(notice).await?,
        }
        Ok(())
    }

    pub(crate) async fn poll_entries(
        &self,
        set: RuleSet,
        known: &LogPosition,
    ) -> Result<(LogState, LogUpdate), RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.poll_entries(known)),
            Self::Redis(log) => log.poll_entries(set, known).await,
        }
    }

    /// Loads a set. A stored rule that equals a held one is not verified again.
    pub(crate) async fn load_rules(
        &self,
        set: RuleSet,
        held: &AccessRules,
    ) -> Result<(LogState, StoredRules), RedisUnavailable> {
        match self {
            Self::Memory(log) => {
                let (state, rules) = log.load_rules();
                Ok((state, StoredRules { rules, rejected: Vec::new() }))
            }
            Self::Redis(log) => log.load_rules(set, held).await,
        }
    }

    /// Restores rules in the set that this process writes.
    pub(crate) async fn restore_rules(&self, repairs: &[RuleRepair]) -> Result<LogState, RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.restore_rules(repairs)),
            Self::Redis(log) => log.restore_rules(repairs).await,
        }
    }

    /// Waits until the next poll is due. `last_read` is the number of the last entry that the
    /// caller has read. The future does not keep the log alive.
    pub(crate) fn wait_for_next_poll(&self, last_read: u64) -> impl Future<Output = ()> + Send + 'static {
        let numbers = match self {
            Self::Memory(log) => Some(log.watch_numbers()),
            Self::Redis(_) => None,
        };
        async move {
            match numbers {
                // An error means that the log was dropped. Its follower then ends too.
                Some(mut numbers) => drop(numbers.wait_for(|number| *number != last_read).await),
                None => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Whether other processes write to the log.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// The clock of the last interruption of the store, after which it may be another one. `None`
    /// for the memory of this process.
    pub(crate) fn interruption_clock(&self) -> Option<InterruptionClock> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(log) => Some(log.interruption_clock()),
        }
    }

    /// The time for which other processes may still restore rules to another store. Until then its
    /// rules do not count as complete.
    pub(crate) fn restore_wait(&self) -> Duration {
        match self {
            Self::Memory(_) => Duration::ZERO,
            Self::Redis(log) => log.restore_wait(),
        }
    }
}
