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
    /// How many peers that may admit or moderate join beyond the limit of a full room.
    pub max_extra_moderators: usize,
    /// The maximum number of peers in the lobby. They take no place of the room.
    pub max_waiting_peers: usize,
    /// The maximum number of peers in the lobby whose tokens one caller requested.
    pub max_waiting_per_caller: usize,
    /// The maximum number of users with a sanction.
    pub max_sanctions: usize,
    /// The resume window of a detached peer, and the life of a tombstone, milliseconds.
    pub resume_window_ms: u64,
    /// The resume window of a peer whose client has announced that its page closes, milliseconds.
    pub going_window_ms: u64,
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
        let limits = &settings.limits;
        Self {
            max_room_peers: limits.room_peers as usize,
            max_user_peers: limits.user_peers as usize,
            max_extra_moderators: limits.extra_moderators as usize,
            max_waiting_peers: limits.lobby_places() as usize,
            max_waiting_per_caller: limits.share_of_one(limits.lobby_places()) as usize,
            // A removal of all peers leaves one sanction for each.
            max_sanctions: limits.room_sanctions.max(limits.room_peers) as usize,
            resume_window_ms: settings.timing.resume_window.as_ms(),
            going_window_ms: settings.timing.going_window.min(settings.timing.resume_window).as_ms(),
            max_room_life_ms: settings.timing.room_life.as_ms(),
            ended_room_retention_ms: settings.rooms.kept.as_ms(),
            auto_create_rooms: settings.rooms.implicit,
            role_policy: Arc::new(RoomRolePolicy::new(settings)),
        }
    }
}
