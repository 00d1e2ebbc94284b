//! `/api/webhooks`: what could not be told, and telling it again (docs/WEBHOOKS.md).

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_redis::Unavailable;
use signalbox_redis::keys;
use signalbox_token::scope::Scope;

use utoipa::{IntoParams, ToSchema};

use super::{Answered, Body, State, authorize, doc::Problems, forms::RoomName, members, query};
use crate::{
    issuer::wish::refuse,
    webhooks::{EntryId, Letter, Webhooks},
};

/// Letters of one answer, where nothing is said, and at most.
const LETTERS: usize = 100;
const MOST_LETTERS: usize = 500;

/// An event that was given up.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
struct Dead {
    /// Who did not take it: an id, because a URL may be confidential.
    endpoint: String,
    /// The host of its URL; none where it is not configured any more.
    host: Option<String>,
    /// When it was given up, milliseconds since 1970.
    at: u64,
    /// `age`, `attempts`, `gone` or `backlog`.
    cause: String,
    attempts: u32,
    /// How the last attempt failed.
    last: String,
    /// The event, as it would have been sent.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
}

/// A page of events that were given up.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterPage)]
pub(super) struct Given {
    dead: Vec<Dead>,
    /// Where to go on, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many are told again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    replayed: usize,
}

fn away(_: Unavailable) -> Problem {
    Problem::new(503, "unavailable", "the store does not answer; try again")
}

fn listed(webhooks: &Webhooks, letter: Letter) -> Option<Dead> {
    let Letter { entry, dead, .. } = letter;
    Some(Dead {
        host: webhooks.host(&dead.endpoint).map(str::to_owned),
        endpoint: dead.endpoint,
        at: entry.0,
        cause: dead.cause,
        attempts: dead.attempts,
        last: dead.last,
        event: RawValue::from_string(dead.line.to_string()).ok()?,
    })
}

/// Which page of it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct Page {
    /// The most letters of the page.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Exactly one of them.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct Again {
    /// The event of this id.
    id: Option<String>,
    /// All of this room.
    room: Option<RoomName>,
    /// All there are.
    all: Option<bool>,
}

/// What was given up.
#[utoipa::path(get, path = "/api/webhooks/dead", tag = "webhooks", operation_id = "webhooks_dead", params(Page),
    responses((status = 200, body = Given), Problems),
    security(("key" = []), ("management" = [])))]
pub(super) async fn dead(request: HttpRequest, state: State) -> Answered {
    authorize(&request, &state, Scope::Webhooks)?;
    let [limit, cursor] = query(&request, ["limit", "cursor"])?;
    let limit = limit.map(|text| text.parse().ok().filter(|limit| (1..=MOST_LETTERS).contains(limit)));
    let limit = limit.unwrap_or(Some(LETTERS)).ok_or_else(|| refuse("limit", "must be from 1 to 500"))?;
    let from = match cursor {
        None => (0, None),
        Some(text) => read_cursor(&text).ok_or_else(|| refuse("cursor", "is not one of an answer"))?,
    };
    let Some(webhooks) = &state.webhooks else {
        return Ok(HttpResponse::Ok().json(Given { dead: vec![], next: None }));
    };
    let (letters, next) = webhooks.dead(from, limit).await.map_err(away)?;
    let dead = letters.into_iter().filter_map(|letter| listed(webhooks, letter)).collect();
    let next = next.map(|(partition, entry)| format!("{partition}.{entry}"));
    Ok(HttpResponse::Ok().json(Given { dead, next }))
}

fn read_cursor(text: &str) -> Option<(usize, Option<EntryId>)> {
    let (partition, entry) = text.split_once('.')?;
    let partition = partition.parse().ok().filter(|partition| *partition < keys::PARTITIONS)?;
    Some((partition, Some(EntryId::parse(entry)?)))
}

/// Which letters are told again.
enum Which {
    Id(String),
    Room(RoomId),
    All,
}

fn which(body: Body) -> Result<Which, Problem> {
    let [id, room, all] = members(body, ["id", "room", "all"])?;
    let text = |raw: Box<RawValue>, field| {
        serde_json::from_str::<String>(raw.get()).map_err(|_| refuse(field, "must be a string"))
    };
    match (id, room, all) {
        (Some(id), None, None) => text(id, "id").map(Which::Id),
        (None, Some(room), None) => {
            let room = RoomId::parse(&text(room, "room")?);
            room.map(Which::Room).map_err(|_| refuse("room", "is not the name of a room"))
        }
        (None, None, Some(all)) if all.get() == "true" => Ok(Which::All),
        (None, None, Some(_)) => Err(refuse("all", "must be true")),
        _ => Err(Problem::new(400, "bad_request", "say exactly one of id, room, all")),
    }
}

/// Tells again what was given up, to the endpoint that did not take it.
#[utoipa::path(post, path = "/api/webhooks/replay", tag = "webhooks", operation_id = "webhooks_replay", request_body = Again,
    responses((status = 200, body = Replayed), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn replay(request: HttpRequest, state: State, body: Body) -> Answered {
    let caller = authorize(&request, &state, Scope::Webhooks)?;
    let which = which(body)?;
    let Some(webhooks) = &state.webhooks else {
        return Ok(HttpResponse::Ok().json(Replayed { replayed: 0 }));
    };
    let replayed = match &which {
        Which::All => webhooks.replay(None, |_| true).await,
        Which::Room(room) => {
            let fits = |letter: &Letter| letter.is_of(|head| head.room == room.as_str());
            webhooks.replay(Some(keys::partition(room)), fits).await
        }
        Which::Id(id) => webhooks.replay(None, |letter| letter.is_of(|head| head.id == *id)).await,
    };
    let replayed = replayed.map_err(away)?;
    tracing::info!(target: "signalbox_auth::audit", caller = caller.id().as_str(), replayed, "webhooks_replayed");
    Ok(HttpResponse::Ok().json(Replayed { replayed }))
}
