//! The first frame: of a member, and of one that waits to be let in.

use std::sync::Arc;

use serde::Serialize;

use super::{IcePolicy, IceServer, LobbyPeer, PeerInfo, RoomInfo, WireLimits};
use crate::id::{NodeId, PeerId, Role, RoomId, UserId};

/// The first frame: everything a peer needs to begin, so that no further trip is needed.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct JoinedMessage {
    /// This peer.
    pub peer_id: PeerId,
    /// Its room.
    pub room_id: RoomId,
    /// Its user.
    pub user_id: UserId,
    /// Its role.
    pub role: Role,
    /// What the role may do.
    pub permissions: Arc<[Arc<str>]>,
    /// The process that serves the connection.
    pub node: NodeId,
    /// The others.
    pub peers: Vec<PeerInfo>,
    /// What the room is like.
    pub room: RoomInfo,
    /// Who waits to be let in, for those who may let somebody in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<LobbyPeer>,
    /// For `RTCConfiguration`.
    pub ice_servers: Arc<[IceServer]>,
    /// For `RTCConfiguration`.
    pub ice_policy: IcePolicy,
    /// What proves this peer when it comes back; null where that is not offered.
    pub resume: Option<String>,
    /// The number before the first entry.
    pub seq: u64,
    /// The limits in force.
    pub limits: WireLimits,
    /// Milliseconds between the server's pings.
    pub ping_interval: u64,
    /// Optional parts of the protocol that this server serves.
    pub features: Vec<String>,
}

/// The first frame of a peer that waits in the lobby.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WaitingMessage {
    /// This peer.
    pub peer_id: PeerId,
    /// The room it waits for.
    pub room_id: RoomId,
    /// Its user.
    pub user_id: UserId,
    /// Its role.
    pub role: Role,
    /// The process that serves the connection.
    pub node: NodeId,
    /// What proves this peer when it comes back.
    pub resume: Option<String>,
    /// Always 0: a peer that waits is told nothing.
    pub seq: u64,
    /// The limits in force.
    pub limits: WireLimits,
    /// Milliseconds between the server's pings.
    pub ping_interval: u64,
    /// Optional parts of the protocol that this server serves.
    pub features: Vec<String>,
}
