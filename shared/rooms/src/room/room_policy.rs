//! The configuration of rooms.

use std::sync::Arc;

use signalbox_config::ServiceSettings;

use super::role_policy::RoomRolePolicy;

/// The limits that apply to all rooms.
#[derive(Debug, Clone)]
pub struct RoomPolicy {
    /// The maximum number of peers in a room.
    pub max_room_peers: usize,
    /// The maximum number of peers of one user in a room.
    pub max_user_peers: usize,
    /// The resume window of a detached peer, and the life of a tombstone, milliseconds.
    pub resume_window_ms: u64,
    /// The longest life of a room, milliseconds.
    pub max_room_life_ms: u64,
    /// The time for which an ended and locked room is kept, milliseconds.
    pub ended_room_retention_ms: u64,
    /// Whether a join creates a room that does not exist (setting `rooms.implicit`).
    pub auto_create_rooms: bool,
    /// The roles.
    pub role_policy: Arc<RoomRolePolicy>,
}

impl RoomPolicy {
    /// From the configuration.
    pub fn new(settings: &ServiceSettings) -> Self {
        Self {
            max_room_peers: settings.limits.room_peers as usize,
            max_user_peers: settings.limits.user_peers as usize,
            resume_window_ms: settings.timing.resume_window.as_ms(),
            max_room_life_ms: settings.timing.room_life.as_ms(),
            ended_room_retention_ms: settings.rooms.kept.as_ms(),
            auto_create_rooms: settings.rooms.implicit,
            role_policy: Arc::new(RoomRolePolicy::new(settings)),
        }
    }
}
