//! The settings of rooms, as the API needs them.

use signalbox_access::LimitChanges;
use signalbox_config::ServiceSettings;
use signalbox_protocol::{IcePolicy, id::Role};
use signalbox_rooms::room::{MAX_ROOM_RETENTION_MS, RoomPolicy};

/// The settings of rooms that the API applies itself.
pub(crate) struct RoomApiSettings {
    /// The policy of a node with the configured limits; [`RoomApiSettings::policy_with`] applies
    /// the limits in force.
    pub(crate) policy: RoomPolicy,
    /// How long a created room is kept, milliseconds.
    pub(crate) retention_ms: u64,
    /// The most rooms of one user.
    pub(crate) max_rooms_per_user: u32,
    /// The most rooms of one API key.
    pub(crate) max_rooms_per_key: u32,
    /// The role of a user in a room that the user created.
    pub(crate) creator_role: Option<Role>,
    /// The URL that clients connect to.
    pub(crate) signal_url: String,
    /// The URL of the call page.
    pub(crate) page_url: String,
    pub(crate) max_metadata_bytes: usize,
    pub(crate) max_data_bytes: usize,
    /// The most peers of a room whose list fits into one frame.
    pub(crate) max_room_peers: u32,
    default_ice_policy: IcePolicy,
    role_ice_policies: Vec<(Role, Option<IcePolicy>)>,
}

impl RoomApiSettings {
    /// Reads the configuration.
    pub(crate) fn new(settings: &ServiceSettings) -> Self {
        let host = || Role::parse("host").ok().filter(|host| settings.roles.0.contains_key(host));
        let rooms = &settings.rooms;
        Self {
            policy: RoomPolicy::new(settings),
            retention_ms: rooms.kept.as_ms().min(MAX_ROOM_RETENTION_MS),
            max_rooms_per_user: rooms.per_user,
            max_rooms_per_key: rooms.per_key,
            creator_role: rooms.creator_role.clone().or_else(host),
            signal_url: rooms.signal_url.clone().unwrap_or_else(|| "/ws/signal".to_owned()),
            page_url: rooms.page_url.clone().unwrap_or_else(|| "/".to_owned()),
            max_metadata_bytes: settings.limits.metadata.0,
            max_data_bytes: settings.limits.data.0,
            max_room_peers: settings.limits.max_room_peers(),
            default_ice_policy: settings.ice.policy,
            role_ice_policies: settings
                .roles
                .0
                .iter()
                .map(|(role, template)| (role.clone(), template.ice))
                .collect(),
        }
    }

    /// The ICE policy of a role.
    pub(crate) fn ice_policy_of(&self, role: &Role) -> IcePolicy {
        self.role_ice_policies
            .iter()
            .find(|(name, _)| name == role)
            .and_then(|(_, ice)| *ice)
            .unwrap_or(self.default_ice_policy)
    }

    /// The policy with the limits in force.
    pub(crate) fn policy_with(&self, limits: &LimitChanges) -> RoomPolicy {
        let policy = self.policy.clone();
        let within_frame = |peers: u32| peers.clamp(1, self.max_room_peers) as usize;
        RoomPolicy {
            max_room_peers: limits.room_peers.map_or(policy.max_room_peers, within_frame),
            max_user_peers: limits.user_peers.map_or(policy.max_user_peers, |peers| peers.max(1) as usize),
            ..policy
        }
    }
}
