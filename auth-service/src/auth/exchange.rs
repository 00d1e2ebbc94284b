//! `POST /auth/exchange`: a user gets a user token for a token of an identity provider.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_access::AccessSubject;
use signalbox_http::JsonBody;
use signalbox_protocol::{clock, id::TokenId, problem::Problem};
use utoipa::ToSchema;

use super::{
    issuer::{RenewableTerms, UserTokenTerms},
    providers::ExchangeRefusal,
    token_issuer::{
        TokenResponse, check_site_for_token, respond_with_token, sign_user_token, start_refresh_family,
    },
};
use crate::{
    auth::token_service::TokenService,
    context::{
        principal::{DerivedRight, LostRight},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
};

/// A token of the user's own provider.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExchangeRequest {
    /// An ID or access token of an OpenID provider, or a token that the application has signed
    /// itself.
    token: String,
    /// Whether the response holds a refresh token too.
    refresh: Option<bool>,
}

/// Exchanges a token of the user's own provider for a user token.
#[utoipa::path(post, path = "/auth/exchange", tag = "tokens", request_body = ExchangeRequest,
    responses((status = 200, body = TokenResponse), ProblemResponses), security(()))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody<ExchangeRequest>,
) -> ApiResult {
    let site = check_site_for_token(&request, &service)?;
    let exchanged = exchange_token(&service, body.parse(&site)).await;
    respond_with_token(&service, "user", "user_exchanged", exchanged)
}

async fn exchange_token(
    service: &TokenService,
    request: Result<ExchangeRequest, Problem>,
) -> Result<TokenResponse, Problem> {
    let ExchangeRequest { token, refresh } = request?;
    let user = service.exchange.load().verify(&token, clock::now_ms()).await.map_err(exchange_problem)?;
    let role = user.role.unwrap_or_else(|| service.grant_policy.load().default_role().clone());
    let ttl_s = service.grant_policy.load().default_ttl_s();
    let terms = UserTokenTerms { user: user.user, role, name: user.name, root: user.root, ttl_s };
    let UserTokenTerms { user, role, root, .. } = &terms;
    let subject =
        AccessSubject { user, room: None, grant: "", issued_s: None, root: Some(root), address: None };
    service.context.check_access(&subject)?;
    let right = DerivedRight { root, scope: None, room: None, role: Some(role), issues: true };
    service.context.still_allowed(&right).map_err(LostRight::to_problem)?;
    let time = service.context.wait_for_issue_time(&subject).await;
    let jti = TokenId::random();
    let refresh = match refresh.unwrap_or(false) {
        true => Some(start_refresh_family(service, &RenewableTerms::User(terms.clone()), &jti).await?),
        false => None,
    };
    sign_user_token(service, terms, time, jti, refresh)
}

fn exchange_problem(why: ExchangeRefusal) -> Problem {
    if why == ExchangeRefusal::KeysUnavailable {
        return Problem::new(503, "unavailable", why.to_string());
    }
    Problem::new(401, "exchange_refused", format!("the token of the provider was rejected: {why}"))
}
