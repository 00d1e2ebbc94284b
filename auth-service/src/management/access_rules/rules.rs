//! `/api/rules`: the access rules in force, listed and lifted.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_access::{RULE_KINDS, RuleKey};
use signalbox_http::bad_field;
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use super::{caller_for_room, lift_rule, rule_view::RuleView};
use crate::{
    context::{
        authorization::authorize_application, problem_responses::ProblemResponses, request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The default and the maximum number of rules of a page.
const DEFAULT_PAGE_RULES: usize = 100;

const MAX_PAGE_RULES: usize = 1_000;

/// A query of rules.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleListQuery {
    /// Only rules of this kind.
    kind: Option<String>,
    /// The cursor of the page.
    cursor: Option<String>,
    /// The maximum number of rules of the page.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
}

/// A page of rules.
#[derive(Serialize, ToSchema)]
#[schema(as = RulePage)]
pub(crate) struct RulePage {
    rules: Vec<RuleView>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Lists the rules in force, ordered by their keys, page by page.
#[utoipa::path(get, path = "/api/rules", tag = "control", operation_id = "rules_list", params(RuleListQuery),
    responses((status = 200, body = RulePage), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn list(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    query: Result<web::Query<RuleListQuery>, actix_web::Error>,
) -> ApiResult {
    let (_, filter) = authorize_application(&request, &service.context, Scope::Security)?.filter_rooms();
    let unreadable = |_| Problem::new(400, "bad_request", "the query takes kind, cursor and limit");
    let RuleListQuery { kind, cursor, limit } = query.map_err(unreadable)?.into_inner();
    if kind.as_deref().is_some_and(|kind| !RULE_KINDS.contains(&kind)) {
        return Err(bad_field("kind", format!("must be one of {}", RULE_KINDS.join(", "))).into());
    }
    let most = limit.unwrap_or(DEFAULT_PAGE_RULES);
    if !(1..=MAX_PAGE_RULES).contains(&most) {
        return Err(bad_field("limit", format!("must be from 1 to {MAX_PAGE_RULES}")).into());
    }
    let after = cursor.map(|cursor| cursor.parse::<RuleKey>()).transpose();
    let after = after.map_err(|_| bad_field("cursor", "must be the cursor of the page before"))?;
    // Another process may have written a rule a moment ago.
    service.context.wait_for_latest_rules().await?;
    let rules = service.context.access.rules();
    let wanted = rules
        .rules_in_force(service.context.access.now_ms())
        .filter(|rule| after.as_ref().is_none_or(|after| rule.key > *after))
        .filter(|rule| filter.allows_name(rule.key.room().map(RoomId::as_str)))
        .filter(|rule| kind.as_deref().is_none_or(|kind| rule.key.kind() == kind));
    let mut page: Vec<_> = wanted.take(most + 1).collect();
    let more = page.len() > most;
    page.truncate(most);
    let cursor = page.last().filter(|_| more).map(|rule| rule.key.to_string());
    Ok(HttpResponse::Ok()
        .json(RulePage { rules: page.iter().map(|rule| RuleView::new(rule)).collect(), cursor }))
}

/// Lifts a rule.
#[utoipa::path(delete, path = "/api/rules/{key}", tag = "control", operation_id = "rules_lift", params(("key" = String, Path, description = "The key of the rule")),
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn lift(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    key: web::Path<String>,
) -> ApiResult {
    let caller = authorize_application(&request, &service.context, Scope::Security)?;
    let key: RuleKey = key.parse().map_err(|bad| bad_field("key", bad))?;
    let caller = caller_for_room(&service, caller, key.room())?;
    Ok(lift_rule(&service, &caller, &key).await?)
}
