//! What the configuration says of rooms.

use std::sync::Arc;

use signalbox_config::Settings;

use super::roles::RoleBook;

/// The limits the rules need.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Most peers in a room.
    pub room_peers: usize,
    /// Most peers of one user in a room.
    pub user_peers: usize,
    /// How long a detached peer has, and a peer that left is remembered, milliseconds.
    pub window_ms: u64,
    /// The longest life of a room, milliseconds.
    pub room_life_ms: u64,
    /// How long a room is kept that is locked by its end, milliseconds.
    pub kept_ms: u64,
    /// Whether a room that nobody made springs up at the first join.
    pub implicit: bool,
    /// The roles.
    pub roles: Arc<RoleBook>,
}

impl Rules {
    /// From the configuration.
    pub fn new(settings: &Settings) -> Self {
        Self {
            room_peers: settings.limits.room_peers as usize,
            user_peers: settings.limits.user_peers as usize,
            window_ms: settings.timing.resume_window.as_ms(),
            room_life_ms: settings.timing.room_life.as_ms(),
            kept_ms: settings.rooms.kept.as_ms(),
            implicit: settings.rooms.implicit,
            roles: Arc::new(RoleBook::new(settings)),
        }
    }
}
