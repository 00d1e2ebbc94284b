//! `/api/rooms/{room}` and what is done to it

use actix_web::{
    Error, HttpRequest, HttpResponse,
    http::header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    web,
};
use signalbox_http::JsonMembers;
use signalbox_protocol::{id::UserId, problem::Problem};
use signalbox_rooms::room::{InputOutcome, RoomAction, RoomCreatorKind, RoomPatch};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    room_access::{change_room, load_room, log_room_change, room_in_request, room_store},
    room_principal::{authorize_in_room, authorize_user_in_room},
    room_settings_request::{RoomUpdateRequest, SETTINGS_MEMBERS, check_settings, parse_room_patch},
    views::RoomView,
};
use crate::{
    auth::token_response::store_problem,
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::RoomPath,
        token_request::parse_member,
    },
    management::management_service::ManagementService,
};

/// What can be done to a room.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) enum RoomVerb {
    Lock,
    Unlock,
    Enable,
    Disable,
}

/// How a room is to end.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct RoomEndRequest {
    /// Whether the room is kept, locked.
    lock: Option<bool>,
}

/// What a room is like. A user may see it too.
#[utoipa::path(get, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_get",
    params(RoomPath),
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = []), ("user" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    authorize_user_in_room(&request, &service, Scope::Rooms)?;
    let id = room_in_request(&request)?;
    Ok(HttpResponse::Ok().json(RoomView::new(&id, &load_room(&service, &id).await?)))
}

/// Changes settings.
#[utoipa::path(patch, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_patch",
    params(RoomPath), request_body = RoomUpdateRequest,
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn patch(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let patch = parse_room_patch(&service, read_members(body, SETTINGS_MEMBERS)?)?;
    let known = load_room(&service, &id).await?;
    check_settings(&service, &patch.apply_to(&known.settings), known.settings.kept_until)?;
    let (_, room) = change_room(&service, &id, RoomAction::Configure(patch)).await?;
    log_room_change("room_updated", &caller, &id);
    Ok(HttpResponse::Ok().json(RoomView::new(&id, &room)))
}

/// Sends everybody out and forgets the room and the invites to it.
#[utoipa::path(delete, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_delete",
    params(RoomPath),
    responses((status = 204, description = "It is gone"), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn delete(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let known = load_room(&service, &id).await?;
    // First: where that cannot be done the room is there still, and deleting it can be tried again.
    service.tokens.store.delete_room_invites(&id).await.map_err(store_problem)?;
    change_room(&service, &id, RoomAction::Delete).await?;
    let creator = known.settings.created_by.as_ref().filter(|creator| creator.kind == RoomCreatorKind::User);
    if let Some(user) = creator.and_then(|creator| UserId::parse(&creator.id).ok()) {
        // Else it comes back when the room would have been over.
        let _ = room_store(&service)?.release_user_room(&user, &id).await;
    }
    log_room_change("room_deleted", &caller, &id);
    Ok(HttpResponse::NoContent().finish())
}

/// `lock`, `unlock`, `enable`, `disable`.
#[utoipa::path(post, path = "/api/rooms/{room}/{verb}", tag = "rooms", operation_id = "rooms_one_act",
    params(RoomPath, ("verb" = inline(RoomVerb), Path, description = "What is done")),
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn run_room_verb(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let enabled = |on| RoomAction::Configure(RoomPatch { enabled: Some(on), ..RoomPatch::default() });
    let (event, act) = match request.match_info().get("verb").unwrap_or_default() {
        "lock" => ("room_locked", RoomAction::Lock(true)),
        "unlock" => ("room_unlocked", RoomAction::Lock(false)),
        "enable" => ("room_enabled", enabled(true)),
        _ => ("room_disabled", enabled(false)),
    };
    let (_, room) = change_room(&service, &id, act).await?;
    log_room_change(event, &caller, &id);
    Ok(HttpResponse::Ok().json(RoomView::new(&id, &room)))
}

/// Sends everybody out; the room goes too, unless it is to be kept, locked.
#[utoipa::path(post, path = "/api/rooms/{room}/end", tag = "rooms", operation_id = "rooms_one_end",
    params(RoomPath), request_body = Option<RoomEndRequest>,
    responses((status = 200, body = RoomView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn end(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: OptionalJsonBody,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let (outcome, room) =
        change_room(&service, &id, RoomAction::End { lock_room: parse_end_body(&request, body)? }).await?;
    log_room_change("room_ended", &caller, &id);
    let removed = if let InputOutcome::Removed(count) = outcome { Some(count) } else { None };
    Ok(HttpResponse::Ok().json(RoomView::new(&id, &room).with_removed(removed)))
}

/// A body that may be absent, or `null`.
type OptionalJsonBody = Result<web::Json<Option<JsonMembers>>, Error>;

/// `{"lock": true}`, where there is a body.
fn parse_end_body(request: &HttpRequest, body: OptionalJsonBody) -> Result<bool, Problem> {
    // RFC 9112, section 6.3: neither says that a body follows.
    let length = request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if !length && !request.headers().contains_key(TRANSFER_ENCODING) {
        return Ok(false);
    }
    let body = body.map(|json| json.into_inner().map(web::Json)).transpose();
    let Some(body) = body else { return Ok(false) };
    let [lock] = read_members(body, ["lock"])?;
    Ok(parse_member::<bool>("lock", &lock, "must be true or false")?.unwrap_or(false))
}
