//! Where events wait to be told, and where those lie that were given up: Redis, or this process.
//!
//! Owns: the words in which the worker asks. Must not: decide what is told. The memory store follows the same rules and is lost with the
//! process. Next: `redis.rs`, `memory.rs`.

use std::sync::Arc;

use signalbox_redis::RedisUnavailable;

use super::{
    delivery_schedule::PendingWrites,
    event::{AbandonedEvent, EventHeader, StreamEntryId},
    memory::MemoryWebhookStore,
    redis::RedisWebhookStore,
};

/// What is known of a partition before it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionQuery {
    pub(super) partition: usize,
    /// The last entry that is held.
    pub(super) after: Option<StreamEntryId>,
    /// Whether this process did not have it until now.
    pub(super) is_new: bool,
}

/// What a partition holds.
#[derive(Debug, Default)]
pub(super) struct PartitionEvents {
    /// How many entries there are.
    pub(super) count: usize,
    /// Whether no process had the lease until now.
    pub(super) lease_was_free: bool,
    /// How many went for want of room or by age while nobody told them.
    pub(super) lost: u64,
    pub(super) entries: Vec<RecordedEvent>,
    /// How often which entry was tried where; none: it is done there.
    pub(super) progress: Vec<(String, Option<u32>)>,
}

/// One event as it was recorded.
#[derive(Debug, Clone)]
pub(super) struct RecordedEvent {
    pub(super) entry: StreamEntryId,
    pub(super) line: Arc<str>,
    pub(super) only_endpoint: Option<String>,
}

/// A poll: each partition, none where another process has it; and the history of its server.
pub(super) type PollResults = Vec<(PartitionQuery, Arc<str>, Option<PartitionEvents>)>;

/// A dead letter as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct StoredDeadLetter {
    pub(crate) partition: usize,
    pub(crate) entry_id: StreamEntryId,
    pub(crate) letter: DeadLetter,
}

impl StoredDeadLetter {
    /// Whether its event is one of these.
    pub(crate) fn event_matches(&self, these: impl Fn(&EventHeader) -> bool) -> bool {
        serde_json::from_str::<EventHeader>(&self.letter.line).is_ok_and(|head| these(&head))
    }
}

/// What a dead letter says.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) endpoint_id: String,
    pub(crate) cause: String,
    pub(crate) attempts: u32,
    pub(crate) last_failure: String,
    pub(crate) line: Arc<str>,
}

impl From<AbandonedEvent> for DeadLetter {
    fn from(dead: AbandonedEvent) -> Self {
        let AbandonedEvent { endpoint_id: endpoint, cause, attempts, last_failure: last, line } = dead;
        Self { endpoint_id: endpoint, cause: cause.as_str().to_owned(), attempts, last_failure: last, line }
    }
}

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
