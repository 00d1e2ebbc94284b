//! The shares of callers in the table of access rules: no caller takes the places of another.
//!
//! Owns: [`RuleLimits`], and the count of the rules that a caller or a room has, with the writes in
//! flight. Must not: write a rule. The table as a whole is bounded in the step that writes the rule
//! (`rule_log`); a share is counted on the rules that this process holds.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use signalbox_config::LimitSettings;
use signalbox_protocol::id::RoomId;

use crate::{AccessRule, AccessRules, RuleChange, RuleKey, RuleTerms, RuleWriteError, rule_log::RuleSet};

/// The bounds of the table of access rules.
#[derive(Debug, Clone, Copy)]
pub struct RuleLimits {
    /// The maximum number of rules.
    pub rules: usize,
    /// The number of rules beyond which only an operator may write more.
    pub rules_of_callers: usize,
    /// The maximum number of rules that are charged to one caller.
    pub caller_rules: usize,
    /// The maximum number of rules of callers that concern one room.
    pub room_rules: usize,
}

impl RuleLimits {
    /// From the configuration.
    pub fn new(limits: &LimitSettings) -> Self {
        Self {
            rules: limits.rules as usize,
            rules_of_callers: limits.share_of_one(limits.rules) as usize,
            caller_rules: limits.key_rules as usize,
            room_rules: limits.room_rules as usize,
        }
    }

    /// A table of this size, with the default shares.
    pub fn with_rules(rules: u32) -> Self {
        Self::new(&LimitSettings { rules, ..LimitSettings::default() })
    }
}

/// The shares, and the rules that callers are writing now.
pub(crate) struct RuleShares {
    limits: RuleLimits,
    // A std mutex: held to read or change the list.
    in_flight: Mutex<Vec<Share>>,
    refused: [AtomicU64; RuleWriteError::LIMITS.len()],
}

/// Whom a rule is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    caller: Arc<str>,
    room: Option<RoomId>,
}

/// A place that is kept for a rule while the rule is written.
pub(crate) struct RulePlace<'a> {
    shares: &'a RuleShares,
    share: Option<Share>,
    /// The number of rules from which on the store refuses this rule.
    pub(crate) max_rules: usize,
}

impl Drop for RulePlace<'_> {
    fn drop(&mut self) {
        let Some(share) = &self.share else { return };
        let mut in_flight = self.shares.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = in_flight.iter().position(|other| other == share) {
            in_flight.swap_remove(index);
        }
    }
}

impl RuleShares {
    pub(crate) fn new(limits: RuleLimits) -> Self {
        Self { limits, in_flight: Mutex::default(), refused: Default::default() }
    }

    /// Keeps a place for a rule, until the result is dropped. A rule that replaces another one takes
    /// its place.
    pub(crate) fn reserve_place(
        &self,
        change: &RuleChange,
        rules: &AccessRules,
        own_set: RuleSet,
        now: u64,
    ) -> Result<RulePlace<'_>, RuleWriteError> {
        let RuleLimits { rules: all, rules_of_callers, caller_rules, room_rules } = self.limits;
        let Some(share) = Share::of_rule(&change.key, &change.terms) else {
            return Ok(RulePlace { shares: self, share: None, max_rules: all });
        };
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        // The rules of nodes are not signed, so what they are charged to counts for nodes only.
        let is_in_set = |rule: &&Arc<AccessRule>| rule.is_from_node == (own_set == RuleSet::Node);
        let held: Vec<Share> = rules
            .remembered_rules(now)
            .filter(is_in_set)
            .filter(|rule| rule.key != change.key)
            .filter_map(|rule| Share::of_rule(&rule.key, &rule.terms))
            .collect();
        let count = |is_in: &dyn Fn(&Share) -> bool| {
            held.iter().chain(in_flight.iter()).filter(|share| is_in(share)).count()
        };
        if rules.remembered_rules(now).filter(is_in_set).all(|rule| rule.key != change.key) {
            if count(&|other| other.caller == share.caller) >= caller_rules {
                return Err(RuleWriteError::TooManyRulesOfCaller);
            }
            if share.room.is_some() && count(&|other| other.room == share.room) >= room_rules {
                return Err(RuleWriteError::TooManyRulesOfRoom);
            }
        }
        in_flight.push(share.clone());
        Ok(RulePlace { shares: self, share: Some(share), max_rules: rules_of_callers })
    }

    /// The maximum number of rules in a set.
    pub(crate) fn max_rules(&self) -> usize {
        self.limits.rules
    }

    /// Counts a refusal.
    pub(crate) fn count_refusal(&self, error: RuleWriteError) {
        if let Some(index) = RuleWriteError::LIMITS.iter().position(|limit| *limit == error) {
            self.refused[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of refused rules by the limit that refused them.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (RuleWriteError, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        RuleWriteError::LIMITS.into_iter().zip(counts)
    }
}

impl Share {
    /// The share of a rule. None: an operator has written the rule.
    fn of_rule(key: &RuleKey, terms: &RuleTerms) -> Option<Self> {
        let room = match key {
            RuleKey::Ban { room: Some(room), .. } => Some(room.clone()),
            _ => terms.room.clone(),
        };
        terms.charged_to.clone().map(|caller| Self { caller, room })
    }
}
