//! The store of the waiting events and the dead letters: Redis, or the memory of this process.
//!
//! Owns: the interface of both for the worker. Must not: decide a delivery. The memory store
//! follows the same rules and ends with the process. Next: `redis.rs`, `memory.rs`.

use signalbox_redis::RedisUnavailable;

use super::{
    contract::{PartitionQuery, PollResults, RecordedEvent, StoredDeadLetter},
    delivery_schedule::PendingWrites,
    event::StreamEntryId,
    memory::MemoryWebhookStore,
    redis::RedisWebhookStore,
};

/// See the module.
pub(super) enum WebhookStore {
    Redis(RedisWebhookStore),
    Memory(MemoryWebhookStore),
}

impl WebhookStore {
    pub(super) fn now_ms(&self) -> u64 {
        match self {
            Self::Redis(store) => store.client.now_ms(),
            Self::Memory(_) => signalbox_protocol::clock::now_ms(),
        }
    }

    /// Takes the free leases, renews the leases of this process, and reads the new events.
    pub(super) async fn poll(&self, queries: &[PartitionQuery]) -> Result<PollResults, RedisUnavailable> {
        match self {
            Self::Redis(store) => store.poll(queries).await,
            Self::Memory(store) => Ok(store.poll(queries)),
        }
    }

    /// Writes outcomes and returns how many old dead letters were dropped for new ones; `None` if
    /// another process has the lease.
    pub(super) async fn write_outcomes(
        &self,
        partition: usize,
        writes: &PendingWrites,
        endpoints: &[String],
    ) -> Result<Option<u64>, RedisUnavailable> {
        match self {
            Self::Redis(store) => store.write_outcomes(partition, writes, endpoints).await,
            Self::Memory(store) => Ok(Some(store.write_outcomes(partition, writes))),
        }
    }

    /// Writes events again that the store may have lost.
    pub(super) async fn restore_events(
        &self,
        partition: usize,
        events: &[RecordedEvent],
    ) -> Result<(), RedisUnavailable> {
        match self {
            Self::Redis(store) => store.restore_events(partition, events).await,
            Self::Memory(_) => Ok(()),
        }
    }

    /// Releases leases, so that another process can take them at once.
    pub(super) async fn release_leases(&self, partitions: &[usize]) {
        if let Self::Redis(store) = self {
            store.release_leases(partitions).await;
        }
    }

    /// At most `limit` dead letters of a partition after a position, oldest first.
    pub(super) async fn list_dead_letters(
        &self,
        partition: usize,
        after: Option<StreamEntryId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, RedisUnavailable> {
        match self {
            Self::Redis(store) => store.list_dead_letters(partition, after, limit).await,
            Self::Memory(store) => Ok(store.list_dead_letters(partition, after, limit)),
        }
    }

    /// Moves dead letters back to the waiting events and returns their number.
    pub(super) async fn replay_dead_letters(
        &self,
        partition: usize,
        letters: &[StoredDeadLetter],
    ) -> Result<usize, RedisUnavailable> {
        match self {
            Self::Redis(store) => store.replay_dead_letters(partition, letters).await,
            Self::Memory(store) => Ok(store.replay_dead_letters(partition, letters)),
        }
    }
}
