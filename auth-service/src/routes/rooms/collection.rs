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
use signalbox_redis::keys::PARTITIONS;
use signalbox_rooms::{
    room::{Act, RoomSettings, RoomState},
    store::Store,
};
use signalbox_token::scope::{RoomPattern, Scope};

use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type},
};

use super::{
    audit, change,
    one::{MEMBERS, RoomChange, fit, patch_of},
    shown::ShownRoom,
    store, unavailable,
    who::{Who, backend_or_user, lister},
};
use crate::{
    AuthState,
    issuer::wish::{named, refuse},
    routes::{Answered, Body, State, doc::Problems, forms::RoomName, members},
};

/// Rooms of one page, at most.
const MOST: usize = 100;

/// Partitions and rooms that are asked for at a time.
const AT_A_TIME: usize = 16;

/// A room that is to be made: its settings, and its name in URLs and tokens (`id`), which is made up where there is none.
pub(super) struct RoomWish;

impl PartialSchema for RoomWish {
    fn schema() -> RefOr<Schema> {
        let mut wish = RoomChange::schema();
        if let RefOr::T(Schema::Object(settings)) = &mut wish {
            let none = ObjectBuilder::new().schema_type(Type::Null);
            let id = OneOfBuilder::new().item(none).item(Ref::from_schema_name(RoomName::name()));
            settings.properties.insert("id".to_owned(), id.into());
        }
        wish
    }
}

impl ToSchema for RoomWish {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((RoomName::name().into_owned(), RoomName::schema()));
        RoomChange::schemas(schemas);
    }
}

/// Makes a room.
#[utoipa::path(post, path = "/api/rooms", tag = "rooms", operation_id = "rooms_collection_post", request_body = RoomWish,
    responses((status = 201, body = ShownRoom, headers(("Location" = String, description = "Its path"))), Problems), security(("key" = []), ("management" = []), ("user" = [])))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    let who = backend_or_user(&request, &state, Scope::Rooms)?;
    may_create(&state, &who)?;
    let [id, rest @ ..] = members(body, ALL_MEMBERS)?;
    let id = named("id", &id, RoomId::parse)?;
    let id = match id {
        Some(id) => id,
        None => RoomId::parse(&random_hex()).map_err(|bad| refuse("id", bad))?,
    };
    who.may_use(&state, &id)?;
    let patch = patch_of(&state, rest)?;
    let now = store(&state)?.now_ms();
    let kept_until = now + state.room_rules.kept_ms;
    let settings = RoomSettings {
        created_by: Some(who.creator()),
        created_at: now,
        making: Some(random_hex().into()),
        kept_until,
        ..patch.apply(&RoomSettings::default())
    };
    fit(&state, &settings, kept_until)?;
    let made = make(&state, &who, &id, settings).await?;
    audit("room_created", &who.id(), &id);
    let place = format!("/api/rooms/{id}");
    Ok(HttpResponse::Created().insert_header((header::LOCATION, place)).json(ShownRoom::of(&id, &made)))
}

const ALL_MEMBERS: [&str; 11] = {
    let [name, metadata, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles] = MEMBERS;
    ["id", name, metadata, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles]
};

/// A user makes rooms where its role says so.
fn may_create(state: &AuthState, who: &Who) -> Result<(), Problem> {
    let Who::User(claims) = who else { return Ok(()) };
    let permissions = state.policy.permissions_of(&claims.role)?;
    if permissions.iter().any(|name| &**name == "create") {
        return Ok(());
    }
    Err(Problem::new(403, "not_permitted", "the role lacks the permission `create`"))
}

/// Takes one of the user's places first, and gives it back where no room comes of it.
async fn make(
    state: &AuthState,
    who: &Who,
    id: &RoomId,
    settings: RoomSettings,
) -> Result<Arc<RoomState>, Problem> {
    let rules = &state.room_rules;
    if let Who::User(claims) = who {
        let place = store(state)?.take_place(&claims.sub, id, rules.kept_ms, rules.per_user);
        if !place.await.map_err(unavailable)? {
            let detail = format!("this user has {} rooms, the most there may be", rules.per_user);
            return Err(Problem::new(409, "room_limit", detail));
        }
    }
    let made = change(state, id, Act::Create(settings.into())).await;
    if let (Who::User(claims), Err(problem)) = (who, &made) {
        // A room of that name which is its own keeps its place.
        let known = super::load(state, id).await.ok().and_then(|room| room.settings.created_by.clone());
        if problem.status != 503 && known != Some(who.creator()) {
            // Else it comes back when the room would have been over.
            let _ = store(state)?.give_place_back(&claims.sub, id).await;
        }
    }
    Ok(made?.1)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Where the page before ended.
    cursor: Option<String>,
    /// The most rooms of the page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// A page of rooms.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomPage)]
pub(super) struct Listed<'a> {
    rooms: Vec<ShownRoom<'a>>,
    /// Where to go on, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Lists rooms, page by page. A room that is there all the time is listed exactly once, whatever comes and goes meanwhile.
#[utoipa::path(get, path = "/api/rooms", tag = "rooms", operation_id = "rooms_collection_get",
    params(Page),
    responses((status = 200, body = Listed), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn get(request: HttpRequest, state: State) -> Answered {
    let limited = lister(&request, &state, Scope::Rooms)?;
    let page = web::Query::<Page>::from_query(request.query_string());
    let page = page.map_err(|_| refuse("cursor", "and limit are the only parameters"))?.into_inner();
    let limit = page.limit.unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(refuse("limit", format!("must be from 1 to {MOST}")).into());
    }
    let from = page.cursor.as_deref().map(read_cursor).transpose()?;
    let (rooms, next) = list(store(&state)?, limited.as_ref(), from, limit).await?;
    let cursor = next.map(|(partition, name)| URL_SAFE_NO_PAD.encode(format!("{partition} {name}")));
    let rooms = rooms.iter().map(|(id, room)| ShownRoom::of(id, room)).collect();
    Ok(HttpResponse::Ok().json(Listed { rooms, cursor }))
}

type Cursor = (usize, String);

fn read_cursor(text: &str) -> Result<Cursor, Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = decoded.as_deref().and_then(|text| text.split_once(' '));
    let cursor = parts.and_then(|(partition, name)| Some((partition.parse().ok()?, name.to_owned())));
    cursor
        .filter(|(partition, _)| *partition < PARTITIONS)
        .ok_or_else(|| refuse("cursor", "is none that this server gave out"))
}

/// The rooms after a place, by partition and name, at most `limit`, and the place where the next page begins.
async fn list(
    store: &Store,
    limited: Option<&RoomPattern>,
    from: Option<Cursor>,
    limit: usize,
) -> Result<(Vec<(RoomId, RoomState)>, Option<Cursor>), Problem> {
    let (first, after) = from.unwrap_or_default();
    let mut names = stream::iter(first..PARTITIONS)
        .map(|partition| async move { store.rooms_in(partition).await.map(|rooms| (partition, rooms)) })
        .buffered(AT_A_TIME);
    let mut found: Vec<(RoomId, RoomState)> = Vec::new();
    while let Some((partition, mut rooms)) = names.try_next().await.map_err(unavailable)? {
        rooms.retain(|room| partition > first || room.as_str() > &*after);
        rooms.retain(|room| limited.is_none_or(|limited| limited.matches(room)));
        rooms.sort();
        let mut states = stream::iter(rooms)
            .map(|room| async move { store.load(&room).await.map(|found| (room, found)) })
            .buffered(AT_A_TIME);
        while let Some((room, state)) = states.try_next().await.map_err(unavailable)? {
            let now = state.now;
            if let Some(state) = state.room.filter(|state| state.is_there(now)) {
                found.push((room.clone(), state));
            }
            if found.len() == limit {
                return Ok((found, Some((partition, room.to_string()))));
            }
        }
    }
    Ok((found, None))
}
