//! The bounds of mailboxes and rooms, and their retention.
//!
//! Owns: the limits that the store enforces, derived from the settings. Must not: know a backend.

use signalbox_config::ServiceSettings;
use signalbox_redis::MemoryLevel;

use crate::room::MAX_ROOM_RETENTION_MS;

/// The time after its life within which an entry must be deleted.
const MAX_DELETION_DELAY_MS: u64 = 4_000;

/// Bounds of mailboxes and rooms.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// The maximum number of entries that a peer has not acknowledged.
    pub backlog: u64,
    /// The maximum number of bytes of those entries.
    pub backlog_bytes: u64,
    /// The bytes of those entries with which an attached peer counts as one that does not read. A
    /// detached peer always does.
    pub lag_bytes: u64,
    /// The maximum number of bytes that wait in all mailboxes of a room, for a message to a peer
    /// that does not read.
    pub room_backlog_bytes: u64,
    /// The maximum number of bytes of one grant's messages that wait for peers that do not read.
    pub grant_backlog_bytes: u64,
    /// The life of an entry, milliseconds.
    pub entry_life_ms: u64,
    /// The time after its life within which an entry is deleted, milliseconds.
    pub max_deletion_delay_ms: u64,
    /// The maximum life of a room, milliseconds.
    pub room_life_ms: u64,
    /// The resume window, milliseconds.
    pub resume_window_ms: u64,
    /// The time for which a node counts as alive after it has renewed its lease, milliseconds.
    pub lease_ms: u64,
    /// The bounds of the webhook queue; none without webhooks.
    pub webhooks: Option<WebhookLimits>,
    /// The bounds of usage data.
    pub usage: UsageLimits,
    /// The bounds of timelines.
    pub timeline: TimelineLimits,
}

/// Bounds of the webhook queue.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLimits {
    /// The maximum number of events of one partition. Beyond it, old events of the room that has most
    /// are dropped and counted as lost.
    pub max_events: u64,
    /// The life of an event, milliseconds.
    pub event_life_ms: u64,
}

/// Bounds of usage data.
#[derive(Debug, Clone, Copy)]
pub struct UsageLimits {
    /// The maximum number of pairs of API key and room that are counted separately on one day.
    pub max_pairs: u32,
    /// The time for which a day is kept after its last write, milliseconds.
    pub retention_ms: u64,
}

/// Bounds of the timeline of a room.
#[derive(Debug, Clone, Copy)]
pub struct TimelineLimits {
    /// The maximum number of pairs of peers. Zero: no timeline is kept.
    pub max_pairs: u32,
    /// The maximum number of steps of one pair.
    pub max_steps: u32,
    /// The time for which a step is kept, milliseconds.
    pub retention_ms: u64,
}

/// The time for which an event is kept after the last delivery attempt, milliseconds. The sender
/// gives an event up before it expires.
const WEBHOOK_EXTRA_LIFE_MS: u64 = 60_000;

impl StoreLimits {
    /// The limits while the store has this much free memory. They refuse messages to peers that do
    /// not read, and at last all messages, so that joins, tickets and rules keep a reserve.
    pub(super) fn at_memory_level(self, level: MemoryLevel) -> Self {
        match level {
            MemoryLevel::Normal => self,
            MemoryLevel::High => Self { room_backlog_bytes: 0, ..self },
            MemoryLevel::Critical => Self { room_backlog_bytes: 0, lag_bytes: 0, ..self },
        }
    }

    /// The longest time for which any room may exist, milliseconds. The deadlines of a partition
    /// are kept for that time.
    pub(super) fn max_room_retention_ms(&self) -> u64 {
        self.room_life_ms.max(MAX_ROOM_RETENTION_MS) + self.resume_window_ms
    }

    /// The limits that the settings give.
    pub fn new(settings: &ServiceSettings) -> Self {
        let ServiceSettings { limits, timing, webhooks, usage, .. } = settings;
        // Twice the backlog of the webhook sender: its surplus becomes dead letters, not lost
        // events.
        let webhook_limits = WebhookLimits {
            max_events: 2 * u64::from(webhooks.backlog),
            event_life_ms: webhooks.give_up.as_ms() + WEBHOOK_EXTRA_LIFE_MS,
        };
        Self {
            backlog: u64::from(limits.backlog),
            backlog_bytes: limits.backlog_bytes.0 as u64,
            lag_bytes: limits.backlog_bytes.0 as u64 / 4,
            room_backlog_bytes: limits.room_backlog_bytes.0 as u64,
            grant_backlog_bytes: limits.grant_backlog_bytes.0 as u64,
            entry_life_ms: timing.entry_lifetime().as_ms(),
            max_deletion_delay_ms: MAX_DELETION_DELAY_MS,
            room_life_ms: timing.room_life.as_ms(),
            resume_window_ms: timing.resume_window.as_ms(),
            lease_ms: timing.lease.as_ms(),
            webhooks: webhooks.records_events().then_some(webhook_limits),
            usage: UsageLimits { max_pairs: usage.pairs, retention_ms: usage.kept.as_ms() },
            timeline: TimelineLimits {
                max_pairs: limits.timeline_pairs,
                max_steps: limits.timeline_steps,
                retention_ms: timing.timeline.as_ms(),
            },
        }
    }
}

/// The maximum number of entries of a page.
pub(super) const MAX_PAGE_ENTRIES: usize = 64;

/// A page ends with the entry that reaches this size in bytes, so that a page fits into an outbox.
pub(super) const MAX_PAGE_BYTES: usize = 128 * 1024;
