//! `POST /api/rooms/{room}/messages`: an application sends a message to peers.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::value::RawValue;
use signalbox_http::JsonBody;
use signalbox_protocol::{
    id::{PeerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::room::RoomAction;
use signalbox_token::scope::Scope;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::SchemaType},
};

use super::{
    room_access::{change_room, log_room_change},
    room_principal::authorize_in_room,
};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, EmptyResponse},
    },
    management::management_service::ManagementService,
};

/// A message to peers of a room.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoomMessageRequest {
    /// The target; without it all peers.
    to: Option<PeerId>,
    data: MessageData,
}

/// The data of a message, as it was sent: anything but `null`.
#[derive(Deserialize)]
struct MessageData(Box<RawValue>);

impl PartialSchema for MessageData {
    fn schema() -> RefOr<Schema> {
        let types = [Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];
        let anything = ObjectBuilder::new().schema_type(SchemaType::from_iter(types));
        anything.description(Some("Anything but `null`.")).into()
    }
}

impl ToSchema for MessageData {}

/// Sends a message to all peers of a room, or to one: a `message` without `from`.
#[utoipa::path(post, path = "/api/rooms/{room}/messages", tag = "rooms", operation_id = "rooms_words_post",
    params(("room" = RoomId, Path)), request_body = RoomMessageRequest,
    responses((status = 202, description = "The message will be delivered", body = EmptyResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RoomMessageRequest>,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let RoomMessageRequest { to, data: MessageData(data) } = body.parse(&caller)?;
    if data.get().len() > service.room_settings.load().max_data_bytes {
        let detail = format!("data is longer than {} bytes", service.room_settings.load().max_data_bytes);
        return Err(Problem::new(413, "body_too_large", detail).with_field("data").into());
    }
    service.context.check_store_memory(None)?;
    change_room(&service, &id, RoomAction::SendMessage { to, data: data.into() }).await?;
    log_room_change("message_sent", &caller.id(), &id);
    Ok(HttpResponse::Accepted().json(EmptyResponse {}))
}
