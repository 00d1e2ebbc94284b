//! Where all processes share the rules, and the log of what changed.
//!
//! The contract:
//! - A write is one step: the rule, its place in the log, and how long all of it is kept. The store dates it, by its own clock, and later
//!   than the rule before it for the same key.
//! - A rule that is lifted, or followed by a shorter one, is remembered until no earlier one can be in force.
//! - The log is bounded; a reader that has missed more than it holds is told so, and reads all rules.
//! - Where the store may have forgotten, readers see another place, and write back what they hold: the later rule for a key wins there as it
//!   does here.
//! - Every failure to answer in time is [`Unavailable`]: the outcome is unknown. To write a rule again does no harm.

mod memory;
mod redis;

use std::{sync::Arc, time::Duration};

use signalbox_redis::Unavailable;
use tokio::time::sleep;

pub use memory::MemoryLog;
pub use redis::{Connection, RedisLog, scripts};

use crate::{POLL, Rule, RuleKey, Terms, Word};

/// How many entries the log holds.
pub(crate) const ENTRIES: usize = 1024;

/// A rule to be written.
#[derive(Debug, Clone)]
pub struct Change {
    /// What it is about.
    pub key: RuleKey,
    /// How long it is in force, milliseconds.
    pub life_ms: u64,
    /// What it says.
    pub terms: Terms,
}

/// How far a process has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The history of the store: it changes where acknowledged writes may be lost.
    pub(crate) lineage: Arc<str>,
    /// One life of the set of rules.
    pub(crate) life: Arc<str>,
    /// The last entry of the log.
    pub(crate) number: u64,
}

/// Where the store is, and its time.
#[derive(Debug, Clone)]
pub(crate) struct At {
    pub(crate) place: Place,
    pub(crate) now_ms: u64,
}

/// What came of a question for what is new.
#[derive(Debug)]
pub(crate) enum News {
    /// Nothing.
    Same,
    /// These, in their order.
    More(Vec<Entry>),
    /// More than the log holds.
    Behind,
    /// The store is another one, or has forgotten.
    Other,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Rule(Rule),
    Word(Word),
    /// Written by a later release.
    Unknown,
}

/// What came of a write.
#[derive(Debug)]
pub(crate) enum Written {
    Done(Rule),
    /// There are as many rules as there may be.
    Full,
    /// There is no such rule.
    None,
}

/// The log in use.
pub enum Log {
    /// This process alone.
    Memory(Arc<MemoryLog>),
    /// Shared through Redis.
    Redis(RedisLog),
}

impl Log {
    pub(crate) async fn apply(&self, change: &Change, most: usize) -> Result<Written, Unavailable> {
        match self {
            Self::Memory(log) => Ok(log.apply(change, most)),
            Self::Redis(log) => log.apply(change, most).await,
        }
    }

    pub(crate) async fn lift(&self, key: &RuleKey, by: &Terms) -> Result<Written, Unavailable> {
        match self {
            Self::Memory(log) => Ok(log.lift(key, by)),
            Self::Redis(log) => log.lift(key, by).await,
        }
    }

    pub(crate) async fn say(&self, word: &Word) -> Result<(), Unavailable> {
        match self {
            Self::Memory(log) => log.say(word),
            Self::Redis(log) => log.say(word).await?,
        }
        Ok(())
    }

    pub(crate) async fn poll(&self, place: &Place) -> Result<(At, News), Unavailable> {
        match self {
            Self::Memory(log) => Ok(log.poll(place)),
            Self::Redis(log) => log.poll(place).await,
        }
    }

    pub(crate) async fn load(&self) -> Result<(At, Vec<Rule>), Unavailable> {
        match self {
            Self::Memory(log) => Ok(log.load()),
            Self::Redis(log) => log.load().await,
        }
    }

    pub(crate) async fn restore(&self, rules: &[Arc<Rule>]) -> Result<At, Unavailable> {
        match self {
            Self::Memory(log) => Ok(log.restore(rules)),
            Self::Redis(log) => log.restore(rules).await,
        }
    }

    /// Waits until it is time to ask again. It does not keep the log alive.
    pub(crate) fn worth_a_look(&self, seen: u64) -> impl Future<Output = ()> + Send + 'static {
        let numbers = match self {
            Self::Memory(log) => Some(log.numbers()),
            Self::Redis(_) => None,
        };
        async move {
            match numbers {
                // An error: the log has gone, and so does who asks.
                Some(mut numbers) => drop(numbers.wait_for(|number| *number != seen).await),
                None => sleep(POLL).await,
            }
        }
    }

    /// Whether others write to it, so that something may happen unheard.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// How long ago the store was found again, so that it may be another one; none where that cannot be.
    pub(crate) fn since_disturbance(&self) -> Option<Duration> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(log) => log.since_disturbance(),
        }
    }

    /// How long to wait for what others write back to another store, before its rules count as all there are.
    pub(crate) fn quiet(&self) -> Duration {
        match self {
            Self::Memory(_) => Duration::ZERO,
            Self::Redis(log) => log.quiet(),
        }
    }
}
