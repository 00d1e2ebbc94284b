//! `/auth/ticket`

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use signalbox_http::check_origin;
use signalbox_protocol::problem::Problem;
use signalbox_token::{Opaque, OpaqueKind, RoomClaims, TICKET_LIFE};
use utoipa::ToSchema;

use super::{
    Answered, State,
    doc::Problems,
    issue::{refusal, unwritten},
    room_token_of, validate,
};
use crate::AuthState;

/// A ticket.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ticket {
    /// Stands for the token in one upgrade, as `?token=` or in the subprotocol `token.TICKET`.
    ticket: String,
    /// Its life, seconds.
    expires_in: u64,
}

/// Gives a ticket for a room token: good once, for 30 s, so that what stands in a URL is worth nothing afterwards.
#[utoipa::path(post, path = "/auth/ticket", tag = "tokens",
    responses((status = 200, body = Ticket), Problems), security(("token" = [])))]
pub(super) async fn post(request: HttpRequest, state: State) -> Answered {
    let issued = issue(&request, &state).await;
    let outcome = issued.as_ref().map_or_else(|problem| problem.code, |_| "issued");
    state.metrics.tickets.with_label_values(&[outcome]).inc();
    let (ticket, claims) = issued?;
    tracing::info!(target: "signalbox_auth::audit", room = %claims.room, user = %claims.sub,
        grant = claims.grant(), "ticket_issued");
    Ok(HttpResponse::Ok().json(ticket))
}

async fn issue(request: &HttpRequest, state: &AuthState) -> Result<(Ticket, RoomClaims), Problem> {
    check_origin(request.headers(), &state.allowed_origins)?;
    let claims = validate::claims(state, room_token_of(request))?;
    state.judge_anew(&validate::subject_of(&claims)).await?;
    let ticket = Opaque::random();
    let record = serde_json::to_string(&claims).map_err(|error| unwritten(&error))?;
    state.store.put_ticket(&ticket.digest(), record).await.map_err(refusal)?;
    let ticket = Ticket { ticket: ticket.to_text(OpaqueKind::Ticket), expires_in: TICKET_LIFE.as_secs() };
    Ok((ticket, claims))
}
