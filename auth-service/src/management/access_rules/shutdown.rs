//! `/api/shutdown`: the emergency shutdown.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_access::{MAX_RULE_LIFE_MS, RuleKey, RuleTerms};
use signalbox_http::JsonBody;
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{RuleLife, apply_rule, lift_rule, rule_view::RuleView};
use crate::{
    context::{
        authorization::authorize_application,
        member_types::{ReasonText, Seconds},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// An emergency stop.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ShutdownRequest {
    /// When clients retry, seconds.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3_600)]
    retry: Option<Seconds<1, 3_600>>,
    /// How long, seconds.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 2_678_400)]
    r#for: Option<RuleLife>,
    reason: Option<ReasonText>,
}

/// Closes all connections and refuses new ones, until the rule is lifted or expires.
#[utoipa::path(put, path = "/api/shutdown", tag = "control", operation_id = "shutdown_put", request_body = ShutdownRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn put(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<ShutdownRequest>,
) -> ApiResult {
    let caller =
        authorize_application(&request, &service.context, Scope::Security)?.in_all_rooms(&service.context)?;
    let ShutdownRequest { retry, r#for, reason } = body.parse(&caller)?;
    let life_ms = r#for.map_or(MAX_RULE_LIFE_MS, RuleLife::as_ms);
    let retry_ms = retry.and_then(|retry| u32::try_from(retry.as_ms()).ok());
    let terms = RuleTerms { reason: reason.map(ReasonText::into_text), retry_ms, ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "shutdown_started", (RuleKey::Shutdown, life_ms), terms).await?)
}

/// Lifts the shutdown.
#[utoipa::path(delete, path = "/api/shutdown", tag = "control", operation_id = "shutdown_delete",
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn delete(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let caller =
        authorize_application(&request, &service.context, Scope::Security)?.in_all_rooms(&service.context)?;
    Ok(lift_rule(&service, &caller, &RuleKey::Shutdown).await?)
}
