//! Where events wait to be told, and where those lie that were given up: Redis, or this process.
//!
//! Owns: the words in which the worker asks. Must not: decide what is told. The memory store follows the same rules and is lost with the
//! process. Next: `redis.rs`, `memory.rs`.

use std::sync::Arc;

use signalbox_redis::Unavailable;

use super::{
    event::{Dead, EntryId, Head},
    memory::MemoryStore,
    redis::RedisStore,
    schedule::Effects,
};

/// What is known of a partition before it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) partition: usize,
    /// The last entry that is held.
    pub(super) after: Option<EntryId>,
    /// Whether this process did not have it until now.
    pub(super) is_new: bool,
}

/// What a partition holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many entries there are.
    pub(super) count: usize,
    /// Whether no process had the lease until now.
    pub(super) was_free: bool,
    /// How many went for want of room or by age while nobody told them.
    pub(super) lost: u64,
    pub(super) entries: Vec<Recorded>,
    /// How often which entry was tried where; none: it is done there.
    pub(super) progress: Vec<(String, Option<u32>)>,
}

/// One event as it was recorded.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) entry: EntryId,
    pub(super) line: Arc<str>,
    pub(super) only: Option<String>,
}

/// A poll: each partition, none where another process has it; and the history of its server.
pub(super) type Polled = Vec<(Asked, Arc<str>, Option<Found>)>;

/// A dead letter as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) partition: usize,
    pub(crate) entry: EntryId,
    pub(crate) dead: DeadLetter,
}

impl Letter {
    /// Whether its event is one of these.
    pub(crate) fn is_of(&self, these: impl Fn(&Head) -> bool) -> bool {
        serde_json::from_str::<Head>(&self.dead.line).is_ok_and(|head| these(&head))
    }
}

/// What a dead letter says.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) endpoint: String,
    pub(crate) cause: String,
    pub(crate) attempts: u32,
    pub(crate) last: String,
    pub(crate) line: Arc<str>,
}

impl From<Dead> for DeadLetter {
    fn from(dead: Dead) -> Self {
        let Dead { endpoint, cause, attempts, last, line } = dead;
        Self { endpoint, cause: cause.word().to_owned(), attempts, last, line }
    }
}

/// See the module.
pub(super) enum Store {
    Redis(RedisStore),
    Memory(MemoryStore),
}

impl Store {
    pub(super) fn now_ms(&self) -> u64 {
        match self {
            Self::Redis(store) => store.link.now_ms(),
            Self::Memory(_) => signalbox_protocol::clock::now_ms(),
        }
    }

    /// Takes what leases are free, keeps those held, and reads what came.
    pub(super) async fn poll(&self, asked: &[Asked]) -> Result<Polled, Unavailable> {
        match self {
            Self::Redis(store) => store.poll(asked).await,
            Self::Memory(store) => Ok(store.poll(asked)),
        }
    }

    /// Writes down how events went: none where another process tells them, else how many dead letters went for want of room.
    pub(super) async fn finish(
        &self,
        partition: usize,
        effects: &Effects,
        endpoints: &[String],
    ) -> Result<Option<u64>, Unavailable> {
        match self {
            Self::Redis(store) => store.finish(partition, effects, endpoints).await,
            Self::Memory(store) => Ok(Some(store.finish(partition, effects))),
        }
    }

    /// Puts back what a store that has forgotten may not hold.
    pub(super) async fn restore(&self, partition: usize, events: &[Recorded]) -> Result<(), Unavailable> {
        match self {
            Self::Redis(store) => store.restore(partition, events).await,
            Self::Memory(_) => Ok(()),
        }
    }

    /// Lets others tell what this process told.
    pub(super) async fn release(&self, partitions: &[usize]) {
        if let Self::Redis(store) = self {
            store.release(partitions).await;
        }
    }

    /// Dead letters of a partition after one, oldest first.
    pub(super) async fn dead(
        &self,
        partition: usize,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Vec<Letter>, Unavailable> {
        match self {
            Self::Redis(store) => store.dead(partition, after, most).await,
            Self::Memory(store) => Ok(store.dead(partition, after, most)),
        }
    }

    /// Dead letters are told again; how many.
    pub(super) async fn replay(&self, partition: usize, letters: &[Letter]) -> Result<usize, Unavailable> {
        match self {
            Self::Redis(store) => store.replay(partition, letters).await,
            Self::Memory(store) => Ok(store.replay(partition, letters)),
        }
    }
}
