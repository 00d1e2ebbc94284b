//! `/api/rooms`: rooms, and who is in them (docs/PROTOCOL.md, section 11).
//!
//! Owns: HTTP, and who may ask. What becomes of a room is decided with the room (`signalbox_rooms`): by the node of this process where
//! it serves peers, so that they hear at once, else by a clerk. A file is a part of the path, a function is a method.

pub(super) mod collection;
pub(super) mod one;
pub(super) mod participants;
mod rules;
mod shown;
pub(super) mod tokens;
mod who;
pub(super) mod words;

use std::sync::Arc;

use actix_web::{HttpRequest, Route, web};
use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::{
    clerk::Rooms,
    room::{Act, Manage, Outcome, RoomState},
    store::{Store, Unavailable},
};

use super::Path;
use crate::AuthState;

pub(crate) use rules::RoomRules;

/// The paths.
pub(super) fn paths(path: impl Copy + Fn(&'static str, &'static str, &[fn() -> Route]) -> Path) -> Vec<Path> {
    vec![
        path(
            "/api/rooms",
            "GET, POST",
            &[|| web::get().to(collection::get), || web::post().to(collection::post)],
        ),
        path(
            "/api/rooms/{room}",
            "GET, PATCH, DELETE",
            &[|| web::get().to(one::get), || web::patch().to(one::patch), || web::delete().to(one::delete)],
        ),
        path("/api/rooms/{room}/token", "POST", &[|| web::post().to(tokens::token)]),
        path("/api/rooms/{room}/join", "POST", &[|| web::post().to(tokens::join)]),
        path("/api/rooms/{room}/messages", "POST", &[|| web::post().to(words::post)]),
        path("/api/rooms/{room}/bans", "POST", &[|| web::post().to(participants::ban)]),
        path(
            "/api/rooms/{room}/participants",
            "GET, DELETE",
            &[|| web::get().to(participants::list), || web::delete().to(participants::remove_some)],
        ),
        path(
            "/api/rooms/{room}/participants/{peer}",
            "PATCH, DELETE",
            &[|| web::patch().to(participants::patch), || web::delete().to(participants::remove)],
        ),
        path(
            "/api/rooms/{room}/participants/{peer}/{verb:admit|deny}",
            "POST",
            &[|| web::post().to(participants::decide)],
        ),
        path("/api/rooms/{room}/end", "POST", &[|| web::post().to(one::end)]),
        path("/api/rooms/{room}/{verb:lock|unlock|enable|disable}", "POST", &[|| web::post().to(one::act)]),
    ]
}

/// The room that the path names.
fn room_in(request: &HttpRequest) -> Result<RoomId, Problem> {
    RoomId::parse(request.match_info().get("room").unwrap_or_default()).map_err(|_| no_such_room())
}

fn no_such_room() -> Problem {
    Problem::new(404, "no_such_room", "there is no such room")
}

fn no_such_peer() -> Problem {
    Problem::new(404, "no_such_peer", "there is no such peer in this room, or it does not wait")
}

fn unavailable(_: Unavailable) -> Problem {
    let detail = "the store did not answer in time; nobody knows whether the room was changed";
    Problem::new(503, "unavailable", detail)
}

fn rooms(state: &AuthState) -> Result<&Arc<dyn Rooms>, Problem> {
    state.rooms.as_ref().ok_or_else(|| {
        Problem::new(503, "unavailable", "this process has no Redis and so no rooms; give it one")
    })
}

fn store(state: &AuthState) -> Result<&Store, Problem> {
    rooms(state)?.store().map_err(unavailable)
}

/// A room that is there.
///
/// # Errors
/// 404 `no_such_room`, 503.
async fn load(state: &AuthState, room: &RoomId) -> Result<RoomState, Problem> {
    let found = store(state)?.load(room).await.map_err(unavailable)?;
    found.room.filter(|room| room.is_there(found.now)).ok_or_else(no_such_room)
}

/// Changes a room.
///
/// # Errors
/// The problem of its outcome, where it did not come to it.
async fn change(state: &AuthState, room: &RoomId, act: Act) -> Result<(Outcome, Arc<RoomState>), Problem> {
    let (outcome, room) = rooms(state)?.change(room, Manage::api(act)).await.map_err(unavailable)?;
    match problem_of(outcome) {
        Some(problem) => Err(problem),
        None => Ok((outcome, room)),
    }
}

/// Why something did not come about; none if it did.
fn problem_of(outcome: Outcome) -> Option<Problem> {
    let (status, code, detail) = match outcome {
        Outcome::Done | Outcome::Attached(_) | Outcome::Removed(_) => return None,
        Outcome::NoSuchRoom => return Some(no_such_room()),
        Outcome::NoSuchPeer | Outcome::Gone | Outcome::Replaced | Outcome::Expired => {
            return Some(no_such_peer());
        }
        Outcome::RoomExists => (409, "room_exists", "there is such a room already"),
        Outcome::RoomFull => (409, "room_full", "the room has no place left"),
        Outcome::TokenInUse => (409, "conflict", "the peer of this token is connected"),
        Outcome::UserLimit => (409, "user_limit", "this user is in the room as often as it may be"),
        Outcome::RoomLocked => (403, "room_locked", "the room is locked and takes nobody in"),
        Outcome::RoomDisabled => (403, "room_disabled", "the room is switched off"),
        Outcome::NotStarted => (403, "room_not_started", "the room has not begun"),
        Outcome::NotAllowed => {
            (403, "room_not_allowed", "there is no such room, and none is made by joining")
        }
        Outcome::RoleNotTaken => {
            let detail = "the room takes nobody in with this role";
            return Some(Problem::new(403, "role_not_allowed", detail).field("role"));
        }
        Outcome::MustNotRead => {
            let detail = "the room demands encryption end to end, and this would make the server read what somebody sends";
            return Some(Problem::new(409, "conflict", detail));
        }
        Outcome::NotPermitted => (403, "not_permitted", "that is not permitted"),
    };
    Some(Problem::new(status, code, detail))
}

/// An event with a stable name.
fn audit(event: &'static str, caller: &CallerId, room: &RoomId) {
    tracing::info!(target: "signalbox_auth::audit", event, %caller, %room, "room_changed");
}
