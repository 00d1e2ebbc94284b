//! `/api/rooms`: rooms, and who is in them (docs/PROTOCOL.md, section 11).
//!
//! Owns: HTTP, and who may ask. What becomes of a room is decided with the room (`signalbox_rooms`): by the node of this process where
//! it serves peers, so that they hear at once, else by a clerk. A file is a part of the path, a function is a method.

pub(super) mod messages;
pub(super) mod participants;
pub(super) mod room;
pub(super) mod room_list;
mod room_principal;
mod room_settings;
pub(super) mod room_tokens;
mod views;

use std::sync::Arc;

use actix_web::{HttpRequest, Route, web};
use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::{
    room::{InputOutcome, ManageRoom, NO_SUCH_PEER, NO_SUCH_ROOM, RoomAction, RoomState},
    room_service::RoomService,
    store::{RoomStore, StoreUnavailable},
};

use super::ApiPath;
use crate::AuthState;

pub(crate) use room_settings::RoomApiSettings;

/// The paths.
pub(super) fn room_paths(
    path: impl Copy + Fn(&'static str, &'static str, &[fn() -> Route]) -> ApiPath,
) -> Vec<ApiPath> {
    vec![
        path(
            "/api/rooms",
            "GET, POST",
            &[|| web::get().to(room_list::get), || web::post().to(room_list::post)],
        ),
        path(
            "/api/rooms/{room}",
            "GET, PATCH, DELETE",
            &[
                || web::get().to(room::get),
                || web::patch().to(room::patch),
                || web::delete().to(room::delete),
            ],
        ),
        path("/api/rooms/{room}/token", "POST", &[|| web::post().to(room_tokens::token)]),
        path("/api/rooms/{room}/join", "POST", &[|| web::post().to(room_tokens::join)]),
        path("/api/rooms/{room}/messages", "POST", &[|| web::post().to(messages::post)]),
        path("/api/rooms/{room}/bans", "POST", &[|| web::post().to(participants::ban)]),
        path(
            "/api/rooms/{room}/participants",
            "GET, DELETE",
            &[|| web::get().to(participants::list), || web::delete().to(participants::remove_members)],
        ),
        path(
            "/api/rooms/{room}/participants/{peer}",
            "PATCH, DELETE",
            &[|| web::patch().to(participants::patch), || web::delete().to(participants::remove)],
        ),
        path(
            "/api/rooms/{room}/participants/{peer}/{verb:admit|deny}",
            "POST",
            &[|| web::post().to(participants::decide_lobby)],
        ),
        path("/api/rooms/{room}/end", "POST", &[|| web::post().to(room::end)]),
        path(
            "/api/rooms/{room}/{verb:lock|unlock|enable|disable}",
            "POST",
            &[|| web::post().to(room::run_room_verb)],
        ),
    ]
}

/// The room that the path names.
fn room_in_request(request: &HttpRequest) -> Result<RoomId, Problem> {
    RoomId::parse(request.match_info().get("room").unwrap_or_default()).map_err(|_| no_such_room())
}

fn no_such_room() -> Problem {
    NO_SUCH_ROOM.to_problem()
}

fn no_such_peer() -> Problem {
    NO_SUCH_PEER.to_problem()
}

fn room_store_problem(_: StoreUnavailable) -> Problem {
    let detail = "the store did not answer in time; nobody knows whether the room was changed";
    Problem::new(503, "unavailable", detail)
}

fn room_service(state: &AuthState) -> Result<&Arc<dyn RoomService>, Problem> {
    state.rooms.as_ref().ok_or_else(|| {
        Problem::new(503, "unavailable", "this process has no Redis and so no rooms; give it one")
    })
}

fn room_store(state: &AuthState) -> Result<&RoomStore, Problem> {
    Ok(room_service(state)?.store())
}

/// A room that is there.
///
/// # Errors
/// 404 `no_such_room`, 503.
async fn load_room(state: &AuthState, room: &RoomId) -> Result<RoomState, Problem> {
    let found = room_store(state)?.load_room(room).await.map_err(room_store_problem)?;
    found.room.filter(|room| room.exists(found.now)).ok_or_else(no_such_room)
}

/// Changes a room.
///
/// # Errors
/// The problem of a refused outcome, 503.
async fn change_room(
    state: &AuthState,
    room: &RoomId,
    act: RoomAction,
) -> Result<(InputOutcome, Arc<RoomState>), Problem> {
    let (outcome, room) = room_service(state)?
        .change_room(room, ManageRoom::from_api(act))
        .await
        .map_err(room_store_problem)?;
    match outcome.refusal() {
        Some(refusal) => Err(refusal.to_problem()),
        None => Ok((outcome, room)),
    }
}

/// An event with a stable name.
fn log_room_change(event: &'static str, caller: &CallerId, room: &RoomId) {
    tracing::info!(target: "signalbox_auth::audit", event, %caller, %room, "room_changed");
}
