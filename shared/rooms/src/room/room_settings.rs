//! The settings of a room.

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_protocol::{
    E2eeMode, RoomInfo,
    id::{CreationId, Role},
};

/// The longest time that an empty room is kept, milliseconds: a day.
pub const MAX_ROOM_RETENTION_MS: u64 = 24 * 60 * 60 * 1_000;

/// The settings of a room. The default is a room that a join has created: it is open, and ends with
/// its last member.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomSettings {
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// The JSON object that the application attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<RawValue>>,
    /// The maximum number of peers, if lower than the configured limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_peers: Option<u32>,
    /// The longest time that the room has members without a break, seconds, if shorter than
    /// `timing.room_life`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<u64>,
    /// When the first peer may join, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<u64>,
    /// Whether peers may join.
    pub enabled: bool,
    /// Whether the room is locked against new peers.
    pub locked: bool,
    /// Whether new peers wait in the lobby.
    pub lobby: bool,
    /// Whether peers encrypt end to end.
    pub e2ee: E2eeMode,
    /// The roles that may join. None: all roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Arc<[Role]>>,
    /// The creator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<RoomCreator>,
    /// The signature of the auth service over the creator, if the creator is a user: the role of the
    /// creator follows from it, and a node can write the other fields.
    #[serde(rename = "proof", default, skip_serializing_if = "Option::is_none")]
    pub creator_proof: Option<Arc<str>>,
    /// When the room was created, milliseconds since 1970 by the clock of the store; 0 if a join
    /// has created it.
    pub created_at: u64,
    /// A random id of the creation. A creation that is repeated because its answer was lost has the
    /// same id.
    #[serde(rename = "making", default, skip_serializing_if = "Option::is_none")]
    pub creation_id: Option<CreationId>,
    /// Until when the empty room is kept, by the same clock; 0: the room ends with its last member.
    pub kept_until: u64,
}

/// The creator of a room.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RoomCreator {
    /// The kind of the creator.
    pub kind: RoomCreatorKind,
    /// The id of the API key or the user.
    pub id: Arc<str>,
}

impl RoomCreator {
    /// The name among all creators: no user has a name with `/`.
    pub fn unique_name(&self) -> String {
        match self.kind {
            RoomCreatorKind::User => self.id.to_string(),
            RoomCreatorKind::Key => format!("key/{}", self.id),
        }
    }
}

/// The kind of a creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomCreatorKind {
    /// An API key, or a management token of it.
    Key,
    /// A user with a user token.
    User,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            name: None,
            metadata: None,
            max_peers: None,
            max_duration: None,
            starts_at: None,
            enabled: true,
            locked: false,
            lobby: false,
            e2ee: E2eeMode::Off,
            roles: None,
            created_by: None,
            creator_proof: None,
            created_at: 0,
            creation_id: None,
            kept_until: 0,
        }
    }
}

impl RoomSettings {
    /// The default. All rooms share it, because most have nothing else.
    pub fn shared_default() -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<RoomSettings>> = LazyLock::new(Arc::default);
        DEFAULT.clone()
    }

    /// Whether the API has created the room.
    pub fn is_created(&self) -> bool {
        self.created_at > 0
    }

    /// Whether a token for this creation of the room is valid here. A token that names no creation
    /// is for every room with the name.
    pub fn accepts_creation(&self, creation: Option<&CreationId>) -> bool {
        creation.is_none_or(|creation| self.creation_id.as_ref() == Some(creation))
    }

    /// Whether the room is kept without members.
    pub fn is_kept(&self, now: u64) -> bool {
        self.kept_until > now
    }

    /// Whether the server may not inspect what members send.
    pub fn requires_e2ee(&self) -> bool {
        self.e2ee == E2eeMode::Required
    }

    /// The longest life of the room, milliseconds. `longest_ms` is the configured limit.
    pub fn max_life_ms(&self, longest_ms: u64) -> u64 {
        self.max_duration.map_or(longest_ms, |seconds| seconds.saturating_mul(1_000).min(longest_ms))
    }

    /// The public settings, for members.
    pub fn to_room_info(&self, ends_at: u64) -> RoomInfo {
        RoomInfo {
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            enabled: self.enabled,
            locked: self.locked,
            lobby: self.lobby,
            e2ee: self.e2ee,
            max_peers: self.max_peers,
            ends_at: (self.max_duration.is_some() && ends_at > 0).then_some(ends_at),
        }
    }

    /// The form in the store.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A change of settings. An absent field stays; an inner `None` removes the value.
#[derive(Debug, Clone, Default)]
pub struct RoomPatch {
    /// See [`RoomSettings::name`].
    pub name: Option<Option<Arc<str>>>,
    /// See [`RoomSettings::metadata`].
    pub metadata: Option<Option<Arc<RawValue>>>,
    /// See [`RoomSettings::max_peers`].
    pub max_peers: Option<Option<u32>>,
    /// See [`RoomSettings::max_duration`].
    pub max_duration: Option<Option<u64>>,
    /// See [`RoomSettings::starts_at`].
    pub starts_at: Option<Option<u64>>,
    /// See [`RoomSettings::enabled`].
    pub enabled: Option<bool>,
    /// See [`RoomSettings::locked`].
    pub locked: Option<bool>,
    /// See [`RoomSettings::lobby`].
    pub lobby: Option<bool>,
    /// See [`RoomSettings::e2ee`].
    pub e2ee: Option<E2eeMode>,
    /// See [`RoomSettings::roles`].
    pub roles: Option<Option<Arc<[Role]>>>,
}

impl RoomPatch {
    /// The changed settings.
    pub fn apply_to(&self, to: &RoomSettings) -> RoomSettings {
        let mut next = to.clone();
        let set = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
        set(&mut next.enabled, self.enabled);
        set(&mut next.locked, self.locked);
        set(&mut next.lobby, self.lobby);
        next.e2ee = self.e2ee.unwrap_or(next.e2ee);
        next.roles = self.roles.clone().unwrap_or(next.roles);
        next.name = self.name.clone().unwrap_or(next.name);
        next.metadata = self.metadata.clone().unwrap_or(next.metadata);
        next.max_peers = self.max_peers.unwrap_or(next.max_peers);
        next.max_duration = self.max_duration.unwrap_or(next.max_duration);
        next.starts_at = self.starts_at.unwrap_or(next.starts_at);
        next
    }
}
