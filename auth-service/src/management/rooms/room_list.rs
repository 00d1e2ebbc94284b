//! `GET /api/rooms`: the rooms, page by page.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use signalbox_http::bad_field;
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_redis::redis_keys::PARTITIONS;
use signalbox_rooms::{room::RoomState, store::RoomStore};
use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use super::{
    room_access::{room_store, room_store_problem},
    views::RoomView,
};
use crate::{
    context::{
        authorization::{RoomFilter, authorize_application},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The most rooms of one page.
const MAX_PAGE_ROOMS: usize = 100;

/// How many partitions or rooms are read at a time.
const CONCURRENT_READS: usize = 16;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomListQuery {
    /// The cursor of the page.
    cursor: Option<String>,
    /// The maximum number of rooms of the page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// A page of rooms.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomPage)]
pub(crate) struct RoomPage<'a> {
    rooms: Vec<RoomView<'a>>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Lists rooms, page by page. A room that exists for the whole time is listed exactly once,
/// also while other rooms are created and deleted.
#[utoipa::path(get, path = "/api/rooms", tag = "rooms", operation_id = "rooms_collection_get",
    params(RoomListQuery),
    responses((status = 200, body = RoomPage), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (_, filter) = authorize_application(&request, &service.context, Scope::Rooms)?.filter_rooms();
    let page = web::Query::<RoomListQuery>::from_query(request.query_string());
    let page = page.map_err(|_| bad_field("cursor", "and limit are the only parameters"))?.into_inner();
    let limit = page.limit.unwrap_or(MAX_PAGE_ROOMS);
    if !(1..=MAX_PAGE_ROOMS).contains(&limit) {
        return Err(bad_field("limit", format!("must be from 1 to {MAX_PAGE_ROOMS}")).into());
    }
    let from = page.cursor.as_deref().map(parse_room_cursor).transpose()?;
    let (rooms, next) = list_rooms(room_store(&service)?, &filter, from, limit).await?;
    let cursor = next.map(|(partition, name)| URL_SAFE_NO_PAD.encode(format!("{partition} {name}")));
    let rooms = rooms.iter().map(|(id, room)| RoomView::new(id, room, service.room_link(id))).collect();
    Ok(HttpResponse::Ok().json(RoomPage { rooms, cursor }))
}

type RoomCursor = (usize, String);

fn parse_room_cursor(text: &str) -> Result<RoomCursor, Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = decoded.as_deref().and_then(|text| text.split_once(' '));
    let cursor = parts.and_then(|(partition, name)| Some((partition.parse().ok()?, name.to_owned())));
    cursor
        .filter(|(partition, _)| *partition < PARTITIONS)
        .ok_or_else(|| bad_field("cursor", "is not a cursor of an earlier page"))
}

/// At most `limit` rooms after a cursor, ordered by partition and name, and the cursor of the next
/// page.
async fn list_rooms(
    store: &RoomStore,
    filter: &RoomFilter,
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
        rooms.retain(|room| filter.allows(room));
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
