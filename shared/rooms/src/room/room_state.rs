//! What all nodes agree on about a room.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_protocol::{
    LeaveReason, LobbyPeer, PeerInfo,
    id::{CallerId, NodeId, PeerId, RegionId, Role, TokenId, UserId},
};

use super::{role_policy::RoomRolePolicy, room_settings::RoomSettings};

/// One life of a room: 32 hexadecimal digits, random.
pub type RoomInstanceId = Arc<str>;

/// Which history of the store something was true in. It changes when the store may have forgotten what it had acknowledged:
/// after a failover, a restart, or the move of a slot.
pub type ReplicationId = Arc<str>;

/// A room: its members under a contiguous version. Changed only by compare-and-commit on `(incarnation, version)`.
#[derive(Debug, Clone)]
pub struct RoomState {
    /// Which life of the room.
    pub instance_id: RoomInstanceId,
    /// Grows by one with each commit; 0 has never been committed.
    pub version: u64,
    /// Where it was read.
    pub replication_id: ReplicationId,
    /// When it was read, milliseconds since 1970 by the store's clock.
    pub read_at: u64,
    /// When its longest life is over, by the same clock; 0 before the first commit.
    pub ends_at: u64,
    /// When its life began, by the same clock; 0 where nobody has been in it.
    pub started_at: u64,
    /// What is set for it.
    pub settings: Arc<RoomSettings>,
    /// The members.
    pub members: BTreeMap<PeerId, Member>,
    /// Who has left lately.
    pub tombstones: BTreeMap<PeerId, Tombstone>,
}

/// That a peer has left, remembered for the resume window, so that it is not taken for one the store has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The epoch it left in.
    pub epoch: u64,
    /// Why.
    pub reason: LeaveReason,
    /// Until when it is remembered, by the store's clock.
    pub expires_at: u64,
}

/// A member: its public record and who serves it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// The user of its token.
    pub user: UserId,
    /// The role of its token.
    pub role: Role,
    /// What the role may do.
    pub permissions: Arc<[Arc<str>]>,
    /// Its token: the part before the dot is the grant, which is what can be taken back.
    pub token: TokenId,
    /// When its token was made, seconds since 1970.
    pub issued: u64,
    /// When its token ends, seconds since 1970.
    pub expires: u64,
    /// On whose word its token was made.
    pub caller: CallerId,
    /// Where the peer is, as its token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// The name to show; empty where none was given.
    pub name: Arc<str>,
    /// Whatever the application attached.
    pub metadata: Arc<RawValue>,
    /// Whether it waits in the lobby: it has a place, and neither hears nor says anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// Whether somebody has taken its permission to publish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub muted: bool,
    /// Whether role and permissions are no longer its token's, so that another token does not bring them back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overridden: bool,
    /// Where its socket is.
    #[serde(skip)]
    pub attachment: PeerAttachment,
    /// Grows with each connection that takes the peer; only the newest may write for it.
    #[serde(skip)]
    pub epoch: u64,
    /// The handle that the client is known to have. This one and the next are good.
    #[serde(skip)]
    pub generation: u64,
    /// Names its mailbox: a new number where entries may have been lost. Grows.
    #[serde(skip)]
    pub mailbox_version: u64,
}

/// What a token says of its peer beyond room and user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its name; the part before the dot is the grant.
    pub token: TokenId,
    /// When it was made, seconds since 1970.
    pub issued: u64,
    /// When it ends, seconds since 1970.
    pub expires: u64,
    /// The role.
    pub role: Role,
    /// What the role may do.
    pub permissions: Arc<[Arc<str>]>,
    /// On whose word it was made.
    pub caller: CallerId,
    /// Where the peer is.
    pub region: Option<RegionId>,
}

impl TokenRecord {
    /// Of two tokens of a peer the one that was made later counts; of two made in one second, the one that ends later.
    pub fn is_older_than(&self, other: &Self) -> bool {
        (self.issued, self.expires) < (other.issued, other.expires)
    }
}

/// Where a member's socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAttachment {
    /// On this node.
    Attached(NodeId),
    /// It is lost, and nobody may write for the peer; it has left when this moment comes (milliseconds since 1970).
    Detached(u64),
}

impl Default for PeerAttachment {
    fn default() -> Self {
        Self::Detached(0)
    }
}

impl RoomState {
    /// A room before its first commit.
    pub fn new(instance_id: RoomInstanceId, replication_id: ReplicationId) -> Self {
        Self {
            instance_id,
            version: 0,
            replication_id,
            read_at: 0,
            ends_at: 0,
            started_at: 0,
            settings: Arc::default(),
            members: BTreeMap::new(),
            tombstones: BTreeMap::new(),
        }
    }

    /// Whether there is such a room: somebody is in it, or it is kept.
    pub fn exists(&self, now: u64) -> bool {
        !self.members.is_empty() || self.settings.is_kept(now)
    }

    /// The same room for a store that has forgotten it: its members as they were known, each with a new mailbox.
    pub fn rebuild_for_store(&self, lineage: ReplicationId, now: u64) -> Self {
        let renewed = |(peer, member): (&PeerId, &Member)| {
            let mailbox = now.max(member.mailbox_version + 1);
            (peer.clone(), Member { mailbox_version: mailbox, ..member.clone() })
        };
        let members = self.members.iter().map(renewed).collect();
        Self {
            version: 0,
            replication_id: lineage,
            read_at: now,
            ends_at: 0,
            started_at: 0,
            members,
            ..self.clone()
        }
    }

    /// The others as `reader` is told of them.
    pub fn peer_entries_for(&self, reader: &PeerId) -> Vec<PeerInfo> {
        let others = self.members.iter().filter(|(peer, member)| *peer != reader && !member.waiting);
        others.map(|(peer, member)| member.to_peer_entry(peer, reader.is_polite_toward(peer))).collect()
    }

    /// Who waits in the lobby, as `reader` is told: those who may not let anybody in hear of nobody.
    pub fn knockers_for(&self, reader: &PeerId) -> Vec<LobbyPeer> {
        let may = self.members.get(reader).is_some_and(|member| member.has_permission(Permission::Admit));
        let waiting = self.members.iter().filter(|(_, member)| may && member.waiting);
        waiting.map(|(peer, member)| member.to_knocker(peer)).collect()
    }

    /// How many peers a user has here.
    pub fn count_user_peers(&self, user: &UserId) -> usize {
        self.members.values().filter(|member| member.user == *user).count()
    }

    /// The nodes that serve a member.
    pub fn owner_nodes(&self) -> std::collections::BTreeSet<&NodeId> {
        self.members.values().filter_map(Member::owner).collect()
    }
}

/// What a member may do, as the roles of the configuration name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Send audio and video.
    Publish,
    /// Send messages.
    Message,
    /// Remove and mute others, and lock the room.
    Moderate,
    /// Let somebody in from the lobby.
    Admit,
    /// End the room.
    End,
}

impl Permission {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Message => "message",
            Self::Moderate => "moderate",
            Self::Admit => "admit",
            Self::End => "end",
        }
    }
}

impl Member {
    /// Whether it has a permission now.
    pub fn has_permission(&self, permission: Permission) -> bool {
        self.permissions.iter().any(|name| &**name == permission.as_str())
    }

    /// Whether no lobby holds it up: who lets others in need not wait for that, nor whose role passes.
    pub(super) fn skips_lobby(&self, roles: &RoomRolePolicy) -> bool {
        self.has_permission(Permission::Admit)
            || self.has_permission(Permission::Moderate)
            || roles.role_skips_lobby(&self.role)
    }

    /// The member as those are told of it who may let it in.
    pub fn to_knocker(&self, peer: &PeerId) -> LobbyPeer {
        LobbyPeer {
            peer_id: peer.clone(),
            user_id: self.user.clone(),
            name: self.name.clone(),
            role: self.role.clone(),
            metadata: self.metadata.clone(),
        }
    }

    /// The node that serves it, while it is attached.
    pub fn owner(&self) -> Option<&NodeId> {
        match &self.attachment {
            PeerAttachment::Attached(node) => Some(node),
            PeerAttachment::Detached(_) => None,
        }
    }

    /// What its token says.
    pub fn token_record(&self) -> TokenRecord {
        TokenRecord {
            token: self.token.clone(),
            issued: self.issued,
            expires: self.expires,
            role: self.role.clone(),
            permissions: self.permissions.clone(),
            caller: self.caller.clone(),
            region: self.region.clone(),
        }
    }

    /// Takes over what another token of the peer says. A role that was set stays as it is.
    pub fn apply_token_record(&mut self, record: &TokenRecord) {
        let TokenRecord { token, issued, expires, role, permissions, caller, region } = record.clone();
        if !self.overridden {
            (self.role, self.permissions) = (role, permissions);
        }
        (self.token, self.issued, self.expires) = (token, issued, expires);
        (self.caller, self.region) = (caller, region);
    }

    /// The member as others are told of it.
    pub fn to_peer_entry(&self, peer: &PeerId, polite: bool) -> PeerInfo {
        PeerInfo {
            peer_id: peer.clone(),
            user_id: self.user.clone(),
            name: self.name.clone(),
            role: self.role.clone(),
            metadata: self.metadata.clone(),
            polite,
            detached: self.owner().is_none(),
            muted: self.muted,
        }
    }
}
