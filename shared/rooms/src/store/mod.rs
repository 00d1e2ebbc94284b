//! The store: what all nodes share. Rooms change by compare-and-commit, messages are appended to mailboxes.
//!
//! Owns: the contract below, kept alike by the memory store (one process) and the Redis store (any number), and shown by
//! one conformance suite over both. Must not: decide who may do what (`room`), or know sockets.
//! Next: in the signaling service, `registry` commits, reads and hands deliveries out; `connection` appends; `keeper` looks after leases and deadlines.
//!
//! The contract:
//! - `commit` applies a decision if the room still has the `(incarnation, version)` it was made on, and appends its
//!   events to the targets' mailboxes in the same step; otherwise it changes nothing and returns the fresh state.
//! - `append` writes a batch of one sender's messages, in order, each to all of its targets or to none. Only the owner of
//!   the sender's current epoch may append. An id at or below the sender's highest accepted one is a duplicate and writes nothing.
//! - A mailbox gives each entry the next `seq` of its peer, without gaps, and keeps it until it is acknowledged, or older than
//!   `entry_life`. A message to a peer with a full mailbox is refused; an event is not (rooms must stay true) and the mailbox
//!   holds at most twice its bound.
//! - A mailbox has a number. Where entries may have been lost the peer gets a new one: what was in the old one is not promised any
//!   more. A store of another lineage may have forgotten anything it had acknowledged, so that every mailbox is a new one.
//! - Entries for peers of the calling node come back as deliveries; those of other nodes reach them through their topic.
//! - Every failure to answer in time is [`StoreUnavailable`]: the outcome is unknown. Nothing is retried here.

#[cfg(test)]
mod conformance;
mod contract;
mod memory;
mod peer_status;
mod redis;
mod store_limits;

use std::{sync::Arc, time::Duration};

use crate::feed::FeedSender;
use crate::usage::{MemoryUsageStore, UsageAmount, UsageKey, UtcDay};
use signalbox_protocol::id::{NodeId, PeerId, RoomId, UserId};

pub use contract::*;
pub use memory::MemoryRoomStore;
pub use peer_status::*;
pub use redis::RedisRoomStore;
pub use store_limits::*;

/// The store in use.
pub enum RoomStore {
    /// This process alone.
    Memory(MemoryRoomStore),
    /// Shared through Redis.
    Redis(RedisRoomStore),
}

impl RoomStore {
    /// The store of one process.
    pub fn in_memory(bounds: StoreLimits, feed: Option<FeedSender>) -> Self {
        Self::Memory(MemoryRoomStore::new(bounds, feed))
    }

    /// Milliseconds since 1970 by the store's clock.
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::Memory(_) => signalbox_protocol::clock::now_ms(),
            Self::Redis(store) => store.now_ms(),
        }
    }

    /// Whether all of the store answers; never waits.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(store) => store.is_ready(),
        }
    }

    /// Whether the part of the store that holds a room answers; never waits.
    pub fn is_room_available(&self, room: &RoomId) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(store) => store.is_room_available(room),
        }
    }

    /// How long ago the store may last have forgotten something, or this node last lost sight of it.
    pub fn stable_for(&self) -> Duration {
        match self {
            Self::Memory(_) => Duration::MAX,
            Self::Redis(store) => store.stable_for(),
        }
    }

    /// Applies a change of membership.
    ///
    /// # Errors
    /// [`StoreUnavailable`]: it may or may not have been applied.
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

    /// From now on so many entries may wait in a mailbox.
    pub fn set_backlog(&self, backlog: u32) {
        match self {
            Self::Memory(store) => store.set_backlog(backlog.into()),
            Self::Redis(store) => store.set_backlog(backlog.into()),
        }
    }

    /// The room as it is now.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn load_room(&self, room: &RoomId) -> Result<LoadedRoom, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.load_room(room)),
            Self::Redis(store) => store.load_room(room).await,
        }
    }

    /// Appends a batch. An empty batch only acknowledges.
    ///
    /// # Errors
    /// [`AppendError`]: none was written, or with `StoreUnavailable` nobody knows.
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

    /// What became of a peer, and the page of its mailbox after `seq`.
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

    /// Gives up the mailbox of this number: the peer goes on with a new one. `floor` is the highest id of the peer that the caller
    /// knows to be accepted. None if the reader does not own the peer.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn renew_mailbox(
        &self,
        room: &RoomId,
        reader: &MailboxReader,
        mailbox: u64,
        floor: u64,
    ) -> Result<Option<RenewedMailbox>, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.renew_mailbox(room, reader, mailbox, floor)),
            Self::Redis(store) => store.renew_mailbox(room, reader, mailbox, floor).await,
        }
    }

    /// How far the mailboxes of some peers have come, in their order.
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

    /// Entries for a peer were lost outside its mailbox: it gets a new one, whoever owns it now.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn invalidate_mailbox(&self, room: &RoomId, peer: &PeerId) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.invalidate_mailbox(room, peer).await,
        }
    }

    /// What of some partitions has a deadline that has come; each is named again a little later if nothing becomes of it.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn poll_due_items(&self, partitions: &[usize]) -> Result<Vec<DueItem>, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.poll_due_items(partitions)),
            Self::Redis(store) => store.poll_due_items(partitions).await,
        }
    }

    /// Cuts off what is too old in mailboxes of a room.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn trim_mailboxes(&self, room: &RoomId, peers: &[PeerId]) -> Result<(), StoreUnavailable> {
        match self {
            // It has no copy that outlives the process, and its clients confirm what they have.
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.trim_mailboxes(room, peers).await,
        }
    }

    /// Says that a node is alive, and asks who else is.
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

    /// Keeps it known over how many partitions rooms are spread. Now and then.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn renew_partition_count(&self) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.renew_partition_count().await,
        }
    }

    /// Rooms of a partition where a node has, or had, peers.
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

    /// The rooms of a partition, in no order. Some may be over.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn list_rooms_in_partition(&self, partition: usize) -> Result<Vec<RoomId>, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.list_rooms_in_partition(partition)),
            Self::Redis(store) => store.list_rooms_in_partition(partition).await,
        }
    }

    /// Takes one of the `most` places that a user has for rooms of its own making, for as long as the room is kept. Whether there was
    /// one, or the room has one already.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn reserve_user_room(
        &self,
        user: &UserId,
        room: &RoomId,
        kept_ms: u64,
        most: u32,
    ) -> Result<bool, StoreUnavailable> {
        match self {
            Self::Memory(store) => Ok(store.reserve_user_room(user, room, kept_ms, most)),
            Self::Redis(store) => store.reserve_user_room(user, room, kept_ms, most).await,
        }
    }

    /// Gives a place back before its room would have been over.
    ///
    /// # Errors
    /// [`StoreUnavailable`]: it comes back later.
    pub async fn release_user_room(&self, user: &UserId, room: &RoomId) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(store) => {
                store.release_user_room(user, room);
                Ok(())
            }
            Self::Redis(store) => store.release_user_room(user, room).await,
        }
    }

    /// A dead node has no peers in this room: it need not be looked for there.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn unlist_node(&self, room: &RoomId, node: &NodeId) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.unlist_node(room, node).await,
        }
    }

    /// Adds what a node has counted on a day. `number` grows with each call of the node: one that was executed before is not executed
    /// again, so that a call whose outcome is unknown may be repeated.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn add_usage(
        &self,
        node: &NodeId,
        number: u64,
        day: UtcDay,
        amounts: &[(UsageKey, UsageAmount)],
    ) -> Result<(), StoreUnavailable> {
        match self {
            Self::Memory(store) => {
                store.usage_book().add_usage(day, amounts);
                Ok(())
            }
            Self::Redis(store) => store.add_usage(node, number, day, amounts).await,
        }
    }

    /// The usage counted in this process, where no other keeps it.
    pub fn usage_book(&self) -> Option<Arc<MemoryUsageStore>> {
        match self {
            Self::Memory(store) => Some(store.usage_book().clone()),
            Self::Redis(_) => None,
        }
    }

    /// Forgets a node: one that is dead and has no peers anywhere, or that stops.
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
