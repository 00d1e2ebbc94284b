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
    room_access::{change_room, log_room_change, room_store},
    room_principal::authorize_in_room,
};
use crate::{
    context::{member_types::ReasonText, problem_responses::ProblemResponses, request::ApiResult},
    management::{
        access_rules::{RuleLife, apply_problem, charged_caller},
        management_service::ManagementService,
    },
};

/// A ban from a room.
#[derive(Serialize, ToSchema)]
pub(crate) struct RoomBanResponse {
    /// The key of the rule, for `DELETE /api/rules/{key}`. Without this member there was no place
    /// for a rule: the ban is a sanction of the room and ends with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
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
        charged_to: charged_caller(&caller),
        reason: reason.map(ReasonText::into_text),
        ..RuleTerms::default()
    };
    let life_ms = r#for.as_ms();
    // The rule first: a removed peer can return in a moment.
    let key = RuleKey::Ban { room: Some(id.clone()), user: user.clone() };
    let written = service.context.access.write_rule(RuleChange { key, life_ms, terms }).await;
    let (rule, until, action) = match &written {
        Ok(rule) => {
            let (selector, reason) = (PeerSelector::User(user), LeaveReason::Banned);
            let removal = RoomAction::Remove { selector, reason };
            (Some(rule.key.to_string()), rule.in_force_until, removal)
        }
        Err(error) if error.is_limit() => {
            let until = room_store(&service)?.now_ms().saturating_add(life_ms);
            (None, until, RoomAction::Ban { user, until })
        }
        Err(error) => return Err(apply_problem(*error).into()),
    };
    let outcome = match change_room(&service, &id, action).await {
        Ok((outcome, _)) => outcome,
        // The rule is valid whether or not the room exists now.
        Err(problem) if problem.code == "no_such_room" => {
            written.map_err(apply_problem)?;
            InputOutcome::Removed(0)
        }
        Err(problem) => return Err(problem.into()),
    };
    log_room_change("user_banned", &caller.id(), &id);
    let removed = if let InputOutcome::Removed(count) = outcome { count } else { 0 };
    Ok(HttpResponse::Created().json(RoomBanResponse { rule, until, removed }))
}
