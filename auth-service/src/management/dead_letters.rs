//! `/api/webhooks`: what could not be told, and telling it again (docs/WEBHOOKS.md).

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_redis::{RedisUnavailable, redis_keys};
use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use super::webhooks::{StoredDeadLetter, StreamEntryId, WebhookService};
use crate::{
    context::{
        authorization::authorize_application,
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members, read_query},
        schemas::RoomName,
        token_request::bad_member,
    },
    management::management_service::ManagementService,
};

/// Letters of one answer, where nothing is said, and at most.
const DEFAULT_LETTERS: usize = 100;
const MAX_LETTERS: usize = 500;

/// An event that was given up.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
struct DeadLetterView {
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
pub(crate) struct DeadLetterPage {
    dead: Vec<DeadLetterView>,
    /// Where to go on, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many are told again.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplayResponse {
    replayed: usize,
}

fn unavailable_problem(_: RedisUnavailable) -> Problem {
    Problem::new(503, "unavailable", "the store does not answer; try again")
}

fn dead_letter_view(webhooks: &WebhookService, letter: StoredDeadLetter) -> Option<DeadLetterView> {
    let StoredDeadLetter { entry_id: entry, letter: dead, .. } = letter;
    Some(DeadLetterView {
        host: webhooks.endpoint_host(&dead.endpoint_id).map(str::to_owned),
        endpoint: dead.endpoint_id,
        at: entry.0,
        cause: dead.cause,
        attempts: dead.attempts,
        last: dead.last_failure,
        event: RawValue::from_string(dead.line.to_string()).ok()?,
    })
}

/// Which page of it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct DeadLetterListQuery {
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
pub(crate) struct ReplayRequest {
    /// The event of this id.
    id: Option<String>,
    /// All of this room.
    room: Option<RoomName>,
    /// All there are.
    all: Option<bool>,
}

/// What was given up.
#[utoipa::path(get, path = "/api/webhooks/dead", tag = "webhooks", operation_id = "webhooks_dead", params(DeadLetterListQuery),
    responses((status = 200, body = DeadLetterPage), ProblemResponses),
    security(("key" = []), ("management" = [])))]
pub(crate) async fn list_dead_letters(
    request: HttpRequest,
    service: web::Data<ManagementService>,
) -> ApiResult {
    authorize_application(&request, &service.context, Scope::Webhooks)?;
    let [limit, cursor] = read_query(&request, ["limit", "cursor"])?;
    let limit = limit.map(|text| text.parse().ok().filter(|limit| (1..=MAX_LETTERS).contains(limit)));
    let limit =
        limit.unwrap_or(Some(DEFAULT_LETTERS)).ok_or_else(|| bad_member("limit", "must be from 1 to 500"))?;
    let from = match cursor {
        None => (0, None),
        Some(text) => {
            parse_dead_letter_cursor(&text).ok_or_else(|| bad_member("cursor", "is not one of an answer"))?
        }
    };
    let Some(webhooks) = &service.webhooks else {
        return Ok(HttpResponse::Ok().json(DeadLetterPage { dead: vec![], next: None }));
    };
    let (letters, next) = webhooks.list_dead_letters(from, limit).await.map_err(unavailable_problem)?;
    let dead = letters.into_iter().filter_map(|letter| dead_letter_view(webhooks, letter)).collect();
    let next = next.map(|(partition, entry)| format!("{partition}.{entry}"));
    Ok(HttpResponse::Ok().json(DeadLetterPage { dead, next }))
}

fn parse_dead_letter_cursor(text: &str) -> Option<(usize, Option<StreamEntryId>)> {
    let (partition, entry) = text.split_once('.')?;
    let partition = partition.parse().ok().filter(|partition| *partition < redis_keys::PARTITIONS)?;
    Some((partition, Some(StreamEntryId::parse(entry)?)))
}

/// Which letters are told again.
enum ReplaySelection {
    Id(String),
    Room(RoomId),
    All,
}

fn parse_replay_selection(body: JsonBody) -> Result<ReplaySelection, Problem> {
    let [id, room, all] = read_members(body, ["id", "room", "all"])?;
    let text = |raw: Box<RawValue>, field| {
        serde_json::from_str::<String>(raw.get()).map_err(|_| bad_member(field, "must be a string"))
    };
    match (id, room, all) {
        (Some(id), None, None) => text(id, "id").map(ReplaySelection::Id),
        (None, Some(room), None) => {
            let room = RoomId::parse(&text(room, "room")?);
            room.map(ReplaySelection::Room).map_err(|_| bad_member("room", "is not the name of a room"))
        }
        (None, None, Some(all)) if all.get() == "true" => Ok(ReplaySelection::All),
        (None, None, Some(_)) => Err(bad_member("all", "must be true")),
        _ => Err(Problem::new(400, "bad_request", "say exactly one of id, room, all")),
    }
}

/// Tells again what was given up, to the endpoint that did not take it.
#[utoipa::path(post, path = "/api/webhooks/replay", tag = "webhooks", operation_id = "webhooks_replay", request_body = ReplayRequest,
    responses((status = 200, body = ReplayResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn replay_dead_letters(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let caller = authorize_application(&request, &service.context, Scope::Webhooks)?;
    let which = parse_replay_selection(body)?;
    let Some(webhooks) = &service.webhooks else {
        return Ok(HttpResponse::Ok().json(ReplayResponse { replayed: 0 }));
    };
    let replayed = match &which {
        ReplaySelection::All => webhooks.replay_dead_letters(None, |_| true).await,
        ReplaySelection::Room(room) => {
            let fits = |letter: &StoredDeadLetter| letter.event_matches(|head| head.room == room.as_str());
            webhooks.replay_dead_letters(Some(redis_keys::partition_of_room(room)), fits).await
        }
        ReplaySelection::Id(id) => {
            webhooks.replay_dead_letters(None, |letter| letter.event_matches(|head| head.id == *id)).await
        }
    };
    let replayed = replayed.map_err(unavailable_problem)?;
    tracing::info!(target: "signalbox_auth::audit", caller = caller.id().as_str(), replayed, "webhooks_replayed");
    Ok(HttpResponse::Ok().json(ReplayResponse { replayed }))
}
