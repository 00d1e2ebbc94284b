//! The caller of a route of one room: an application with the scope for it, or a user.

use actix_web::HttpRequest;
use signalbox_access::AccessSubject;
use signalbox_http::ApiError;
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_rooms::room::{RoomCreator, RoomCreatorKind};
use signalbox_token::scope::Scope;

use super::room_access::room_in_request;
use crate::{
    context::{
        authorization::{Authorized, authorize_application, authorize_application_or_user},
        principal::Principal,
    },
    management::management_service::ManagementService,
};

/// An application that may do this in the room of the path, and the room.
///
/// # Errors
/// 401, 403; 404 `no_such_room` where no room can have that name.
pub(crate) fn authorize_in_room(
    request: &HttpRequest,
    service: &ManagementService,
    scope: Scope,
) -> Result<(Authorized<Principal>, RoomId), ApiError> {
    let caller = authorize_application(request, &service.context, scope)?;
    check_room_of_path(request, service, &caller)?;
    Ok((caller, room_in_request(request)?))
}

/// An application that may do this, or a user with a token. The route checks what the user may do.
///
/// # Errors
/// 401, 403.
pub(crate) fn authorize_user_in_room(
    request: &HttpRequest,
    service: &ManagementService,
    scope: Scope,
) -> Result<Authorized<Principal>, ApiError> {
    let caller = authorize_application_or_user(request, &service.context, scope)?;
    check_room_of_path(request, service, &caller)?;
    Ok(caller)
}

fn check_room_of_path(
    request: &HttpRequest,
    service: &ManagementService,
    caller: &Principal,
) -> Result<(), Problem> {
    let room = request.match_info().get("room").and_then(|room| RoomId::parse(room).ok());
    room.map_or(Ok(()), |room| check_room(service, caller, &room))
}

/// Whether a caller may act on a room: its API key may be limited to other rooms, a user may be
/// banned from it.
///
/// # Errors
/// 403 `room_not_allowed` or `banned`.
pub(crate) fn check_room(
    service: &ManagementService,
    caller: &Principal,
    room: &RoomId,
) -> Result<(), Problem> {
    let Principal::User(claims) = caller else { return caller.check_room(room) };
    service.context.check_access(&AccessSubject {
        user: &claims.sub,
        room: Some(room),
        // A user token names no room, so its time of issue is not compared with the rules of the
        // room.
        grant: claims.grant(),
        issued_s: None,
        issuer: None,
        address: None,
    })
}

/// The caller as the creator of a room.
pub(crate) fn room_creator(caller: &Principal) -> RoomCreator {
    match caller {
        Principal::User(claims) => {
            RoomCreator { kind: RoomCreatorKind::User, id: claims.sub.as_str().into() }
        }
        application => RoomCreator { kind: RoomCreatorKind::Key, id: application.id().as_str().into() },
    }
}
