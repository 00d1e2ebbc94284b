//! How the routes read and change rooms.
//!
//! Owns: the calls of the room service, and the problem of each outcome. Must not: decide what
//! becomes of a room (`signalbox_rooms` does).

use std::sync::Arc;

use actix_web::HttpRequest;
use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::{
    room::{InputOutcome, ManageRoom, RoomAction, RoomState},
    room_service::RoomService,
    store::{RoomStore, StoreUnavailable},
};

use crate::management::management_service::ManagementService;

/// The room in the path of a request.
pub(crate) fn room_in_request(request: &HttpRequest) -> Result<RoomId, Problem> {
    RoomId::parse(request.match_info().get("room").unwrap_or_default()).map_err(|_| no_such_room())
}

pub(crate) fn no_such_room() -> Problem {
    Problem::new(404, "no_such_room", "there is no such room")
}

pub(crate) fn no_such_peer() -> Problem {
    Problem::new(404, "no_such_peer", "there is no such peer in this room, or it does not wait")
}

pub(crate) fn room_store_problem(_: StoreUnavailable) -> Problem {
    let detail =
        "the store did not answer in time, so the room may or may not have changed; read it, then try again";
    Problem::new(503, "unavailable", detail)
}

pub(crate) fn room_service(service: &ManagementService) -> Result<&Arc<dyn RoomService>, Problem> {
    service.rooms.as_ref().ok_or_else(|| {
        Problem::new(503, "unavailable", "this process has no Redis and so no rooms; give it one")
    })
}

pub(crate) fn room_store(service: &ManagementService) -> Result<&RoomStore, Problem> {
    room_service(service)?.store().map_err(room_store_problem)
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
    let (outcome, room) = room_service(service)?
        .change_room(room, ManageRoom::from_api(act))
        .await
        .map_err(room_store_problem)?;
    match outcome_problem(outcome) {
        Some(problem) => Err(problem),
        None => Ok((outcome, room)),
    }
}

/// The problem of an outcome; `None` if the input was applied.
pub(crate) fn outcome_problem(outcome: InputOutcome) -> Option<Problem> {
    let (status, code, detail) = match outcome {
        InputOutcome::Done | InputOutcome::Attached(_) | InputOutcome::Removed(_) => return None,
        InputOutcome::NoSuchRoom => return Some(no_such_room()),
        InputOutcome::NoSuchPeer
        | InputOutcome::PeerGone
        | InputOutcome::Fenced
        | InputOutcome::TokenExpired => {
            return Some(no_such_peer());
        }
        InputOutcome::RoomExists => (409, "room_exists", "there is such a room already"),
        InputOutcome::RoomFull => (409, "room_full", "the room has no place left"),
        InputOutcome::TokenInUse => (409, "conflict", "the peer of this token is connected"),
        InputOutcome::UserLimit => (409, "user_limit", "this user is in the room as often as it may be"),
        InputOutcome::RoomLocked => (403, "room_locked", "the room is locked and takes nobody in"),
        InputOutcome::RoomDisabled => (403, "room_disabled", "the room is switched off"),
        InputOutcome::RoomNotStarted => (403, "room_not_started", "the room has not begun"),
        InputOutcome::NoImplicitRoom => {
            (403, "room_not_allowed", "there is no such room, and none is made by joining")
        }
        InputOutcome::RoleRefused => {
            let detail = "the room takes nobody in with this role";
            return Some(Problem::new(403, "role_not_allowed", detail).with_field("role"));
        }
        InputOutcome::E2eeRequired => {
            let detail = "the room demands encryption end to end, and this would make the server read what somebody sends";
            return Some(Problem::new(409, "conflict", detail));
        }
        InputOutcome::NotPermitted => (403, "not_permitted", "that is not permitted"),
    };
    Some(Problem::new(status, code, detail))
}

/// Logs a change of a room, with a stable event name.
pub(crate) fn log_room_change(event: &'static str, caller: &CallerId, room: &RoomId) {
    tracing::info!(target: "signalbox_auth::audit", event, %caller, %room, "room_changed");
}
