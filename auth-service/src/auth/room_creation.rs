//! Which creation of a room a credential is for.
//!
//! Rooms are named, and a name can be used again. A credential for a room that the API has created
//! names the creation, so it is void in the next room with that name. Must not: change a room.

use signalbox_protocol::{
    id::{CreationId, RoomId},
    problem::Problem,
};
use signalbox_rooms::{room::InputOutcome, store::StoreUnavailable};

use super::token_service::TokenService;

/// The creation of the room that exists now; `None` if the API has not created it.
///
/// # Errors
/// [`StoreUnavailable`]. A plain token is issued all the same, for any room with the name: a join
/// needs the store anyway.
pub(crate) async fn find_creation(
    service: &TokenService,
    room: &RoomId,
) -> Result<Option<CreationId>, StoreUnavailable> {
    let Some(rooms) = &service.rooms else { return Ok(None) };
    if !rooms.store().is_room_available(room) {
        return Err(StoreUnavailable);
    }
    let found = rooms.store().load_room(room).await?;
    let existing = found.room.filter(|room| room.exists(found.now));
    Ok(existing.and_then(|room| room.settings.creation_id.clone()))
}

/// Checks that the room of a credential is still the room that exists now.
///
/// # Errors
/// 403 `room_not_allowed`, 503 `unavailable`.
pub(crate) async fn check_creation(
    service: &TokenService,
    room: &RoomId,
    creation: Option<&CreationId>,
) -> Result<(), Problem> {
    if creation.is_none() {
        return Ok(());
    }
    let current = find_creation(service, room).await.map_err(|StoreUnavailable| {
        Problem::new(503, "unavailable", "the store does not answer; try again")
    })?;
    match InputOutcome::OtherCreation.refusal() {
        Some(refusal) if current.as_ref() != creation => Err(refusal.to_problem()),
        _ => Ok(()),
    }
}
