//! `POST /auth/ticket`: a room token is exchanged for a ticket.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use signalbox_protocol::problem::Problem;
use signalbox_token::{OpaqueToken, OpaqueTokenKind, RoomClaims, TICKET_LIFE, TicketHolder, TokenError};
use utoipa::ToSchema;

use super::{token_issuer::store_problem, validate};
use crate::{
    auth::token_service::TokenService,
    context::{
        authorization::{bearer_room_token, check_site},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
};

/// A ticket.
#[derive(Serialize, ToSchema)]
#[schema(as = Ticket)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TicketResponse {
    /// Replaces the token in one upgrade, as `?token=` or in the subprotocol `token.TICKET`.
    ticket: String,
    /// The life, seconds.
    expires_in: u64,
}

/// Issues a ticket for a room token. A ticket is valid once, for 30 s, so a URL with a ticket in a
/// log is worthless.
#[utoipa::path(post, path = "/auth/ticket", tag = "tokens",
    responses((status = 200, body = TicketResponse), ProblemResponses), security(("token" = [])))]
pub(crate) async fn post(request: HttpRequest, service: web::Data<TokenService>) -> ApiResult {
    let issued = issue_ticket(&request, &service).await;
    let outcome = issued.as_ref().map_or_else(|problem| problem.code, |_| "issued");
    service.context.metrics.tickets.with_label_values(&[outcome]).inc();
    let (ticket, claims) = issued?;
    tracing::info!(target: "signalbox_auth::audit", room = %claims.room, user = %claims.sub,
        grant = claims.grant(), "ticket_issued");
    Ok(HttpResponse::Ok().json(ticket))
}

async fn issue_ticket(
    request: &HttpRequest,
    service: &TokenService,
) -> Result<(TicketResponse, RoomClaims), Problem> {
    check_site(request, &service.context)?;
    let token = bearer_room_token(request);
    let claims = validate::verify_room_token(service, token)?;
    let root = claims.credential_root();
    service.context.refresh_and_check_access(&validate::room_access_subject(&claims, &root)).await?;
    let ticket = OpaqueToken::random();
    let token = token.map_err(TokenError::to_problem)?.to_owned();
    let holder = TicketHolder { root, grant: claims.grant().into() };
    service.store.put_ticket(&ticket.digest(), token, holder).await.map_err(store_problem)?;
    let ticket =
        TicketResponse { ticket: ticket.to_text(OpaqueTokenKind::Ticket), expires_in: TICKET_LIFE.as_secs() };
    Ok((ticket, claims))
}
