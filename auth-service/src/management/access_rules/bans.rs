//! `POST /api/bans`: a user is banned.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_access::{RuleKey, RuleTerms};
use signalbox_http::JsonBody;
use signalbox_protocol::id::{RoomId, UserId};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{RuleLife, apply_rule, caller_for_room, rule_view::RuleView};
use crate::{
    context::{
        authorization::authorize_application, member_types::ReasonText, problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// A ban.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BanRequest {
    user: UserId,
    /// The room; without it every room.
    room: Option<RoomId>,
    /// How long, seconds.
    #[schema(value_type = u64, minimum = 1, maximum = 2_678_400)]
    r#for: RuleLife,
    reason: Option<ReasonText>,
}

/// Bans a user for a time, from one room or from all.
#[utoipa::path(post, path = "/api/bans", tag = "control", operation_id = "bans_post", request_body = BanRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<BanRequest>,
) -> ApiResult {
    let caller = authorize_application(&request, &service.context, Scope::Security)?;
    let BanRequest { user, room, r#for, reason } = body.parse(&caller)?;
    let caller = caller_for_room(&service, caller, room.as_ref())?;
    let key = RuleKey::Ban { user, room };
    let terms = RuleTerms { reason: reason.map(ReasonText::into_text), ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "user_banned", (key, r#for.as_ms()), terms).await?)
}
