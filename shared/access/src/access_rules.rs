//! All rules at one moment: immutable, shared, asked without a trip.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{AccessRefusal, AccessRule, AccessSubject, LimitChanges, RuleKey, rule_index::RuleIndex};

/// The rules that a process holds. A change makes another set; readers keep the one they have.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    // With those that were lifted: they must be remembered.
    by_key: BTreeMap<RuleKey, Arc<AccessRule>>,
    index: RuleIndex,
}

impl AccessRules {
    /// Whether somebody may be here at this time (milliseconds since 1970, by the store's clock).
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub fn check_access(&self, subject: &AccessSubject<'_>, now: u64) -> Result<(), AccessRefusal> {
        self.index.check_access(subject, now)
    }

    /// Whether clients at an address are refused.
    pub fn denies_address(&self, address: IpAddr, now: u64) -> bool {
        self.index.denies_address(address, now)
    }

    /// Whether an API key was taken back, and its management tokens with it.
    pub fn is_key_revoked(&self, id: &str, now: u64) -> bool {
        self.index.is_key_revoked(id, now)
    }

    /// The earliest `iat` (seconds since 1970) with which a token that is issued now is not taken back by a rule that was there before it:
    /// times of tokens are whole seconds. 0 where any will do.
    pub fn first_valid_issue_second(&self, subject: &AccessSubject<'_>, now: u64) -> u64 {
        self.index.first_valid_issue_second(subject, now)
    }

    /// Limits other than the configured ones.
    pub fn limit_changes(&self, now: u64) -> LimitChanges {
        self.index.limit_changes(now)
    }

    /// Takes rules in, and forgets those that are over. None if nothing has changed but that.
    pub(crate) fn with_rules(&self, rules: impl IntoIterator<Item = AccessRule>, now: u64) -> Option<Self> {
        let mut all = None::<BTreeMap<RuleKey, Arc<AccessRule>>>;
        for rule in rules {
            let held = all.as_ref().unwrap_or(&self.by_key).get(&rule.key);
            let next = match held {
                None => rule,
                Some(held) => {
                    let mut next = AccessRule::clone(held);
                    if !next.merge_rule(&rule) {
                        continue;
                    }
                    next
                }
            };
            all.get_or_insert_with(|| self.by_key.clone()).insert(next.key.clone(), Arc::new(next));
        }
        all.map(|mut all| {
            all.retain(|_, rule| !rule.is_forgettable(now));
            let mut index = RuleIndex::default();
            all.values().filter(|rule| rule.is_in_force(now)).for_each(|rule| index.insert_rule(rule));
            Self { by_key: all, index }
        })
    }

    /// The rule for a key, if it is in force.
    pub fn rule_in_force(&self, key: &RuleKey, now: u64) -> Option<&Arc<AccessRule>> {
        self.by_key.get(key).filter(|rule| rule.is_in_force(now))
    }

    /// The rules in force, by key.
    pub fn rules_in_force(&self, now: u64) -> impl Iterator<Item = &Arc<AccessRule>> {
        self.by_key.values().filter(move |rule| rule.is_in_force(now))
    }

    /// Everything that must not be forgotten, lifted rules too.
    pub(crate) fn remembered_rules(&self, now: u64) -> impl Iterator<Item = &Arc<AccessRule>> {
        self.by_key.values().filter(move |rule| !rule.is_forgettable(now))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests;
