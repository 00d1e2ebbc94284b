//! `POST /api/notices`: a notice is sent to connected peers.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use signalbox_access::{Notice, NoticeAudience};
use signalbox_http::{JsonBody, bad_field};
use signalbox_protocol::id::{Role, RoomId, UserId};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{apply_problem, caller_for_room};
use crate::{
    context::{
        authorization::authorize_application,
        member_types::PlainText,
        problem_responses::ProblemResponses,
        request::{ApiResult, EmptyResponse},
    },
    management::management_service::ManagementService,
};

/// A notice to all peers, to a room or to a user.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NoticeRequest {
    room: Option<RoomId>,
    user: Option<UserId>,
    /// For programs.
    #[schema(value_type = String, min_length = 1, max_length = 32, pattern = "^[a-z0-9_-]+$")]
    code: NoticeCode,
    /// For people.
    #[schema(
        value_type = String,
        min_length = 1,
        max_length = 512,
        pattern = r"^[^\x00-\x1F\x7F-\x9F\u202A-\u202E\u2066-\u2069]*$"
    )]
    message: PlainText<512>,
}

/// Sends a notice to all connected peers, or to those of a room or of a user.
#[utoipa::path(post, path = "/api/notices", tag = "control", operation_id = "notices_post", request_body = NoticeRequest,
    responses((status = 202, description = "The message will be delivered", body = EmptyResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<NoticeRequest>,
) -> ApiResult {
    let caller = authorize_application(&request, &service.context, Scope::Security)?;
    let NoticeRequest { room, user, code: NoticeCode(code), message } = body.parse(&caller)?;
    let caller = caller_for_room(&service, caller, room.as_ref())?;
    let (to, audience) = match (room, user) {
        (None, None) => (NoticeAudience::All, "all"),
        (Some(room), None) => (NoticeAudience::Room(room), "room"),
        (None, Some(user)) => (NoticeAudience::User(user), "user"),
        (Some(_), Some(_)) => return Err(bad_field("user", "and room exclude each other").into()),
    };
    let notice = Notice { to, code: code.as_str().into(), message: message.into_text() };
    service.context.access.send_notice(&notice).await.map_err(apply_problem)?;
    let caller = caller.id();
    tracing::warn!(target: "signalbox_auth::audit", event = "notice_sent", caller = caller.as_str(), whom = audience, code, "notice");
    Ok(HttpResponse::Accepted().json(EmptyResponse {}))
}

/// The code of a notice: 1 to 32 characters of `a-z 0-9 - _`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct NoticeCode(String);

impl TryFrom<String> for NoticeCode {
    type Error = &'static str;
    fn try_from(code: String) -> Result<Self, &'static str> {
        // A role has the same form, without the underscore.
        match Role::parse(&code.replace('_', "-")) {
            Ok(_) => Ok(Self(code)),
            Err(_) => Err("must be a string of 1 to 32 characters of a-z 0-9 - _"),
        }
    }
}
