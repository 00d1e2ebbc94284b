//! `/api/bans`

use actix_web::{HttpRequest, web};
use signalbox_access::{RuleKey, RuleTerms};
use signalbox_protocol::id::{RoomId, UserId};
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
        schemas::{ReasonText, RoomName, UserName},
        token_request::parse_name,
    },
    management::management_service::ManagementService,
};

/// A ban.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct BanRequest {
    user: UserName,
    /// The room; all of them where none is named.
    room: Option<RoomName>,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: u64,
    reason: Option<ReasonText>,
}

/// Bans a user for a time, from one room or from all.
#[utoipa::path(post, path = "/api/bans", tag = "control", operation_id = "bans_post", request_body = BanRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    let [user, room, lasts, why] = read_members(body, ["user", "room", "for", "reason"])?;
    let user = parse_name("user", &user, UserId::parse)?.ok_or_else(|| missing_rule_member("user"))?;
    let key = RuleKey::Ban { user, room: parse_name("room", &room, RoomId::parse)? };
    let life_ms = parse_rule_life(&lasts)?.ok_or_else(|| missing_rule_member("for"))?;
    let terms = RuleTerms { reason: parse_reason(&why)?, ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, "user_banned", (key, life_ms), terms).await?)
}
