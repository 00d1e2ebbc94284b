//! What somebody has set for a room, beside who is in it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_protocol::{E2eeMode, RoomInfo, id::Role};

/// The longest that an empty room is kept, milliseconds: a day.
pub const MAX_ROOM_RETENTION_MS: u64 = 24 * 60 * 60 * 1_000;

/// What is set for a room. The default is that of a room which nobody made: it is open, and goes with its last member.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomSettings {
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Whatever the application attached: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<RawValue>>,
    /// Most peers, if fewer than the configuration allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_peers: Option<u32>,
    /// The longest that somebody is in it without a break, seconds, if shorter than `timing.room_life`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<u64>,
    /// Nobody comes in before, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<u64>,
    /// Whether somebody may come in at all.
    pub enabled: bool,
    /// Whether it is closed to newcomers for now.
    pub locked: bool,
    /// Whether newcomers wait until they are admitted.
    pub lobby: bool,
    /// Whether peers encrypt end to end.
    pub e2ee: E2eeMode,
    /// The roles that it takes in; none is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Arc<[Role]>>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<RoomCreator>,
    /// When it was made, milliseconds since 1970 by the store's clock; 0 where nobody made it.
    pub created_at: u64,
    /// Which making it was: random, so that a making that is repeated because its answer was lost is told from another one.
    #[serde(rename = "making", default, skip_serializing_if = "Option::is_none")]
    pub creation_id: Option<Arc<str>>,
    /// Until when it is there though nobody is in it, by the same clock; 0: it goes with its last member.
    pub kept_until: u64,
}

/// Who made a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomCreator {
    /// An API key, or a user.
    pub kind: RoomCreatorKind,
    /// Its id.
    pub id: Arc<str>,
}

/// What made a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomCreatorKind {
    /// An API key, or a management token of it.
    Key,
    /// A user with a token of its own.
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
            created_at: 0,
            creation_id: None,
            kept_until: 0,
        }
    }
}

impl RoomSettings {
    /// Whether somebody made the room.
    pub fn is_created(&self) -> bool {
        self.created_at > 0
    }

    /// Whether the room is there without anybody in it.
    pub fn is_kept(&self, now: u64) -> bool {
        self.kept_until > now
    }

    /// Whether nothing of its members may be read.
    pub fn requires_e2ee(&self) -> bool {
        self.e2ee == E2eeMode::Required
    }

    /// How long somebody may be in the room without a break, milliseconds.
    pub fn max_life_ms(&self, longest_ms: u64) -> u64 {
        self.max_duration.map_or(longest_ms, |seconds| seconds.saturating_mul(1_000).min(longest_ms))
    }

    /// What its members are told.
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

    /// As the store keeps it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A change of settings: what is absent stays; of what may be unset, the inner none unsets it.
#[derive(Debug, Clone, Default)]
pub struct RoomPatch {
    /// See [`RoomSettings::node_id`].
    pub name: Option<Option<Arc<str>>>,
    /// See [`RoomSettings::parse_metadata`].
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
    /// See [`RoomSettings::role_policy`].
    pub roles: Option<Option<Arc<[Role]>>>,
}

impl RoomPatch {
    /// The settings with the change.
    pub fn apply_to(&self, to: &RoomSettings) -> RoomSettings {
        let mut next = to.clone();
        let take = |into: &mut bool, from: Option<bool>| *into = from.unwrap_or(*into);
        take(&mut next.enabled, self.enabled);
        take(&mut next.locked, self.locked);
        take(&mut next.lobby, self.lobby);
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
