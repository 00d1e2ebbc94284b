//! What operators hear: rooms and peers as they come and go (docs/PROTOCOL.md, section 9). At most once; never on the
//! message path.

use serde::Serialize;

use crate::id::{NodeId, PeerId, Role, RoomId, UserId};

/// What can happen.
pub const FEED_EVENTS: [&str; 13] = [
    "room-created",
    "room-updated",
    "room-deleted",
    "peer-permissions",
    "peer-knocked",
    "knock-ended",
    "room-opened",
    "room-closed",
    "peer-joined",
    "peer-updated",
    "peer-detached",
    "peer-attached",
    "peer-left",
];

/// One line of the feed. It holds no token, no SDP, no candidate and no address.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedEvent {
    /// Names it for good, `evt_` and 32 hexadecimal digits: who hears it twice can tell.
    pub id: String,
    /// What happened: `room-opened`, `peer-joined`, …
    pub event: &'static str,
    /// When, milliseconds since 1970.
    pub at: u64,
    /// Where.
    pub room: RoomId,
    /// The node that did it.
    pub node: NodeId,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<PeerId>,
    /// Its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Its role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Why, of a `peer-left`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

impl FeedEvent {
    /// The line as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
