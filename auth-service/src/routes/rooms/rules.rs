//! What the configuration says of rooms, as the API needs it.

use signalbox_config::Settings;
use signalbox_protocol::{IcePolicy, id::Role};
use signalbox_rooms::room::{LONGEST_KEPT_MS, Rules};

use crate::AuthState;

/// The rules of the configuration that the API judges by itself.
pub(crate) struct RoomRules {
    /// As a node decides by, with the limits of the configuration: [`AuthState::live_rules`] has those in force.
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
            ice: settings.ice.policy,
            roles: settings.roles.0.iter().map(|(role, template)| (role.clone(), template.ice)).collect(),
        }
    }

    /// The ICE policy of a role.
    pub(super) fn ice_policy(&self, role: &Role) -> IcePolicy {
        self.roles.iter().find(|(known, _)| known == role).and_then(|(_, ice)| *ice).unwrap_or(self.ice)
    }
}

impl AuthState {
    /// The rules of rooms, with the limits in force.
    pub(super) fn live_rules(&self) -> Rules {
        let rules = self.room_rules.rules.clone();
        let limits = self.control.rules().limits(self.control.now_ms());
        let largest = |peers: u32| peers.clamp(1, self.largest_room) as usize;
        Rules {
            room_peers: limits.room_peers.map_or(rules.room_peers, largest),
            user_peers: limits.user_peers.map_or(rules.user_peers, |peers| peers.max(1) as usize),
            ..rules
        }
    }
}
