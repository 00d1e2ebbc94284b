//! `/api/denials`

use actix_web::{HttpRequest, web};
use signalbox_access::{RuleKey, RuleTerms, parse_denied_range};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    apply_rule, authorize_rule_author, missing_rule_member, parse_reason, parse_rule_life,
    rule_view::RuleView,
};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::ReasonText,
        token_request::{bad_member, parse_member},
    },
    management::management_service::ManagementService,
};

/// Addresses.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct DenialRequest {
    /// An address, or a range of them.
    cidr: String,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: u64,
    reason: Option<ReasonText>,
}

/// Refuses clients of an address or range for a time.
#[utoipa::path(post, path = "/api/denials", tag = "control", operation_id = "denials_post", request_body = DenialRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    let [cidr, lasts, why] = read_members(body, ["cidr", "for", "reason"])?;
    let text = parse_member::<String>("cidr", &cidr, "must be a string")?
        .ok_or_else(|| missing_rule_member("cidr"))?;
    let range = parse_denied_range(&text).map_err(|bad| bad_member("cidr", bad))?;
    let life_ms = parse_rule_life(&lasts)?.ok_or_else(|| missing_rule_member("for"))?;
    let terms = RuleTerms { reason: parse_reason(&why)?, ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "address_denied", (RuleKey::Deny(range), life_ms), terms).await?)
}
