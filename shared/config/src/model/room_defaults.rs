//! The section `[rooms]`.

use serde::{Deserialize, Serialize};

use crate::units::TimeSpan;
use signalbox_protocol::id::Role;

/// The section `[rooms]`: how rooms are created and how long they are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomDefaults {
    /// Whether the first join creates a room that does not exist.
    pub implicit: bool,
    /// How long a created room stays without peers; 1 min to 24 h.
    pub kept: TimeSpan,
    /// The most rooms that one user has created and that still exist; 1 to 10000. Rooms created
    /// with an API key do not count.
    pub per_user: u32,
    /// The most rooms that one API key has created and that still exist; 1 to 100000.
    pub per_key: u32,
    /// The role of a user in the rooms that the user has created. Unset: `host` if `[roles]` has
    /// it, else the user's own role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creator_role: Option<Role>,
    /// Where clients connect, like `wss://rtc.example/ws/signal`; `/join` and `/token` return it.
    /// Unset: the path `/ws/signal` of the same site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_url: Option<String>,
    /// Where the call page is, like `https://rtc.example/`; the API returns links to it. Unset: the
    /// path `/` of the same site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_url: Option<String>,
}

impl Default for RoomDefaults {
    fn default() -> Self {
        Self {
            implicit: true,
            kept: TimeSpan::secs(24 * 60 * 60),
            per_user: 100,
            per_key: 10_000,
            creator_role: None,
            signal_url: None,
            page_url: None,
        }
    }
}
