//! The caller of a route of one room: an application with the scope for it, or a user.

use actix_web::HttpRequest;
use signalbox_http::ApiError;
use signalbox_protocol::id::RoomId;
use signalbox_rooms::room::{RoomCreator, RoomCreatorKind};
use signalbox_token::scope::Scope;

use super::room_access::room_in_request;
use crate::{
    context::{
        authorization::{authorize_application, authorize_application_or_user},
        authorized_caller::Authorized,
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
    let room = room_in_request(request)?;
    Ok((caller.in_room(&service.context, &room)?, room))
}

/// The same, or a user with a token. The route checks what the user may do.
///
/// # Errors
/// As [`authorize_in_room`].
pub(crate) fn authorize_user_in_room(
    request: &HttpRequest,
    service: &ManagementService,
    scope: Scope,
) -> Result<(Authorized<Principal>, RoomId), ApiError> {
    let caller = authorize_application_or_user(request, &service.context, scope)?;
    let room = room_in_request(request)?;
    Ok((caller.in_room(&service.context, &room)?, room))
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
