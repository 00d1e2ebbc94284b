//! What the configuration says of rooms, as the API needs it.

use signalbox_rooms::room::{LONGEST_KEPT_MS, Rules};
use signalbox_shared::{
    config::{CandidateTable, RoleTemplate, Settings},
    id::Role,
    protocol::IcePolicy,
};

/// The rules of the configuration that the API judges by itself.
pub(crate) struct RoomRules {
    /// As a node decides by.
    pub(super) rules: Rules,
    /// How long a made room is kept, milliseconds.
    pub(super) kept_ms: u64,
    /// Most rooms of a user.
    pub(super) per_user: u32,
    /// The role of a user in its own rooms.
    pub(super) creator_role: Option<Role>,
    /// Where clients connect.
    pub(super) signal_url: String,
    pub(super) metadata_max: usize,
    pub(super) data_max: usize,
    /// Why a room cannot demand encryption end to end; none if it can.
    pub(super) no_e2ee: Option<String>,
    ice: IcePolicy,
    roles: Vec<(Role, Option<IcePolicy>)>,
}

impl RoomRules {
    /// Reads them.
    pub(crate) fn new(settings: &Settings) -> Self {
        let host = || Role::parse("host").ok().filter(|host| settings.roles.0.contains_key(host));
        let rooms = &settings.rooms;
        Self {
            rules: Rules::new(settings),
            kept_ms: rooms.kept.as_ms().min(LONGEST_KEPT_MS),
            per_user: rooms.per_user,
            creator_role: rooms.creator_role.clone().or_else(host),
            signal_url: rooms.signal_url.clone().unwrap_or_else(|| "/ws/signal".to_owned()),
            metadata_max: settings.limits.metadata.0,
            data_max: settings.limits.data.0,
            no_e2ee: reader_of_sdp(settings),
            ice: settings.ice.policy,
            roles: settings.roles.0.iter().map(|(role, template)| (role.clone(), template.ice)).collect(),
        }
    }

    /// The ICE policy of a role.
    pub(super) fn ice_policy(&self, role: &Role) -> IcePolicy {
        self.roles.iter().find(|(known, _)| known == role).and_then(|(_, ice)| *ice).unwrap_or(self.ice)
    }
}

/// The first role whose descriptions or candidates the server must read or change.
fn reader_of_sdp(settings: &Settings) -> Option<String> {
    if settings.ice.policy == IcePolicy::Relay {
        return Some("ice.policy is relay, so candidates in descriptions are changed".to_owned());
    }
    let lacks = |template: &RoleTemplate, name: &str| !template.permissions.iter().any(|known| known == name);
    settings.roles.0.iter().find_map(|(role, template)| {
        if let Some(name) = ["publish", "share", "data"].into_iter().find(|name| lacks(template, name)) {
            return Some(format!("the role {role} lacks `{name}`, so its descriptions are read"));
        }
        let filters =
            template.ice == Some(IcePolicy::Relay) || template.candidates != CandidateTable::default();
        filters.then(|| format!("the role {role} has rules for candidates, so its descriptions are changed"))
    })
}
