//! The queries and results of a webhook store.

use std::sync::Arc;

use super::event::{AbandonedEvent, EventHeader, StreamEntryId};

/// The query of one partition in a poll.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionQuery {
    pub(super) partition: usize,
    /// The last entry that this process has read.
    pub(super) after: Option<StreamEntryId>,
    /// Whether this process had no lease of the partition until now.
    pub(super) is_new: bool,
}

/// The content of a partition.
#[derive(Debug, Default)]
pub(super) struct PartitionEvents {
    /// The number of entries.
    pub(super) count: usize,
    /// Whether no process had the lease until now.
    pub(super) lease_was_free: bool,
    /// The entries that were dropped, by number or age, before any process delivered them.
    pub(super) lost: u64,
    pub(super) entries: Vec<RecordedEvent>,
    /// The attempts by `<entry> <endpoint>`; `None` if the endpoint has finished the entry.
    pub(super) progress: Vec<(String, Option<u32>)>,
}

/// One event as it was recorded.
#[derive(Debug, Clone)]
pub(super) struct RecordedEvent {
    pub(super) entry: StreamEntryId,
    pub(super) line: Arc<str>,
    pub(super) only_endpoint: Option<String>,
}

/// The result of a poll: each query, the replication id of its server, and the events; `None` if
/// another process has the lease.
pub(super) type PollResults = Vec<(PartitionQuery, Arc<str>, Option<PartitionEvents>)>;

/// A dead letter and its position.
#[derive(Debug, Clone)]
pub(crate) struct StoredDeadLetter {
    pub(crate) partition: usize,
    pub(crate) entry_id: StreamEntryId,
    pub(crate) letter: DeadLetter,
}

impl StoredDeadLetter {
    /// The header of its event.
    pub(crate) fn header(&self) -> Option<EventHeader> {
        serde_json::from_str(&self.letter.line).ok()
    }

    /// Whether its event has a header that matches.
    pub(crate) fn event_matches(&self, matches: impl Fn(&EventHeader) -> bool) -> bool {
        serde_json::from_str::<EventHeader>(&self.letter.line).is_ok_and(|header| matches(&header))
    }
}

/// A dead letter: an event that one endpoint did not accept.
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
        let AbandonedEvent { endpoint_id, cause, attempts, last_failure, line } = dead;
        Self { endpoint_id, cause: cause.as_str().to_owned(), attempts, last_failure, line }
    }
}
