//! `/api/limits`: limits are changed while the service runs.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_access::{LimitChanges, MAX_RULE_LIFE_MS, RuleKey, RuleTerms};
use signalbox_http::{JsonBody, bad_field};
use signalbox_protocol::problem::Problem;
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{RuleLife, apply_rule, lift_rule, rule_view::RuleView};
use crate::{
    context::{
        authorization::authorize_application,
        member_types::{ReasonText, UncheckedNumber, WholeNumber},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// Limits in place of the configured ones.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitsRequest {
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000)]
    room_peers: Option<UncheckedNumber>,
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000)]
    user_peers: Option<WholeNumber<1, 1_000>>,
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    connections: Option<WholeNumber<1, 1_000_000>>,
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    burst: Option<WholeNumber<1, 1_000_000>>,
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    rate: Option<WholeNumber<1, 1_000_000>>,
    #[schema(value_type = Option<u32>, minimum = 8, maximum = 10_000)]
    backlog: Option<WholeNumber<8, 10_000>>,
    /// How long, seconds.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 2_678_400)]
    r#for: Option<RuleLife>,
    reason: Option<ReasonText>,
}

/// Changes limits on every node, in place of earlier changes. A missing member means the configured
/// limit.
#[utoipa::path(put, path = "/api/limits", tag = "control", operation_id = "limits_put", request_body = LimitsRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn put(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<LimitsRequest>,
) -> ApiResult {
    let caller =
        authorize_application(&request, &service.context, Scope::Security)?.in_all_rooms(&service.context)?;
    let request = body.parse(&caller)?;
    let changes = request.changes(service.room_settings.load().max_room_peers)?;
    if changes == LimitChanges::default() {
        return Err(bad_field("roomPeers", "or another limit must be there").into());
    }
    let life_ms = request.r#for.map_or(MAX_RULE_LIFE_MS, RuleLife::as_ms);
    let reason = request.reason.map(ReasonText::into_text);
    let terms = RuleTerms { reason, limits: Some(changes), ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "limits_changed", (RuleKey::Limits, life_ms), terms).await?)
}

impl LimitsRequest {
    /// The limits to change. The configuration decides how many peers of a room fit into one frame.
    fn changes(&self, max_room_peers: u32) -> Result<LimitChanges, Problem> {
        let room_peers = self
            .room_peers
            .map(|peers| peers.within("roomPeers", 1, max_room_peers.into(), ""))
            .transpose()?;
        Ok(LimitChanges {
            room_peers: room_peers.and_then(|peers| u32::try_from(peers).ok()),
            user_peers: self.user_peers.map(WholeNumber::get),
            connections: self.connections.map(WholeNumber::get),
            burst: self.burst.map(WholeNumber::get),
            rate: self.rate.map(WholeNumber::get),
            backlog: self.backlog.map(WholeNumber::get),
        })
    }
}

/// Puts the configured limits in force again.
#[utoipa::path(delete, path = "/api/limits", tag = "control", operation_id = "limits_delete",
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn delete(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let caller =
        authorize_application(&request, &service.context, Scope::Security)?.in_all_rooms(&service.context)?;
    Ok(lift_rule(&service, &caller, &RuleKey::Limits).await?)
}
