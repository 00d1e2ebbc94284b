//! The caller of a request: one `Authorization` header, checked once, and the room limit of the
//! caller, applied before a handler can use the caller.
//!
//! Owns: the proofs of authorization. Only this module creates a [`RoomLimited`] (an authorized caller
//! that a handler cannot use yet), an [`Authorized`] (one that it can use), or a [`CheckedSite`], and a
//! body is parsed only against one of them ([`signalbox_http::JsonBody`]). The web site is checked
//! before the caller. A wrong header is never treated as a missing one, and two headers prove nothing.
//!
//! - [`authorize_application`]: an application, by API key or management token, with a scope
//! - [`authorize_application_or_user`]: or one of its users, by a user token
//! - [`authorize_user`]: a user only; [`authorize_api_key`]: an API key itself only
//! - [`authorize_api_key_or_guest`]: or a guest, if the configuration allows guests
//! - [`check_site`]: no caller, for routes whose request holds its own proof
//!
//! A route chooses one of the ways from [`RoomLimited`] to [`Authorized`]: in one room, or by a
//! [`RoomFilter`]. A route without a notion of rooms has only [`RoomLimited::in_all_rooms`], which
//! refuses a limited caller.

use std::{ops::Deref, sync::Arc};

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
};
use signalbox_access::AccessSubject;
use signalbox_http::{ApiError, AuthorizationProof, is_local_request};
use signalbox_protocol::{
    CredentialRoot, clock,
    id::{CallerId, Role, RoomId},
    problem::Problem,
};
use signalbox_token::{
    TokenError, UserClaims,
    scope::{RoomPattern, Scope},
};

use super::{
    principal::{
        Application, DerivedRight, LostRight, Principal, caller_unknown, room_not_allowed, scheme_credentials,
    },
    service_context::{GuestAccess, ServiceContext},
};

/// The web site of a request is allowed, and the request itself holds the proof of its caller.
pub(crate) struct CheckedSite(());

impl AuthorizationProof for CheckedSite {}

/// An application that may do this.
///
/// # Errors
/// 403 `origin_not_allowed`, 401 `caller_unknown` or the token's code, 403 `scope_missing`.
pub(crate) fn authorize_application(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Scope,
) -> Result<RoomLimited<Principal>, ApiError> {
    authorize_with(request, context, scope, |header| match bearer_token(header) {
        Some(token) => authenticate_management_token(context, token),
        None => context.applications.load().authenticate(header).map(Principal::ApiKey),
    })
}

/// The same, or a user with a user token. The route checks what the role of the user permits.
///
/// # Errors
/// As [`authorize_application`].
pub(crate) fn authorize_application_or_user(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Scope,
) -> Result<RoomLimited<Principal>, ApiError> {
    authorize_with(request, context, scope, |header| match bearer_token(header) {
        Some(token) => match context.verifier.verify_user_token(token, clock::now_s()) {
            Ok(claims) => check_user(context, claims).map(Principal::User),
            Err(TokenError::WrongType) => authenticate_management_token(context, token),
            Err(error) => Err(error.to_problem()),
        },
        None => context.applications.load().authenticate(header).map(Principal::ApiKey),
    })
}

/// A user with a user token.
///
/// # Errors
/// 403 `origin_not_allowed`, the token's code, and the errors of [`ServiceContext::check_access`].
pub(crate) fn authorize_user(
    request: &HttpRequest,
    context: &ServiceContext,
) -> Result<Authorized<Arc<UserClaims>>, ApiError> {
    let proven = check_site(request, context)
        .and_then(|_| {
            authorization_header(request)
                .and_then(bearer_token)
                .ok_or_else(|| TokenError::Missing.to_problem())
        })
        .and_then(|token| {
            context.verifier.verify_user_token(token, clock::now_s()).map_err(TokenError::to_problem)
        })
        .and_then(|claims| check_user(context, claims));
    proven.map(Authorized::new).map_err(|problem| report_unauthorized(context, problem))
}

/// An API key with its secret.
///
/// # Errors
/// As [`authorize_application`].
pub(crate) fn authorize_api_key(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Option<Scope>,
) -> Result<RoomLimited<Application>, ApiError> {
    authenticate_api_key(request, context, scope).map(RoomLimited::new)
}

fn authenticate_api_key(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Option<Scope>,
) -> Result<Application, ApiError> {
    let proven = check_site(request, context)
        .and_then(|_| authorization_header(request).ok_or_else(caller_unknown))
        .and_then(|header| context.applications.load().authenticate(header))
        .and_then(|application| check_key(context, application, scope));
    proven.map_err(|problem| report_unauthorized(context, problem))
}

/// An API key, or a guest if the configuration allows guests.
///
/// # Errors
/// As [`authorize_application`], and 401 `guests_off`.
pub(crate) fn authorize_api_key_or_guest(
    request: &HttpRequest,
    context: &ServiceContext,
    scope: Scope,
) -> Result<RoomLimited<Principal>, ApiError> {
    if authorization_header(request).is_some() {
        let application = authenticate_api_key(request, context, Some(scope))?;
        return Ok(RoomLimited::new(Principal::ApiKey(application)));
    }
    let guest = check_site(request, context).and_then(|_| {
        let is_allowed = match *context.guests.load() {
            GuestAccess::Off => false,
            GuestAccess::Local => is_local_request(request),
            GuestAccess::Everywhere => true,
        };
        if is_allowed {
            return Ok(Principal::Guest);
        }
        Err(Problem::new(401, "guests_off", "guests are off; send an API key as Authorization: Basic"))
    });
    guest.map(RoomLimited::new).map_err(|problem| report_unauthorized(context, problem))
}

/// The web site, for a route whose caller is proven by a token or a code in the request.
///
/// # Errors
/// 403 `origin_not_allowed`.
pub(crate) fn check_site(request: &HttpRequest, context: &ServiceContext) -> Result<CheckedSite, Problem> {
    context.gate.check_origin(request.headers()).map(CheckedSite)
}

/// The token in `Authorization: Bearer`, for a route that takes a room token.
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
) -> Result<RoomLimited<Principal>, ApiError> {
    let proven = check_site(request, context)
        .and_then(|_| authorization_header(request).ok_or_else(caller_unknown))
        .and_then(prove)
        .and_then(|principal| check_principal(context, principal, scope));
    proven.map(RoomLimited::new).map_err(|problem| report_unauthorized(context, problem))
}

fn check_principal(
    context: &ServiceContext,
    principal: Principal,
    scope: Scope,
) -> Result<Principal, Problem> {
    Ok(match principal {
        Principal::ApiKey(key) => Principal::ApiKey(check_key(context, key, Some(scope))?),
        Principal::ManagementToken(key) => Principal::ManagementToken(check_key(context, key, Some(scope))?),
        principal => principal,
    })
}

fn check_key(
    context: &ServiceContext,
    application: Application,
    scope: Option<Scope>,
) -> Result<Application, Problem> {
    context.check_api_key(&application.id)?;
    scope.map_or(Ok(()), |scope| application.require_scope(scope))?;
    Ok(application)
}

fn check_user(context: &ServiceContext, claims: UserClaims) -> Result<Arc<UserClaims>, Problem> {
    let root = claims.credential_root();
    context.check_access(&user_access_subject(&claims, &root))?;
    let right = DerivedRight { root: &root, scope: None, room: None, role: Some(&claims.role), issues: true };
    context.still_allowed(&right).map_err(LostRight::to_problem)?;
    Ok(Arc::new(claims))
}

/// The access subject of a user token.
pub(crate) fn user_access_subject<'a>(claims: &'a UserClaims, root: &'a CredentialRoot) -> AccessSubject<'a> {
    AccessSubject {
        user: &claims.sub,
        room: None,
        grant: claims.grant(),
        issued_s: Some(claims.iat),
        root: Some(root),
        address: None,
    }
}

fn authenticate_management_token(context: &ServiceContext, token: &str) -> Result<Principal, Problem> {
    let claims =
        context.verifier.verify_management_token(token, clock::now_s()).map_err(TokenError::to_problem)?;
    context.check_management_token(&claims)?;
    let application = context
        .applications
        .load()
        .find_by_claims(&claims)
        .ok_or_else(|| TokenError::Revoked.to_problem())?;
    Ok(Principal::ManagementToken(application))
}

/// The `Authorization` header; a repeated header proves nothing.
fn authorization_header(request: &HttpRequest) -> Option<&[u8]> {
    let headers: &HeaderMap = request.headers();
    let mut values = headers.get_all(header::AUTHORIZATION);
    let first = values.next()?;
    Some(if values.next().is_some() { b"" } else { first.as_bytes() })
}

fn bearer_token(header: &[u8]) -> Option<&str> {
    scheme_credentials(header, "bearer")
}

/// The caller for whom a request was authorized.
pub(crate) struct Authorized<T>(T);

impl<T> Authorized<T> {
    fn new(caller: T) -> Self {
        Self(caller)
    }
}

impl<T> Deref for Authorized<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> AuthorizationProof for Authorized<T> {}

/// An authorized caller that may be limited to some rooms. Its body may be parsed; the caller itself
/// is available only with a room or with a filter.
#[must_use = "a caller is not authorized before its room limit is applied"]
pub(crate) struct RoomLimited<T>(T);

impl<T> AuthorizationProof for RoomLimited<T> {}

/// The rooms that a caller may see, for lists.
#[derive(Debug, Clone)]
#[must_use = "a list must be filtered"]
pub(crate) struct RoomFilter(Option<RoomPattern>);

impl RoomFilter {
    /// Only this room.
    pub(crate) fn one(room: &RoomId) -> Self {
        Self(Some(RoomPattern::exact(room)))
    }

    /// Whether the caller may see a room.
    pub(crate) fn allows(&self, room: &RoomId) -> bool {
        self.0.as_ref().is_none_or(|rooms| rooms.matches(room))
    }

    /// Whether the caller may see something of the room with this name. What belongs to no room is
    /// visible to a caller without a limit only.
    pub(crate) fn allows_name(&self, room: Option<&str>) -> bool {
        self.0.is_none()
            || room.and_then(|room| RoomId::parse(room).ok()).is_some_and(|room| self.allows(&room))
    }

    /// Whether the caller is limited to some rooms.
    pub(crate) fn is_limited(&self) -> bool {
        self.0.is_some()
    }
}

/// A caller that may be limited to some rooms.
pub(crate) trait HasRoomLimit {
    /// The rooms; `None` is every room.
    fn room_limit(&self) -> Option<&RoomPattern>;
}

impl HasRoomLimit for Application {
    fn room_limit(&self) -> Option<&RoomPattern> {
        self.rooms.as_ref()
    }
}

impl HasRoomLimit for Principal {
    fn room_limit(&self) -> Option<&RoomPattern> {
        match self {
            Self::ApiKey(application) | Self::ManagementToken(application) => application.room_limit(),
            Self::User(_) | Self::Guest => None,
        }
    }
}

impl<T: HasRoomLimit> RoomLimited<T> {
    fn new(caller: T) -> Self {
        Self(caller)
    }

    /// The caller, for a request that concerns the whole server.
    ///
    /// # Errors
    /// 403 `room_limited`.
    pub(crate) fn in_all_rooms(self, context: &ServiceContext) -> Result<Authorized<T>, ApiError> {
        if self.0.room_limit().is_none() {
            return Ok(Authorized::new(self.0));
        }
        let detail = "this API key is limited to some rooms, and the request concerns all rooms";
        Err(report_unauthorized(context, Problem::new(403, "room_limited", detail)))
    }

    /// The caller, and the filter that its list must pass.
    pub(crate) fn filter_rooms(self) -> (Authorized<T>, RoomFilter) {
        let filter = RoomFilter(self.0.room_limit().cloned());
        (Authorized::new(self.0), filter)
    }

    /// The caller, for a new credential that has the same limit.
    pub(crate) fn pass_limit_on(self) -> Authorized<T> {
        Authorized::new(self.0)
    }
}

impl RoomLimited<Principal> {
    /// The caller, for a request about one room. Its API key may be limited to other rooms; a user
    /// may be banned from the room.
    ///
    /// # Errors
    /// 403 `room_not_allowed` or `banned`, and the other errors of [`ServiceContext::check_access`].
    pub(crate) fn in_room(
        self,
        context: &ServiceContext,
        room: &RoomId,
    ) -> Result<Authorized<Principal>, ApiError> {
        let allowed = match &self.0 {
            Principal::User(claims) => context.check_access(&AccessSubject {
                user: &claims.sub,
                room: Some(room),
                // A user token names no room, so its time of issue is not compared with the rules of
                // the room.
                grant: claims.grant(),
                issued_s: None,
                root: None,
                address: None,
            }),
            caller if caller.room_limit().is_none_or(|rooms| rooms.matches(room)) => Ok(()),
            _ => Err(room_not_allowed()),
        };
        match allowed {
            Ok(()) => Ok(Authorized::new(self.0)),
            Err(problem) => Err(report_unauthorized(context, problem)),
        }
    }

    /// The role of a user; `None` for another caller. A role is not limited to rooms.
    pub(crate) fn user_role(&self) -> Option<&Role> {
        match &self.0 {
            Principal::User(claims) => Some(&claims.role),
            _ => None,
        }
    }

    /// The kind of the caller, for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// The id of the caller, for the audit log.
    pub(crate) fn log_id(&self) -> CallerId {
        self.0.id()
    }
}

/// Counts and logs a refused caller, without a name: the name may be a secret in the wrong place.
fn report_unauthorized(context: &ServiceContext, problem: Problem) -> ApiError {
    let code = problem.code;
    context.metrics.unauthorized.with_label_values(&[code]).inc();
    tracing::info!(target: "signalbox_auth::audit", code, field = problem.field.as_deref(), "caller_refused");
    ApiError(problem)
}
