//! The state of a room that all nodes agree on.

use std::{collections::BTreeMap, sync::Arc};

use litemap::LiteMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_protocol::{
    CredentialRoot, LeaveReason, LobbyPeer, PeerInfo, UserSource,
    id::{CallerId, CreationId, NodeId, PeerId, RegionId, Role, TokenId, UserId},
};

use super::{role_policy::RoomRolePolicy, room_settings::RoomSettings, sanction::SanctionList};

/// One life of a room: 32 hexadecimal digits, random.
pub type RoomInstanceId = Arc<str>;

/// The history of the store under which a state is true. It changes when acknowledged writes may be
/// missing: after a failover, a restart, or the move of a slot.
pub type ReplicationId = Arc<str>;

/// A room. It changes only by a commit that compares `(instance_id, version)`.
#[derive(Debug, Clone)]
pub struct RoomState {
    /// The life of the room.
    pub instance_id: RoomInstanceId,
    /// Grows by one with each commit; 0 before the first commit.
    pub version: u64,
    /// The history of the store in which the state was read.
    pub replication_id: ReplicationId,
    /// When the state was read, milliseconds since 1970 by the clock of the store.
    pub read_at: u64,
    /// The end of the longest life of the room, by the same clock; 0 before the first commit.
    pub ends_at: u64,
    /// When the first peer joined, by the same clock; 0 while the room has no members.
    pub started_at: u64,
    /// The settings.
    pub settings: Arc<RoomSettings>,
    /// The members. The states of a room that a node and its store hold share their records.
    pub members: LiteMap<PeerId, Arc<Member>>,
    /// The peers that have left within the resume window.
    pub tombstones: BTreeMap<PeerId, Tombstone>,
    /// What was decided about users and outlasts their peers.
    pub sanctions: Arc<SanctionList>,
}

/// The record that a peer has left, kept for the resume window: without it, the peer would look
/// like a peer that the store has forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The last epoch of the peer.
    pub epoch: u64,
    /// Why the peer left.
    pub reason: LeaveReason,
    /// The id of its token, if it is known.
    pub token: Option<TokenId>,
    /// Milliseconds since 1970 by the clock of the store.
    pub expires_at: u64,
}

/// A peer of the room: its public record, its token and its owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// The user of the token.
    pub user: UserId,
    /// The role of the token, or the role that was assigned.
    pub role: Role,
    /// The permissions of the role.
    pub permissions: Arc<[Arc<str>]>,
    /// The id of the token. The part before the dot is the grant, which can be revoked.
    pub token: TokenId,
    /// When the token was issued, seconds since 1970.
    pub issued: u64,
    /// When the token expires, seconds since 1970.
    pub expires: u64,
    /// When the last credential of the grant expires, seconds since 1970. Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_expires: Option<u64>,
    /// The caller that requested the token.
    pub caller: CallerId,
    /// The root of the token. If it is absent, it follows from `caller`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<CredentialRoot>,
    /// The creation of the room that the token is for. Absent: any room with the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation: Option<CreationId>,
    /// The region of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// The display name; may be empty.
    pub name: Arc<str>,
    /// The JSON object that the application attached.
    pub metadata: Arc<RawValue>,
    /// Whether the peer is in the lobby: it counts as a member, but sends and receives nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// Whether a moderator or the API has removed the permission to publish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub muted: bool,
    /// Whether a moderator or the API has assigned the role or the permissions. A newer token then
    /// changes neither.
    #[serde(rename = "overridden", default, skip_serializing_if = "std::ops::Not::not")]
    pub has_assigned_permissions: bool,
    /// The owner of the peer.
    #[serde(skip)]
    pub attachment: PeerAttachment,
    /// Grows with each connection that attaches the peer; only the newest may write for it.
    #[serde(skip)]
    pub epoch: u64,
    /// The generation of the newest handle that the client has confirmed. This handle and the next
    /// one are valid.
    #[serde(skip)]
    pub generation: u64,
    /// The version of its mailbox. A mailbox that may have lost entries gets a higher version.
    #[serde(skip)]
    pub mailbox_version: u64,
}

/// The claims of a token about its peer, except room and user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The id of the token; the part before the dot is the grant.
    pub token: TokenId,
    /// When the token was issued, seconds since 1970.
    pub issued: u64,
    /// When the token expires, seconds since 1970.
    pub expires: u64,
    /// When the last credential of the grant expires, seconds since 1970. Absent: unknown.
    pub grant_expires: Option<u64>,
    /// The role.
    pub role: Role,
    /// The permissions of the role.
    pub permissions: Arc<[Arc<str>]>,
    /// The caller that requested the token.
    pub caller: CallerId,
    /// The root of the token. If it is absent, it follows from `caller`.
    pub root: Option<CredentialRoot>,
    /// The creation of the room that the token is for. Absent: any room with the name.
    pub creation: Option<CreationId>,
    /// The region of the peer.
    pub region: Option<RegionId>,
}

impl TokenRecord {
    /// The root of the token.
    pub fn credential_root(&self) -> CredentialRoot {
        self.root.clone().unwrap_or_else(|| CredentialRoot::of_caller(&self.caller))
    }

    /// Of two tokens of a peer the one that was issued later counts. Of two tokens of one second,
    /// the one that expires later counts.
    pub fn is_older_than(&self, other: &Self) -> bool {
        (self.issued, self.expires) < (other.issued, other.expires)
    }
}

/// The owner of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAttachment {
    /// The node with the connection of the peer.
    Attached(NodeId),
    /// The peer has no connection. It leaves at this time, milliseconds since 1970.
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
            settings: RoomSettings::shared_default(),
            members: LiteMap::new(),
            tombstones: BTreeMap::new(),
            sanctions: Arc::default(),
        }
    }

    /// Whether the room exists: it has members, or it is kept.
    pub fn exists(&self, now: u64) -> bool {
        !self.members.is_empty() || self.settings.is_kept(now)
    }

    /// The same room for a store that has forgotten it. Each member gets a new mailbox version.
    pub fn rebuild_for_store(&self, replication_id: ReplicationId, now: u64) -> Self {
        let renewed = |(peer, member): (&PeerId, &Arc<Member>)| {
            let mailbox_version = now.max(member.mailbox_version + 1);
            (peer.clone(), Arc::new(Member { mailbox_version, ..Member::clone(member) }))
        };
        let members = self.members.iter().map(renewed).collect();
        Self { version: 0, replication_id, read_at: now, ends_at: 0, started_at: 0, members, ..self.clone() }
    }

    /// The other members for the snapshot of `reader`.
    pub fn peer_entries_for(&self, reader: &PeerId) -> Vec<PeerInfo> {
        let others = self.members.iter().filter(|(peer, member)| *peer != reader && !member.waiting);
        others.map(|(peer, member)| member.to_peer_entry(peer, reader.is_polite_toward(peer))).collect()
    }

    /// The peers in the lobby for the snapshot of `reader`: empty for a reader that may not admit.
    pub fn knockers_for(&self, reader: &PeerId) -> Vec<LobbyPeer> {
        let may_admit =
            self.members.get(reader).is_some_and(|member| member.has_permission(Permission::Admit));
        let waiting = self.members.iter().filter(|(_, member)| may_admit && member.waiting);
        waiting.map(|(peer, member)| member.to_knocker(peer)).collect()
    }

    /// Whether a member may admit peers from the lobby. A detached member counts until it leaves.
    pub fn has_admitter(&self) -> bool {
        self.members.values().any(|member| !member.waiting && member.has_permission(Permission::Admit))
    }

    /// The number of members that do not wait in the lobby.
    pub fn count_present(&self) -> usize {
        self.members.values().filter(|member| !member.waiting).count()
    }

    /// The number of peers of a user.
    pub fn count_user_peers(&self, user: &UserId) -> usize {
        self.members.values().filter(|member| member.user == *user).count()
    }

    /// The peer of this grant that has left last within the resume window, and its last epoch.
    pub fn last_left_of_grant(&self, grant: &str) -> Option<(PeerId, u64)> {
        let is_of_grant =
            |tombstone: &Tombstone| tombstone.token.as_ref().is_some_and(|token| token.grant() == grant);
        let left = self.tombstones.iter().filter(|(_, tombstone)| is_of_grant(tombstone));
        let (peer, tombstone) = left.max_by_key(|(_, tombstone)| tombstone.expires_at)?;
        Some((peer.clone(), tombstone.epoch))
    }

    /// The nodes that own a member.
    pub fn owner_nodes(&self) -> std::collections::BTreeSet<&NodeId> {
        self.members.values().filter_map(|member| member.owner()).collect()
    }
}

/// A permission of a role, as the configuration names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Send audio and video.
    Publish,
    /// Send messages.
    Message,
    /// Remove and mute others, and lock the room.
    Moderate,
    /// Admit peers from the lobby.
    Admit,
    /// End the room.
    End,
}

impl Permission {
    /// The name in the configuration and in tokens.
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
    /// Whether the member has a permission now.
    pub fn has_permission(&self, permission: Permission) -> bool {
        self.permissions.iter().any(|name| &**name == permission.as_str())
    }

    /// Whether the member may admit or moderate others. Such a member is let in when the room is
    /// full, or no peer could make room.
    pub(super) fn is_moderator(&self) -> bool {
        self.has_permission(Permission::Admit) || self.has_permission(Permission::Moderate)
    }

    /// Whether the member need not wait in a lobby: it may admit or moderate, or its role skips the
    /// lobby.
    pub(super) fn skips_lobby(&self, roles: &RoomRolePolicy) -> bool {
        self.is_moderator() || roles.role_skips_lobby(&self.role)
    }

    /// Removes the permission to publish.
    pub(super) fn mute(&mut self) {
        let publish = Permission::Publish.as_str();
        self.permissions = self.permissions.iter().filter(|name| &***name != publish).cloned().collect();
        self.muted = true;
    }

    /// The member as a peer in the lobby, for members that may admit it.
    pub fn to_knocker(&self, peer: &PeerId) -> LobbyPeer {
        LobbyPeer {
            peer_id: peer.clone(),
            user_id: self.user.clone(),
            source: self.user_source(),
            name: self.name.clone(),
            role: self.role.clone(),
            metadata: self.metadata.clone(),
        }
    }

    /// The owner, while the member is attached.
    pub fn owner(&self) -> Option<&NodeId> {
        match &self.attachment {
            PeerAttachment::Attached(node) => Some(node),
            PeerAttachment::Detached(_) => None,
        }
    }

    /// The root of its token.
    pub fn credential_root(&self) -> CredentialRoot {
        self.root.clone().unwrap_or_else(|| CredentialRoot::of_caller(&self.caller))
    }

    /// Who has named its user.
    pub fn user_source(&self) -> UserSource {
        UserSource::of_caller(&self.caller)
    }

    /// The claims of its token.
    pub fn token_record(&self) -> TokenRecord {
        TokenRecord {
            token: self.token.clone(),
            issued: self.issued,
            expires: self.expires,
            grant_expires: self.grant_expires,
            role: self.role.clone(),
            permissions: self.permissions.clone(),
            caller: self.caller.clone(),
            root: self.root.clone(),
            creation: self.creation.clone(),
            region: self.region.clone(),
        }
    }

    /// Applies another token of the peer. Assigned permissions stay.
    pub fn apply_token_record(&mut self, record: &TokenRecord) {
        let TokenRecord {
            token,
            issued,
            expires,
            grant_expires,
            role,
            permissions,
            caller,
            root,
            creation,
            region,
        } = record.clone();
        if !self.has_assigned_permissions {
            (self.role, self.permissions) = (role, permissions);
        }
        (self.token, self.issued, self.expires) = (token, issued, expires);
        self.grant_expires = grant_expires;
        (self.caller, self.root, self.creation, self.region) = (caller, root, creation, region);
    }

    /// The member for the snapshot of another member.
    pub fn to_peer_entry(&self, peer: &PeerId, polite: bool) -> PeerInfo {
        PeerInfo {
            peer_id: peer.clone(),
            user_id: self.user.clone(),
            source: self.user_source(),
            name: self.name.clone(),
            role: self.role.clone(),
            metadata: self.metadata.clone(),
            polite,
            detached: self.owner().is_none(),
            muted: self.muted,
        }
    }
}
