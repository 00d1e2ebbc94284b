//! `/api/rooms/{room}/messages`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_protocol::{id::PeerId, problem::Problem};
use signalbox_rooms::room::RoomAction;
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    room_access::{change_room, log_room_change},
    room_principal::authorize_in_room,
};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{EmptyResponse, MessageData, PeerName, RoomPath},
        token_request::parse_name,
    },
    management::{access_rules, management_service::ManagementService},
};

/// What is said.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct RoomMessageRequest {
    /// To whom; to all where nobody is named.
    to: Option<PeerName>,
    data: MessageData,
}

/// Says something to the members, or to one of them: a `message` without `from`.
#[utoipa::path(post, path = "/api/rooms/{room}/messages", tag = "rooms", operation_id = "rooms_words_post",
    params(RoomPath), request_body = RoomMessageRequest,
    responses((status = 202, description = "It is on its way", body = EmptyResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let (caller, id) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let [to, data] = read_members(body, ["to", "data"])?;
    let to = parse_name("to", &to, PeerId::parse)?;
    let data = data.ok_or_else(|| access_rules::missing_rule_member("data"))?;
    if data.get().len() > service.room_settings.max_data_bytes {
        let detail = format!("data is longer than {} bytes", service.room_settings.max_data_bytes);
        return Err(Problem::new(413, "body_too_large", detail).with_field("data").into());
    }
    change_room(&service, &id, RoomAction::SendMessage { to, data: data.into() }).await?;
    log_room_change("message_sent", &caller, &id);
    Ok(HttpResponse::Accepted().json(EmptyResponse {}))
}
