//! What was taken back: bans, revocations, denied addresses, changed limits, an emergency stop. And words to everybody.
//!
//! - [`Rule`], [`RuleKey`]: one thing that was taken back, and what it is about; which of two rules holds
//! - [`Rules`]: all of them at one moment, and [`Rules::judge`], which costs some lookups and no trip
//! - [`Log`]: where all processes share them: in Redis, or in one process; one contract, one conformance suite
//! - [`Control`]: what a process holds and asks; [`Control::follow`]: the task that keeps it true
//!
//! Owns: the set of rules and its way to every process. Must not: know a socket, a token's signature or HTTP; who may write a rule
//! is the auth service's to say, what becomes of a live socket the signaling service's. Next: [`Rules`], then [`Control`].

mod address;
#[cfg(test)]
mod conformance;
mod follower;
mod index;
mod key;
mod log;
mod rule;
mod rules;
mod word;

pub use address::{BadRange, parse_denied};
pub use follower::{ApplyError, Control};
pub use index::{Issuer, Subject, Verdict};
pub use key::{BadKey, KINDS, RuleKey};
pub use log::{Change, Connection, Log, MemoryLog, RedisLog, scripts};
pub use rule::{LimitChanges, Rule, Terms};
pub use rules::Rules;
pub use word::{Audience, Word};

/// The longest that a rule is in force or remembered, milliseconds: 31 days.
pub const LONGEST_MS: u64 = 31 * 24 * 60 * 60 * 1_000;

/// How often a process asks for what is new.
pub const POLL: std::time::Duration = std::time::Duration::from_millis(250);
