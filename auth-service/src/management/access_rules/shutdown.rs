//! `/api/shutdown`

use actix_web::{HttpRequest, web};
use signalbox_access::{MAX_RULE_LIFE_MS, RuleKey, RuleTerms};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    apply_rule, authorize_rule_author, lift_rule, parse_reason, parse_rule_life, rule_view::RuleView,
};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::ReasonText,
        token_request::parse_integer,
    },
    management::management_service::ManagementService,
};

/// An emergency stop.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct ShutdownRequest {
    /// When clients are to ask again, seconds.
    #[schema(minimum = 1, maximum = 3_600)]
    retry: Option<u32>,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: Option<u64>,
    reason: Option<ReasonText>,
}

/// Sends everybody away and lets nobody in, until it is lifted or over.
#[utoipa::path(put, path = "/api/shutdown", tag = "control", operation_id = "shutdown_put", request_body = ShutdownRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn put(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    let [retry, lasts, why] = read_members(body, ["retry", "for", "reason"])?;
    let retry = parse_integer("retry", &retry, 1, 3_600, "a whole number of seconds")?;
    let life_ms = parse_rule_life(&lasts)?.unwrap_or(MAX_RULE_LIFE_MS);
    let retry_ms = retry.and_then(|seconds| u32::try_from(seconds * 1_000).ok());
    let terms = RuleTerms { reason: parse_reason(&why)?, retry_ms, ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "shutdown_started", (RuleKey::Shutdown, life_ms), terms).await?)
}

/// Lets everybody in again.
#[utoipa::path(delete, path = "/api/shutdown", tag = "control", operation_id = "shutdown_delete",
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn delete(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    Ok(lift_rule(&service, &caller, &RuleKey::Shutdown).await?)
}
