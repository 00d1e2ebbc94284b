//! `/api/limits`

use actix_web::{HttpRequest, web};
use signalbox_access::{LimitChanges, MAX_RULE_LIFE_MS, RuleKey, RuleTerms};
use signalbox_protocol::problem::Problem;
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    RawRuleMember, apply_rule, authorize_rule_author, lift_rule, parse_reason, parse_rule_life,
    rule_view::RuleView,
};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::ReasonText,
        token_request::{bad_member, parse_integer},
    },
    management::management_service::ManagementService,
};

const LIMITS_MEMBERS: [&str; 8] =
    ["roomPeers", "userPeers", "connections", "burst", "rate", "backlog", "for", "reason"];

/// Limits in place of the configured ones.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct LimitsRequest {
    #[schema(minimum = 1, maximum = 1_000)]
    room_peers: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000)]
    user_peers: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    connections: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    burst: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate: Option<u32>,
    #[schema(minimum = 8, maximum = 10_000)]
    backlog: Option<u32>,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: Option<u64>,
    reason: Option<ReasonText>,
}

/// Puts limits in force on every node, in place of those that were changed before; what is absent is as it is configured.
#[utoipa::path(put, path = "/api/limits", tag = "control", operation_id = "limits_put", request_body = LimitsRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn put(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    let [room_peers, user_peers, connections, burst, rate, backlog, lasts, why] =
        read_members(body, LIMITS_MEMBERS)?;
    let changes = LimitChanges {
        room_peers: parse_limit("roomPeers", &room_peers, 1, service.room_settings.max_room_peers)?,
        user_peers: parse_limit("userPeers", &user_peers, 1, 1_000)?,
        connections: parse_limit("connections", &connections, 1, 1_000_000)?,
        burst: parse_limit("burst", &burst, 1, 1_000_000)?,
        rate: parse_limit("rate", &rate, 1, 1_000_000)?,
        backlog: parse_limit("backlog", &backlog, 8, 10_000)?,
    };
    if changes == LimitChanges::default() {
        return Err(bad_member("roomPeers", "or another limit must be there").into());
    }
    let life_ms = parse_rule_life(&lasts)?.unwrap_or(MAX_RULE_LIFE_MS);
    let terms = RuleTerms { reason: parse_reason(&why)?, limits: Some(changes), ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "limits_changed", (RuleKey::Limits, life_ms), terms).await?)
}

fn parse_limit(field: &str, raw: &RawRuleMember, low: u32, high: u32) -> Result<Option<u32>, Problem> {
    let value = parse_integer(field, raw, low.into(), high.into(), "a whole number")?;
    Ok(value.and_then(|value| u32::try_from(value).ok()))
}

/// The configured limits are in force again.
#[utoipa::path(delete, path = "/api/limits", tag = "control", operation_id = "limits_delete",
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn delete(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    Ok(lift_rule(&service, &caller, &RuleKey::Limits).await?)
}
