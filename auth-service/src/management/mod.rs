//! `/api/…` and `/ws/events`: the management API of applications.
//!
//! - `rooms`: rooms and their peers, room tokens, invites; `room_settings`: their configuration
//! - `access_rules`: revocations, bans, denied addresses, notices, limits, the shutdown
//! - `usage` over `usage_reader`; `dead_letters` over `webhooks`
//! - `event_feed` over `feed_subscription`: the feed of operators; `feed_readers`: its places
//! - `management_service`: the objects that the routes share
//!
//! Must not: sign a token itself (`auth/token_issuer.rs` does). Next: `rooms`.

pub(crate) mod access_rules;
pub(crate) mod dead_letters;
pub(crate) mod event_feed;
pub(crate) mod feed_readers;
pub mod feed_subscription;
pub(crate) mod management_service;
pub(crate) mod room_settings;
pub(crate) mod rooms;
pub(crate) mod usage;
pub mod usage_reader;
pub mod webhooks;

use actix_web::web::{get, post};

use crate::context::api_path::ApiPath;

/// The paths of this area, without the event feed.
pub(crate) fn paths() -> Vec<ApiPath> {
    let mut paths = vec![
        ApiPath::new("/api/usage", "GET", [get().to(usage::get)]),
        ApiPath::new("/api/webhooks/dead", "GET", [get().to(dead_letters::list_dead_letters)]),
        ApiPath::new("/api/webhooks/replay", "POST", [post().to(dead_letters::replay_dead_letters)]),
    ];
    paths.extend(rooms::paths());
    paths.extend(access_rules::paths());
    paths
}
