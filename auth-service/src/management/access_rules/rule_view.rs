//! An access rule as a caller sees it.

use serde::Serialize;
use signalbox_access::{AccessRule, LimitChanges, RuleKey};
use utoipa::ToSchema;

use crate::context::member_types::ReasonText;

/// A rule as a caller sees it. Times are milliseconds since 1970, by the store's clock.
#[derive(Serialize, ToSchema)]
#[schema(as = Rule)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleView {
    /// Kind and target: what `DELETE /api/rules/{key}` lifts.
    key: String,
    kind: RuleKindView,
    /// When it was written.
    at: u64,
    /// When it is over.
    until: u64,
    /// The API key that wrote it, or what part of the server did.
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ReasonText>)]
    reason: Option<String>,
    /// Whether it is not in force any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    lifted: bool,
    /// Of an API key: whether what it has issued is taken back too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    issued: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<ChangedLimitsView>,
    /// Of a shutdown: when clients are to ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u32>,
}

/// What a rule is about.
#[derive(Serialize, ToSchema)]
#[schema(as = RuleKind)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RuleKindView {
    Token,
    UserBefore,
    RoomBefore,
    AllBefore,
    Ban,
    Deny,
    Key,
    Limits,
    Shutdown,
}

impl From<&RuleKey> for RuleKindView {
    fn from(key: &RuleKey) -> Self {
        match key {
            RuleKey::Grant(_) => Self::Token,
            RuleKey::UserBefore(_) => Self::UserBefore,
            RuleKey::RoomBefore(_) => Self::RoomBefore,
            RuleKey::AllBefore => Self::AllBefore,
            RuleKey::Ban { .. } => Self::Ban,
            RuleKey::Deny(_) => Self::Deny,
            RuleKey::ApiKey(_) => Self::Key,
            RuleKey::Limits => Self::Limits,
            RuleKey::Shutdown => Self::Shutdown,
        }
    }
}

impl RuleView {
    pub(crate) fn new(rule: &AccessRule) -> Self {
        let terms = &rule.terms;
        Self {
            key: rule.key.to_string(),
            kind: (&rule.key).into(),
            at: rule.written_at,
            until: rule.in_force_until,
            by: terms.author.to_string(),
            reason: terms.reason.as_deref().map(str::to_owned),
            lifted: rule.is_lifted,
            issued: terms.revokes_issued,
            limits: terms.limits.as_ref().map(|changes: &LimitChanges| changes.into()),
            retry_ms: terms.retry_ms,
        }
    }
}

/// Changed limits as callers name them.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedLimits)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangedLimitsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    room_peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u32>,
}

impl From<&LimitChanges> for ChangedLimitsView {
    fn from(changes: &LimitChanges) -> Self {
        let LimitChanges { room_peers, user_peers, connections, burst, rate, backlog } = *changes;
        Self { room_peers, user_peers, connections, burst, rate, backlog }
    }
}
