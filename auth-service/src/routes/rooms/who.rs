//! Who asks for something about rooms: a backend with the scope for it, or one of the application's users.

use std::sync::Arc;

use actix_web::HttpRequest;
use signalbox_access::Subject;
use signalbox_http::ApiError;
use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::room::{Creator, CreatorKind};
use signalbox_token::{
    UserClaims,
    scope::{RoomPattern, Scope},
};

use super::room_in;
use crate::{
    AuthState,
    issuer::Caller,
    routes::{authorize, authorize_or_user, authorize_user},
};

/// Somebody who may.
pub(super) enum Who {
    /// A backend.
    Backend(Caller),
    /// A user of the application.
    User(Arc<UserClaims>),
}

impl Who {
    /// For the audit log.
    pub(super) fn id(&self) -> CallerId {
        match self {
            Self::Backend(caller) => caller.id(),
            Self::User(_) => CallerId::user(),
        }
    }

    /// Whether it may act on a room: its API key may be limited to some, a user may be banned from one.
    ///
    /// # Errors
    /// 403 `room_not_allowed` or `banned`.
    pub(super) fn may_use(&self, state: &AuthState, room: &RoomId) -> Result<(), Problem> {
        match self {
            Self::Backend(caller) => caller.may_use(room),
            Self::User(claims) => state.judge(&Subject {
                user: &claims.sub,
                room: Some(room),
                // The token is of no room: what was issued for this one is not asked.
                grant: claims.grant(),
                issued_s: None,
                issuer: None,
                address: None,
            }),
        }
    }

    /// As the maker of a room.
    pub(super) fn creator(&self) -> Creator {
        match self {
            Self::Backend(caller) => Creator { kind: CreatorKind::Key, id: caller.id().as_str().into() },
            Self::User(claims) => Creator { kind: CreatorKind::User, id: claims.sub.as_str().into() },
        }
    }
}

/// A backend that may do this in the room of the path; its id, and the room.
///
/// # Errors
/// 401, 403; 404 `no_such_room` where no room can have that name.
pub(super) fn backend(
    request: &HttpRequest,
    state: &AuthState,
    scope: Scope,
) -> Result<(CallerId, RoomId), ApiError> {
    let caller = authorize(request, state, scope)?;
    here(request, &caller)?;
    Ok((caller.id(), room_in(request)?))
}

/// A backend that may do this, and the rooms it is limited to.
///
/// # Errors
/// 401, 403.
pub(super) fn lister(
    request: &HttpRequest,
    state: &AuthState,
    scope: Scope,
) -> Result<Option<RoomPattern>, ApiError> {
    Ok(authorize(request, state, scope)?.rooms().cloned())
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
    let who = match authorize_or_user(request, state, scope)? {
        Caller::User(claims) => Who::User(claims),
        backend => Who::Backend(backend),
    };
    if let Some(room) = room_of(request) {
        who.may_use(state, &room)?;
    }
    Ok(who)
}

/// A user with a token.
///
/// # Errors
/// 401, 403.
pub(super) fn user(request: &HttpRequest, state: &AuthState) -> Result<Arc<UserClaims>, ApiError> {
    authorize_user(request, state)
}

/// Whether a caller may act on the room that the path names.
fn here(request: &HttpRequest, caller: &Caller) -> Result<(), Problem> {
    room_of(request).map_or(Ok(()), |room| caller.may_use(&room))
}

/// The room that the path names.
fn room_of(request: &HttpRequest) -> Option<RoomId> {
    request.match_info().get("room").and_then(|room| RoomId::parse(room).ok())
}
