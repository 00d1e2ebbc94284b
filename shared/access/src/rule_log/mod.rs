//! Where all processes share the rules, and the log of what changed.
//!
//! The contract:
//! - A write is one step: the rule, its place in the log, and how long all of it is kept. The store
//!   dates it, by its own clock, and later than the rule before it for the same key.
//! - A rule that is lifted, or followed by a shorter one, is remembered until no earlier one can be
//!   in force.
//! - The log is bounded; a reader that has missed more than it holds is told so, and reads all
//!   rules.
//! - Where the store may have forgotten, readers see another place, and write back what they hold:
//!   the later rule for a key wins there as it does here.
//! - Every failure to answer in time is [`Unavailable`]: the outcome is unknown. To write a rule
//!   again does no harm.

mod memory_rule_log;
mod redis_rule_log;

use std::{sync::Arc, time::Duration};

use signalbox_redis::{InterruptionClock, RedisUnavailable};
use tokio::time::sleep;

pub use memory_rule_log::MemoryRuleLog;
pub use redis_rule_log::RedisRuleLog;

use crate::{
    access_rule::{AccessRule, RuleTerms},
    notice::Notice,
    rule_key::RuleKey,
};

/// How often a process asks for new entries.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How many entries the log holds.
pub(crate) const MAX_LOG_ENTRIES: usize = 1024;

/// A rule to be written.
#[derive(Debug, Clone)]
pub struct RuleChange {
    /// What it is about.
    pub key: RuleKey,
    /// How long it is in force, milliseconds.
    pub life_ms: u64,
    /// What it says.
    pub terms: RuleTerms,
}

/// How far a process has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// The history of the store: it changes where acknowledged writes may be lost.
    pub(crate) replication_id: Arc<str>,
    /// One life of the set of rules.
    pub(crate) instance_id: Arc<str>,
    /// The last entry of the log.
    pub(crate) entry_number: u64,
}

/// Where the store is, and its time.
#[derive(Debug, Clone)]
pub(crate) struct LogState {
    pub(crate) position: LogPosition,
    pub(crate) now_ms: u64,
}

/// What came of a question for what is new.
#[derive(Debug)]
pub(crate) enum LogUpdate {
    /// Nothing.
    Unchanged,
    /// These, in their order.
    NewEntries(Vec<RuleLogEntry>),
    /// More than the log holds.
    TooFarBehind,
    /// The store is another one, or has forgotten.
    DifferentLog,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub(crate) enum RuleLogEntry {
    Rule(AccessRule),
    Notice(Notice),
    /// Written by a later release.
    Unknown,
}

/// What came of a write.
#[derive(Debug)]
pub(crate) enum RuleWriteResult {
    Written(AccessRule),
    /// There are as many rules as there may be.
    TooManyRules,
    /// There is no such rule.
    NoSuchRule,
}

/// The log in use.
pub enum RuleLog {
    /// This process alone.
    Memory(Arc<MemoryRuleLog>),
    /// Shared through Redis.
    Redis(RedisRuleLog),
}

impl RuleLog {
    pub(crate) async fn write_rule(
        &self,
        change: &RuleChange,
        most: usize,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.write_rule(change, most)),
            Self::Redis(log) => log.write_rule(change, most).await,
        }
    }

    pub(crate) async fn lift_rule(
        &self,
        key: &RuleKey,
        by: &RuleTerms,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.lift_rule(key, by)),
            Self::Redis(log) => log.lift_rule(key, by).await,
        }
    }

    pub(crate) async fn append_notice(&self, word: &Notice) -> Result<(), RedisUnavailable> {
        match self {
            Self::Memory(log) => log.append_notice(word),
            Self::Redis(log) => log.append_notice(word).await?,
        }
        Ok(())
    }

    pub(crate) async fn poll_entries(
        &self,
        place: &LogPosition,
    ) -> Result<(LogState, LogUpdate), RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.poll_entries(place)),
            Self::Redis(log) => log.poll_entries(place).await,
        }
    }

    pub(crate) async fn load_rules(&self) -> Result<(LogState, Vec<AccessRule>), RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.load_rules()),
            Self::Redis(log) => log.load_rules().await,
        }
    }

    pub(crate) async fn restore_rules(
        &self,
        rules: &[Arc<AccessRule>],
    ) -> Result<LogState, RedisUnavailable> {
        match self {
            Self::Memory(log) => Ok(log.restore_rules(rules)),
            Self::Redis(log) => log.restore_rules(rules).await,
        }
    }

    /// Waits until it is time to ask again. It does not keep the log alive.
    pub(crate) fn wait_for_next_poll(&self, seen: u64) -> impl Future<Output = ()> + Send + 'static {
        let numbers = match self {
            Self::Memory(log) => Some(log.watch_numbers()),
            Self::Redis(_) => None,
        };
        async move {
            match numbers {
                // An error: the log has gone, and so does who asks.
                Some(mut numbers) => drop(numbers.wait_for(|number| *number != seen).await),
                None => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Whether others write to it, so that something may happen unheard.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// When the store was last found again, so that it may be another one; `None` if that cannot
    /// happen.
    pub(crate) fn interruption_clock(&self) -> Option<InterruptionClock> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(log) => Some(log.interruption_clock()),
        }
    }

    /// How long to wait for what others write back to another store, before its rules count as all
    /// there are.
    pub(crate) fn restore_wait(&self) -> Duration {
        match self {
            Self::Memory(_) => Duration::ZERO,
            Self::Redis(log) => log.restore_wait(),
        }
    }
}
