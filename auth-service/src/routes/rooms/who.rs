//! Who asks for something about rooms: a backend with the scope for it, or one of the application's users.

use std::sync::Arc;

use actix_web::HttpRequest;
use signalbox_control::{Issuer, Subject};
use signalbox_http::{ApiError, check_origin};
use signalbox_rooms::room::{Creator, CreatorKind};
use signalbox_shared::{
    clock,
    problem::Problem,
    token::{TokenError, UserClaims},
};

use crate::{
    AuthState,
    routes::{api, authorization},
};

pub(super) use crate::routes::api::Scope;

/// Somebody who may.
pub(super) enum Who {
    /// A backend, by the id of its API key.
    Backend(String),
    /// A user of the application.
    User(Arc<UserClaims>),
}

impl Who {
    /// For the audit log.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Backend(id) => id,
            Self::User(_) => "user",
        }
    }

    /// As the maker of a room.
    pub(super) fn creator(&self) -> Creator {
        match self {
            Self::Backend(id) => Creator { kind: CreatorKind::Key, id: id.as_str().into() },
            Self::User(claims) => Creator { kind: CreatorKind::User, id: claims.sub.as_str().into() },
        }
    }
}

/// A backend that may do this.
///
/// # Errors
/// 401, 403.
pub(super) fn backend(request: &HttpRequest, state: &AuthState, scope: Scope) -> Result<String, ApiError> {
    Ok(api::authorize(request, state, scope)?.id)
}

/// A backend that may do this, or a user with a token; what the user may is the route's to ask.
///
/// # Errors
/// 401, 403.
pub(super) fn backend_or_user(
    request: &HttpRequest,
    state: &AuthState,
    scope: Scope,
) -> Result<Who, ApiError> {
    match bearer(request) {
        Some(token) => Ok(Who::User(user_of(request, state, token)?)),
        None => Ok(Who::Backend(backend(request, state, scope)?)),
    }
}

/// A user with a token.
///
/// # Errors
/// 401, 403.
pub(super) fn user(request: &HttpRequest, state: &AuthState) -> Result<Arc<UserClaims>, ApiError> {
    let token = bearer(request).ok_or_else(|| TokenError::Missing.problem())?;
    Ok(user_of(request, state, token)?)
}

fn user_of(request: &HttpRequest, state: &AuthState, token: &str) -> Result<Arc<UserClaims>, Problem> {
    check_origin(request.headers(), &state.allowed_origins)?;
    let claims = state.verifier.user(token, clock::now_s()).map_err(TokenError::problem)?;
    let issuer: Issuer<'_> = None;
    let subject = Subject {
        user: &claims.sub,
        room: None,
        grant: claims.grant(),
        issued_s: Some(claims.iat),
        issuer,
        address: state.client(request),
    };
    state.judge(&subject)?;
    Ok(Arc::new(claims))
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(authorization(request)?).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
