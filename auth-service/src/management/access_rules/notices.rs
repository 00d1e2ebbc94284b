//! `/api/notices`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_access::{Notice, NoticeAudience};
use signalbox_protocol::{
    id::{Role, RoomId, UserId},
    problem::Problem,
};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{apply_problem, authorize_rule_author, missing_rule_member, parse_plain_text};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{EmptyResponse, RoomName, UserName},
        token_request::{bad_member, parse_member, parse_name},
    },
    management::management_service::ManagementService,
};

/// A word to everybody, to a room, or to a user.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct NoticeRequest {
    room: Option<RoomName>,
    user: Option<UserName>,
    /// For programs.
    #[schema(min_length = 1, max_length = 32, pattern = "^[a-z0-9_-]+$")]
    code: String,
    /// For people.
    #[schema(
        min_length = 1,
        max_length = 512,
        pattern = r"^[^\x00-\x1F\x7F-\x9F\u202A-\u202E\u2066-\u2069]*$"
    )]
    message: String,
}

/// Says something to everybody who is connected, or to those of a room or of a user.
#[utoipa::path(post, path = "/api/notices", tag = "control", operation_id = "notices_post", request_body = NoticeRequest,
    responses((status = 202, description = "It is on its way", body = EmptyResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    let [room, user, code, message] = read_members(body, ["room", "user", "code", "message"])?;
    let (to, whom) =
        match (parse_name("room", &room, RoomId::parse)?, parse_name("user", &user, UserId::parse)?) {
            (None, None) => (NoticeAudience::All, "all"),
            (Some(room), None) => (NoticeAudience::Room(room), "room"),
            (None, Some(user)) => (NoticeAudience::User(user), "user"),
            (Some(_), Some(_)) => return Err(bad_member("user", "and room exclude each other").into()),
        };
    let code = parse_notice_code(
        parse_member("code", &code, CODE_RULE)?.ok_or_else(|| missing_rule_member("code"))?,
    )?;
    let message =
        parse_plain_text("message", &message, 512)?.ok_or_else(|| missing_rule_member("message"))?;
    let word = Notice { to, code: code.as_str().into(), message };
    service.context.access.send_notice(&word).await.map_err(apply_problem)?;
    tracing::warn!(target: "signalbox_auth::audit", event = "notice_sent", caller = caller.id, whom, code, "notice");
    Ok(HttpResponse::Accepted().json(EmptyResponse {}))
}

const CODE_RULE: &str = "must be a string of 1 to 32 characters of a-z 0-9 - _";

fn parse_notice_code(code: String) -> Result<String, Problem> {
    // A role has the same form, but for the underscore.
    Role::parse(&code.replace('_', "-")).map_err(|_| bad_member("code", CODE_RULE))?;
    Ok(code)
}
