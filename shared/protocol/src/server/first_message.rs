//! The first frame of a connection: `joined` for a member, `waiting` for a peer in the lobby.

use std::sync::Arc;

use serde::Serialize;

use super::{IcePolicy, IceServer, LobbyPeer, PeerInfo, RoomInfo, WireLimits};
use crate::id::{NodeId, PeerId, Role, RoomId, UserId};

/// The first frame of a member. It holds everything that the peer needs to begin.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct JoinedMessage {
    /// This peer.
    pub peer_id: PeerId,
    /// The room that the peer joined.
    pub room_id: RoomId,
    /// The user of the peer.
    pub user_id: UserId,
    /// The role of the peer.
    pub role: Role,
    /// The permissions of the peer.
    pub permissions: Arc<[Arc<str>]>,
    /// The node that serves the connection.
    pub node: NodeId,
    /// The other peers of the room.
    pub peers: Vec<PeerInfo>,
    /// The settings of the room.
    pub room: RoomInfo,
    /// The peers in the lobby. Only a peer that may admit them receives this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<LobbyPeer>,
    /// `RTCConfiguration.iceServers`.
    pub ice_servers: Arc<[IceServer]>,
    /// `RTCConfiguration.iceTransportPolicy`.
    pub ice_policy: IcePolicy,
    /// The resume handle; null if this server offers no resume.
    pub resume: Option<String>,
    /// The seq before the first entry that follows.
    pub seq: u64,
    /// The limits in force.
    pub limits: WireLimits,
    /// Milliseconds between the server's pings.
    pub ping_interval: u64,
    /// The resume window, milliseconds: how long the handle is valid after a lost connection.
    pub resume_window: u64,
    /// The optional parts of the protocol that this server serves.
    pub features: Vec<String>,
}

/// The first frame of a peer that waits in the lobby.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WaitingMessage {
    /// This peer.
    pub peer_id: PeerId,
    /// The room that the peer waits to join.
    pub room_id: RoomId,
    /// The user of the peer.
    pub user_id: UserId,
    /// The role of the peer.
    pub role: Role,
    /// Whether a peer of the room may admit this one; `lobby-updated` reports a change.
    pub moderator_present: bool,
    /// The node that serves the connection.
    pub node: NodeId,
    /// The resume handle; null if this server offers no resume.
    pub resume: Option<String>,
    /// Always 0: a peer in the lobby receives no entries.
    pub seq: u64,
    /// The limits in force.
    pub limits: WireLimits,
    /// Milliseconds between the server's pings.
    pub ping_interval: u64,
    /// The resume window, milliseconds: how long the handle is valid after a lost connection.
    pub resume_window: u64,
    /// The optional parts of the protocol that this server serves.
    pub features: Vec<String>,
}
