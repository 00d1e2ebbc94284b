//! `/api/notices`

use actix_web::{HttpRequest, HttpResponse};
use signalbox_access::{Audience, Word};
use signalbox_protocol::{
    id::{Role, RoomId, UserId},
    problem::Problem,
};

use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{authorize, missing, problem, words};
use crate::{
    issuer::wish::{named, refuse, typed},
    routes::{
        Answered, Body, State,
        doc::Problems,
        forms::{Nothing, RoomName, UserName},
        members,
    },
};

/// A word to everybody, to a room, or to a user.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct NoticeWish {
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
#[utoipa::path(post, path = "/api/notices", tag = "control", operation_id = "notices_post", request_body = NoticeWish,
    responses((status = 202, description = "It is on its way", body = Nothing), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [room, user, code, message] = members(body, ["room", "user", "code", "message"])?;
    let (to, whom) = match (named("room", &room, RoomId::parse)?, named("user", &user, UserId::parse)?) {
        (None, None) => (Audience::All, "all"),
        (Some(room), None) => (Audience::Room(room), "room"),
        (None, Some(user)) => (Audience::User(user), "user"),
        (Some(_), Some(_)) => return Err(refuse("user", "and room exclude each other").into()),
    };
    let code = code_word(typed("code", &code, CODE)?.ok_or_else(|| missing("code"))?)?;
    let message = words("message", &message, 512)?.ok_or_else(|| missing("message"))?;
    let word = Word { to, code: code.as_str().into(), message };
    state.control.say(&word).await.map_err(problem)?;
    tracing::warn!(target: "signalbox_auth::audit", event = "notice_sent", caller = caller.id, whom, code, "notice");
    Ok(HttpResponse::Accepted().json(Nothing {}))
}

const CODE: &str = "must be a string of 1 to 32 characters of a-z 0-9 - _";

fn code_word(code: String) -> Result<String, Problem> {
    // A role has the same form, but for the underscore.
    Role::parse(&code.replace('_', "-")).map_err(|_| refuse("code", CODE))?;
    Ok(code)
}
