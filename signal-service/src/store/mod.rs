//! The store: what all nodes share. Rooms change by compare-and-commit, messages are appended to mailboxes.
//!
//! Owns: the contract below, kept alike by the memory store (one process) and the Redis store (any number), and shown by
//! one conformance suite over both. Must not: decide who may do what (`room`), or know sockets (`connection`).
//! Next: `registry` commits, reads and hands deliveries out; `connection` appends.
//!
//! The contract:
//! - `commit` applies a decision if the room still has the `(incarnation, version)` it was made on, and appends its
//!   events to the targets' mailboxes in the same step; otherwise it changes nothing and returns the fresh state.
//! - `append` writes a batch of one sender's messages, in order, each to all of its targets or to none. Only the owner of
//!   the sender's current epoch may append. An id at or below the sender's highest accepted one is a duplicate and writes nothing.
//! - A mailbox gives each entry the next `seq` of its peer, without gaps, and keeps it until it is acknowledged, or older than
//!   `entry_life`. A message to a peer with a full mailbox is refused; an event is not (rooms must stay true) and the mailbox
//!   holds at most twice its bound.
//! - Entries for peers of the calling node come back as deliveries; those of other nodes reach them through their topic.
//! - Every failure to answer in time is [`Unavailable`]: the outcome is unknown. Nothing is retried here.

#[cfg(test)]
mod conformance;
mod memory;
mod redis;

use std::sync::Arc;

use signalbox_shared::{
    config::{Limits, Timing},
    feed::FeedSender,
    id::{NodeId, PeerId, RoomId},
};

use crate::room::{Incarnation, Member, RoomState};

pub use memory::MemoryStore;
pub use redis::{RedisStore, StartError};

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

/// How an entry is presented to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// As it is.
    Plain,
    /// A peer entry: `polite` is added, which differs from reader to reader.
    PeerEntry,
}

/// An entry for a peer of this node.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The reader.
    pub peer: PeerId,
    /// The epoch of the mailbox it was written to.
    pub epoch: u64,
    /// What was written.
    pub entry: Entry,
}

/// A change of a room's membership, with what the others hear of it.
#[derive(Debug)]
pub struct Commit {
    /// The incarnation and version it was decided on; version 0 means the room must not exist yet.
    pub incarnation: Incarnation,
    /// See `incarnation`.
    pub version: u64,
    /// Members to write.
    pub put: Vec<(PeerId, Member)>,
    /// Members to remove, with their mailboxes.
    pub removed: Vec<PeerId>,
    /// Whether somebody new comes in. What does not grow is applied even where the store is full, or a full store could never
    /// empty itself.
    pub grows: bool,
    /// Whether nobody is left: the room ends and its keys go.
    pub ends: bool,
    /// What others hear, in order.
    pub events: Vec<Announcement>,
    /// Ids that these peers' requests carried, now accepted.
    pub accepted: Vec<(PeerId, u64)>,
    /// Lines for the operators' feed.
    pub feed: Vec<Arc<str>>,
}

/// One event for several mailboxes.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// Who it is about.
    pub about: PeerId,
    /// How it is presented.
    pub kind: EntryKind,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// Who hears it.
    pub targets: Vec<PeerId>,
}

/// What became of a commit.
#[derive(Debug)]
pub enum Committed {
    /// It holds; these entries are for peers of this node.
    Applied(Vec<Delivery>),
    /// The room has moved on; this is where it is. None: it does not exist.
    Conflict(Option<RoomState>),
}

/// One message to append.
#[derive(Debug, Clone)]
pub struct Item {
    /// The sender's number.
    pub id: Option<u64>,
    /// Who gets it.
    pub to: Target,
    /// The frame without `seq`.
    pub body: Arc<str>,
}

/// Who gets a message.
#[derive(Debug, Clone)]
pub enum Target {
    /// One peer of the room.
    Peer(PeerId),
    /// Every other peer of the room.
    Room,
}

/// A batch of one sender's messages.
#[derive(Debug)]
pub struct Append {
    /// The sender.
    pub sender: PeerId,
    /// Its epoch.
    pub epoch: u64,
    /// The last entry of its own mailbox that it has confirmed.
    pub acked: u64,
    /// The room as the caller knows it: the targets of a message to the room.
    pub members: Arc<Members>,
    /// The messages, in order.
    pub items: Vec<Item>,
}

/// Who is in a room, as one node knows it.
#[derive(Debug, Default)]
pub struct Members {
    /// The version this was true at.
    pub version: u64,
    /// The members.
    pub peers: Vec<PeerId>,
}

/// What became of one message.
#[derive(Debug)]
pub enum Appended {
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
    /// A newer epoch owns the sender.
    #[error("a newer connection owns the peer")]
    Fenced,
    /// The sender or the room is gone.
    #[error("the peer or its room is gone")]
    Gone,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The store did not answer in time, or cannot be reached: the outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store did not answer in time")]
pub struct Unavailable;

/// Bounds of mailboxes and rooms.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Entries that may wait.
    pub backlog: u64,
    /// Bytes that may wait.
    pub backlog_bytes: u64,
    /// The longest an entry is kept, milliseconds.
    pub entry_life_ms: u64,
    /// The longest life of a room, milliseconds.
    pub room_life_ms: u64,
}

impl Bounds {
    /// From the settings.
    pub fn new(limits: &Limits, timing: &Timing) -> Self {
        Self {
            backlog: u64::from(limits.backlog),
            backlog_bytes: limits.backlog_bytes.0 as u64,
            // Half: an entry goes when it is that old and another comes, or that long after the last one. The TTL of a mailbox
            // starts anew with each entry, so the two together are the longest that one is kept.
            entry_life_ms: timing.entry_life.as_ms() / 2,
            room_life_ms: timing.room_life.as_ms(),
        }
    }
}

/// Where entries for this node's peers come in that other nodes wrote.
pub trait Arrivals: Send + Sync {
    /// An entry for a peer of this node. Must not block.
    fn deliver(&self, room: &RoomId, delivery: Delivery);
    /// Some entries of these partitions may have been missed: every peer with a room there must read its mailbox. Must not block.
    fn catch_up(&self, partitions: &[usize]);
}

/// The store in use.
pub enum Store {
    /// This process alone.
    Memory(MemoryStore),
    /// Shared through Redis.
    Redis(RedisStore),
}

impl Store {
    /// The store of one process.
    pub fn memory(bounds: Bounds, feed: Option<FeedSender>) -> Self {
        Self::Memory(MemoryStore::new(bounds, feed))
    }

    /// Milliseconds since 1970 by the store's clock.
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::Memory(_) => signalbox_shared::clock::now_ms(),
            Self::Redis(store) => store.now_ms(),
        }
    }

    /// Whether the store answers; never waits.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(store) => store.is_ready(),
        }
    }

    /// Applies a change of membership.
    ///
    /// # Errors
    /// [`Unavailable`]: it may or may not have been applied.
    pub async fn commit(
        &self,
        room: &RoomId,
        node: &NodeId,
        commit: &Commit,
    ) -> Result<Committed, Unavailable> {
        match self {
            Self::Memory(store) => Ok(store.commit(room, commit)),
            Self::Redis(store) => store.commit(room, node, commit).await,
        }
    }

    /// The room as it is now.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn load(&self, room: &RoomId) -> Result<Option<RoomState>, Unavailable> {
        match self {
            Self::Memory(store) => Ok(store.load(room)),
            Self::Redis(store) => store.load(room).await,
        }
    }

    /// Appends a batch. An empty batch only acknowledges.
    ///
    /// # Errors
    /// [`AppendError`]: none was written, or with `Unavailable` nobody knows.
    pub async fn append(
        &self,
        room: &RoomId,
        node: &NodeId,
        batch: &Append,
    ) -> Result<Vec<Appended>, AppendError> {
        match self {
            Self::Memory(store) => store.append(room, node, batch),
            Self::Redis(store) => store.append(room, node, batch).await,
        }
    }

    /// Up to `count` entries of a peer's mailbox after `seq`.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn read(
        &self,
        room: &RoomId,
        peer: &PeerId,
        epoch: u64,
        seq: u64,
        count: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        match self {
            Self::Memory(store) => Ok(store.read(room, peer, epoch, seq, count)),
            Self::Redis(store) => store.read(room, peer, epoch, seq, count).await,
        }
    }
}
