//! The store: the state that all nodes share. Rooms change by compare-and-commit, and messages are
//! appended to mailboxes.
//!
//! Owns: the contract below. The memory store (one process) and the Redis store (any number of
//! processes) keep it, and one conformance suite tests both. Must not: decide what a peer may do
//! (`room` does), or know sockets.
//! Next: `contract` for the types, `memory` and `redis` for the backends.
//!
//! The contract:
//! - `commit` applies a decision if the room still has the instance and version that the decision
//!   was based on. It appends the events to the mailboxes of the targets in the same step.
//!   Otherwise it changes nothing and returns the current state.
//! - `append` writes a batch of one sender's messages in order, each to all of its targets or to
//!   none. Only the owner of the sender's current epoch may append. An id that is not higher than
//!   the sender's highest accepted id is a duplicate, and nothing is written.
//! - The store keeps the ids below the highest accepted id that were refused: those that it refuses
//!   itself, and those that the caller reports with the call that accepts a later id. It refuses such
//!   an id again instead of calling it a duplicate.
//! - A mailbox gives each entry the next `seq` of its peer, without gaps. It keeps the entry until
//!   the peer acknowledges it, or until it is older than `entry_life`. A message to a full mailbox
//!   is refused. An event is not, because peers must know the room; a mailbox holds at most twice
//!   its bound.
//! - A mailbox has a version. When entries may have been lost, the peer gets a new version, and
//!   entries of the old version are not delivered any more. A store with another replication id may
//!   have lost any acknowledged write, so every mailbox gets a new version.
//! - Entries for peers of the calling node are returned as deliveries. Entries for peers of other
//!   nodes reach those nodes through their topics.
//! - Every failure to answer in time is [`StoreUnavailable`]: the outcome is unknown. The store
//!   does not retry.

#[cfg(test)]
mod conformance;
mod contract;
mod memory;
mod peer_status;
mod redis;
mod refused_ids;
mod store_limits;

use std::{sync::Arc, time::Duration};

use crate::feed::FeedSender;
use crate::room::{RoomCreator, RoomSettings};
use crate::timeline::{PairReport, PairTimeline};
use crate::usage::{MemoryUsageStore, UsageAmount, UsageKey, UtcDay};
use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::{MemoryLevel, RedisStartError};

pub use contract::*;
pub use memory::MemoryRoomStore;
pub use peer_status::*;
pub use redis::RedisRoomStore;
pub use refused_ids::RefusedIds;
pub use store_limits::*;

/// The store in use.
pub enum RoomStore {
    /// The memory of this process.
    Memory(MemoryRoomStore),
    /// Shared through Redis.
    Redis(RedisRoomStore),
}

impl RoomStore {
    /// The store of one process.
    pub fn in_memory(limits: StoreLimits, feed: Option<FeedSender>) -> Self {
        Self::Memory(MemoryRoomStore::new(limits, feed))
    }

    /// Milliseconds since 1970 by the clock of the store.
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::Memory(_) => signalbox_protocol::clock::now_ms(),
            Self::Redis(store) => store.now_ms(),
        }
    }

    /// Whether every part of the store is connected and refuses nothing. Never waits.
    ///
    /// # Errors
    /// Why the store cannot be used.
    pub fn check_ready(&self) -> Result<(), RedisStartError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.check_ready(),
        }
    }

    /// How many requests Redis has refused, by its code. Empty without Redis.
    pub fn refusal_counts(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Memory(_) => vec![],
            Self::Redis(store) => store.refusal_counts(),
        }
    }

    /// Whether the part of the store with this room is connected. Never waits.
    pub fn is_room_available(&self, room: &RoomId) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(store) => store.is_room_available(room),
        }
    }

    /// The time since the store may last have lost writes, or since this node last lost its
    /// connection.
    pub fn stable_for(&self) -> Duration {
        match self {
            Self::Memory(_) => Duration::MAX,
            Self::Redis(store) => store.stable_for(),
        }
    }

    /// Commits a decision.
    ///
    /// # Errors
    /// [`StoreUnavailable`]: it is unknown whether the commit was applied.
    pub async fn commit(
        &self,
        room: &RoomId,
        node: &NodeId,
        commit: &Commit,
    ) -> Result<CommitResult, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.commit(room, commit)),
            Self::Redis(store) => store.commit(room, node, commit).await,
        }
    }

    /// Puts other limits in force.
    pub fn set_limits(&self, limits: StoreLimits) {
        match self {
            Self::Memory(store) => store.set_limits(limits),
            Self::Redis(store) => store.set_limits(limits),
        }
    }

    /// Whether feed lines may be read. Other processes read those in Redis.
    pub fn has_feed_reader(&self) -> bool {
        match self {
            Self::Memory(store) => store.has_feed_reader(),
            Self::Redis(_) => true,
        }
    }

    /// The store in memory, which answers at once, if this is it.
    pub fn memory(&self) -> Option<&MemoryRoomStore> {
        match self {
            Self::Memory(store) => Some(store),
            Self::Redis(_) => None,
        }
    }

    /// Loads the current state of a room.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn load_room(&self, room: &RoomId) -> Result<LoadedRoom, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.load_room(room)),
            Self::Redis(store) => store.load_room(room).await,
        }
    }

    /// Loads the settings of a room without its members, which may be large. `None` if there is no
    /// room. A room whose retention has just ended may still have its settings.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn load_room_settings(&self, room: &RoomId) -> Result<Option<RoomSettings>, StoreUnavailable> {
        match self {
            Self::Memory(store) => {
                Ok(store.load_room(room).room.map(|room| RoomSettings::clone(&room.settings)))
            }
            Self::Redis(store) => store.load_room_settings(room).await,
        }
    }

    /// Appends a batch of messages. An empty batch only acknowledges entries.
    ///
    /// # Errors
    /// [`AppendError`]: no message was written; after `Unavailable` that is unknown.
    pub async fn append(
        &self,
        room: &RoomId,
        node: &NodeId,
        batch: &AppendBatch,
    ) -> Result<AppendResults, AppendError> {
        match self {
            Self::Memory(store) => store.append(room, node, batch),
            Self::Redis(store) => store.append(room, node, batch).await,
        }
    }

    /// Reads the status of a peer, and the page of its mailbox after `seq`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn read_mailbox(
        &self,
        room: &RoomId,
        reader: &MailboxReader,
        seq: u64,
    ) -> Result<PeerStatus, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.read_mailbox(room, reader, seq)),
            Self::Redis(store) => store.read_mailbox(room, reader, seq).await,
        }
    }

    /// Gives up a mailbox version: the peer gets a new one. `known_last_id` is the highest message
    /// id of the peer that the caller knows to be accepted, and `refused` are the ids that it knows to
    /// be refused. `None` if the reader does not own the peer.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn renew_mailbox(
        &self,
        room: &RoomId,
        reader: &MailboxReader,
        mailbox_version: u64,
        known_last_id: u64,
        refused: &RefusedIds,
    ) -> Result<Option<RenewedMailbox>, StoreUnavailable> {
        match self {
            Self::Memory(store) => {
                Ok(store.renew_mailbox(room, reader, mailbox_version, known_last_id, refused))
            }
            Self::Redis(store) => {
                store.renew_mailbox(room, reader, mailbox_version, known_last_id, refused).await
            }
        }
    }

    /// Loads the last seq of the mailboxes of some peers, in the order of `peers`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn load_mailbox_heads(
        &self,
        room: &RoomId,
        peers: &[PeerId],
    ) -> Result<Vec<MailboxHead>, StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(Vec::new()),
            Self::Redis(store) => store.load_mailbox_heads(room, peers).await,
        }
    }

    /// Gives a peer a new mailbox version, because this node has lost entries of the peer outside
    /// the store. Works for any owner of the peer.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn invalidate_mailbox(&self, room: &RoomId, peer: &PeerId) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.invalidate_mailbox(room, peer).await,
        }
    }

    /// Returns the due rooms and mailboxes of some partitions. An item that is still due is
    /// returned again later.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn poll_due_items(&self, partitions: &[usize]) -> Result<Vec<DueItem>, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.poll_due_items(partitions)),
            Self::Redis(store) => store.poll_due_items(partitions).await,
        }
    }

    /// Deletes entries that are too old from mailboxes of a room.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn trim_mailboxes(&self, room: &RoomId, peers: &[PeerId]) -> Result<(), StoreUnavailable> {
        match self {
            // Each append drops old entries, and no entry outlives the process.
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.trim_mailboxes(room, peers, 0).await,
        }
    }

    /// Counts the bytes that wait in a room again, if these are all its members. In Redis a mailbox
    /// may expire uncounted. A caller counts after a refusal, not more than once a second.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn recount_backlog(&self, room: &RoomId, members: &MemberList) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.trim_mailboxes(room, &members.peers, members.version).await,
        }
    }

    /// How full the memory of the store is: the fullest server counts.
    pub fn memory_level(&self) -> MemoryLevel {
        match self {
            Self::Memory(_) => MemoryLevel::Normal,
            Self::Redis(store) => store.memory_level(),
        }
    }

    /// Renews the lease of a node, and returns the living and the dead nodes.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn renew_lease(&self, node: &NodeId) -> Result<NodeCensus, StoreUnavailable> {
        match self {
            Self::Memory(_) => {
                Ok(NodeCensus { had_lease: true, live_nodes: vec![node.clone()], dead_nodes: Vec::new() })
            }
            Self::Redis(store) => store.renew_lease(node).await,
        }
    }

    /// Renews the record of the number of partitions. Each node calls it from time to time.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn renew_partition_count(&self) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.renew_partition_count().await,
        }
    }

    /// Lists the rooms of a partition in which a node owns or owned peers.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn list_rooms_of_node(
        &self,
        partition: usize,
        node: &NodeId,
    ) -> Result<Vec<RoomId>, StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(Vec::new()),
            Self::Redis(store) => store.list_rooms_of_node(partition, node).await,
        }
    }

    /// Lists the rooms of a partition, unordered. Some may have ended.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn list_rooms_in_partition(&self, partition: usize) -> Result<Vec<RoomId>, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.list_rooms_in_partition(partition)),
            Self::Redis(store) => store.list_rooms_in_partition(partition).await,
        }
    }

    /// Reserves one of the `max_rooms` places for rooms that a user or an API key creates. The place is free
    /// again after `retention_ms` milliseconds. Returns whether the room has a place now.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn reserve_room(
        &self,
        creator: &RoomCreator,
        room: &RoomId,
        retention_ms: u64,
        max_rooms: u32,
    ) -> Result<bool, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.reserve_room(creator, room, retention_ms, max_rooms)),
            Self::Redis(store) => store.reserve_room(creator, room, retention_ms, max_rooms).await,
        }
    }

    /// Releases the place of a room before its retention ends.
    ///
    /// # Errors
    /// [`StoreUnavailable`]: the place is then free after the retention.
    pub async fn release_room(&self, creator: &RoomCreator, room: &RoomId) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(store) => {
                store.release_room(creator, room);
                Ok(())
            }
            Self::Redis(store) => store.release_room(creator, room).await,
        }
    }

    /// Removes a room from the rooms of a dead node, unless the node owns a peer of the room.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn unlist_node(&self, room: &RoomId, node: &NodeId) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.unlist_node(room, node).await,
        }
    }

    /// Adds usage that a node has counted on a day. `batch_number` grows with each batch of the
    /// node. A batch is added once, so a call with an unknown outcome may be repeated.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn add_usage(
        &self,
        node: &NodeId,
        batch_number: u64,
        day: UtcDay,
        amounts: &[(UsageKey, UsageAmount)],
    ) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(store) => {
                store.usage_book().add_usage(day, amounts);
                Ok(())
            }
            Self::Redis(store) => store.add_usage(node, batch_number, day, amounts).await,
        }
    }

    /// The usage that this process has counted. `None` if Redis keeps it.
    pub fn usage_book(&self) -> Option<Arc<MemoryUsageStore>> {
        match self {
            Self::Memory(store) => Some(store.usage_book().clone()),
            Self::Redis(_) => None,
        }
    }

    /// Appends steps to the timeline of a room. The steps get their times from the clock of the
    /// store. Beyond a limit the oldest steps of a pair are dropped, or the oldest pair of the root
    /// that has most.
    ///
    /// # Errors
    /// [`StoreUnavailable`], also while the store is short of memory.
    pub async fn append_timeline(
        &self,
        room: &RoomId,
        reports: &[PairReport],
    ) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(store) => {
                store.append_timeline(room, reports);
                Ok(())
            }
            Self::Redis(store) => store.append_timeline(room, reports).await,
        }
    }

    /// Reads the timeline of a room, which may have ended: the pairs by their last step, the newest
    /// first.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn read_timeline(&self, room: &RoomId) -> Result<Vec<PairTimeline>, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.read_timeline(room)),
            Self::Redis(store) => store.read_timeline(room).await,
        }
    }

    /// Deletes the lease of a node: a dead node without peers, or a node that stops.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn forget_node(&self, node: &NodeId) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.forget_node(node).await,
        }
    }
}
