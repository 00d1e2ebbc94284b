//! Events about rooms and peers for operators (docs/PROTOCOL.md, section 9).
//!
//! Owns: the shape of a [`FeedEvent`]. Must not: carry a message of a peer. An event is sent at
//! most once.

use serde::Serialize;

use crate::{
    CredentialRoot, UserSource,
    id::{NodeId, PeerId, Role, RoomId, UserId},
};

/// The names of the events.
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

/// One event. It holds no token, no SDP, no candidate and no address.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedEvent {
    /// The id of the event: `evt_` and 32 hexadecimal digits. A receiver can detect duplicates.
    pub id: String,
    /// One of [`FEED_EVENTS`].
    pub event: &'static str,
    /// The time of the event, milliseconds since 1970.
    pub at: u64,
    /// The room of the event.
    pub room: RoomId,
    /// The node that committed the change.
    pub node: NodeId,
    /// The root that the event counts for: the API key that created the room, otherwise the root of
    /// a peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<CredentialRoot>,
    /// The peer of the event, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<PeerId>,
    /// The user of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Who has named the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<UserSource>,
    /// The role of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Why the peer left, for `peer-left`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

impl FeedEvent {
    /// The event as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
