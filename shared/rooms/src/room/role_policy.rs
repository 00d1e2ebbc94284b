//! What the configuration says of roles, as far as rooms go by it: what of a role must be read, and who passes a lobby.
//!
//! Must not: read a description itself. What is read of a role is up to the signaling node, which has the same rule
//! (`signal-service/src/rules.rs`, where a test holds the two together).

use std::{collections::BTreeMap, sync::Arc};

use signalbox_config::{CandidateSettings, LobbyPolicy, RoleTemplate, ServiceSettings};
use signalbox_protocol::{IcePolicy, id::Role};

/// Without one of these what a role sends must be read, lest it sends it all the same.
const ENFORCED_PERMISSIONS: [&str; 3] = ["publish", "share", "data"];

/// The roles of the configuration.
#[derive(Debug, Clone, Default)]
pub struct RoomRolePolicy {
    ice_policy: IcePolicy,
    // Shared: rules are handed to each decision.
    roles: Arc<BTreeMap<Role, RoleTemplate>>,
}

impl RoomRolePolicy {
    /// From the configuration.
    pub fn new(settings: &ServiceSettings) -> Self {
        Self { ice_policy: settings.ice.policy, roles: settings.roles.0.clone().into() }
    }

    /// Why descriptions or candidates of a member must be read, for a person; none if they need not be. A role that the configuration
    /// does not have (any more) has the permissions that its token says.
    pub fn inspection_reason(&self, role: &Role, permissions: &[Arc<str>]) -> Option<String> {
        self.inspection_reason_with(role, |name| permissions.iter().any(|permission| &**permission == name))
    }

    /// The same of the first of some roles, with the permissions that the configuration gives it.
    pub fn first_inspection_reason<'a>(
        &'a self,
        roles: impl IntoIterator<Item = &'a Role>,
    ) -> Option<String> {
        roles.into_iter().find_map(|role| {
            let permissions = self.roles.get(role).map_or(&[][..], |template| &template.permissions);
            self.inspection_reason_with(role, |name| permissions.iter().any(|permission| permission == name))
        })
    }

    /// All roles that the configuration has.
    pub fn role_names(&self) -> impl Iterator<Item = &Role> {
        self.roles.keys()
    }

    fn inspection_reason_with(&self, role: &Role, may: impl Fn(&str) -> bool) -> Option<String> {
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

    /// Whether a role need not wait in a lobby.
    pub(super) fn role_skips_lobby(&self, role: &Role) -> bool {
        self.roles.get(role).is_some_and(|template| template.lobby == Some(LobbyPolicy::Pass))
    }
}
