//! `/api/rules`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_access::{KINDS, LimitChanges, Rule, RuleKey};
use signalbox_protocol::problem::Problem;

use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use super::{authorize, lift as lift_rule, limits};
use crate::issuer::wish::refuse;
use crate::routes::{Answered, State, doc::Problems, forms::Reason};

/// Rules in one answer where nobody says otherwise, and at most.
const PAGE: usize = 100;
const MOST: usize = 1_000;

/// A rule as a caller sees it. Times are milliseconds since 1970, by the store's clock.
#[derive(Serialize, ToSchema)]
#[schema(as = Rule)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    /// Kind and target: what `DELETE /api/rules/{key}` lifts.
    key: String,
    #[schema(value_type = RuleKind)]
    kind: &'static str,
    /// When it was written.
    at: u64,
    /// When it is over.
    until: u64,
    /// The API key that wrote it, or what part of the server did.
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Reason>)]
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
    limits: Option<limits::Named>,
    /// Of a shutdown: when clients are to ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u32>,
}

/// What a rule is about.
#[derive(ToSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the document reads it")]
enum RuleKind {
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

impl Shown {
    pub(super) fn of(rule: &Rule) -> Self {
        let terms = &rule.terms;
        Self {
            key: rule.key.to_string(),
            kind: rule.key.kind(),
            at: rule.at,
            until: rule.until,
            by: terms.by.to_string(),
            reason: terms.reason.as_deref().map(str::to_owned),
            lifted: rule.lifted,
            issued: terms.issued,
            limits: terms.limits.as_ref().map(|changes: &LimitChanges| changes.into()),
            retry_ms: terms.retry_ms,
        }
    }
}

/// Which rules.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Only rules of this kind.
    kind: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// The most rules of the page.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
}

/// A page of rules.
#[derive(Serialize, ToSchema)]
#[schema(as = RulePage)]
pub(super) struct Listed {
    rules: Vec<Shown>,
    /// Where to go on, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// The rules in force, in the order of their keys, page by page.
#[utoipa::path(get, path = "/api/rules", tag = "control", operation_id = "rules_list", params(Query),
    responses((status = 200, body = Listed), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn list(
    request: HttpRequest,
    state: State,
    query: Result<web::Query<Query>, actix_web::Error>,
) -> Answered {
    authorize(&request, &state, Scope::Security)?;
    let unreadable = |_| Problem::new(400, "bad_request", "the query takes kind, cursor and limit");
    let Query { kind, cursor, limit } = query.map_err(unreadable)?.into_inner();
    if kind.as_deref().is_some_and(|kind| !KINDS.contains(&kind)) {
        return Err(refuse("kind", format!("must be one of {}", KINDS.join(", "))).into());
    }
    let most = limit.unwrap_or(PAGE);
    if !(1..=MOST).contains(&most) {
        return Err(refuse("limit", format!("must be from 1 to {MOST}")).into());
    }
    let after = cursor.map(|cursor| cursor.parse::<RuleKey>()).transpose();
    let after = after.map_err(|_| refuse("cursor", "must be the cursor of the page before"))?;
    let rules = state.control.rules();
    let wanted = rules
        .in_force(state.control.now_ms())
        .filter(|rule| after.as_ref().is_none_or(|after| rule.key > *after))
        .filter(|rule| kind.as_deref().is_none_or(|kind| rule.key.kind() == kind));
    let mut page: Vec<_> = wanted.take(most + 1).collect();
    let more = page.len() > most;
    page.truncate(most);
    let cursor = page.last().filter(|_| more).map(|rule| rule.key.to_string());
    Ok(HttpResponse::Ok().json(Listed { rules: page.iter().map(|rule| Shown::of(rule)).collect(), cursor }))
}

/// Lifts one.
#[utoipa::path(delete, path = "/api/rules/{key}", tag = "control", operation_id = "rules_lift", params(("key" = String, Path, description = "The rule")),
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn lift(request: HttpRequest, state: State, key: web::Path<String>) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    let key: RuleKey = key.parse().map_err(|bad| refuse("key", bad))?;
    Ok(lift_rule(&state, &caller, &key).await?)
}
