//! `/api/rooms/{room}/messages`

use actix_web::{HttpRequest, HttpResponse};
use signalbox_protocol::{id::PeerId, problem::Problem};
use signalbox_rooms::room::Act;
use signalbox_token::scope::Scope;

use utoipa::ToSchema;

use super::{audit, change, who::backend};
use crate::{
    issuer::wish::named,
    routes::{
        Answered, Body, State, api,
        doc::Problems,
        forms::{Data, InRoom, Nothing, PeerName},
        members,
    },
};

/// What is said.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct MessageWish {
    /// To whom; to all where nobody is named.
    to: Option<PeerName>,
    data: Data,
}

/// Says something to the members, or to one of them: a `message` without `from`.
#[utoipa::path(post, path = "/api/rooms/{room}/messages", tag = "rooms", operation_id = "rooms_words_post",
    params(InRoom), request_body = MessageWish,
    responses((status = 202, description = "It is on its way", body = Nothing), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Moderate)?;
    let [to, data] = members(body, ["to", "data"])?;
    let to = named("to", &to, PeerId::parse)?;
    let data = data.ok_or_else(|| api::missing("data"))?;
    if data.get().len() > state.room_rules.data_max {
        let detail = format!("data is longer than {} bytes", state.room_rules.data_max);
        return Err(Problem::new(413, "body_too_large", detail).field("data").into());
    }
    change(&state, &id, Act::Say { to, data: data.into() }).await?;
    audit("message_sent", &caller, &id);
    Ok(HttpResponse::Accepted().json(Nothing {}))
}
