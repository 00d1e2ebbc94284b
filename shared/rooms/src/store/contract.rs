//! The types of the store's contract: commits, appends, entries and their results.
//!
//! Owns: values only. Must not: know a backend. Next: `peer_status` for reads of one peer and its
//! mailbox, `store_limits` for bounds and retention.

use std::{ops::Deref, sync::Arc};

use signalbox_protocol::{
    ErrorCode,
    id::{NodeId, PeerId, RoomId, TokenId},
};
use signalbox_redis::RedisUnavailable;
use smallvec::SmallVec;

use super::RefusedIds;
use crate::room::{
    Member, PeerAttachment, ReplicationId, RoomInstanceId, RoomSettings, RoomState, SanctionList, Tombstone,
};

/// One entry of a mailbox. A message to many peers becomes an entry for each, with one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number of the entry in its mailbox: 1, 2, 3, without gaps.
    pub seq: u64,
    /// The rest of the entry.
    pub content: Arc<EntryContent>,
}

impl Deref for Entry {
    type Target = EntryContent;

    fn deref(&self) -> &EntryContent {
        &self.content
    }
}

/// The content of an entry, without its number.
#[derive(Debug, PartialEq, Eq)]
pub struct EntryContent {
    /// The sender of the message, or the peer that the event is about.
    pub from: PeerId,
    /// The message id that the sender gave.
    pub id: Option<u64>,
    /// The type of the entry.
    pub kind: EntryKind,
    /// The frame without `seq`: a JSON object.
    pub body: Arc<str>,
}

impl Entry {
    /// Stands for an event that the mailbox has dropped.
    pub fn superseded(seq: u64) -> Self {
        let from = PeerId::no_peer().clone();
        let content = EntryContent { from, id: None, kind: EntryKind::Superseded, body: "{}".into() };
        Self { seq, content: content.into() }
    }
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
    /// An event that the mailbox has dropped. It only has a seq, and is in no store.
    Superseded,
}

impl EntryKind {
    const CODES: [(Self, &'static str); 6] = [
        (Self::Forwarded, "f"),
        (Self::RoomEvent, "m"),
        (Self::PeerLeft, "l"),
        (Self::PermissionsChanged, "s"),
        (Self::PeerEvent, "p"),
        (Self::Superseded, "x"),
    ];

    /// The code of the type in mailboxes and topic messages.
    pub(super) fn code(self) -> &'static str {
        Self::CODES.iter().find(|(kind, _)| *kind == self).map_or("f", |(_, code)| code)
    }

    /// Reads [`EntryKind::code`]. A later release may write an unknown code. Its entry is handled
    /// as a message.
    pub(super) fn from_code(code: &str) -> Self {
        Self::CODES.iter().find(|(_, known)| *known == code).map_or(Self::Forwarded, |(kind, _)| *kind)
    }
}

/// The state that an event tells about a peer. The first frame of a connection holds all of it, so
/// a crowded mailbox drops an unread event that a later one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// The peer is in the room, with this record.
    Joined,
    /// The peer has this record now.
    Updated,
    /// Whether the peer has a connection.
    Attachment,
    /// The peer has left.
    Left,
    /// Whether the peer waits in the lobby.
    Knock,
    /// The settings of the room.
    Room,
    /// The reader's own role and permissions.
    OwnPermissions,
}

impl StateKind {
    /// The code of the state in mailboxes.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Joined => "j",
            Self::Updated => "u",
            Self::Attachment => "a",
            Self::Left => "l",
            Self::Knock => "k",
            Self::Room => "r",
            Self::OwnPermissions => "o",
        }
    }

    /// The states that replace this one, if they come later and are about the same peer.
    pub(super) fn replacements(self) -> &'static [Self] {
        match self {
            Self::Joined => &[Self::Joined, Self::Left],
            Self::Updated => &[Self::Joined, Self::Updated, Self::Left],
            // The frames of `Joined` and `Updated` say whether the peer is detached.
            Self::Attachment => &[Self::Joined, Self::Updated, Self::Attachment, Self::Left],
            Self::Left => &[Self::Left],
            Self::Knock => &[Self::Knock],
            Self::Room => &[Self::Room],
            Self::OwnPermissions => &[Self::OwnPermissions],
        }
    }
}

/// An entry for a peer of this node.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The peer that receives the entry.
    pub peer: PeerId,
    /// The version of the mailbox with the entry.
    pub mailbox_version: u64,
    /// The entry.
    pub entry: Entry,
}

/// The write of a decision: members, tombstones, settings and events.
#[derive(Debug)]
pub struct Commit {
    /// The room instance that the decision was based on.
    pub instance_id: RoomInstanceId,
    /// The version that the decision was based on. 0: the room must not exist.
    pub version: u64,
    /// The time of the decision, milliseconds since 1970.
    pub decided_at: u64,
    /// Members to write. A member that has a mailbox keeps its mailbox version.
    pub written_members: Vec<(PeerId, Arc<Member>)>,
    /// Members to remove with their mailboxes, and their tombstones.
    pub removed_peers: Vec<(PeerId, Tombstone)>,
    /// Peers whose tombstones have expired.
    pub expired_tombstones: Vec<PeerId>,
    /// The members that are detached after the commit.
    pub detached_peers: Vec<PeerId>,
    /// Nodes that own their first peer of the room after the commit.
    pub added_nodes: Vec<NodeId>,
    /// Nodes that own no peer of the room any more.
    pub removed_nodes: Vec<NodeId>,
    /// Peers that other nodes must resync, because the commit takes them from these nodes.
    pub resync_requests: Vec<(NodeId, Vec<PeerId>)>,
    /// Whether the commit adds data. A full store applies a commit that adds none; otherwise it
    /// could never free memory.
    pub adds_data: bool,
    /// Whether the room was empty before: its life begins.
    pub opens_room: bool,
    /// Whether the room is empty after the commit.
    pub leaves_room_empty: bool,
    /// Whether the room is empty and not kept. It ends, and only its tombstones remain.
    pub ends_room: bool,
    /// The settings of the room, if they must be written.
    pub settings: Option<Arc<RoomSettings>>,
    /// The sanctions of the room, if they must be written.
    pub sanctions: Option<Arc<SanctionList>>,
    /// The longest time for which the room may have members without a break, milliseconds.
    pub max_life_ms: u64,
    /// The time until which an empty room is kept, milliseconds since 1970 by the clock of the
    /// store. 0: the room ends with its last member.
    pub kept_until: u64,
    /// The events for members, in order.
    pub events: Vec<EventEntry>,
    /// Message ids of requests that the commit accepts.
    pub accepted_ids: Vec<RequestId>,
    /// The lines of the event feed for operators.
    pub feed_lines: Vec<Arc<str>>,
}

impl Commit {
    /// How long the store keeps a written member that is detached, milliseconds. The store counts
    /// from its own time. A member of a room that the store has forgotten gets the whole window.
    pub(super) fn window_ms(&self, member: &Member, resume_window_ms: u64) -> u64 {
        match member.attachment {
            PeerAttachment::Detached(leaves_at) if self.version > 0 && leaves_at > self.decided_at => {
                resume_window_ms.min(leaves_at - self.decided_at)
            }
            _ => resume_window_ms,
        }
    }
}

/// The message id of a peer's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    /// The peer.
    pub peer: PeerId,
    /// The message id.
    pub id: u64,
    /// Ids of the peer that the caller knows to be refused. The store keeps those below `id` and above
    /// the highest accepted id.
    pub refused: RefusedIds,
}

/// One event for several mailboxes.
#[derive(Debug, Clone)]
pub struct EventEntry {
    /// The peer that the event is about.
    pub about_peer: PeerId,
    /// The type of the entries.
    pub kind: EntryKind,
    /// The state that the event tells. None: a message of the application, which nothing replaces.
    pub state: Option<StateKind>,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// The peers that receive the event.
    pub targets: Vec<PeerId>,
}

/// A room as the store holds it.
#[derive(Debug)]
pub struct LoadedRoom {
    /// The replication id of the store.
    pub replication_id: ReplicationId,
    /// The time of the read, milliseconds since 1970 by the clock of the store.
    pub now: u64,
    /// The room, if there is one.
    pub room: Option<RoomState>,
}

/// The result of a commit.
#[derive(Debug)]
pub enum CommitResult {
    /// The commit was applied under this replication id. The entries are for peers of this node.
    Applied(ReplicationId, Vec<Delivery>),
    /// The room has another version. Nothing changed; this is the current state.
    Conflict(LoadedRoom),
}

/// One message to append.
#[derive(Debug, Clone)]
pub struct OutgoingEntry {
    /// The message id that the sender gave.
    pub id: Option<u64>,
    /// The peers that receive the message.
    pub target: MessageTarget,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// Whether the caller used its state of the room to check the message. The message is stale if
    /// the room has another version. A message to the room always needs the version.
    pub requires_room_version: bool,
}

/// The peers that receive a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageTarget {
    /// One peer of the room.
    Peer(PeerId),
    /// Every other peer of the room.
    Room,
    /// No peer: the message is withheld, and its sender receives the usual acknowledgement.
    Withheld,
}

impl MessageTarget {
    /// Whether a peer may receive both messages.
    pub fn overlaps(&self, other: &Self) -> bool {
        matches!(self, Self::Room) || matches!(other, Self::Room) || self == other
    }
}

/// A batch of one sender's messages.
#[derive(Debug)]
pub struct AppendBatch {
    /// The sender.
    pub sender: PeerId,
    /// The epoch in which the caller owns the sender.
    pub epoch: u64,
    /// The mailbox version of the sender.
    pub mailbox_version: u64,
    /// The last entry of that mailbox that the sender has acknowledged.
    pub acked_seq: u64,
    /// The token of the sender. Bytes that wait are charged to its grant.
    pub token: TokenId,
    /// The highest message id of the sender that the caller knows to be accepted.
    pub known_last_id: u64,
    /// Ids of the sender that the caller knows to be refused. The store keeps those above the highest
    /// accepted id, as soon as it accepts a later one.
    pub refused: RefusedIds,
    /// The handle generation that the client has, if the store does not know it yet.
    pub handle_generation: Option<u64>,
    /// The members that the caller knows: the targets of a message to the room.
    pub members: Arc<MemberList>,
    /// The messages, in order.
    pub entries: Vec<OutgoingEntry>,
}

/// The members of a room, as one node knows them.
#[derive(Debug, Default)]
pub struct MemberList {
    /// The version of the room with these members.
    pub version: u64,
    /// The members.
    pub peers: Vec<PeerId>,
}

/// The results of a batch.
#[derive(Debug)]
pub struct AppendResults {
    /// The mailbox version of the sender.
    pub mailbox_version: u64,
    /// One result for each message. After a stale message there are no more.
    pub results: Vec<AppendResult>,
}

/// The result of one message.
#[derive(Debug)]
pub enum AppendResult {
    /// Written to every target. The entries are for peers of this node.
    Written(SmallVec<[Delivery; 1]>),
    /// This id or a higher one was accepted before. Nothing was written.
    Duplicate,
    /// This id was refused with this code, and a later one was accepted. Nothing was written.
    RefusedBefore(ErrorCode),
    /// The target is not in the room.
    NoSuchPeer,
    /// Too many bytes or entries wait. Nothing was written.
    Backlogged(BacklogBound),
    /// The caller does not know the current version. This message and all later ones were not
    /// handled.
    Stale,
}

impl AppendResult {
    /// The code of the answer, if the message was refused now.
    pub fn refusal_code(&self) -> Option<ErrorCode> {
        match self {
            Self::NoSuchPeer => Some(ErrorCode::NoSuchPeer),
            Self::Backlogged(_) => Some(ErrorCode::PeerBacklogged),
            Self::Written(_) | Self::Duplicate | Self::RefusedBefore(_) | Self::Stale => None,
        }
    }
}

/// What is full, so that a message is refused. All but the mailbox refuse only messages to a peer
/// that does not read: a detached peer, or one for which much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BacklogBound {
    /// The mailbox of a target.
    Mailbox,
    /// The room: the bytes that wait in all its mailboxes.
    Room,
    /// The grant of the sender: the bytes of its messages that wait for peers that do not read.
    Grant,
    /// The memory of the store.
    Memory,
}

impl BacklogBound {
    /// Every bound.
    pub const ALL: [Self; 4] = [Self::Mailbox, Self::Room, Self::Grant, Self::Memory];

    /// The stable text of the bound, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mailbox => "mailbox",
            Self::Room => "room",
            Self::Grant => "grant",
            Self::Memory => "memory",
        }
    }
}

/// Why a whole batch was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The caller does not own the sender in this epoch. Nothing was written.
    /// [`super::PeerStatus`] gives the reason.
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

/// A room or mailboxes whose deadline has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueItem {
    /// A room: the resume window of a peer, the life of the room or its retention has ended.
    Room(RoomId),
    /// Mailboxes of a room: their oldest entries are too old.
    Mailboxes(RoomId, Vec<PeerId>),
}

/// The nodes that the store knows.
#[derive(Debug, Default)]
pub struct NodeCensus {
    /// Whether the calling node still had a lease. If not, other nodes may have detached its peers.
    pub had_lease: bool,
    /// The living nodes, with the calling node.
    pub live_nodes: Vec<NodeId>,
    /// The dead nodes that are not forgotten yet.
    pub dead_nodes: Vec<NodeId>,
}

/// Receives what the store reports for peers of this node.
pub trait StoreEvents: Send + Sync {
    /// Another node has written an entry. Must not block.
    fn deliver_entry(&self, room: &RoomId, delivery: Delivery);
    /// Another process has changed these peers of this node. Must not block.
    fn resync_peers(&self, room: &RoomId, peers: &[PeerId]);
    /// Entries for rooms of these partitions may have been missed. Must not block.
    fn resync_partitions(&self, partitions: &[usize]);
}
