//! `POST /auth/token`: an application or a guest gets a room token.

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_http::{ApiError, JsonBody};
use signalbox_protocol::{id::random_hex, problem::Problem};
use signalbox_token::scope::Scope;

use super::{
    invite_token::issue_for_invite,
    issuer::TokenRequest,
    token_issuer::{TokenResponse, check_site_for_token, find_creation, issue_room_token, report_refusal},
};
use crate::{
    auth::token_service::TokenService,
    context::{
        authorization::{RoomLimited, authorize_api_key_or_guest},
        principal::Principal,
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
};

/// Issues a room token.
///
/// Checked in this order: the web site, the caller, the body. With an invite no API key is needed.
#[utoipa::path(post, path = "/auth/token", tag = "tokens", request_body = TokenRequest,
    responses((status = 200, body = TokenResponse), ProblemResponses),
    security((), ("key" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody<TokenRequest>,
) -> ApiResult {
    let (issued, kind) = if body.has_member("invite") {
        let site = check_site_for_token(&request, &service)?;
        let issued = issue_for_invite(&service, body.parse(&site)).await;
        (issued.map_err(|problem| report_refusal(&service, Some("invite"), problem))?, "invite")
    } else {
        let caller = authorize_api_key_or_guest(&request, &service.context, Scope::Tokens)
            .map_err(|ApiError(problem)| report_refusal(&service, None, problem))?;
        let (id, kind, request) = (caller.log_id(), caller.kind(), body.parse(&caller));
        let issued = issue_for_principal(&service, caller, request).await;
        let issued = issued.map_err(|problem| report_refusal(&service, Some(id.as_str()), problem))?;
        issued.log_issued("token_issued", id.as_str(), kind);
        (issued, kind)
    };
    service.context.metrics.issued.with_label_values(&[kind]).inc();
    Ok(HttpResponse::Ok().json(issued))
}

async fn issue_for_principal(
    service: &TokenService,
    caller: RoomLimited<Principal>,
    request: Result<TokenRequest, Problem>,
) -> Result<TokenResponse, Problem> {
    let request = request?;
    let (refresh, room) = (request.wants_refresh(), request.room()?);
    let caller = caller.in_room(&service.context, &room).map_err(|ApiError(problem)| problem)?;
    let mut terms = service.grant_policy.load().terms_for_request(&caller, room, request, &random_hex())?;
    terms.creation = find_creation(service, &terms.room).await.unwrap_or_default();
    issue_room_token(service, terms, refresh).await
}
