//! Everything that can change a room. Values only: the rules are in the files that `decide` calls.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeaveReason,
    id::{NodeId, PeerId, Role, UserId},
};

use super::{
    room_settings::{RoomPatch, RoomSettings},
    room_state::{Member, ReplicationId, TokenRecord},
};

/// A request to change a room. The caller makes all ids, so that a repeated decision is the same.
#[derive(Debug, Clone)]
pub enum RoomInput {
    /// A new peer joins.
    Join {
        /// The new peer.
        peer: PeerId,
        /// Its record, attached to its node.
        member: Box<Member>,
    },
    /// A connection resumes a peer.
    Attach(Box<PeerClaim>),
    /// A client returns without its state: the old peer leaves, and a new peer joins in its place.
    Replace {
        /// The peer that leaves.
        old_peer: Box<PeerClaim>,
        /// The peer that joins.
        new_peer: PeerId,
        /// The mailbox version of the new peer.
        mailbox_version: u64,
    },
    /// A peer changes its public record; a field that is absent stays. Only the owner of the epoch
    /// may do so.
    UpdateRecord {
        /// The peer.
        peer: PeerId,
        /// The epoch of the connection that asks.
        epoch: u64,
        /// The new name.
        name: Option<Arc<str>>,
        /// The new metadata.
        metadata: Option<Arc<RawValue>>,
    },
    /// A peer presents a newer token. Only the owner of the epoch may do so.
    RefreshToken {
        /// The peer.
        peer: PeerId,
        /// The epoch of the connection that asks.
        epoch: u64,
        /// The claims of the token.
        token_record: Box<TokenRecord>,
    },
    /// A peer has lost its connection. Only the owner of the epoch may report this.
    Detach {
        /// The peer.
        peer: PeerId,
        /// The epoch of the lost connection.
        epoch: u64,
        /// Whether the client has announced that its page closes: the resume window is short.
        is_going: bool,
    },
    /// A peer leaves. Only the owner of the epoch may report this.
    Leave {
        /// The peer.
        peer: PeerId,
        /// The epoch of the connection that reports.
        epoch: u64,
        /// The reason that other peers receive.
        reason: LeaveReason,
    },
    /// A node is dead: its peers are detached.
    NodeDied {
        /// The node.
        node: NodeId,
    },
    /// A node lists its connections: its peers without a connection are detached.
    ReconcileNode {
        /// The node.
        node: NodeId,
        /// Its peers that have a connection.
        connected_peers: BTreeSet<PeerId>,
    },
    /// A deadline may have passed: a resume window, the longest life of the room, or its retention.
    CheckDeadlines,
    /// A moderator or the API changes the room or its members.
    Manage(Box<ManageRoom>),
}

/// The claim of a connection to a peer.
#[derive(Debug, Clone)]
pub struct PeerClaim {
    /// The peer.
    pub peer: PeerId,
    /// Why the connection may have the peer.
    pub proof: ClaimProof,
    /// The replication id under which the peer was last known to be a member.
    pub replication_id: ReplicationId,
    /// The clock of the claimant, seconds since 1970, against which its token is checked. None for
    /// a connection that never ended: it watches its token itself.
    pub now_s: Option<u64>,
    /// The record of the peer, should the store have forgotten it: attached to the node of the
    /// connection, with a mailbox version that the peer never had.
    pub member: Member,
}

/// The proof that a connection may have a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimProof {
    /// The client presented this resume handle; a newer handle makes it void.
    Handle {
        /// The generation of the handle.
        generation: u64,
        /// The epoch for which the handle was issued.
        epoch: u64,
    },
    /// The connection of the client never ended; a newer epoch fences it.
    Connection {
        /// The epoch of the connection.
        epoch: u64,
    },
}

impl PeerClaim {
    /// Whether the token has not expired. Of the token that the room knows (`known`) and the token
    /// of the claim, the newer one counts.
    pub(super) fn has_valid_token(&self, known: Option<&Member>) -> bool {
        let expires = known.map_or(self.member.expires, |known| self.newest_record(known).expires);
        self.now_s.is_none_or(|now| expires > now)
    }

    /// The record that the room has, with the token of the claim if that is newer: the token may
    /// have been refreshed while the store was unavailable.
    pub(super) fn newest_record(&self, known: &Member) -> Member {
        let (mut member, record) = (known.clone(), self.member.token_record());
        if member.token_record().is_older_than(&record) {
            member.apply_token_record(&record);
        }
        member
    }
}

impl ClaimProof {
    /// The newest epoch that the claimant knows.
    pub fn known_epoch(self) -> u64 {
        match self {
            Self::Handle { epoch, .. } | Self::Connection { epoch } => epoch,
        }
    }
}

/// An action on a room, with the actor that asks for it.
#[derive(Debug, Clone)]
pub struct ManageRoom {
    /// The member that asks, and the epoch of its connection. None: the API, which may do
    /// everything.
    pub actor: Option<(PeerId, u64)>,
    /// The action.
    pub action: RoomAction,
}

/// An action on a room or its members.
#[derive(Debug, Clone)]
pub enum RoomAction {
    /// Create the room with these settings.
    Create(Arc<RoomSettings>),
    /// Change the settings.
    Configure(RoomPatch),
    /// Lock the room against new peers, or unlock it.
    Lock(bool),
    /// New peers wait in the lobby, or no longer; then all waiting peers are admitted.
    Lobby(bool),
    /// Remove all members.
    End {
        /// Whether the room is locked afterwards.
        lock_room: bool,
    },
    /// Remove all members and the room.
    Delete,
    /// Remove members.
    Remove {
        /// The members.
        selector: PeerSelector,
        /// The reason that other peers receive.
        reason: LeaveReason,
    },
    /// Assign a role to a member. A newer token does not change the assigned role.
    SetRole {
        /// The member.
        peer: PeerId,
        /// The role.
        role: Role,
        /// The permissions of the role.
        permissions: Arc<[Arc<str>]>,
        /// The ICE policy of the role, for the member.
        ice_policy: Option<IcePolicy>,
    },
    /// Remove the permission to publish from a member, or restore it.
    Mute {
        /// The member.
        peer: PeerId,
        /// Whether the member loses the permission.
        muted: bool,
    },
    /// Ban a user from the room until a time, milliseconds since 1970 by the clock of the store, and
    /// remove the peers of the user.
    Ban {
        /// The user.
        user: UserId,
        /// The end.
        until: u64,
    },
    /// Lift the sanctions of a user.
    LiftSanctions(UserId),
    /// Admit a peer from the lobby.
    Admit(PeerId),
    /// Reject a peer in the lobby (`deny` in the HTTP API): the peer is removed.
    Reject(PeerId),
    /// Send a message of the application.
    SendMessage {
        /// The target. None: all members.
        to: Option<PeerId>,
        /// Any JSON.
        data: Arc<RawValue>,
    },
}

/// A choice of members.
#[derive(Debug, Clone)]
pub enum PeerSelector {
    /// One peer.
    Peer(PeerId),
    /// All members with a role.
    Role(Role),
    /// All peers of a user.
    User(UserId),
}

impl ManageRoom {
    /// An action of the API.
    pub fn from_api(action: RoomAction) -> RoomInput {
        RoomInput::Manage(Box::new(Self { actor: None, action }))
    }

    /// An action that a member requests on the connection of an epoch.
    pub fn from_member(peer: PeerId, epoch: u64, action: RoomAction) -> RoomInput {
        RoomInput::Manage(Box::new(Self { actor: Some((peer, epoch)), action }))
    }
}

impl PeerSelector {
    pub(super) fn matches_member(&self, peer: &PeerId, member: &Member) -> bool {
        match self {
            Self::Peer(wanted) => wanted == peer,
            Self::Role(role) => *role == member.role,
            Self::User(user) => *user == member.user,
        }
    }
}
