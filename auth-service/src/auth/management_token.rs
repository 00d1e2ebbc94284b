//! `POST /auth/management`: an application gets a management token for its API key.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_http::{JsonBody, bad_field};
use signalbox_protocol::{clock, id::TokenId, problem::Problem};
use signalbox_token::{
    ISSUER, ManagementClaims, TokenKind,
    scope::{Scope, ScopeSet},
};
use utoipa::ToSchema;

use super::token_issuer::{report_refusal, sign};
use crate::{
    auth::token_service::TokenService,
    context::{
        access_check::NOT_BEFORE_SKEW_S, authorization::authorize_api_key, member_types::Seconds,
        principal::Application, problem_responses::ProblemResponses, request::ApiResult,
    },
};

/// The default life of a management token, seconds.
const DEFAULT_MANAGEMENT_TTL_S: u64 = 60 * 60;

/// A request for a management token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManagementTokenRequest {
    /// The life, seconds.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_209_600)]
    ttl: Option<Seconds<1, { TokenKind::Management.max_life_s() }>>,
    /// Scopes of the API key; without this member all of them.
    #[schema(min_items = 1)]
    scopes: Option<Vec<Scope>>,
}

/// A management token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManagementTokenResponse {
    /// The token, a JWT.
    token: String,
    /// The life, seconds.
    expires_in: u64,
    /// The scopes of the token. Each is valid as long as the API key has it too.
    #[schema(value_type = Vec<String>)]
    scopes: Arc<[Arc<str>]>,
}

/// Issues a management token for an API key, for a tool that must not hold the key.
#[utoipa::path(post, path = "/auth/management", tag = "tokens", request_body = ManagementTokenRequest,
    responses((status = 200, body = ManagementTokenResponse), ProblemResponses), security(("key" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody<ManagementTokenRequest>,
) -> ApiResult {
    let application = authorize_api_key(&request, &service.context, None)?.pass_limit_on();
    let request = body.parse(&application);
    let issued = request.and_then(|request| issue_management_token(&service, &application, request));
    let issued =
        issued.map_err(|problem| report_refusal(&service, Some(application.id.as_str()), problem))?;
    service.context.metrics.issued.with_label_values(&["management"]).inc();
    tracing::info!(target: "signalbox_auth::audit", caller = %application.id, scopes = issued.scopes.join(" "),
        ttl_s = issued.expires_in, "management_token_issued");
    Ok(HttpResponse::Ok().json(issued))
}

fn issue_management_token(
    service: &TokenService,
    application: &Application,
    request: ManagementTokenRequest,
) -> Result<ManagementTokenResponse, Problem> {
    let expires_in = request.ttl.map_or(DEFAULT_MANAGEMENT_TTL_S, Seconds::get);
    let scopes = match request.scopes {
        Some(scopes) => allowed_scopes(application, &scopes)?,
        None => application.scopes,
    };
    let (now_s, names) = (clock::now_s(), scopes.to_names());
    let claims = ManagementClaims {
        iss: ISSUER.to_owned(),
        aud: TokenKind::Management.aud().to_owned(),
        sub: application.id.clone(),
        scopes: names.clone(),
        iat: now_s,
        nbf: now_s.saturating_sub(NOT_BEFORE_SKEW_S),
        exp: now_s + expires_in,
        jti: TokenId::random(),
    };
    let token = sign(service, &claims)?;
    Ok(ManagementTokenResponse { token, expires_in, scopes: names })
}

fn allowed_scopes(application: &Application, scopes: &[Scope]) -> Result<ScopeSet, Problem> {
    if scopes.is_empty() {
        let known = Scope::ALL.map(Scope::as_str).join(", ");
        return Err(bad_field("scopes", format!("must be some of {known}")));
    }
    scopes.iter().map(|scope| application.require_scope(*scope).map(|()| *scope)).collect()
}
