//! A webhook event, its endpoint, and the outcome of an attempt.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use signalbox_config::{WebhookEndpoint, WebhookSecrets};

/// The id of an event in its partition, as Redis gives it to a stream entry: milliseconds and a
/// number.
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
    /// The partition of its room.
    pub(crate) partition: usize,
    /// Its first number is the time of recording, milliseconds since 1970.
    pub(crate) entry_id: StreamEntryId,
    /// The id that stays the same in each delivery.
    pub(crate) id: String,
    /// The event name, such as `peer-joined`.
    pub(crate) kind: String,
    pub(crate) room: Arc<str>,
    /// See [`EventHeader::share`].
    pub(crate) share: Arc<str>,
    /// The body of the request.
    pub(crate) line: Arc<str>,
    /// The only endpoint that gets a replayed event.
    pub(crate) only_endpoint: Option<String>,
}

/// The members of a recorded line that the service reads.
#[derive(Deserialize)]
pub(crate) struct EventHeader {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) room: String,
    #[serde(default)]
    pub(crate) root: Option<String>,
}

impl EventHeader {
    /// The share of bounded tables that the event counts for: its root, or its room.
    pub(crate) fn share(&self) -> &str {
        self.root.as_deref().unwrap_or(&self.room)
    }
}

impl WebhookEvent {
    /// Parses a recorded line.
    pub(crate) fn parse(
        partition: usize,
        entry: StreamEntryId,
        line: &str,
        only: Option<String>,
    ) -> Option<Self> {
        let header: EventHeader = serde_json::from_str(line).ok()?;
        let share = header.share().into();
        let EventHeader { id, event: kind, room, .. } = header;
        // The id becomes the value of an HTTP header.
        let is_valid_id = id.len() <= 64 && id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        is_valid_id.then(|| Self {
            partition,
            entry_id: entry,
            id,
            kind,
            room: room.into(),
            share,
            line: line.into(),
            only_endpoint: only,
        })
    }
}

/// A configured endpoint.
#[derive(Debug)]
pub(crate) struct EndpointTarget {
    /// A digest of the URL. Logs and metrics hold the id, because a URL may hold a secret.
    pub(crate) id: String,
    /// The host of the URL.
    pub(crate) host: String,
    pub(crate) settings: WebhookEndpoint,
    /// The secrets that sign its requests.
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

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// The endpoint accepted the event.
    Delivered,
    /// The attempt failed. `after` is the pause that the endpoint asked for.
    Retry { why: DeliveryFailure, after: Option<Duration> },
    /// The endpoint answered 410 and gets no further attempt.
    EndpointGone,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryFailure {
    /// The endpoint answered with this status.
    Status(u16),
    /// The endpoint did not answer in time.
    Timeout,
    /// No trusted authority has signed the certificate of the endpoint.
    Untrusted,
    /// The connection or TLS failed, or the endpoint closed it too early.
    Unreachable,
}

impl DeliveryFailure {
    /// The label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Timeout => "late",
            Self::Untrusted => "untrusted",
            Self::Unreachable => "unreachable",
        }
    }
}

impl std::fmt::Display for DeliveryFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Timeout | Self::Untrusted | Self::Unreachable => f.write_str(self.as_str()),
        }
    }
}

/// Why an event became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DeadLetterCause {
    /// The event is older than `webhooks.give_up`.
    Age,
    /// The event had `webhooks.attempts` attempts.
    Attempts,
    /// The endpoint answered 410.
    EndpointGone,
    /// More events than `webhooks.backlog` waited.
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

/// An event that one endpoint gets no more attempts for.
#[derive(Debug, Clone)]
pub(crate) struct AbandonedEvent {
    pub(crate) endpoint_id: String,
    pub(crate) cause: DeadLetterCause,
    pub(crate) attempts: u32,
    /// How the last attempt failed; empty if there was none.
    pub(crate) last_failure: String,
    pub(crate) line: Arc<str>,
}
