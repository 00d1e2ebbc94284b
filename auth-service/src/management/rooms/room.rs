//! `/api/rooms/{room}`: one room is shown, changed, ended or deleted.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use signalbox_http::JsonBody;
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_rooms::room::{InputOutcome, RoomAction, RoomPatch, RoomState};
use signalbox_token::{UserClaims, scope::Scope};
use utoipa::ToSchema;

use super::{
    join::join_terms,
    room_access::{change_room, load_room, log_room_change, room_store},
    room_principal::{authorize_in_room, authorize_user_in_room},
    room_settings_request::{RoomUpdateRequest, check_settings},
    room_token::would_enter_lobby,
    views::RoomView,
};
use crate::{
    auth::token_issuer::store_problem,
    context::{principal::Principal, problem_responses::ProblemResponses, request::ApiResult},
    management::management_service::ManagementService,
};

/// The action of a request on a room.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoomVerb {
    Lock,
    Unlock,
    Enable,
    Disable,
}

/// How a room ends.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomEndRequest {
    /// Whether the room is kept and locked.
    lock: Option<bool>,
}

/// Shows a room. A user may see it too: all of it if the user may join it now, or is a peer of it;
/// without its description while it is locked, full or not started, or while the user would wait in
/// the lobby.
#[utoipa::path(get, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_get",
    params(("room" = RoomId, Path)),
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = []), ("user" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (caller, id) = authorize_user_in_room(&request, &service, Scope::Rooms)?;
    let room = load_room(&service, &id).await?;
    let view = RoomView::new(&id, &room, service.room_link(&id));
    Ok(HttpResponse::Ok().json(match &*caller {
        Principal::User(claims) if !sees_description(&service, claims, &id, &room)? => {
            view.without_description()
        }
        _ => view,
    }))
}

/// Whether a user sees the description of a room: its name, its metadata and its creator.
///
/// # Errors
/// Why a join of the user would be refused, unless the refusal may end by itself.
fn sees_description(
    service: &ManagementService,
    claims: &UserClaims,
    id: &RoomId,
    room: &RoomState,
) -> Result<bool, Problem> {
    if room.members.values().any(|member| member.user == claims.sub && !member.waiting) {
        return Ok(true);
    }
    let terms = join_terms(service, claims, id.clone(), room)?;
    match would_enter_lobby(service, &terms, room) {
        Ok(waits) => Ok(!waits),
        Err(problem) if TEMPORARY_REFUSALS.contains(&problem.code) => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// The codes of refused joins that may be accepted later.
const TEMPORARY_REFUSALS: [&str; 4] = ["room_full", "user_limit", "room_locked", "room_not_started"];

/// Changes settings of a room.
#[utoipa::path(patch, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_patch",
    params(("room" = RoomId, Path)), request_body = RoomUpdateRequest,
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn patch(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RoomUpdateRequest>,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let patch = body.parse(&caller)?.into_patch(&service)?;
    let known = load_room(&service, &id).await?;
    check_settings(&service, &patch.apply_to(&known.settings), known.settings.kept_until)?;
    let (_, room) = change_room(&service, &id, RoomAction::Configure(patch)).await?;
    log_room_change("room_updated", &caller.id(), &id);
    Ok(HttpResponse::Ok().json(RoomView::new(&id, &room, service.room_link(&id))))
}

/// Removes all peers, and deletes the room and its invites.
#[utoipa::path(delete, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_delete",
    params(("room" = RoomId, Path)),
    responses((status = 204, description = "The room is deleted"), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn delete(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let known = load_room(&service, &id).await?;
    // First, so that after a failure the room still exists and the caller can retry.
    service.tokens.store.delete_room_invites(&id).await.map_err(store_problem)?;
    change_room(&service, &id, RoomAction::Delete).await?;
    if let Some(creator) = &known.settings.created_by {
        // Otherwise the reservation expires with the room.
        let _ = room_store(&service)?.release_room(creator, &id).await;
    }
    log_room_change("room_deleted", &caller.id(), &id);
    Ok(HttpResponse::NoContent().finish())
}

/// Locks, unlocks, enables or disables a room.
#[utoipa::path(post, path = "/api/rooms/{room}/{verb}", tag = "rooms", operation_id = "rooms_one_act",
    params(("room" = RoomId, Path), ("verb" = inline(RoomVerb), Path, description = "The action")),
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn run_room_verb(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    path: web::Path<(String, RoomVerb)>,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let enabled = |on| RoomAction::Configure(RoomPatch { enabled: Some(on), ..RoomPatch::default() });
    let (event, act) = match path.1 {
        RoomVerb::Lock => ("room_locked", RoomAction::Lock(true)),
        RoomVerb::Unlock => ("room_unlocked", RoomAction::Lock(false)),
        RoomVerb::Enable => ("room_enabled", enabled(true)),
        RoomVerb::Disable => ("room_disabled", enabled(false)),
    };
    let (_, room) = change_room(&service, &id, act).await?;
    log_room_change(event, &caller.id(), &id);
    Ok(HttpResponse::Ok().json(RoomView::new(&id, &room, service.room_link(&id))))
}

/// Ends a room: removes all peers, and deletes the room unless it is kept locked.
#[utoipa::path(post, path = "/api/rooms/{room}/end", tag = "rooms", operation_id = "rooms_one_end",
    params(("room" = RoomId, Path)), request_body = Option<RoomEndRequest>,
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn end(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RoomEndRequest>,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let lock_room = body.parse_or_default(&caller)?.lock.unwrap_or(false);
    let (outcome, room) = change_room(&service, &id, RoomAction::End { lock_room }).await?;
    log_room_change("room_ended", &caller.id(), &id);
    let removed = if let InputOutcome::Removed(count) = outcome { Some(count) } else { None };
    Ok(HttpResponse::Ok().json(RoomView::new(&id, &room, service.room_link(&id)).with_removed(removed)))
}
