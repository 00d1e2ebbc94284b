//! The words of the contract: what goes into the store and what comes out.
//!
//! Next: `look` for what is asked about one peer and its mailbox, `bounds` for how much and how
//! long.

use std::sync::Arc;

use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::RedisUnavailable;

use crate::room::{Member, ReplicationId, RoomInstanceId, RoomSettings, RoomState, Tombstone};

/// One entry of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub seq: u64,
    /// Who it is from or about.
    pub from: PeerId,
    /// The sender's number.
    pub id: Option<u64>,
    /// How it is presented.
    pub kind: EntryKind,
    /// The frame without `seq`: a JSON object.
    pub body: Arc<str>,
}

/// The type of an entry. It decides how a node handles the entry and presents it to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A message of a peer.
    Forwarded,
    /// A change of the room.
    RoomEvent,
    /// A peer has left the room.
    PeerLeft,
    /// The reader's own role or permissions.
    PermissionsChanged,
    /// A peer has joined or has changed. The node adds `polite`, which differs from reader to
    /// reader.
    PeerEvent,
}

impl EntryKind {
    const CODES: [(Self, &'static str); 5] = [
        (Self::Forwarded, "f"),
        (Self::RoomEvent, "m"),
        (Self::PeerLeft, "l"),
        (Self::PermissionsChanged, "s"),
        (Self::PeerEvent, "p"),
    ];

    /// The type as it stands in the mailbox and in topic messages.
    pub(super) fn code(self) -> &'static str {
        Self::CODES.iter().find(|(kind, _)| *kind == self).map_or("f", |(_, code)| code)
    }

    /// Reads [`EntryKind::code`]. An unknown code, as a later release may write it, is a message
    /// that is passed on.
    pub(super) fn from_code(code: &str) -> Self {
        Self::CODES.iter().find(|(_, known)| *known == code).map_or(Self::Forwarded, |(kind, _)| *kind)
    }
}

/// An entry for a peer of this node.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The reader.
    pub peer: PeerId,
    /// The number of the mailbox it was written to.
    pub mailbox_version: u64,
    /// What was written.
    pub entry: Entry,
}

/// A change of a room's membership, with what the others hear of it.
#[derive(Debug)]
pub struct Commit {
    /// The incarnation and version it was decided on; version 0 means the room must not exist yet.
    pub instance_id: RoomInstanceId,
    /// See `incarnation`.
    pub version: u64,
    /// Members to write. One that has a mailbox already keeps it.
    pub written_members: Vec<(PeerId, Member)>,
    /// Members to remove, with their mailboxes; what is remembered of them.
    pub removed_peers: Vec<(PeerId, Tombstone)>,
    /// Tombstones that are over.
    pub expired_tombstones: Vec<PeerId>,
    /// Who is detached after it.
    pub detached_peers: Vec<PeerId>,
    /// Nodes that have their first peer in the room by it.
    pub added_nodes: Vec<NodeId>,
    /// Nodes that have none any more.
    pub removed_nodes: Vec<NodeId>,
    /// Nodes that lose peers by it without having asked for it: they look after them.
    pub resync_requests: Vec<(NodeId, Vec<PeerId>)>,
    /// Whether somebody new comes in. What does not grow is applied even where the store is full,
    /// or a full store could never empty itself.
    pub adds_data: bool,
    /// Whether nobody was in the room: a life begins.
    pub opens_room: bool,
    /// Whether nobody is in it after it.
    pub leaves_room_empty: bool,
    /// Whether nobody is left and the room is not kept: it ends and its keys go, but for the
    /// tombstones.
    pub ends_room: bool,
    /// What is set for the room, where it is to be written.
    pub settings: Option<Arc<RoomSettings>>,
    /// The longest that somebody may be in it without a break, milliseconds.
    pub max_life_ms: u64,
    /// Until when it is there though nobody is in it, by the store's clock; 0: it goes with its
    /// last member.
    pub kept_until: u64,
    /// What others hear, in order.
    pub events: Vec<EventEntry>,
    /// Ids that these peers' requests carried, now accepted.
    pub accepted_ids: Vec<(PeerId, u64)>,
    /// Lines for the operators' feed.
    pub feed_lines: Vec<Arc<str>>,
}

/// One event for several mailboxes.
#[derive(Debug, Clone)]
pub struct EventEntry {
    /// Who it is about.
    pub about_peer: PeerId,
    /// How it is presented.
    pub kind: EntryKind,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// Who hears it.
    pub targets: Vec<PeerId>,
}

/// A room as it was found.
#[derive(Debug)]
pub struct LoadedRoom {
    /// The lineage of the store.
    pub replication_id: ReplicationId,
    /// When, milliseconds since 1970 by the store's clock.
    pub now: u64,
    /// The room, if there is one.
    pub room: Option<RoomState>,
}

/// What became of a commit.
#[derive(Debug)]
pub enum CommitResult {
    /// It holds, in this lineage; these entries are for peers of this node.
    Applied(ReplicationId, Vec<Delivery>),
    /// The room has moved on; this is where it is.
    Conflict(LoadedRoom),
}

/// One message to append.
#[derive(Debug, Clone)]
pub struct OutgoingEntry {
    /// The sender's number.
    pub id: Option<u64>,
    /// Who gets it.
    pub target: MessageTarget,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// Whether it rests on what the caller knows of its target, so that it is stale once the room
    /// has moved on. One to the room does anyway.
    pub requires_room_version: bool,
}

/// Who gets a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageTarget {
    /// One peer of the room.
    Peer(PeerId),
    /// Every other peer of the room.
    Room,
    /// Nobody: it is kept back, and for its sender it was sent.
    Withheld,
}

impl MessageTarget {
    /// Whether somebody gets both.
    pub fn overlaps(&self, other: &Self) -> bool {
        matches!(self, Self::Room) || matches!(other, Self::Room) || self == other
    }
}

/// A batch of one sender's messages.
#[derive(Debug)]
pub struct AppendBatch {
    /// The sender.
    pub sender: PeerId,
    /// Its epoch.
    pub epoch: u64,
    /// The number of its own mailbox.
    pub mailbox_version: u64,
    /// The last entry of that mailbox that it has confirmed.
    pub acked_seq: u64,
    /// The highest id of it that was accepted, as the caller knows it.
    pub known_last_id: u64,
    /// The handle that its client has, where the store does not know yet.
    pub handle_generation: Option<u64>,
    /// The room as the caller knows it: the targets of a message to the room.
    pub members: Arc<MemberList>,
    /// The messages, in order.
    pub entries: Vec<OutgoingEntry>,
}

/// Who is in a room, as one node knows it.
#[derive(Debug, Default)]
pub struct MemberList {
    /// The version this was true at.
    pub version: u64,
    /// The members.
    pub peers: Vec<PeerId>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct AppendResults {
    /// The number of the sender's own mailbox.
    pub mailbox_version: u64,
    /// What became of each message.
    pub results: Vec<AppendResult>,
}

/// What became of one message.
#[derive(Debug)]
pub enum AppendResult {
    /// Written to every target; these are of this node.
    Written(Vec<Delivery>),
    /// This id, or a later one, had been accepted before; nothing was written.
    Duplicate,
    /// The target is not in the room.
    NoSuchPeer,
    /// A target takes no more for now.
    Backlogged,
    /// The caller's members are out of date; neither this message nor any after it was looked at.
    Stale,
}

/// Why a whole batch was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The caller does not own the sender, or not in this epoch; nothing was written.
    /// [`super::PeerStatus`] says why.
    #[error("the caller does not own the peer")]
    NotOwner,
    /// See [`StoreUnavailable`].
    #[error(transparent)]
    Unavailable(#[from] StoreUnavailable),
}

/// The store did not answer in time, or cannot be reached. The outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store did not answer in time")]
pub struct StoreUnavailable;

impl From<RedisUnavailable> for StoreUnavailable {
    fn from(_: RedisUnavailable) -> Self {
        Self
    }
}

/// What has a deadline that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueItem {
    /// A room: a window of a peer, or its longest life.
    Room(RoomId),
    /// Mailboxes of a room: their oldest entries.
    Mailboxes(RoomId, Vec<PeerId>),
}

/// Who is alive.
#[derive(Debug, Default)]
pub struct NodeCensus {
    /// Whether the asking node had a lease until it asked. If not, its peers may have been taken
    /// for lost.
    pub had_lease: bool,
    /// The nodes that are alive, the asking one among them.
    pub live_nodes: Vec<NodeId>,
    /// The nodes that are dead and not forgotten.
    pub dead_nodes: Vec<NodeId>,
}

/// Where news for this node's peers comes in.
pub trait StoreEvents: Send + Sync {
    /// An entry, written by another node. Must not block.
    fn deliver_entry(&self, room: &RoomId, delivery: Delivery);
    /// Something happened to peers of this node that it did not ask for. Must not block.
    fn resync_peers(&self, room: &RoomId, peers: &[PeerId]);
    /// Entries for rooms of these partitions may have been missed. Must not block.
    fn resync_partitions(&self, partitions: &[usize]);
}
