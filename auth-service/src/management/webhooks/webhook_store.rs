//! Where events wait to be told, and where those lie that were given up: Redis, or this process.
//!
//! Owns: the words in which the worker asks. Must not: decide what is told. The memory store follows the same rules and is lost with the
//! process. Next: `redis.rs`, `memory.rs`.

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

    /// Takes what leases are free, keeps those held, and reads what came.
    pub(super) async fn poll(&self, asked: &[PartitionQuery]) -> Result<PollResults, RedisUnavailable> {
        match self {
            Self::Redis(store) => store.poll(asked).await,
            Self::Memory(store) => Ok(store.poll(asked)),
        }
    }

    /// Writes down how events went: none where another process tells them, else how many dead letters went for want of room.
    pub(super) async fn write_outcomes(
        &self,
        partition: usize,
        effects: &PendingWrites,
        endpoints: &[String],
    ) -> Result<Option<u64>, RedisUnavailable> {
        match self {
            Self::Redis(store) => store.write_outcomes(partition, effects, endpoints).await,
            Self::Memory(store) => Ok(Some(store.write_outcomes(partition, effects))),
        }
    }

    /// Puts back what a store that has forgotten may not hold.
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

    /// Lets others tell what this process told.
    pub(super) async fn release_leases(&self, partitions: &[usize]) {
        if let Self::Redis(store) = self {
            store.release_leases(partitions).await;
        }
    }

    /// Dead letters of a partition after one, oldest first.
    pub(super) async fn list_dead_letters(
        &self,
        partition: usize,
        after: Option<StreamEntryId>,
        most: usize,
    ) -> Result<Vec<StoredDeadLetter>, RedisUnavailable> {
        match self {
            Self::Redis(store) => store.list_dead_letters(partition, after, most).await,
            Self::Memory(store) => Ok(store.list_dead_letters(partition, after, most)),
        }
    }

    /// Dead letters are told again; how many.
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
