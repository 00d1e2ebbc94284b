//! `/auth/token`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_http::ApiError;
use signalbox_protocol::{id::random_hex, problem::Problem};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    invite_token::issue_for_invite,
    token_response::{TokenResponse, check_site_for_token, issue_room_token, report_refusal},
};
use crate::{
    auth::token_service::TokenService,
    context::{
        authorization::authorize_api_key_or_guest,
        principal::Principal,
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{DisplayName, MetadataObject, RegionName, RoleName, RoomName, UserName},
        token_request::TokenRequest,
    },
};

/// What a token is to say. Room and user are needed of an API key, the room alone of a guest, the invite alone of somebody who has one.
#[derive(ToSchema)]
#[schema(as = TokenRequest)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it; members are judged one by one")]
pub(crate) struct TokenRequestSchema {
    room: Option<RoomName>,
    user: Option<UserName>,
    role: Option<RoleName>,
    /// The name to show.
    name: Option<DisplayName>,
    /// The life of the token, seconds; at most the configured one.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl: Option<u64>,
    metadata: Option<MetadataObject>,
    /// Where the peer is, for the choice of a TURN server.
    region: Option<RegionName>,
    /// Whether a refresh token is wanted too.
    refresh: Option<bool>,
    /// The code of an invite, in place of room and role.
    invite: Option<String>,
}

/// Makes a room token.
///
/// Judged in this order: the web site, the caller, the body. With an invite no API key is needed.
#[utoipa::path(post, path = "/auth/token", tag = "tokens", request_body = TokenRequestSchema,
    responses((status = 200, body = TokenResponse), ProblemResponses),
    security((), ("key" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody,
) -> ApiResult {
    let invited = body.as_ref().is_ok_and(|members| members.contains("invite"));
    let (issued, kind) = if invited {
        check_site_for_token(&request, &service)?;
        (
            issue_for_invite(&service, body)
                .await
                .map_err(|problem| report_refusal(&service, Some("invite"), problem))?,
            "invite",
        )
    } else {
        let caller = authorize_api_key_or_guest(&request, &service.context, Scope::Tokens)
            .map_err(|ApiError(problem)| report_refusal(&service, None, problem))?;
        let issued = issue_for_principal(&service, &caller, body).await;
        let issued =
            issued.map_err(|problem| report_refusal(&service, Some(caller.id().as_str()), problem))?;
        issued.log_issued("token_issued", caller.id().as_str(), caller.kind());
        (issued, caller.kind())
    };
    service.context.metrics.issued.with_label_values(&[kind]).inc();
    Ok(HttpResponse::Ok().json(issued))
}

async fn issue_for_principal(
    service: &TokenService,
    caller: &Principal,
    body: JsonBody,
) -> Result<TokenResponse, Problem> {
    let wish = TokenRequest::from(read_members(body, TokenRequest::MEMBERS)?);
    let refresh = wish.wants_refresh()?;
    let grant = service.grant_policy.terms_for_request(caller, wish, &random_hex())?;
    issue_room_token(service, grant, refresh).await
}
