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
use signalbox_http::{ApiError, check_origin};
use signalbox_protocol::{clock, id::CallerId, problem::Problem};
use signalbox_token::{TokenError, UserClaims, scope::Scope};

use signalbox_access::Subject;

use crate::{
    AuthState,
    issuer::{Backend, Caller, credentials, unknown},
};

/// A backend that may do this.
///
/// # Errors
/// 403 `origin_not_allowed`, 401 `caller_unknown` or the token's code, 403 `scope_missing`.
pub(super) fn authorize(request: &HttpRequest, state: &AuthState, scope: Scope) -> Result<Caller, ApiError> {
    judged(request, state, scope, |header| match bearer(header) {
        Some(token) => management(state, token),
        None => state.backends.prove(header).map(Caller::ApiKey),
    })
}

/// The same, or a user with a user token; what the user's role permits is the route's to ask.
///
/// # Errors
/// As [`authorize`].
pub(super) fn authorize_or_user(
    request: &HttpRequest,
    state: &AuthState,
    scope: Scope,
) -> Result<Caller, ApiError> {
    judged(request, state, scope, |header| match bearer(header) {
        Some(token) => match state.verifier.user(token, clock::now_s()) {
            Ok(claims) => user(state, claims).map(Caller::User),
            Err(TokenError::WrongType) => management(state, token),
            Err(error) => Err(error.problem()),
        },
        None => state.backends.prove(header).map(Caller::ApiKey),
    })
}

/// A user with a user token, and nobody else.
///
/// # Errors
/// 403 `origin_not_allowed`, the token's code, and what [`AuthState::judge`] refuses.
pub(super) fn authorize_user(request: &HttpRequest, state: &AuthState) -> Result<Arc<UserClaims>, ApiError> {
    let proven = site(request, state)
        .and_then(|()| authorization(request).and_then(bearer).ok_or_else(|| TokenError::Missing.problem()))
        .and_then(|token| state.verifier.user(token, clock::now_s()).map_err(TokenError::problem))
        .and_then(|claims| user(state, claims));
    proven.map_err(|problem| refused(state, problem))
}

/// An API key with its secret, and nothing else.
///
/// # Errors
/// As [`authorize`].
pub(super) fn authorize_key(
    request: &HttpRequest,
    state: &AuthState,
    scope: Option<Scope>,
) -> Result<Backend, ApiError> {
    let proven = site(request, state)
        .and_then(|()| authorization(request).ok_or_else(unknown))
        .and_then(|header| state.backends.prove(header))
        .and_then(|backend| known(state, backend))
        .and_then(|backend| scope.map_or(Ok(()), |scope| backend.needs(scope)).map(|()| backend));
    proven.map_err(|problem| refused(state, problem))
}

/// An API key, or where guests are on nobody in particular.
///
/// # Errors
/// As [`authorize`], and 401 `guests_off`.
pub(super) fn authorize_or_guest(
    request: &HttpRequest,
    state: &AuthState,
    scope: Scope,
) -> Result<Caller, ApiError> {
    if authorization(request).is_some() {
        return authorize_key(request, state, Some(scope)).map(Caller::ApiKey);
    }
    let guest = site(request, state).and_then(|()| {
        if state.guests {
            return Ok(Caller::Guest);
        }
        Err(Problem::new(401, "guests_off", "guests are off; send an API key as Authorization: Basic"))
    });
    guest.map_err(|problem| refused(state, problem))
}

/// The token in `Authorization: Bearer`, where a token is what a route takes.
///
/// # Errors
/// `token_missing`, `token_malformed`.
pub(super) fn room_token_of(request: &HttpRequest) -> Result<&str, TokenError> {
    match authorization(request) {
        Some(header) => bearer(header).ok_or(TokenError::Malformed),
        None => Err(TokenError::Missing),
    }
}

fn judged(
    request: &HttpRequest,
    state: &AuthState,
    scope: Scope,
    prove: impl FnOnce(&[u8]) -> Result<Caller, Problem>,
) -> Result<Caller, ApiError> {
    let proven = site(request, state)
        .and_then(|()| authorization(request).ok_or_else(unknown))
        .and_then(prove)
        .and_then(|caller| may(state, caller, scope));
    proven.map_err(|problem| refused(state, problem))
}

fn may(state: &AuthState, caller: Caller, scope: Scope) -> Result<Caller, Problem> {
    if let Caller::ApiKey(backend) | Caller::Management(backend, _) = &caller {
        state.judge_key(backend.id.as_str())?;
        backend.needs(scope)?;
    }
    Ok(caller)
}

fn known(state: &AuthState, backend: Backend) -> Result<Backend, Problem> {
    state.judge_key(backend.id.as_str()).map(|()| backend)
}

fn site(request: &HttpRequest, state: &AuthState) -> Result<(), Problem> {
    check_origin(request.headers(), &state.allowed_origins)
}

fn user(state: &AuthState, claims: UserClaims) -> Result<Arc<UserClaims>, Problem> {
    state.judge(&subject_of(&claims))?;
    Ok(Arc::new(claims))
}

/// A user token, as rules are asked about it.
pub(super) fn subject_of(claims: &UserClaims) -> Subject<'_> {
    Subject {
        user: &claims.sub,
        room: None,
        grant: claims.grant(),
        issued_s: Some(claims.iat),
        issuer: Some(CallerId::USER),
        address: None,
    }
}

fn management(state: &AuthState, token: &str) -> Result<Caller, Problem> {
    let claims = state.verifier.management(token, clock::now_s()).map_err(TokenError::problem)?;
    state.judge_management(&claims)?;
    // Its key may have been removed since.
    let backend = state.backends.of(&claims).ok_or_else(|| TokenError::Revoked.problem())?;
    Ok(Caller::Management(backend, Arc::new(claims)))
}

/// The `Authorization` header; one that stands twice proves nothing.
fn authorization(request: &HttpRequest) -> Option<&[u8]> {
    let headers: &HeaderMap = request.headers();
    let mut values = headers.get_all(header::AUTHORIZATION);
    let first = values.next()?;
    Some(if values.next().is_some() { b"" } else { first.as_bytes() })
}

fn bearer(header: &[u8]) -> Option<&str> {
    credentials(header, "bearer")
}

/// Counts and logs a caller that was not let in. It has no name here: what it calls itself may be a secret in the wrong place.
fn refused(state: &AuthState, problem: Problem) -> ApiError {
    let code = problem.code;
    state.metrics.failures.with_label_values(&[code]).inc();
    tracing::info!(target: "signalbox_auth::audit", code, field = problem.field.as_deref(), "caller_refused");
    ApiError(problem)
}
