//! The configured roles, as rooms need them: which roles skip the lobby, and of which roles the
//! server must inspect the payloads (SDP and ICE candidates) to enforce their rules.
//!
//! Must not: inspect a payload. The signaling node does, by the same rule; a test in
//! `signal-service/src/payload_filter.rs` compares the two.

use std::{collections::BTreeMap, sync::Arc};

use signalbox_config::{CandidateSettings, LobbyPolicy, RoleTemplate, ServiceSettings};
use signalbox_protocol::{IcePolicy, id::Role};

/// If a role lacks one of these permissions, the server inspects its SDP and removes or refuses what
/// the role may not send.
const ENFORCED_PERMISSIONS: [&str; 3] = ["publish", "share", "data"];

/// The roles of the configuration.
#[derive(Debug, Clone, Default)]
pub struct RoomRolePolicy {
    ice_policy: IcePolicy,
    // Shared: each decision receives the policy.
    roles: Arc<BTreeMap<Role, RoleTemplate>>,
}

impl RoomRolePolicy {
    /// From the configuration.
    pub fn new(settings: &ServiceSettings) -> Self {
        Self { ice_policy: settings.ice.policy, roles: settings.roles.0.clone().into() }
    }

    /// Why the server must inspect the payloads of a member, as a text for an operator. `None`: the
    /// server need not. A role that is not configured has the permissions of its token.
    pub fn payload_inspection_reason(&self, role: &Role, permissions: &[Arc<str>]) -> Option<String> {
        self.payload_inspection_reason_with(role, |name| {
            permissions.iter().any(|permission| &**permission == name)
        })
    }

    /// Whether the server must inspect the payloads of a member.
    pub(super) fn inspects_payloads(&self, role: &Role, permissions: &[Arc<str>]) -> bool {
        self.payload_inspection_reason(role, permissions).is_some()
    }

    /// The reason for the first of these roles whose payloads the server must inspect. Each role
    /// has its configured permissions.
    pub fn first_payload_inspection_reason<'a>(
        &'a self,
        roles: impl IntoIterator<Item = &'a Role>,
    ) -> Option<String> {
        roles.into_iter().find_map(|role| {
            let permissions = self.roles.get(role).map_or(&[][..], |template| &template.permissions);
            self.payload_inspection_reason_with(role, |name| {
                permissions.iter().any(|permission| permission == name)
            })
        })
    }

    /// All configured roles.
    pub fn role_names(&self) -> impl Iterator<Item = &Role> {
        self.roles.keys()
    }

    fn payload_inspection_reason_with(&self, role: &Role, may: impl Fn(&str) -> bool) -> Option<String> {
        if let Some(name) = ENFORCED_PERMISSIONS.into_iter().find(|name| !may(name)) {
            return Some(format!("the role {role} lacks `{name}`, so its descriptions are read"));
        }
        let template = self.roles.get(role);
        if template.and_then(|template| template.ice).unwrap_or(self.ice_policy) == IcePolicy::Relay {
            return Some(format!("the role {role} is to be relayed, so its descriptions are changed"));
        }
        let filters = template.is_some_and(|template| template.candidates != CandidateSettings::default());
        filters.then(|| format!("the role {role} has rules for candidates, so its descriptions are changed"))
    }

    /// Whether a role does not wait in the lobby.
    pub(super) fn role_skips_lobby(&self, role: &Role) -> bool {
        self.roles.get(role).is_some_and(|template| template.lobby == Some(LobbyPolicy::Pass))
    }
}
