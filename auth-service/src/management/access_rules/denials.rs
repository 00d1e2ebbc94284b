//! `POST /api/denials`: addresses are denied.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_access::{RuleKey, RuleTerms, parse_denied_range};
use signalbox_http::{JsonBody, bad_field};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{RuleLife, apply_rule, rule_view::RuleView};
use crate::{
    context::{
        authorization::authorize_application, member_types::ReasonText, problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// A request to deny addresses.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DenialRequest {
    /// An address, or a range in CIDR form.
    cidr: String,
    /// How long, seconds.
    #[schema(value_type = u64, minimum = 1, maximum = 2_678_400)]
    r#for: RuleLife,
    reason: Option<ReasonText>,
}

/// Denies an address or a range for a time.
#[utoipa::path(post, path = "/api/denials", tag = "control", operation_id = "denials_post", request_body = DenialRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<DenialRequest>,
) -> ApiResult {
    let caller =
        authorize_application(&request, &service.context, Scope::Security)?.in_all_rooms(&service.context)?;
    let DenialRequest { cidr, r#for, reason } = body.parse(&caller)?;
    let range = parse_denied_range(&cidr).map_err(|bad| bad_field("cidr", bad))?;
    let rule = (RuleKey::Deny(range), r#for.as_ms());
    let terms = RuleTerms { reason: reason.map(ReasonText::into_text), ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "address_denied", rule, terms).await?)
}
