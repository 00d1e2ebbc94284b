//! `/auth/token`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_access::AccessSubject;
use signalbox_http::{ApiError, check_origin};
use signalbox_protocol::{id::random_hex, problem::Problem};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    credential_store::contract::InviteUse,
    issuer::{InviteCode, InviteTerms, RoomTokenTerms},
    token_response::{TokenResponse, issue_room_token, store_problem},
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

/// The invite is used last: what is wrong with the rest of the wish costs no use, and neither does a refusal for another reason.
async fn issue_for_invite(service: &TokenService, body: JsonBody) -> Result<TokenResponse, Problem> {
    let wish = TokenRequest::from(read_members(body, TokenRequest::MEMBERS)?);
    let refresh = wish.wants_refresh()?;
    let code = wish.invite_code()?.unwrap_or_default();
    let code = InviteCode::parse(&code).ok_or_else(invite_invalid)?;
    let id = code.id();
    let known = service.store.list_invites(&code.room).await.map_err(store_problem)?;
    let terms = known.iter().find(|invite| invite.id == id).map(|invite| &*invite.terms_json);
    let draft = terms.map(|what| valid_invite_terms(service, what)).transpose()?;
    let draft = draft
        .map(|terms| service.grant_policy.terms_for_invite(code.room.clone(), &terms, wish, &random_hex()))
        .transpose()?;
    if let Some(RoomTokenTerms { user, room, caller, .. }) = &draft {
        let (room, issuer) = (Some(room), Some(caller.as_str()));
        service.context.check_access(&AccessSubject {
            user,
            room,
            grant: "",
            issued_s: None,
            issuer,
            address: None,
        })?;
    }
    match (service.store.use_invite(&code.room, &id).await.map_err(store_problem)?, draft) {
        (InviteUse::Accepted(_), Some(grant)) => {
            let issued = issue_room_token(service, grant, refresh).await?;
            tracing::info!(target: "signalbox_auth::audit", invite = id, room = %code.room, "invite_used");
            issued.log_issued("token_issued", "invite", "invite");
            Ok(issued)
        }
        (InviteUse::Expired, _) => Err(Problem::new(401, "invite_expired", "the invite is over")),
        (InviteUse::UsedUp, _) => {
            Err(Problem::new(401, "invite_used_up", "the invite was used as often as it may be"))
        }
        (InviteUse::Accepted(_) | InviteUse::Unknown, _) => Err(invite_invalid()),
    }
}

/// What an invite says, if whoever made it still may.
fn valid_invite_terms(service: &TokenService, what: &str) -> Result<InviteTerms, Problem> {
    let terms: InviteTerms = serde_json::from_str(what).map_err(|_| invite_invalid())?;
    service.context.applications.get(&terms.created_by).ok_or_else(invite_invalid)?;
    service.context.check_api_key(terms.created_by.as_str()).map_err(|_| invite_invalid())?;
    Ok(terms)
}

fn invite_invalid() -> Problem {
    Problem::new(401, "invite_invalid", "there is no such invite, or it was taken back")
}

/// The web site, where nobody has to prove who asks.
pub(crate) fn check_site_for_token(request: &HttpRequest, service: &TokenService) -> Result<(), ApiError> {
    check_origin(request.headers(), &service.context.allowed_origins)
        .map_err(|problem| report_refusal(service, None, problem))
}

/// What somebody got who proved himself by what the body holds, or why nothing: counted and logged by what that was.
pub(crate) fn respond_with_token(
    service: &TokenService,
    kind: &'static str,
    event: &'static str,
    issued: Result<TokenResponse, Problem>,
) -> ApiResult {
    let issued = issued.map_err(|problem| report_refusal(service, Some(kind), problem))?;
    service.context.metrics.issued.with_label_values(&[kind]).inc();
    issued.log_issued(event, kind, kind);
    Ok(HttpResponse::Ok().json(issued))
}

/// Counts and logs a refusal. A caller that has not proven itself has no name here: what it calls itself may be a secret
/// in the wrong place.
pub(crate) fn report_refusal(service: &TokenService, caller: Option<&str>, problem: Problem) -> ApiError {
    let (code, field) = (problem.code, problem.field.as_deref());
    service.context.metrics.refused.with_label_values(&[code]).inc();
    let caller = caller.unwrap_or("unknown");
    tracing::info!(target: "signalbox_auth::audit", caller, code, field, "token_refused");
    ApiError(problem)
}
