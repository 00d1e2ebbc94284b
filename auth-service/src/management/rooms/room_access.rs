//! How the routes read and change rooms.
//!
//! Owns: the calls of the room service. Must not: decide how a room changes (`signalbox_rooms`
//! does).

use std::sync::Arc;

use actix_web::HttpRequest;
use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::{
    room::{InputOutcome, ManageRoom, NO_SUCH_PEER, NO_SUCH_ROOM, RoomAction, RoomState},
    store::{RoomStore, StoreUnavailable},
};

use crate::{context::request::parse_room_path, management::management_service::ManagementService};

/// The room in the path of a request.
pub(crate) fn room_in_request(request: &HttpRequest) -> Result<RoomId, Problem> {
    parse_room_path(request.match_info().get("room").unwrap_or_default())
}

pub(crate) fn no_such_room() -> Problem {
    NO_SUCH_ROOM.to_problem()
}

/// Refuses a user who would open a room whose name is reserved for an application.
///
/// # Errors
/// 403 `room_reserved`.
pub(crate) fn check_not_reserved(service: &ManagementService, room: &RoomId) -> Result<(), Problem> {
    if !service.context.applications.load().is_reserved(room) {
        return Ok(());
    }
    let detail = "the name of this room is reserved for an application; choose another name";
    Err(Problem::new(403, "room_reserved", detail).with_field("id"))
}

pub(crate) fn no_such_peer() -> Problem {
    NO_SUCH_PEER.to_problem()
}

pub(crate) fn room_store_problem(_: StoreUnavailable) -> Problem {
    let detail =
        "the store did not answer in time, so the room may or may not have changed; read it, then try again";
    Problem::new(503, "unavailable", detail)
}

pub(crate) fn room_store(service: &ManagementService) -> Result<&RoomStore, Problem> {
    Ok(service.room_service()?.store())
}

/// Loads a room that exists.
///
/// # Errors
/// 404 `no_such_room`, 503.
pub(crate) async fn load_room(service: &ManagementService, room: &RoomId) -> Result<RoomState, Problem> {
    let found = room_store(service)?.load_room(room).await.map_err(room_store_problem)?;
    found.room.filter(|room| room.exists(found.now)).ok_or_else(no_such_room)
}

/// Changes a room through the room service.
///
/// # Errors
/// The problem of the outcome, if the change was refused.
pub(crate) async fn change_room(
    service: &ManagementService,
    room: &RoomId,
    act: RoomAction,
) -> Result<(InputOutcome, Arc<RoomState>), Problem> {
    let (outcome, room) = service
        .room_service()?
        .change_room(room, ManageRoom::from_api(act))
        .await
        .map_err(room_store_problem)?;
    match outcome.refusal() {
        Some(refusal) => Err(refusal.to_problem()),
        None => Ok((outcome, room)),
    }
}

/// Logs a change of a room, with a stable event name.
pub(crate) fn log_room_change(event: &'static str, caller: &CallerId, room: &RoomId) {
    tracing::info!(target: "signalbox_auth::audit", event, %caller, %room, "room_changed");
}
