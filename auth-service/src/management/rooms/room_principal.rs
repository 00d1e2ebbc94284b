//! Who asks for something about rooms: a backend with the scope for it, or one of the application's users.

use std::sync::Arc;

use actix_web::HttpRequest;
use signalbox_access::AccessSubject;
use signalbox_http::ApiError;
use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::room::{RoomCreator, RoomCreatorKind};
use signalbox_token::{
    UserClaims,
    scope::{RoomPattern, Scope},
};

use super::room_access::room_in_request;
use crate::{
    context::{
        authorization::{authorize_application, authorize_application_or_user, authorize_user},
        principal::Principal,
    },
    management::management_service::ManagementService,
};

/// Somebody who may.
pub(crate) enum RoomPrincipal {
    /// A backend.
    Application(Principal),
    /// A user of the application.
    User(Arc<UserClaims>),
}

impl RoomPrincipal {
    /// For the audit log.
    pub(crate) fn id(&self) -> CallerId {
        match self {
            Self::Application(caller) => caller.id(),
            Self::User(_) => CallerId::user(),
        }
    }

    /// Whether it may act on a room: its API key may be limited to some, a user may be banned from one.
    ///
    /// # Errors
    /// 403 `room_not_allowed` or `banned`.
    pub(crate) fn check_room(&self, service: &ManagementService, room: &RoomId) -> Result<(), Problem> {
        match self {
            Self::Application(caller) => caller.check_room(room),
            Self::User(claims) => service.context.check_access(&AccessSubject {
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
    pub(crate) fn creator(&self) -> RoomCreator {
        match self {
            Self::Application(caller) => {
                RoomCreator { kind: RoomCreatorKind::Key, id: caller.id().as_str().into() }
            }
            Self::User(claims) => RoomCreator { kind: RoomCreatorKind::User, id: claims.sub.as_str().into() },
        }
    }
}

/// A backend that may do this in the room of the path; its id, and the room.
///
/// # Errors
/// 401, 403; 404 `no_such_room` where no room can have that name.
pub(crate) fn authorize_in_room(
    request: &HttpRequest,
    service: &ManagementService,
    scope: Scope,
) -> Result<(CallerId, RoomId), ApiError> {
    let caller = authorize_application(request, &service.context, scope)?;
    check_room_of_path(request, &caller)?;
    Ok((caller.id(), room_in_request(request)?))
}

/// A backend that may do this, and the rooms it is limited to.
///
/// # Errors
/// 401, 403.
pub(crate) fn authorize_room_list(
    request: &HttpRequest,
    service: &ManagementService,
    scope: Scope,
) -> Result<Option<RoomPattern>, ApiError> {
    Ok(authorize_application(request, &service.context, scope)?.room_pattern().cloned())
}

/// A backend that may do this, or a user with a token; what the user may is the route's to ask.
///
/// # Errors
/// 401, 403.
pub(crate) fn authorize_user_in_room(
    request: &HttpRequest,
    service: &ManagementService,
    scope: Scope,
) -> Result<RoomPrincipal, ApiError> {
    let who = match authorize_application_or_user(request, &service.context, scope)? {
        Principal::User(claims) => RoomPrincipal::User(claims),
        backend => RoomPrincipal::Application(backend),
    };
    if let Some(room) = room_of_path(request) {
        who.check_room(service, &room)?;
    }
    Ok(who)
}

/// A user with a token.
///
/// # Errors
/// 401, 403.
pub(crate) fn authorize_room_user(
    request: &HttpRequest,
    service: &ManagementService,
) -> Result<Arc<UserClaims>, ApiError> {
    authorize_user(request, &service.context)
}

/// Whether a caller may act on the room that the path names.
fn check_room_of_path(request: &HttpRequest, caller: &Principal) -> Result<(), Problem> {
    room_of_path(request).map_or(Ok(()), |room| caller.check_room(&room))
}

/// The room that the path names.
fn room_of_path(request: &HttpRequest) -> Option<RoomId> {
    request.match_info().get("room").and_then(|room| RoomId::parse(room).ok())
}
