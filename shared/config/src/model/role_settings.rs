//! The section `[roles]`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use signalbox_protocol::{IcePolicy, id::Role};

/// The section `[roles]`: all roles by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleSettings(pub BTreeMap<Role, RoleTemplate>);

/// One role: its permissions and the rules for its ICE candidates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoleTemplate {
    /// Some of [`PERMISSIONS`].
    pub permissions: Vec<String>,
    /// Its `RTCConfiguration.iceTransportPolicy`. With `relay`, no other candidate is forwarded
    /// from it or to it. Unset: `ice.policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice: Option<IcePolicy>,
    /// Which of its candidates are forwarded.
    pub candidates: CandidateSettings,
    /// Whether it waits in a room with a lobby. Unset: it waits. A role with `admit` or `moderate`
    /// never waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lobby: Option<LobbyPolicy>,
}

/// Whether a role waits in a room with a lobby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LobbyPolicy {
    /// It waits until a moderator admits it.
    Wait,
    /// It joins without waiting.
    Pass,
}

/// Which candidates of a role are forwarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CandidateSettings {
    /// Whether host candidates with a private address are dropped; mDNS names are forwarded.
    pub drop_private: bool,
    /// Candidates with an address in one of these networks are dropped.
    pub deny: Vec<IpNet>,
    /// If not empty: candidates with an address outside these networks are dropped.
    pub allow: Vec<IpNet>,
}

/// All permissions: send audio and video, send messages, moderate the room, admit peers from the
/// lobby, end the room, send more than one video, open data channels, create rooms.
pub const PERMISSIONS: [&str; 8] =
    ["publish", "message", "moderate", "admit", "end", "share", "data", "create"];

impl Default for RoleSettings {
    fn default() -> Self {
        let table: [(&str, &[&str]); 5] = [
            ("host", &PERMISSIONS),
            ("moderator", &["publish", "message", "moderate", "admit", "share", "data"]),
            ("speaker", &["publish", "message", "share", "data"]),
            ("guest", &["publish", "message", "share", "data"]),
            ("viewer", &[]),
        ];
        let entry = |(name, permissions): (&str, &[&str])| {
            let permissions = permissions.iter().map(|p| (*p).to_owned()).collect();
            (literal_role(name), RoleTemplate { permissions, ..RoleTemplate::default() })
        };
        Self(table.into_iter().map(entry).collect())
    }
}

#[expect(clippy::expect_used, reason = "only called with literal names, which a test parses")]
pub(super) fn literal_role(name: &str) -> Role {
    Role::parse(name).expect("a literal role name")
}
