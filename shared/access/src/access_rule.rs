//! One access rule, and which of two rules with the same key wins.
//!
//! Owns: the stored form of a rule, its times and the merge of two rules. Must not: know where
//! rules are stored; `rule_log` does.

use std::{cmp::Ordering, sync::Arc};

use serde::{Deserialize, Serialize};

use signalbox_protocol::id::RoomId;

use crate::rule_key::RuleKey;

/// The longest time for which a rule is in force or kept, in milliseconds: 31 days.
pub const MAX_RULE_LIFE_MS: u64 = 31 * 24 * 60 * 60 * 1_000;

/// Changed limits. An absent limit keeps its configured value.
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

/// The content of a rule, apart from its key and its times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTerms {
    /// The author: the id of an API key, or `room` for a moderator.
    #[serde(rename = "by")]
    pub author: Arc<str>,
    /// The root of the caller that the rule is charged to. None: an operator, who has the whole
    /// table.
    #[serde(rename = "charged", default, skip_serializing_if = "Option::is_none")]
    pub charged_to: Option<Arc<str>>,
    /// For a revoked grant: the room from which its peer was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// The reason that the author gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// For a root: whether the credentials that come from it are revoked too.
    #[serde(rename = "issued", default, skip_serializing_if = "std::ops::Not::not")]
    pub revokes_issued: bool,
    /// For limits: the changed limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitChanges>,
    /// For a shutdown: the time after which clients may retry, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u32>,
}

/// One access rule. Times are milliseconds since 1970 by the clock of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The subject of the rule.
    pub key: RuleKey,
    /// The time of the write. Of two rules with the same key the later rule wins.
    pub written_at: u64,
    /// The time until which the rule is in force, unless it is lifted.
    pub in_force_until: u64,
    /// The time until which the rule is remembered. After that no earlier rule with this key can be
    /// in force, so a process that missed this rule cannot restore an earlier one.
    pub remembered_until: u64,
    /// Whether the rule was lifted before its end.
    pub is_lifted: bool,
    /// The content of the rule.
    pub terms: RuleTerms,
    /// The signature of the auth service. A rule in the memory of one process has none.
    pub signature: Option<Arc<str>>,
    /// Whether a signaling node wrote the rule, which cannot sign.
    pub is_from_node: bool,
    // The stored text: all releases must order two rules alike, also with terms that they do not
    // know.
    terms_json: Arc<str>,
}

/// The signature in the stored text of a rule without one.
const NO_SIGNATURE: &str = "-";

impl AccessRule {
    /// Parses a stored rule: `WRITTEN_AT IN_FORCE_UNTIL REMEMBERED_UNTIL LIFTED SIGNATURE TERMS`. The
    /// terms are JSON. The signature is not verified.
    pub fn parse(key: &str, value: &str) -> Option<Self> {
        let mut parts = value.splitn(6, ' ');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (written_at, in_force_until) = (number()?, number()?);
        let (remembered_until, lifted) = (number()?, number()?);
        let signature = parts.next().filter(|signature| !signature.is_empty())?;
        let terms_json = parts.next()?;
        let terms = serde_json::from_str(terms_json).ok()?;
        Some(Self {
            key: key.parse().ok()?,
            written_at,
            in_force_until,
            remembered_until,
            is_lifted: lifted == 1,
            terms,
            signature: Some(signature).filter(|signature| *signature != NO_SIGNATURE).map(Into::into),
            is_from_node: signature == NO_SIGNATURE,
            terms_json: terms_json.into(),
        })
    }

    /// A new rule that is in force for `life_ms`, at most [`MAX_RULE_LIFE_MS`].
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
            signature: None,
            is_from_node: false,
            terms_json,
        }
    }

    /// The same rule, lifted.
    pub(crate) fn to_lifted(&self, written_at: u64, terms: RuleTerms) -> Self {
        let terms_json = serde_json::to_string(&terms).unwrap_or_default().into();
        Self { written_at, is_lifted: true, terms, terms_json, ..self.clone() }
    }

    /// The stored text, which [`AccessRule::parse`] reads.
    pub fn to_stored_text(&self) -> String {
        format!(
            "{} {} {} {} {} {}",
            self.written_at,
            self.in_force_until,
            self.remembered_until,
            u8::from(self.is_lifted),
            self.signature.as_deref().unwrap_or(NO_SIGNATURE),
            self.terms_json
        )
    }

    /// What the signature is over. The time until which the rule is remembered is not: it grows when
    /// rules are merged, and it only decides when the rule is forgotten.
    pub(crate) fn statement(&self) -> String {
        let lifted = u8::from(self.is_lifted);
        format!("{} {} {} {lifted} {}", self.key, self.written_at, self.in_force_until, self.terms_json)
    }

    /// Whether the other rule has the same signed content and the same signature.
    pub(crate) fn is_same_record(&self, other: &Self) -> bool {
        self.signature == other.signature && self.statement() == other.statement()
    }

    /// Whether this rule wins over the other one with the same key.
    pub(crate) fn is_later_than(&self, other: &Self) -> bool {
        self.compare_precedence(other).is_gt()
    }

    /// Whether the rule is in force at the time `now`.
    pub fn is_in_force(&self, now: u64) -> bool {
        !self.is_lifted && now < self.in_force_until
    }

    /// Whether the rule need not be remembered any more.
    pub fn is_forgettable(&self, now: u64) -> bool {
        now >= self.remembered_until
    }

    /// The order of two rules: the later rule wins. Rules of the same time have a fixed order, so
    /// that all processes agree. `restore_rules.lua` uses the same order.
    fn compare_precedence(&self, other: &Self) -> Ordering {
        let order = |rule: &Self| (rule.written_at, rule.in_force_until, rule.is_lifted);
        order(self)
            .cmp(&order(other))
            .then_with(|| self.terms_json.as_bytes().cmp(other.terms_json.as_bytes()))
    }

    /// Merges another rule with the same key. Returns whether this rule has changed.
    pub fn merge_rule(&mut self, other: &Self) -> bool {
        let remembered_until = self.remembered_until.max(other.remembered_until);
        let order = other.compare_precedence(self);
        // Another signature of the same rule: the auth service has a new key.
        let wins = order.is_gt() || order.is_eq() && other.signature != self.signature;
        let changed = wins || remembered_until != self.remembered_until;
        if wins {
            self.clone_from(other);
        }
        self.remembered_until = remembered_until;
        changed
    }
}
