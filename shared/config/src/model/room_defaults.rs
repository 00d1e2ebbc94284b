//! Rooms, and what their members are told of ICE.

use serde::{Deserialize, Serialize};

use crate::units::TimeSpan;
use signalbox_protocol::{
    IcePolicy, IceServer,
    id::{RegionId, Role},
};

/// Rooms and who makes them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomDefaults {
    /// Whether a room that nobody made springs up at the first join.
    pub implicit: bool,
    /// How long a room that was made is there though nobody is in it; at most 24 h.
    pub kept: TimeSpan,
    /// Most rooms that one user has made and that are still kept; made with an API key they do not count.
    pub per_user: u32,
    /// The role of a user in the rooms it has made. Unset: `host` where there is one, else its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creator_role: Option<Role>,
    /// Where clients connect, as `wss://rtc.example/ws/signal`, told by `/join`. Unset: the path `/ws/signal` of the same site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_url: Option<String>,
}

impl Default for RoomDefaults {
    fn default() -> Self {
        Self {
            implicit: true,
            kept: TimeSpan::secs(24 * 60 * 60),
            per_user: 100,
            creator_role: None,
            signal_url: None,
        }
    }
}

/// What a client is told about ICE.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IceSettings {
    /// `RTCConfiguration.iceTransportPolicy`, where a role does not say otherwise.
    pub policy: IcePolicy,
    /// How long a TURN credential is good.
    pub turn_ttl: TimeSpan,
    /// `RTCConfiguration.iceServers`, as it is.
    pub servers: Vec<IceServer>,
    /// TURN servers that credentials are minted for.
    pub turn: Vec<TurnServer>,
}

impl Default for IceSettings {
    fn default() -> Self {
        Self { policy: IcePolicy::All, turn_ttl: TimeSpan::secs(60 * 60), servers: vec![], turn: vec![] }
    }
}

/// TURN servers with the same secret, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnServer {
    /// `turn:` and `turns:` URLs (RFC 7065).
    pub urls: Vec<String>,
    /// Where it is. A client whose token names this region is told of the servers there only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}
