//! What a webhook store takes and gives.

use std::sync::Arc;

use super::event::{AbandonedEvent, EventHeader, StreamEntryId};

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
