//! The section `[ice]`.

use serde::{Deserialize, Serialize};

use crate::units::TimeSpan;
use signalbox_protocol::{IcePolicy, IceServer, id::RegionId};

/// The section `[ice]`: the ICE configuration of clients.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IceSettings {
    /// `RTCConfiguration.iceTransportPolicy` for roles that set no `ice`.
    pub policy: IcePolicy,
    /// How long a TURN credential is valid; 4 s to 24 h.
    pub turn_ttl: TimeSpan,
    /// `RTCConfiguration.iceServers` for clients, unchanged.
    pub servers: Vec<IceServer>,
    /// TURN servers for which each client gets its own credentials.
    pub turn: Vec<TurnServer>,
}

impl Default for IceSettings {
    fn default() -> Self {
        Self { policy: IcePolicy::All, turn_ttl: TimeSpan::secs(60 * 60), servers: vec![], turn: vec![] }
    }
}

/// The URLs of TURN servers in one region that have the same secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnServer {
    /// `turn:` and `turns:` URLs (RFC 7065).
    pub urls: Vec<String>,
    /// A client whose token names this region gets only the servers of the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}
