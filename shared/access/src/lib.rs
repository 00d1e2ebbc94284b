//! What was taken back: bans, revocations, denied addresses, changed limits, an emergency stop. And
//! words to everybody.
//!
//! - [`AccessRule`], [`RuleKey`]: one thing that was taken back, and what it is about; which of two
//!   rules holds
//! - [`AccessRules`]: all of them at one moment, and [`AccessRules::judge`], which costs some
//!   lookups and no trip
//! - [`RuleLog`]: where all processes share them: in Redis, or in one process; one contract, one
//!   conformance suite
//! - [`AccessControl`]: what a process holds and asks; [`AccessControl::follow`]: the task that
//!   keeps it true
//!
//! Owns: the set of rules and its way to every process. Must not: know a socket, a token's
//! signature or HTTP; who may write a rule is the auth service's to say, what becomes of a live
//! socket the signaling service's. Next: [`AccessRules`], then [`AccessControl`].

mod access_control;
mod access_rule;
mod access_rules;
mod access_subject;
#[cfg(test)]
mod conformance;
mod denied_range;
mod notice;
mod rule_key;
mod rule_log;

pub use access_control::{AccessControl, RuleWriteError};
pub use access_rule::{AccessRule, LimitChanges, MAX_RULE_LIFE_MS, RuleTerms};
pub use access_rules::AccessRules;
pub use access_subject::{AccessRefusal, AccessSubject, TokenIssuer};
pub use denied_range::{DeniedRangeError, parse_denied_range};
pub use notice::{Notice, NoticeAudience};
pub use rule_key::{RULE_KINDS, RuleKey, RuleKeyError};
pub use rule_log::{MemoryRuleLog, RedisRuleLog, RuleChange, RuleLog};
