//! One rule, and which of two for the same key holds.

use std::{cmp::Ordering, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{LONGEST_MS, RuleKey};

/// Limits other than the configured ones; what is absent stays as it is configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitChanges {
    /// `limits.room_peers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_peers: Option<u32>,
    /// `limits.user_peers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_peers: Option<u32>,
    /// `limits.connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// `limits.burst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// `limits.rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// `limits.backlog`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u32>,
}

/// What a rule says beside its key and its times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Who wrote it: the id of an API key, or `room` for a moderator.
    pub by: Arc<str>,
    /// Why, in the words of who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// Of an API key: whether what it has issued is taken back too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub issued: bool,
    /// Of limits: the changed ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitChanges>,
    /// Of a shutdown: when clients are to ask again, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u32>,
}

/// One thing that was taken back. Times are milliseconds since 1970 by the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub key: RuleKey,
    /// When it was written; of two rules for a key the later one holds.
    pub at: u64,
    /// It is in force until then.
    pub until: u64,
    /// It is remembered until then: no earlier rule for this key may be in force any more, lest a process that missed this one
    /// writes the earlier one back.
    pub keep: u64,
    /// It was lifted: it says that nothing is in force.
    pub lifted: bool,
    /// What it says.
    pub terms: Terms,
    // As it was stored: the order of two rules must be the same everywhere, whatever a later release adds to the terms.
    text: Arc<str>,
}

impl Rule {
    /// A rule as it is read: `AT UNTIL KEEP LIFTED TERMS`, the terms being JSON.
    pub fn parse(key: &str, value: &str) -> Option<Self> {
        let mut parts = value.splitn(5, ' ');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (at, until, keep, lifted) = (number()?, number()?, number()?, number()?);
        let text = parts.next()?;
        let terms = serde_json::from_str(text).ok()?;
        Some(Self { key: key.parse().ok()?, at, until, keep, lifted: lifted == 1, terms, text: text.into() })
    }

    /// A rule that is written now.
    pub fn new(key: RuleKey, at: u64, life_ms: u64, terms: Terms) -> Self {
        let until = at.saturating_add(life_ms.min(LONGEST_MS));
        let text = serde_json::to_string(&terms).unwrap_or_default().into();
        Self { key, at, until, keep: until, lifted: false, terms, text }
    }

    /// The same rule, lifted.
    pub(crate) fn lifted_at(&self, at: u64, terms: Terms) -> Self {
        let text = serde_json::to_string(&terms).unwrap_or_default().into();
        Self { at, lifted: true, terms, text, ..self.clone() }
    }

    /// As it is stored.
    pub fn value(&self) -> String {
        format!("{} {} {} {} {}", self.at, self.until, self.keep, u8::from(self.lifted), self.text)
    }

    /// Whether it says something at this time.
    pub fn is_in_force(&self, now: u64) -> bool {
        !self.lifted && now < self.until
    }

    /// Whether it need not be known any more.
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.keep
    }

    /// Which of two holds: the later; where both are of one moment any, so long as it is the same one everywhere. `rule.lua` has
    /// the same order.
    fn order(&self, other: &Self) -> Ordering {
        let of = |rule: &Self| (rule.at, rule.until, rule.lifted);
        of(self).cmp(&of(other)).then_with(|| self.text.as_bytes().cmp(other.text.as_bytes()))
    }

    /// Takes another rule for the same key in; whether anything has changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        let keep = self.keep.max(other.keep);
        let wins = other.order(self).is_gt();
        let changed = wins || keep != self.keep;
        if wins {
            self.clone_from(other);
        }
        self.keep = keep;
        changed
    }
}
