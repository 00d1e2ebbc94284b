//! The caller of a route of one room: an application with the scope for it, or a user.

use std::sync::Arc;

use actix_web::HttpRequest;
use signalbox_access::StatementSigner as _;
use signalbox_http::ApiError;
use signalbox_protocol::id::{CreationId, RoomId, UserId};
use signalbox_rooms::room::{RoomCreator, RoomCreatorKind, RoomSettings};
use signalbox_token::scope::Scope;

use super::room_access::room_in_request;
use crate::{
    auth::keys::SigningKeys,
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

/// The purpose of the signatures, so that they are valid for nothing else.
const CREATOR_PURPOSE: &str = "signalbox room creator v1";

fn creator_statement(room: &RoomId, creation: &CreationId, user: &UserId) -> String {
    format!("{room} {creation} {user}")
}

/// The proof that a user has created a room. None only by a fault of the library.
pub(crate) fn prove_creator(
    keys: &SigningKeys,
    room: &RoomId,
    creation: &CreationId,
    user: &UserId,
) -> Option<Arc<str>> {
    keys.sign_statement(CREATOR_PURPOSE, &creator_statement(room, creation, user)).map(Into::into)
}

/// Whether a user has created a room, by its proof: nodes can write the settings of a room.
pub(crate) fn is_proven_creator(
    keys: &SigningKeys,
    room: &RoomId,
    settings: &RoomSettings,
    user: &UserId,
) -> bool {
    let (Some(proof), Some(creation)) = (&settings.creator_proof, &settings.creation_id) else {
        return false;
    };
    keys.verify_statement(CREATOR_PURPOSE, &creator_statement(room, creation, user), proof)
}
