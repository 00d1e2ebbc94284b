//! The roles, and what each may do.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use signalbox_protocol::{IcePolicy, id::Role};

/// The roles there are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleSettings(pub BTreeMap<Role, RoleTemplate>);

/// What a role may do, and which ICE candidates it may show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoleTemplate {
    /// Some of [`PERMISSIONS`].
    pub permissions: Vec<String>,
    /// Its `RTCConfiguration.iceTransportPolicy`; with `relay` no other candidate is forwarded from it or to it. Unset: `ice.policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice: Option<IcePolicy>,
    /// Which candidates of it are forwarded.
    pub candidates: CandidateSettings,
    /// What it does in a room with a lobby. Unset: it waits. With `admit` or `moderate` it never waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lobby: Option<LobbyPolicy>,
}

/// What a role does in a room with a lobby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LobbyPolicy {
    /// It waits until somebody lets it in.
    Wait,
    /// It passes.
    Pass,
}

/// Which candidates are forwarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CandidateSettings {
    /// Whether host candidates with a private address are dropped. mDNS names pass.
    pub drop_private: bool,
    /// Candidates with an address in one of these are dropped.
    pub deny: Vec<IpNet>,
    /// Where it is not empty, candidates with an address in none of these are dropped.
    pub allow: Vec<IpNet>,
}

/// The permissions there are: send audio and video, send messages, moderate the room, let in from the lobby, end the room, share a
/// screen, open data channels, make rooms.
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

#[expect(clippy::expect_used, reason = "only called with the literal names above, which a test reads")]
pub(super) fn literal_role(name: &str) -> Role {
    Role::parse(name).expect("a literal role name")
}
