//! What all nodes agree on about a room.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_shared::{
    id::{NodeId, PeerId, Role, UserId},
    protocol::PeerEntry,
};

/// One life of a room: 32 hexadecimal digits, random. A room that was emptied and made again has another.
pub type Incarnation = Arc<str>;

/// A room: its members under a contiguous version. Changed only by compare-and-commit on `(incarnation, version)`.
#[derive(Debug, Clone)]
pub struct RoomState {
    /// Which life of the room.
    pub incarnation: Incarnation,
    /// Grows by one with each commit; 0 has never been committed.
    pub version: u64,
    /// The members.
    pub members: BTreeMap<PeerId, Member>,
}

/// A member: its public record and who serves it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// The user of its token.
    pub user: UserId,
    /// The role of its token.
    pub role: Role,
    /// The name to show; empty where none was given.
    pub name: Arc<str>,
    /// Whatever the application attached.
    pub metadata: Arc<RawValue>,
    /// Whether its socket is there.
    pub presence: Presence,
    /// The node that serves it.
    #[serde(skip, default = "unowned")]
    pub owner: NodeId,
    /// Grows with each new owner; names its mailbox.
    #[serde(skip)]
    pub epoch: u64,
}

// Owner and epoch stand in a field of their own in the store, where scripts compare them.
fn unowned() -> NodeId {
    NodeId::from_bits(0)
}

/// Whether a member's socket is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It is.
    Attached,
    /// It was lost; the member has left when this moment (milliseconds since 1970) comes.
    Detached(u64),
}

impl RoomState {
    /// A room before its first commit.
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, version: 0, members: BTreeMap::new() }
    }

    /// The others as `reader` is told of them.
    pub fn entries_for(&self, reader: &PeerId) -> Vec<PeerEntry> {
        let others = self.members.iter().filter(|(peer, _)| *peer != reader);
        others.map(|(peer, member)| member.entry(peer, reader.is_polite_toward(peer))).collect()
    }

    /// How many peers a user has here.
    pub fn peers_of(&self, user: &UserId) -> usize {
        self.members.values().filter(|member| member.user == *user).count()
    }
}

impl Member {
    /// The member as others are told of it.
    pub fn entry(&self, peer: &PeerId, polite: bool) -> PeerEntry {
        PeerEntry {
            peer_id: peer.clone(),
            user_id: self.user.clone(),
            name: self.name.clone(),
            role: self.role.clone(),
            metadata: self.metadata.clone(),
            polite,
            detached: self.presence != Presence::Attached,
        }
    }
}
