//! What is told, to whom, and how it went.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use signalbox_config::{WebhookEndpoint, WebhookSecrets};

/// A place among the events of a partition: as Redis names entries of a stream, milliseconds and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamEntryId(pub(crate) u64, pub(crate) u64);

impl StreamEntryId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (ms, number) = text.split_once('-')?;
        Some(Self(ms.parse().ok()?, number.parse().ok()?))
    }
}

impl std::fmt::Display for StreamEntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// An event that was recorded.
#[derive(Debug)]
pub(crate) struct WebhookEvent {
    /// Its partition.
    pub(crate) partition: usize,
    /// Its place there; the first number says when it was recorded, milliseconds since 1970.
    pub(crate) entry_id: StreamEntryId,
    /// Names it for good.
    pub(crate) id: String,
    /// What happened.
    pub(crate) kind: String,
    /// Where.
    pub(crate) room: Arc<str>,
    /// The body that is sent.
    pub(crate) line: Arc<str>,
    /// The only endpoint that is to be told, where it is told again.
    pub(crate) only_endpoint: Option<String>,
}

/// What of a line is looked at.
#[derive(Deserialize)]
pub(crate) struct EventHeader {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) room: String,
}

impl WebhookEvent {
    /// Reads a recorded line; none where it is not one.
    pub(crate) fn parse(
        partition: usize,
        entry: StreamEntryId,
        line: &str,
        only: Option<String>,
    ) -> Option<Self> {
        let head: EventHeader = serde_json::from_str(line).ok()?;
        // It becomes the value of a header.
        let names = head.id.len() <= 64 && head.id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        let (id, kind, room) = (head.id, head.event, head.room.into());
        names.then(|| Self {
            partition,
            entry_id: entry,
            id,
            kind,
            room,
            line: line.into(),
            only_endpoint: only,
        })
    }
}

/// An endpoint.
#[derive(Debug)]
pub(crate) struct EndpointTarget {
    /// Names it where its URL must not stand.
    pub(crate) id: String,
    /// Its host, for people.
    pub(crate) host: String,
    /// What it wants, and where it is.
    pub(crate) settings: WebhookEndpoint,
    /// What it is signed with.
    pub(crate) secrets: Arc<WebhookSecrets>,
}

impl EndpointTarget {
    pub(crate) fn new(rule: &WebhookEndpoint, secrets: WebhookSecrets) -> Self {
        let digest = Sha256::digest(rule.url.as_bytes());
        let id = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let host =
            rule.url.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        Self { id, host: host.to_owned(), settings: rule.clone(), secrets: Arc::new(secrets) }
    }

    pub(crate) fn wants(&self, event: &WebhookEvent) -> bool {
        match &event.only_endpoint {
            Some(only) => *only == self.id,
            None => self.settings.matches_event(&event.kind, &event.room),
        }
    }
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// It was taken.
    Delivered,
    /// Not now. The endpoint may have said when to try again.
    Retry { why: DeliveryFailure, after: Option<Duration> },
    /// Never again: 410.
    EndpointGone,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryFailure {
    /// It answered with this status.
    Status(u16),
    /// It did not answer in time.
    Timeout,
    /// No connection, no TLS, or broken off.
    Unreachable,
}

impl DeliveryFailure {
    /// For metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Timeout => "late",
            Self::Unreachable => "unreachable",
        }
    }
}

impl std::fmt::Display for DeliveryFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Timeout | Self::Unreachable => f.write_str(self.as_str()),
        }
    }
}

/// Why an event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DeadLetterCause {
    /// Tried for as long as `webhooks.give_up` says.
    Age,
    /// Tried as often as `webhooks.attempts` says.
    Attempts,
    /// The endpoint answered 410.
    EndpointGone,
    /// More waited than `webhooks.backlog` says.
    BacklogFull,
}

impl DeadLetterCause {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Attempts => "attempts",
            Self::EndpointGone => "gone",
            Self::BacklogFull => "backlog",
        }
    }
}

/// An event that was given up for one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct AbandonedEvent {
    pub(crate) endpoint_id: String,
    pub(crate) cause: DeadLetterCause,
    pub(crate) attempts: u32,
    /// How the last attempt failed; empty if there was none.
    pub(crate) last_failure: String,
    pub(crate) line: Arc<str>,
}
