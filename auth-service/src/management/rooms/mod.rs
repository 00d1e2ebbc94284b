//! `/api/rooms`: rooms and their peers (docs/PROTOCOL.md, section 11).
//!
//! Owns: HTTP and authorization. Must not: decide how a room changes. The room service decides
//! (`signalbox_rooms`): the node of this process, or a remote one. A file is a part of the path.
//! Next: `room_access.rs` calls the room service.

pub(crate) mod bans;
pub(crate) mod create;
pub(crate) mod invites;
pub(crate) mod join;
pub(crate) mod messages;
pub(crate) mod participants;
pub(crate) mod room;
mod room_access;
pub(crate) mod room_list;
mod room_principal;
mod room_settings_request;
mod room_token;
pub(crate) mod sanctions;
pub(crate) mod timeline;
pub(crate) mod token;
mod views;

use actix_web::web::{delete, get, patch, post};

use crate::context::api_path::ApiPath;

/// The paths of rooms.
pub(crate) fn paths() -> Vec<ApiPath> {
    vec![
        ApiPath::new("/api/rooms", "GET, POST", [get().to(room_list::get), post().to(create::post)]),
        ApiPath::new(
            "/api/rooms/{room}",
            "GET, PATCH, DELETE",
            [get().to(room::get), patch().to(room::patch), delete().to(room::delete)],
        ),
        ApiPath::new(
            "/api/rooms/{room}/invites",
            "GET, POST",
            [get().to(invites::get), post().to(invites::post)],
        ),
        ApiPath::new("/api/rooms/{room}/invites/{invite}", "DELETE", [delete().to(invites::delete)]),
        ApiPath::new("/api/rooms/{room}/token", "POST", [post().to(token::token)]),
        ApiPath::new("/api/rooms/{room}/join", "POST", [post().to(join::join)]),
        ApiPath::new("/api/rooms/{room}/messages", "POST", [post().to(messages::post)]),
        ApiPath::new("/api/rooms/{room}/bans", "POST", [post().to(bans::ban)]),
        ApiPath::new(
            "/api/rooms/{room}/participants",
            "GET, DELETE",
            [get().to(participants::list), delete().to(participants::remove_matching_peers)],
        ),
        ApiPath::new(
            "/api/rooms/{room}/participants/{peer}",
            "PATCH, DELETE",
            [patch().to(participants::patch), delete().to(participants::remove)],
        ),
        ApiPath::new(
            "/api/rooms/{room}/participants/{peer}/{verb:admit|deny}",
            "POST",
            [post().to(participants::decide_lobby_peer)],
        ),
        ApiPath::new("/api/rooms/{room}/sanctions", "GET", [get().to(sanctions::list)]),
        ApiPath::new("/api/rooms/{room}/sanctions/{user}", "DELETE", [delete().to(sanctions::lift)]),
        ApiPath::new("/api/rooms/{room}/timeline", "GET", [get().to(timeline::get)]),
        ApiPath::new("/api/rooms/{room}/end", "POST", [post().to(room::end)]),
        ApiPath::new(
            "/api/rooms/{room}/{verb:lock|unlock|enable|disable}",
            "POST",
            [post().to(room::run_room_verb)],
        ),
    ]
}
