//! Access rules: revocations, bans, denied addresses, changed limits and an emergency shutdown.
//! Also notices to connected peers.
//!
//! - [`AccessRule`], [`RuleKey`]: one rule, its subject, and which of two rules wins
//! - [`AccessRules`]: all rules at one moment; [`AccessRules::check_access`] takes a few lookups
//!   and no round trip
//! - [`RuleLog`]: the rules that all processes share, in Redis or in the memory of one process; one
//!   contract, one conformance suite
//! - [`AccessControl`]: the rules that a process holds; [`AccessControl::follow_log`] is the task
//!   that keeps them current
//!
//! Owns: the rules and their way to every process. Must not: know a socket, the signature of a
//! token or HTTP. The auth service decides who may write a rule. The signaling service closes
//! connections that a rule refuses. Next: [`AccessRules`], then [`AccessControl`].

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
mod rule_shares;
mod rule_write_error;

pub use access_control::{AccessControl, GrantRevocation};
pub use access_rule::{AccessRule, LimitChanges, MAX_RULE_LIFE_MS, RuleTerms};
pub use access_rules::AccessRules;
pub use access_subject::{AccessRefusal, AccessSubject};
pub use denied_range::{DeniedRangeError, parse_denied_range};
pub use notice::{Notice, NoticeAudience};
pub use rule_key::{RULE_KINDS, RuleKey, RuleKeyError};
pub use rule_log::{MemoryRuleLog, RedisRuleLog, RuleChange, RuleLog, RuleProof, StatementSigner};
pub use rule_shares::RuleLimits;
pub use rule_write_error::RuleWriteError;
