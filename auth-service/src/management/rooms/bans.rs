//! `POST /api/rooms/{room}/bans`: a user is banned from a room.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_access::{RuleChange, RuleKey, RuleTerms};
use signalbox_http::JsonBody;
use signalbox_protocol::{
    LeaveReason,
    id::{RoomId, UserId},
};
use signalbox_rooms::room::{InputOutcome, PeerSelector, RoomAction};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    room_access::{change_room, log_room_change},
    room_principal::authorize_in_room,
};
use crate::{
    context::{member_types::ReasonText, problem_responses::ProblemResponses, request::ApiResult},
    management::{
        access_rules::{self, RuleLife},
        management_service::ManagementService,
    },
};

/// A ban from a room.
#[derive(Serialize, ToSchema)]
pub(crate) struct RoomBanResponse {
    /// The key of the rule, for `DELETE /api/rules/{key}`.
    rule: String,
    /// The end, ms since 1970.
    until: u64,
    /// How many peers were removed.
    removed: usize,
}

/// A request to ban a user from a room.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoomBanRequest {
    user: UserId,
    /// Seconds.
    #[schema(value_type = u64, minimum = 1, maximum = 2_678_400)]
    r#for: RuleLife,
    reason: Option<ReasonText>,
}

/// Bans a user from the room for a time, whatever token the user has, and removes the user's peers.
#[utoipa::path(post, path = "/api/rooms/{room}/bans", tag = "rooms", operation_id = "rooms_participants_ban",
    params(("room" = RoomId, Path)), request_body = RoomBanRequest,
    responses((status = 201, body = RoomBanResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn ban(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RoomBanRequest>,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let RoomBanRequest { user, r#for, reason } = body.parse(&caller)?;
    let terms = RuleTerms {
        author: caller.id().as_str().into(),
        reason: reason.map(ReasonText::into_text),
        ..RuleTerms::default()
    };
    // The rule first: a removed peer can return in a moment.
    let key = RuleKey::Ban { room: Some(id.clone()), user: user.clone() };
    let rule = service
        .context
        .access
        .write_rule(RuleChange { key, life_ms: r#for.as_ms(), terms })
        .await
        .map_err(access_rules::apply_problem)?;
    let removal = RoomAction::Remove { selector: PeerSelector::User(user), reason: LeaveReason::Banned };
    let outcome = match change_room(&service, &id, removal).await {
        Ok((outcome, _)) => outcome,
        // The ban is valid whether or not the room exists now.
        Err(problem) if problem.code == "no_such_room" => InputOutcome::Removed(0),
        Err(problem) => return Err(problem.into()),
    };
    log_room_change("user_banned", &caller.id(), &id);
    let removed = if let InputOutcome::Removed(count) = outcome { count } else { 0 };
    let banned = RoomBanResponse { rule: rule.key.to_string(), until: rule.in_force_until, removed };
    Ok(HttpResponse::Created().json(banned))
}
