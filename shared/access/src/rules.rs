//! All rules at one moment: immutable, shared, asked without a trip.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{LimitChanges, Rule, RuleKey, Subject, Verdict, index::Index};

/// The rules that a process holds. A change makes another set; readers keep the one they have.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    // With those that were lifted: they must be remembered.
    all: BTreeMap<RuleKey, Arc<Rule>>,
    index: Index,
}

impl Rules {
    /// Whether somebody may be here at this time (milliseconds since 1970, by the store's clock).
    ///
    /// # Errors
    /// [`Verdict`].
    pub fn judge(&self, subject: &Subject<'_>, now: u64) -> Result<(), Verdict> {
        self.index.judge(subject, now)
    }

    /// Whether clients at an address are refused.
    pub fn denies(&self, address: IpAddr, now: u64) -> bool {
        self.index.denies(address, now)
    }

    /// Whether an API key was taken back, and its management tokens with it.
    pub fn has_revoked_key(&self, id: &str, now: u64) -> bool {
        self.index.has_revoked_key(id, now)
    }

    /// The earliest `iat` (seconds since 1970) with which a token that is issued now is not taken back by a rule that was there before it:
    /// times of tokens are whole seconds. 0 where any will do.
    pub fn first_good_second(&self, subject: &Subject<'_>, now: u64) -> u64 {
        self.index.first_good_second(subject, now)
    }

    /// Limits other than the configured ones.
    pub fn limits(&self, now: u64) -> LimitChanges {
        self.index.limits(now)
    }

    /// Takes rules in, and forgets those that are over. None if nothing has changed but that.
    pub(crate) fn merged(&self, rules: impl IntoIterator<Item = Rule>, now: u64) -> Option<Self> {
        let mut all = None::<BTreeMap<RuleKey, Arc<Rule>>>;
        for rule in rules {
            let held = all.as_ref().unwrap_or(&self.all).get(&rule.key);
            let next = match held {
                None => rule,
                Some(held) => {
                    let mut next = Rule::clone(held);
                    if !next.merge(&rule) {
                        continue;
                    }
                    next
                }
            };
            all.get_or_insert_with(|| self.all.clone()).insert(next.key.clone(), Arc::new(next));
        }
        all.map(|mut all| {
            all.retain(|_, rule| !rule.is_over(now));
            let mut index = Index::default();
            all.values().filter(|rule| rule.is_in_force(now)).for_each(|rule| index.insert(rule));
            Self { all, index }
        })
    }

    /// The rule for a key, if it is in force.
    pub fn get(&self, key: &RuleKey, now: u64) -> Option<&Arc<Rule>> {
        self.all.get(key).filter(|rule| rule.is_in_force(now))
    }

    /// The rules in force, by key.
    pub fn in_force(&self, now: u64) -> impl Iterator<Item = &Arc<Rule>> {
        self.all.values().filter(move |rule| rule.is_in_force(now))
    }

    /// Everything that must not be forgotten, lifted rules too.
    pub(crate) fn remembered(&self, now: u64) -> impl Iterator<Item = &Arc<Rule>> {
        self.all.values().filter(move |rule| !rule.is_over(now))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests;
