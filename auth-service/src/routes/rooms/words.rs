//! `/api/rooms/{room}/messages`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_http::ApiError;
use signalbox_rooms::room::Act;
use signalbox_shared::{id::PeerId, problem::Problem};

use super::{
    audit, change, room_in,
    who::{Scope, backend},
};
use crate::{
    AuthState,
    issuer::wish::named,
    routes::{Body, api, members},
};

/// Says something to the members, or to one of them: a `message` without `from`.
pub(super) async fn post(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = backend(&request, &state, Scope::Moderate)?;
    let id = room_in(&request)?;
    let [to, data] = members(body, ["to", "data"])?;
    let to = named("to", &to, PeerId::parse)?;
    let data = data.ok_or_else(|| api::missing("data"))?;
    if data.get().len() > state.room_rules.data_max {
        let detail = format!("data is longer than {} bytes", state.room_rules.data_max);
        return Err(Problem::new(413, "body_too_large", detail).field("data").into());
    }
    change(&state, &id, Act::Say { to, data: data.into() }).await?;
    audit("message_sent", &caller, &id);
    Ok(HttpResponse::Accepted().json(serde_json::json!({})))
}
