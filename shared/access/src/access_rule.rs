//! One rule, and which of two for the same key holds.

use std::{cmp::Ordering, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::rule_key::RuleKey;

/// The longest time for which a rule is in force or kept, in milliseconds: 31 days.
pub const MAX_RULE_LIFE_MS: u64 = 31 * 24 * 60 * 60 * 1_000;

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
pub struct RuleTerms {
    /// Who wrote it: the id of an API key, or `room` for a moderator.
    #[serde(rename = "by")]
    pub author: Arc<str>,
    /// Why, in the words of who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// Of an API key: whether what it has issued is taken back too.
    #[serde(rename = "issued", default, skip_serializing_if = "std::ops::Not::not")]
    pub revokes_issued: bool,
    /// Of limits: the changed ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitChanges>,
    /// Of a shutdown: when clients are to ask again, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u32>,
}

/// One thing that was taken back. Times are milliseconds since 1970 by the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// What it is about.
    pub key: RuleKey,
    /// When it was written; of two rules for a key the later one holds.
    pub written_at: u64,
    /// It is in force until then.
    pub in_force_until: u64,
    /// It is remembered until then: no earlier rule for this key may be in force any more, lest a process that missed this one
    /// writes the earlier one back.
    pub remembered_until: u64,
    /// It was lifted: it says that nothing is in force.
    pub is_lifted: bool,
    /// What it says.
    pub terms: RuleTerms,
    // As it was stored: the order of two rules must be the same everywhere, whatever a later release adds to the terms.
    terms_json: Arc<str>,
}

impl AccessRule {
    /// A rule as it is read: `AT UNTIL KEEP LIFTED TERMS`, the terms being JSON.
    pub fn parse(key: &str, value: &str) -> Option<Self> {
        let mut parts = value.splitn(5, ' ');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (at, until, keep, lifted) = (number()?, number()?, number()?, number()?);
        let text = parts.next()?;
        let terms = serde_json::from_str(text).ok()?;
        Some(Self {
            key: key.parse().ok()?,
            written_at: at,
            in_force_until: until,
            remembered_until: keep,
            is_lifted: lifted == 1,
            terms,
            terms_json: text.into(),
        })
    }

    /// A rule that is written now.
    pub fn new(key: RuleKey, written_at: u64, life_ms: u64, terms: RuleTerms) -> Self {
        let in_force_until = written_at.saturating_add(life_ms.min(MAX_RULE_LIFE_MS));
        let terms_json = serde_json::to_string(&terms).unwrap_or_default().into();
        Self {
            key,
            written_at,
            in_force_until,
            remembered_until: in_force_until,
            is_lifted: false,
            terms,
            terms_json,
        }
    }

    /// The same rule, lifted.
    pub(crate) fn to_lifted(&self, at: u64, terms: RuleTerms) -> Self {
        let text = serde_json::to_string(&terms).unwrap_or_default().into();
        Self { written_at: at, is_lifted: true, terms, terms_json: text, ..self.clone() }
    }

    /// As it is stored.
    pub fn to_stored_text(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.written_at,
            self.in_force_until,
            self.remembered_until,
            u8::from(self.is_lifted),
            self.terms_json
        )
    }

    /// Whether it says something at this time.
    pub fn is_in_force(&self, now: u64) -> bool {
        !self.is_lifted && now < self.in_force_until
    }

    /// Whether it need not be known any more.
    pub fn is_forgettable(&self, now: u64) -> bool {
        now >= self.remembered_until
    }

    /// Which of two holds: the later; where both are of one moment any, so long as it is the same one everywhere. `rule.lua` has
    /// the same order.
    fn compare_precedence(&self, other: &Self) -> Ordering {
        let of = |rule: &Self| (rule.written_at, rule.in_force_until, rule.is_lifted);
        of(self).cmp(&of(other)).then_with(|| self.terms_json.as_bytes().cmp(other.terms_json.as_bytes()))
    }

    /// Takes another rule for the same key in; whether anything has changed.
    pub fn merge_rule(&mut self, other: &Self) -> bool {
        let keep = self.remembered_until.max(other.remembered_until);
        let wins = other.compare_precedence(self).is_gt();
        let changed = wins || keep != self.remembered_until;
        if wins {
            self.clone_from(other);
        }
        self.remembered_until = keep;
        changed
    }
}
