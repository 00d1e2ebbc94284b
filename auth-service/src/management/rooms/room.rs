//! `/api/rooms/{room}` and what is done to it

use std::sync::Arc;

use actix_web::{
    Error, HttpRequest, HttpResponse,
    http::header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    web,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use signalbox_http::JsonMembers;
use signalbox_protocol::{
    E2eeMode,
    id::{Role, UserId},
    problem::Problem,
};
use signalbox_rooms::room::{InputOutcome, RoomAction, RoomCreatorKind, RoomPatch, RoomSettings};
use signalbox_token::scope::Scope;

use utoipa::ToSchema;

use super::{
    change_room, load_room, log_room_change, room_in_request,
    room_principal::{authorize_in_room, authorize_user_in_room},
    room_store,
    views::RoomView,
};
use crate::{
    auth::token_response::store_problem,
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{DisplayName, EncryptionMode, MetadataObject, RoleName, RoomPath},
        token_request::{bad_member, parse_display_name, parse_integer, parse_member, parse_metadata},
    },
    management::management_service::ManagementService,
};

/// What may be set.
pub(crate) const SETTINGS_MEMBERS: [&str; 10] = [
    "name",
    "metadata",
    "maxPeers",
    "maxDuration",
    "startsAt",
    "enabled",
    "locked",
    "lobby",
    "e2ee",
    "roles",
];

/// Roles that one room may name.
const MAX_ROOM_ROLES: usize = 32;

type RawRoomMember = Option<Box<RawValue>>;

/// Reads a change; every refusal names its member. `""`, `{}`, `[]` and 0 unset what may be unset.
pub(crate) fn parse_room_patch(
    service: &ManagementService,
    raw: [RawRoomMember; 10],
) -> Result<RoomPatch, Problem> {
    let [name, meta, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles] = raw;
    let rules = service.room_policy_in_force();
    let number = |field, raw: &RawRoomMember, most: u64| -> Result<Option<Option<u64>>, Problem> {
        let value = parse_integer(field, raw, 0, most, "a whole number (0 is none)")?;
        Ok(value.map(|value| (value > 0).then_some(value)))
    };
    let flag = |field, raw: &RawRoomMember| parse_member::<bool>(field, raw, "must be true or false");
    let meta = parse_metadata(meta, service.room_settings.max_metadata_bytes)?;
    let longest = rules.max_room_life_ms / 1_000;
    let most_peers = u64::try_from(rules.max_room_peers).unwrap_or(u64::MAX);
    Ok(RoomPatch {
        name: parse_display_name(&name)?.map(|name| Some(name).filter(|name| !name.is_empty())),
        metadata: meta.map(|json| Some(json).filter(|json| json.get() != "{}")),
        max_peers: number("maxPeers", &max_peers, most_peers)?.map(|most| most.map(|most| most as u32)),
        max_duration: number("maxDuration", &max_duration, longest)?,
        starts_at: number("startsAt", &starts_at, (1 << 53) - 1)?,
        enabled: flag("enabled", &enabled)?,
        locked: flag("locked", &locked)?,
        lobby: flag("lobby", &lobby)?,
        e2ee: parse_choice::<E2eeMode>("e2ee", &e2ee, "must be off, optional or required")?,
        roles: parse_room_roles(service, &roles)?,
    })
}

fn parse_room_roles(
    service: &ManagementService,
    raw: &RawRoomMember,
) -> Result<Option<Option<Arc<[Role]>>>, Problem> {
    let rule = format!("must be a list of at most {MAX_ROOM_ROLES} roles; an empty one is every role");
    let Some(names) = parse_member::<Vec<String>>("roles", raw, &rule)? else { return Ok(None) };
    if names.len() > MAX_ROOM_ROLES {
        return Err(bad_member("roles", rule));
    }
    let known = |name: &String| {
        let role =
            Role::parse(name).ok().filter(|role| service.tokens.grant_policy.permissions_of(role).is_ok());
        role.ok_or_else(|| bad_member("roles", "names a role that this server does not have"))
    };
    let roles = names.iter().map(known).collect::<Result<Vec<Role>, Problem>>()?;
    Ok(Some((!roles.is_empty()).then(|| roles.into())))
}

fn parse_choice<T: DeserializeOwned>(
    field: &str,
    raw: &RawRoomMember,
    rule: &str,
) -> Result<Option<T>, Problem> {
    parse_member(field, raw, rule)
}

/// Whether settings go together, and with the configuration.
pub(crate) fn check_settings(
    service: &ManagementService,
    settings: &RoomSettings,
    kept_until: u64,
) -> Result<(), Problem> {
    if settings.starts_at.is_some_and(|at| kept_until > 0 && at >= kept_until) {
        return Err(bad_member(
            "startsAt",
            "must come before the room is over; a room is kept for rooms.kept",
        ));
    }
    let book = &service.room_settings.policy.role_policy;
    let read = match &settings.roles {
        _ if !settings.requires_e2ee() => None,
        Some(roles) => book.first_inspection_reason(roles.iter()),
        None => book.first_inspection_reason(book.role_names()),
    };
    read.map_or(Ok(()), |why| {
        let detail = format!("e2ee cannot be required for these roles: {why}; name others in `roles`");
        Err(Problem::new(409, "conflict", detail).with_field("e2ee"))
    })
}

/// What is to be changed.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct RoomUpdateRequest {
    /// The name to show; empty is none.
    name: Option<DisplayName>,
    metadata: Option<MetadataObject>,
    /// Most peers; 0 is the configured number.
    #[schema(minimum = 0, maximum = 1_000)]
    max_peers: Option<u32>,
    /// Longest life, seconds; 0 is the configured one.
    #[schema(minimum = 0, maximum = 86_400)]
    max_duration: Option<u64>,
    /// When it begins, ms since 1970; 0 is at once.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991i64)]
    starts_at: Option<u64>,
    enabled: Option<bool>,
    locked: Option<bool>,
    /// Whether whoever comes waits to be let in.
    lobby: Option<bool>,
    e2ee: Option<EncryptionMode>,
    /// The roles that it takes in; an empty list is all.
    #[schema(max_items = 32)]
    roles: Option<Vec<RoleName>>,
}

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
