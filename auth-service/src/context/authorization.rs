//! Who asks, at the door of every route: one `Authorization` header, judged once.
//!
//! - [`authorize`]: a backend, by API key or management token, with the scope that the route needs
//! - [`authorize_or_user`]: or one of the application's users, by a user token
//! - [`authorize_user`]: one of those, and nobody else; [`authorize_key`]: an API key itself, and nothing else
//! - [`authorize_or_guest`]: or nobody in particular, where guests are on; for `/auth/token`, which takes no management token
//!
//! A wrong header is never taken for an absent one, and two prove nothing. The web site is judged before the caller
//! ([`signalbox_http::check_origin`]).

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
};
use signalbox_access::AccessSubject;
use signalbox_http::{ApiError, check_origin};
use signalbox_protocol::{clock, id::CallerId, problem::Problem};
use signalbox_token::{TokenError, UserClaims, scope::Scope};

use super::{
    application_directory::{caller_unknown, scheme_credentials},
    principal::{Application, Principal},
    service_context::ServiceContext,
};

/// A backend that may do this.
///
/// # Errors
/// 403 `origin_not_allowed`, 401 `caller_unknown` or the token's code, 403 `scope_missing`.
pub(crate) fn authorize_application(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Scope,
) -> Result<Principal, ApiError> {
    authorize_with(request, context, scope, |header| match bearer_token(header) {
        Some(token) => authenticate_management_token(context, token),
        None => context.applications.authenticate(header).map(Principal::ApiKey),
    })
}

/// The same, or a user with a user token; what the user's role permits is the route's to ask.
///
/// # Errors
/// As [`authorize`].
pub(crate) fn authorize_application_or_user(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Scope,
) -> Result<Principal, ApiError> {
    authorize_with(request, context, scope, |header| match bearer_token(header) {
        Some(token) => match context.verifier.verify_user_token(token, clock::now_s()) {
            Ok(claims) => check_user(context, claims).map(Principal::User),
            Err(TokenError::WrongType) => authenticate_management_token(context, token),
            Err(error) => Err(error.to_problem()),
        },
        None => context.applications.authenticate(header).map(Principal::ApiKey),
    })
}

/// A user with a user token, and nobody else.
///
/// # Errors
/// 403 `origin_not_allowed`, the token's code, and what [`ServiceContext::judge`] refuses.
pub(crate) fn authorize_user(
    request: &HttpRequest,
    context: &ServiceContext,
) -> Result<Arc<UserClaims>, ApiError> {
    let proven = check_site(request, context)
        .and_then(|()| {
            authorization_header(request)
                .and_then(bearer_token)
                .ok_or_else(|| TokenError::Missing.to_problem())
        })
        .and_then(|token| {
            context.verifier.verify_user_token(token, clock::now_s()).map_err(TokenError::to_problem)
        })
        .and_then(|claims| check_user(context, claims));
    proven.map_err(|problem| report_unauthorized(context, problem))
}

/// An API key with its secret, and nothing else.
///
/// # Errors
/// As [`authorize`].
pub(crate) fn authorize_api_key(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Option<Scope>,
) -> Result<Application, ApiError> {
    let proven = check_site(request, context)
        .and_then(|()| authorization_header(request).ok_or_else(caller_unknown))
        .and_then(|header| context.applications.authenticate(header))
        .and_then(|backend| check_key(context, backend))
        .and_then(|backend| scope.map_or(Ok(()), |scope| backend.require_scope(scope)).map(|()| backend));
    proven.map_err(|problem| report_unauthorized(context, problem))
}

/// An API key, or where guests are on nobody in particular.
///
/// # Errors
/// As [`authorize`], and 401 `guests_off`.
pub(crate) fn authorize_api_key_or_guest(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Scope,
) -> Result<Principal, ApiError> {
    if authorization_header(request).is_some() {
        return authorize_api_key(request, context, Some(scope)).map(Principal::ApiKey);
    }
    let guest = check_site(request, context).and_then(|()| {
        if context.guests_allowed {
            return Ok(Principal::Guest);
        }
        Err(Problem::new(401, "guests_off", "guests are off; send an API key as Authorization: Basic"))
    });
    guest.map_err(|problem| report_unauthorized(context, problem))
}

/// The token in `Authorization: Bearer`, where a token is what a route takes.
///
/// # Errors
/// `token_missing`, `token_malformed`.
pub(crate) fn bearer_room_token(request: &HttpRequest) -> Result<&str, TokenError> {
    match authorization_header(request) {
        Some(header) => bearer_token(header).ok_or(TokenError::Malformed),
        None => Err(TokenError::Missing),
    }
}

fn authorize_with(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Scope,
    prove: impl FnOnce(&[u8]) -> Result<Principal, Problem>,
) -> Result<Principal, ApiError> {
    let proven = check_site(request, context)
        .and_then(|()| authorization_header(request).ok_or_else(caller_unknown))
        .and_then(prove)
        .and_then(|caller| check_key_and_scope(context, caller, scope));
    proven.map_err(|problem| report_unauthorized(context, problem))
}

fn check_key_and_scope(
    context: &ServiceContext,
    caller: Principal,
    scope: Scope,
) -> Result<Principal, Problem> {
    if let Principal::ApiKey(backend) | Principal::ManagementToken(backend) = &caller {
        context.check_api_key(backend.id.as_str())?;
        backend.require_scope(scope)?;
    }
    Ok(caller)
}

fn check_key(context: &ServiceContext, backend: Application) -> Result<Application, Problem> {
    context.check_api_key(backend.id.as_str()).map(|()| backend)
}

fn check_site(request: &HttpRequest, context: &ServiceContext) -> Result<(), Problem> {
    check_origin(request.headers(), &context.allowed_origins)
}

fn check_user(context: &ServiceContext, claims: UserClaims) -> Result<Arc<UserClaims>, Problem> {
    context.check_access(&user_access_subject(&claims))?;
    Ok(Arc::new(claims))
}

/// A user token, as rules are asked about it.
pub(crate) fn user_access_subject(claims: &UserClaims) -> AccessSubject<'_> {
    AccessSubject {
        user: &claims.sub,
        room: None,
        grant: claims.grant(),
        issued_s: Some(claims.iat),
        issuer: Some(CallerId::USER),
        address: None,
    }
}

fn authenticate_management_token(context: &ServiceContext, token: &str) -> Result<Principal, Problem> {
    let claims =
        context.verifier.verify_management_token(token, clock::now_s()).map_err(TokenError::to_problem)?;
    context.check_management_token(&claims)?;
    // Its key may have been removed since.
    let backend =
        context.applications.from_claims(&claims).ok_or_else(|| TokenError::Revoked.to_problem())?;
    Ok(Principal::ManagementToken(backend))
}

/// The `Authorization` header; one that stands twice proves nothing.
fn authorization_header(request: &HttpRequest) -> Option<&[u8]> {
    let headers: &HeaderMap = request.headers();
    let mut values = headers.get_all(header::AUTHORIZATION);
    let first = values.next()?;
    Some(if values.next().is_some() { b"" } else { first.as_bytes() })
}

fn bearer_token(header: &[u8]) -> Option<&str> {
    scheme_credentials(header, "bearer")
}

/// Counts and logs a caller that was not let in. It has no name here: what it calls itself may be a secret in the wrong place.
fn report_unauthorized(context: &ServiceContext, problem: Problem) -> ApiError {
    let code = problem.code;
    context.metrics.unauthorized.with_label_values(&[code]).inc();
    tracing::info!(target: "signalbox_auth::audit", code, field = problem.field.as_deref(), "caller_refused");
    ApiError(problem)
}
