//! An access rule as the API shows it.

use serde::Serialize;
use signalbox_access::{AccessRule, LimitChanges, RuleKey};
use signalbox_protocol::CredentialRoot;
use utoipa::ToSchema;

use crate::context::member_types::ReasonText;

/// An access rule. Times are milliseconds since 1970, by the clock of the store.
#[derive(Serialize, ToSchema)]
#[schema(as = Rule)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleView {
    /// Kind and target, for `DELETE /api/rules/{key}`.
    key: String,
    kind: RuleKindView,
    /// When the rule was written.
    at: u64,
    /// When the rule expires.
    until: u64,
    /// The API key that wrote the rule, or the part of the server.
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ReasonText>)]
    reason: Option<String>,
    /// Whether the rule was lifted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    lifted: bool,
    /// For a root: whether the tokens that come from it are revoked too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    issued: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<ChangedLimitsView>,
    /// For a shutdown: when clients retry, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u32>,
}

/// The kind of an access rule.
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
    Provider,
    App,
    Guest,
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
            RuleKey::Root(CredentialRoot::ApiKey(_)) => Self::Key,
            RuleKey::Root(CredentialRoot::Provider(_)) => Self::Provider,
            RuleKey::Root(CredentialRoot::App) => Self::App,
            RuleKey::Root(CredentialRoot::Guest) => Self::Guest,
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

/// Limits that are changed.
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
