//! `/auth/management`

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use signalbox_protocol::{clock, id::TokenId, problem::Problem};
use signalbox_token::{
    ISSUER, ManagementClaims, TokenKind,
    scope::{Scope, ScopeSet},
};
use utoipa::ToSchema;

use super::{
    issue_time::NOT_BEFORE_SKEW_S,
    token_response::{report_refusal, signing_problem},
};
use crate::{
    auth::token_service::TokenService,
    context::{
        authorization::authorize_api_key,
        principal::Application,
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        token_request,
    },
};

/// The life of a management token where none is asked for, seconds.
const DEFAULT_MANAGEMENT_TTL_S: u64 = 60 * 60;

/// What a token may allow.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document reads it")]
enum ScopeName {
    Tokens,
    Rooms,
    Moderate,
    Security,
    Usage,
    Events,
    Webhooks,
}

/// What a management token is to allow.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct ManagementTokenRequest {
    /// Some of the key's; all of them where nothing is said.
    #[schema(min_items = 1)]
    scopes: Option<Vec<ScopeName>>,
    /// Its life, seconds.
    #[schema(minimum = 1, maximum = 1_209_600)]
    ttl: Option<u64>,
}

/// A management token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManagementTokenResponse {
    /// The token, a JWT.
    token: String,
    /// Its life, seconds.
    expires_in: u64,
    /// What it allows, as long as its key allows it too.
    #[schema(value_type = Vec<String>)]
    scopes: Arc<[Arc<str>]>,
}

/// Makes a management token of an API key: for a tool that should not hold the key.
#[utoipa::path(post, path = "/auth/management", tag = "tokens", request_body = ManagementTokenRequest,
    responses((status = 200, body = ManagementTokenResponse), ProblemResponses), security(("key" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody,
) -> ApiResult {
    let backend = authorize_api_key(&request, &service.context, None)?;
    let made = issue_management_token(&service, &backend, body);
    let made = made.map_err(|problem| report_refusal(&service, Some(backend.id.as_str()), problem))?;
    service.context.metrics.issued.with_label_values(&["management"]).inc();
    tracing::info!(target: "signalbox_auth::audit", caller = %backend.id, scopes = made.scopes.join(" "),
        ttl_s = made.expires_in, "management_token_issued");
    Ok(HttpResponse::Ok().json(made))
}

fn issue_management_token(
    service: &TokenService,
    backend: &Application,
    body: JsonBody,
) -> Result<ManagementTokenResponse, Problem> {
    let [scopes, ttl] = read_members(body, ["scopes", "ttl"])?;
    let expires_in = token_request::parse_ttl(&ttl, TokenKind::Management.max_life_s())?
        .unwrap_or(DEFAULT_MANAGEMENT_TTL_S);
    let scopes =
        match token_request::parse_member::<Vec<String>>("scopes", &scopes, "must be a list of scopes")? {
            Some(names) => parse_scopes(backend, &names)?,
            None => backend.scopes,
        };
    let (now_s, names) = (clock::now_s(), scopes.to_names());
    let claims = ManagementClaims {
        iss: ISSUER.to_owned(),
        aud: TokenKind::Management.aud().to_owned(),
        sub: backend.id.clone(),
        scopes: names.clone(),
        iat: now_s,
        nbf: now_s.saturating_sub(NOT_BEFORE_SKEW_S),
        exp: now_s + expires_in,
        jti: TokenId::random(),
    };
    let token = service.minter.sign_claims(&claims).map_err(|error| signing_problem(&error))?;
    Ok(ManagementTokenResponse { token, expires_in, scopes: names })
}

fn parse_scopes(backend: &Application, names: &[String]) -> Result<ScopeSet, Problem> {
    let known = || {
        let known = Scope::ALL.map(Scope::as_str).join(", ");
        token_request::bad_member("scopes", format!("must be some of {known}"))
    };
    if names.is_empty() {
        return Err(known());
    }
    let scope = |name: &String| {
        let scope = Scope::parse(name).ok_or_else(known)?;
        backend.require_scope(scope).map(|()| scope)
    };
    names.iter().map(scope).collect()
}
