//! `/api/rooms`

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use signalbox_protocol::{
    id::{RoomId, random_hex},
    problem::Problem,
};
use signalbox_redis::redis_keys::PARTITIONS;
use signalbox_rooms::{
    room::{RoomAction, RoomSettings, RoomState},
    store::RoomStore,
};
use signalbox_token::scope::{RoomPattern, Scope};

use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type},
};

use super::{
    change_room, log_room_change,
    room::{RoomUpdateRequest, SETTINGS_MEMBERS, check_settings, parse_room_patch},
    room_principal::{RoomPrincipal, authorize_room_list, authorize_user_in_room},
    room_store, room_store_problem,
    views::RoomView,
};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::RoomName,
        token_request::{bad_member, parse_name},
    },
    management::management_service::ManagementService,
};

/// Rooms of one page, at most.
const MAX_PAGE_ROOMS: usize = 100;

/// Partitions and rooms that are asked for at a time.
const CONCURRENT_READS: usize = 16;

/// A room that is to be made: its settings, and its name in URLs and tokens (`id`), which is made up where there is none.
pub(crate) struct RoomCreateRequest;

impl PartialSchema for RoomCreateRequest {
    fn schema() -> RefOr<Schema> {
        let mut wish = RoomUpdateRequest::schema();
        if let RefOr::T(Schema::Object(settings)) = &mut wish {
            let none = ObjectBuilder::new().schema_type(Type::Null);
            let id = OneOfBuilder::new().item(none).item(Ref::from_schema_name(RoomName::name()));
            settings.properties.insert("id".to_owned(), id.into());
        }
        wish
    }
}

impl ToSchema for RoomCreateRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((RoomName::name().into_owned(), RoomName::schema()));
        RoomUpdateRequest::schemas(schemas);
    }
}

/// Makes a room.
#[utoipa::path(post, path = "/api/rooms", tag = "rooms", operation_id = "rooms_collection_post", request_body = RoomCreateRequest,
    responses((status = 201, body = RoomView, headers(("Location" = String, description = "Its path"))), ProblemResponses), security(("key" = []), ("management" = []), ("user" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let who = authorize_user_in_room(&request, &service, Scope::Rooms)?;
    check_create_permission(&service, &who)?;
    let [id, rest @ ..] = read_members(body, CREATE_MEMBERS)?;
    let id = parse_name("id", &id, RoomId::parse)?;
    let id = match id {
        Some(id) => id,
        None => RoomId::parse(&random_hex()).map_err(|bad| bad_member("id", bad))?,
    };
    who.check_room(&service, &id)?;
    let patch = parse_room_patch(&service, rest)?;
    let now = room_store(&service)?.now_ms();
    let kept_until = now + service.room_settings.retention_ms;
    let settings = RoomSettings {
        created_by: Some(who.creator()),
        created_at: now,
        creation_id: Some(random_hex().into()),
        kept_until,
        ..patch.apply_to(&RoomSettings::default())
    };
    check_settings(&service, &settings, kept_until)?;
    let made = create_room(&service, &who, &id, settings).await?;
    log_room_change("room_created", &who.id(), &id);
    let place = format!("/api/rooms/{id}");
    Ok(HttpResponse::Created().insert_header((header::LOCATION, place)).json(RoomView::new(&id, &made)))
}

const CREATE_MEMBERS: [&str; 11] = {
    let [name, metadata, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles] =
        SETTINGS_MEMBERS;
    ["id", name, metadata, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles]
};

/// A user makes rooms where its role says so.
fn check_create_permission(service: &ManagementService, who: &RoomPrincipal) -> Result<(), Problem> {
    let RoomPrincipal::User(claims) = who else { return Ok(()) };
    let permissions = service.tokens.grant_policy.permissions_of(&claims.role)?;
    if permissions.iter().any(|name| &**name == "create") {
        return Ok(());
    }
    Err(Problem::new(403, "not_permitted", "the role lacks the permission `create`"))
}

/// Takes one of the user's places first, and gives it back where no room comes of it.
async fn create_room(
    service: &ManagementService,
    who: &RoomPrincipal,
    id: &RoomId,
    settings: RoomSettings,
) -> Result<Arc<RoomState>, Problem> {
    let rules = &service.room_settings;
    if let RoomPrincipal::User(claims) = who {
        let place = room_store(service)?.reserve_user_room(
            &claims.sub,
            id,
            rules.retention_ms,
            rules.max_rooms_per_user,
        );
        if !place.await.map_err(room_store_problem)? {
            let detail = format!("this user has {} rooms, the most there may be", rules.max_rooms_per_user);
            return Err(Problem::new(409, "room_limit", detail));
        }
    }
    let made = change_room(service, id, RoomAction::Create(settings.into())).await;
    if let (RoomPrincipal::User(claims), Err(problem)) = (who, &made) {
        // A room of that name which is its own keeps its place.
        let known =
            super::load_room(service, id).await.ok().and_then(|room| room.settings.created_by.clone());
        if problem.status != 503 && known != Some(who.creator()) {
            // Else it comes back when the room would have been over.
            let _ = room_store(service)?.release_user_room(&claims.sub, id).await;
        }
    }
    Ok(made?.1)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomListQuery {
    /// Where the page before ended.
    cursor: Option<String>,
    /// The most rooms of the page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// A page of rooms.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomPage)]
pub(crate) struct RoomPage<'a> {
    rooms: Vec<RoomView<'a>>,
    /// Where to go on, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Lists rooms, page by page. A room that is there all the time is listed exactly once, whatever comes and goes meanwhile.
#[utoipa::path(get, path = "/api/rooms", tag = "rooms", operation_id = "rooms_collection_get",
    params(RoomListQuery),
    responses((status = 200, body = RoomPage), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let limited = authorize_room_list(&request, &service, Scope::Rooms)?;
    let page = web::Query::<RoomListQuery>::from_query(request.query_string());
    let page = page.map_err(|_| bad_member("cursor", "and limit are the only parameters"))?.into_inner();
    let limit = page.limit.unwrap_or(MAX_PAGE_ROOMS);
    if !(1..=MAX_PAGE_ROOMS).contains(&limit) {
        return Err(bad_member("limit", format!("must be from 1 to {MAX_PAGE_ROOMS}")).into());
    }
    let from = page.cursor.as_deref().map(parse_room_cursor).transpose()?;
    let (rooms, next) = list_rooms(room_store(&service)?, limited.as_ref(), from, limit).await?;
    let cursor = next.map(|(partition, name)| URL_SAFE_NO_PAD.encode(format!("{partition} {name}")));
    let rooms = rooms.iter().map(|(id, room)| RoomView::new(id, room)).collect();
    Ok(HttpResponse::Ok().json(RoomPage { rooms, cursor }))
}

type RoomCursor = (usize, String);

fn parse_room_cursor(text: &str) -> Result<RoomCursor, Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = decoded.as_deref().and_then(|text| text.split_once(' '));
    let cursor = parts.and_then(|(partition, name)| Some((partition.parse().ok()?, name.to_owned())));
    cursor
        .filter(|(partition, _)| *partition < PARTITIONS)
        .ok_or_else(|| bad_member("cursor", "is none that this server gave out"))
}

/// The rooms after a place, by partition and name, at most `limit`, and the place where the next page begins.
async fn list_rooms(
    store: &RoomStore,
    limited: Option<&RoomPattern>,
    from: Option<RoomCursor>,
    limit: usize,
) -> Result<(Vec<(RoomId, RoomState)>, Option<RoomCursor>), Problem> {
    let (first, after) = from.unwrap_or_default();
    let mut names = stream::iter(first..PARTITIONS)
        .map(|partition| async move {
            store.list_rooms_in_partition(partition).await.map(|rooms| (partition, rooms))
        })
        .buffered(CONCURRENT_READS);
    let mut found: Vec<(RoomId, RoomState)> = Vec::new();
    while let Some((partition, mut rooms)) = names.try_next().await.map_err(room_store_problem)? {
        rooms.retain(|room| partition > first || room.as_str() > &*after);
        rooms.retain(|room| limited.is_none_or(|limited| limited.matches(room)));
        rooms.sort();
        let mut states = stream::iter(rooms)
            .map(|room| async move { store.load_room(&room).await.map(|found| (room, found)) })
            .buffered(CONCURRENT_READS);
        while let Some((room, state)) = states.try_next().await.map_err(room_store_problem)? {
            let now = state.now;
            if let Some(state) = state.room.filter(|state| state.exists(now)) {
                found.push((room.clone(), state));
            }
            if found.len() == limit {
                return Ok((found, Some((partition, room.to_string()))));
            }
        }
    }
    Ok((found, None))
}
