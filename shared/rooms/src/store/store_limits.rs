//! How much a mailbox and a room may hold, and how long.

use std::sync::atomic::{AtomicU64, Ordering};

use signalbox_config::ServiceSettings;

use crate::room::MAX_ROOM_RETENTION_MS;

/// How much longer than its life an entry may be there.
const EXPIRY_SLACK_MS: u64 = 4_000;

/// Bounds of mailboxes and rooms.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Entries that may wait.
    pub backlog: u64,
    /// Bytes that may wait.
    pub backlog_bytes: u64,
    /// How long an entry is kept, milliseconds.
    pub entry_life_ms: u64,
    /// How much longer it may be there until somebody looks, milliseconds.
    pub expiry_slack_ms: u64,
    /// The longest life of a room, milliseconds.
    pub room_life_ms: u64,
    /// How long a detached peer may come back, milliseconds.
    pub resume_window_ms: u64,
    /// How long a node counts as alive after its last word, milliseconds.
    pub lease_ms: u64,
    /// What is kept for webhooks, if anything is.
    pub webhooks: Option<WebhookLimits>,
    /// What is kept of usage.
    pub usage: UsageLimits,
}

/// The bounds in force: one of them can be changed while rooms are in use.
#[derive(Debug)]
pub(super) struct LiveLimits {
    configured: StoreLimits,
    backlog: AtomicU64,
}

impl LiveLimits {
    pub(super) fn new(configured: StoreLimits) -> Self {
        Self { configured, backlog: configured.backlog.into() }
    }

    pub(super) fn current(&self) -> StoreLimits {
        let backlog = self.backlog.load(Ordering::Relaxed);
        StoreLimits { backlog, ..self.configured }
    }

    pub(super) fn set_backlog(&self, backlog: u64) {
        self.backlog.store(backlog, Ordering::Relaxed);
    }
}

/// Bounds of what is kept for webhooks.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLimits {
    /// Events of one partition; the oldest go, and are counted.
    pub max_events: u64,
    /// How long each is kept, milliseconds.
    pub event_life_ms: u64,
}

/// Bounds of usage.
#[derive(Debug, Clone, Copy)]
pub struct UsageLimits {
    /// Pairs of API key and room that are counted apart on one day.
    pub max_pairs: u32,
    /// How long a day is kept after it was last written, milliseconds.
    pub retention_ms: u64,
}

/// How much longer than it is tried an event is kept, milliseconds: whoever tries it gives it up first.
const WEBHOOK_EXTRA_LIFE_MS: u64 = 60_000;

impl StoreLimits {
    /// How long the deadlines of a partition are kept, milliseconds: as long as any room of it may be there.
    pub(super) fn max_room_retention_ms(&self) -> u64 {
        self.room_life_ms.max(MAX_ROOM_RETENTION_MS) + self.resume_window_ms
    }

    /// From the settings.
    pub fn new(settings: &ServiceSettings) -> Self {
        let ServiceSettings { limits, timing, webhooks, usage, .. } = settings;
        // Twice as many as the one who tells them holds: what is too much for it becomes a dead letter, and is not just gone.
        let hooks = WebhookLimits {
            max_events: 2 * u64::from(webhooks.backlog),
            event_life_ms: webhooks.give_up.as_ms() + WEBHOOK_EXTRA_LIFE_MS,
        };
        Self {
            backlog: u64::from(limits.backlog),
            backlog_bytes: limits.backlog_bytes.0 as u64,
            entry_life_ms: timing.entry_lifetime().as_ms(),
            expiry_slack_ms: EXPIRY_SLACK_MS,
            room_life_ms: timing.room_life.as_ms(),
            resume_window_ms: timing.resume_window.as_ms(),
            lease_ms: timing.lease.as_ms(),
            webhooks: webhooks.records_events().then_some(hooks),
            usage: UsageLimits { max_pairs: usage.pairs, retention_ms: usage.kept.as_ms() },
        }
    }
}

/// Most entries of a page.
pub(super) const MAX_PAGE_ENTRIES: usize = 64;

/// A page ends with the entry that reaches so many bytes, so that it fits into an outbox.
pub(super) const MAX_PAGE_BYTES: usize = 128 * 1024;
