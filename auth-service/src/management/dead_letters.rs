//! `/api/webhooks`: dead letters are listed and replayed (docs/WEBHOOKS.md).

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_http::{JsonBody, bad_field, parse_query};
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_redis::{RedisUnavailable, redis_keys};
use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use super::webhooks::{StoredDeadLetter, StreamEntryId, WebhookService};
use crate::{
    context::{
        authorization::{RoomFilter, authorize_application},
        member_types::QueryNumber,
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The default number of dead letters of a page.
const DEFAULT_LETTERS: usize = 100;

/// A dead letter: an event that an endpoint did not accept and that gets no more attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
struct DeadLetterView {
    /// The endpoint, as an id: its URL may be confidential.
    endpoint: String,
    /// The host of the endpoint, if it is still configured.
    host: Option<String>,
    /// When delivery was given up, milliseconds since 1970.
    at: u64,
    /// `age`, `attempts`, `gone` or `backlog`.
    cause: String,
    attempts: u32,
    /// How the last attempt failed.
    last: String,
    /// The event as it would have been delivered.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
}

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterPage)]
pub(crate) struct DeadLetterPage {
    dead: Vec<DeadLetterView>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many dead letters will be delivered again.
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

/// A query of dead letters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadLetterListQuery {
    /// The maximum number of dead letters of the page.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 500)]
    limit: Option<QueryNumber<1, 500>>,
    /// The cursor of the page.
    cursor: Option<String>,
}

/// The dead letters to replay. Exactly one member is allowed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// The event with this id.
    id: Option<String>,
    /// All events of this room.
    room: Option<RoomId>,
    /// All events.
    all: Option<bool>,
}

/// Lists the dead letters.
#[utoipa::path(get, path = "/api/webhooks/dead", tag = "webhooks", operation_id = "webhooks_dead", params(DeadLetterListQuery),
    responses((status = 200, body = DeadLetterPage), ProblemResponses),
    security(("key" = []), ("management" = [])))]
pub(crate) async fn list_dead_letters(
    request: HttpRequest,
    service: web::Data<ManagementService>,
) -> ApiResult {
    let (_, filter) = authorize_application(&request, &service.context, Scope::Webhooks)?.filter_rooms();
    let DeadLetterListQuery { limit, cursor } = parse_query(&request)?;
    let limit = limit.map_or(DEFAULT_LETTERS, QueryNumber::get);
    let from = match cursor {
        None => (0, None),
        Some(text) => parse_dead_letter_cursor(&text)
            .ok_or_else(|| bad_field("cursor", "is not a cursor of an earlier page"))?,
    };
    service.room_service()?;
    let webhooks = &*service.webhooks.load();
    let (letters, next) = webhooks
        .list_dead_letters(from, limit, |letter| {
            filter.allows_name(letter.header().map(|header| header.room).as_deref())
        })
        .await
        .map_err(unavailable_problem)?;
    let dead = letters.into_iter().filter_map(|letter| dead_letter_view(webhooks, letter)).collect();
    let next = next.map(|(partition, entry)| format!("{partition}.{entry}"));
    Ok(HttpResponse::Ok().json(DeadLetterPage { dead, next }))
}

fn parse_dead_letter_cursor(text: &str) -> Option<(usize, Option<StreamEntryId>)> {
    let (partition, entry) = text.split_once('.')?;
    let partition = partition.parse().ok().filter(|partition| *partition < redis_keys::PARTITIONS)?;
    Some((partition, Some(StreamEntryId::parse(entry)?)))
}

/// The dead letters that a request selects.
enum ReplaySelection {
    Id(String),
    Room(RoomId),
    All,
}

impl ReplayRequest {
    fn selection(self) -> Result<ReplaySelection, Problem> {
        match (self.id, self.room, self.all) {
            (Some(id), None, None) => Ok(ReplaySelection::Id(id)),
            (None, Some(room), None) => Ok(ReplaySelection::Room(room)),
            (None, None, Some(true)) => Ok(ReplaySelection::All),
            (None, None, Some(false)) => Err(bad_field("all", "must be true")),
            _ => Err(Problem::new(400, "bad_request", "send exactly one of id, room and all")),
        }
    }
}

/// Replays dead letters to the endpoint that did not accept them.
#[utoipa::path(post, path = "/api/webhooks/replay", tag = "webhooks", operation_id = "webhooks_replay", request_body = ReplayRequest,
    responses((status = 200, body = ReplayResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn replay_dead_letters(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<ReplayRequest>,
) -> ApiResult {
    let caller = authorize_application(&request, &service.context, Scope::Webhooks)?;
    let which = body.parse(&caller)?.selection()?;
    let (caller, filter) = match &which {
        // A room that the caller may not use is an error, not an empty selection.
        ReplaySelection::Room(room) => (caller.in_room(&service.context, room)?, RoomFilter::one(room)),
        ReplaySelection::Id(_) | ReplaySelection::All => caller.filter_rooms(),
    };
    service.room_service()?;
    let webhooks = &*service.webhooks.load();
    let is_visible =
        |letter: &StoredDeadLetter| filter.allows_name(letter.header().map(|header| header.room).as_deref());
    let replayed = match &which {
        ReplaySelection::All => webhooks.replay_dead_letters(None, is_visible).await,
        ReplaySelection::Room(room) => {
            webhooks.replay_dead_letters(Some(redis_keys::partition_of_room(room)), is_visible).await
        }
        ReplaySelection::Id(id) => {
            let fits =
                |letter: &StoredDeadLetter| is_visible(letter) && letter.event_matches(|head| head.id == *id);
            webhooks.replay_dead_letters(None, fits).await
        }
    };
    let replayed = replayed.map_err(unavailable_problem)?;
    tracing::info!(target: "signalbox_auth::audit", caller = caller.id().as_str(), replayed, "webhooks_replayed");
    Ok(HttpResponse::Ok().json(ReplayResponse { replayed }))
}
