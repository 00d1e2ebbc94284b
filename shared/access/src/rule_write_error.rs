//! Why a rule was not written, with a stable code.

use signalbox_redis::RedisUnavailable;

/// Why a rule was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleWriteError {
    /// `limits.rules` is reached, or the part of it for callers that are no operators.
    #[error("the table of rules has no place for this caller (limits.rules); lift some rules first")]
    TooManyRules,
    /// `limits.key_rules` is reached.
    #[error("this caller has as many rules as it may have (limits.key_rules); lift some rules first")]
    TooManyRulesOfCaller,
    /// `limits.room_rules` is reached.
    #[error("this room has as many rules as it may have (limits.room_rules); lift some rules first")]
    TooManyRulesOfRoom,
    /// No rule with this key is in force.
    #[error("no rule with this key is in force")]
    NoSuchRule,
    /// The store does not answer. It is unknown whether the rule was written.
    #[error("the store does not answer, so the rule may or may not be in force; try again")]
    Unavailable,
}

impl RuleWriteError {
    /// The errors that name a limit.
    pub const LIMITS: [Self; 3] = [Self::TooManyRules, Self::TooManyRulesOfCaller, Self::TooManyRulesOfRoom];

    /// Whether the rule was not written because a limit is reached.
    pub fn is_limit(self) -> bool {
        Self::LIMITS.contains(&self)
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooManyRules => "rule_limit",
            Self::TooManyRulesOfCaller => "key_rule_limit",
            Self::TooManyRulesOfRoom => "room_rule_limit",
            Self::NoSuchRule => "no_such_rule",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<RedisUnavailable> for RuleWriteError {
    fn from(_: RedisUnavailable) -> Self {
        Self::Unavailable
    }
}
