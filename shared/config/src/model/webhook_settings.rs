//! The sections `[webhooks]` and `[usage]`.

use serde::{Deserialize, Serialize};

use crate::units::TimeSpan;

/// The section `[webhooks]`: which events are sent, to which endpoints, and how long they are
/// retried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Whether signaling nodes record the events for webhooks. Unset: if there are endpoints.
    pub record: Option<bool>,
    /// The receivers; at most 16.
    pub endpoints: Vec<WebhookEndpoint>,
    /// The longest time for one request; 100 ms to 30 s.
    pub deadline: TimeSpan,
    /// How long an event is retried; 1 s to 24 h. On the nodes: how long an event is kept while no
    /// process sends it.
    pub give_up: TimeSpan,
    /// How often an event is tried; 1 to 1000.
    pub attempts: u32,
    /// The most requests at a time to one endpoint; 1 to 1000.
    pub parallel: u32,
    /// Events that may wait in one partition of the rooms; 1 to 100000.
    pub backlog: u32,
    /// Dead letters that are kept in one partition of the rooms; 1 to 10000.
    pub dead: u32,
    /// How long dead letters are kept; 1 s to 7 days.
    pub dead_kept: TimeSpan,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            record: None,
            endpoints: vec![],
            deadline: TimeSpan::secs(10),
            give_up: TimeSpan::secs(24 * 60 * 60),
            attempts: 300,
            parallel: 32,
            backlog: 2_000,
            dead: 100,
            dead_kept: TimeSpan::secs(24 * 60 * 60),
        }
    }
}

impl WebhookSettings {
    /// Whether signaling nodes record the events for webhooks.
    pub fn records_events(&self) -> bool {
        self.record.unwrap_or(!self.endpoints.is_empty())
    }
}

/// One receiver of webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookEndpoint {
    /// `https://…`, or `http://…` to a private address; at most 2048 characters.
    pub url: String,
    /// The events it receives, some of [`signalbox_protocol::feed::FEED_EVENTS`]. Empty: all.
    #[serde(default)]
    pub events: Vec<String>,
    /// The rooms whose events it receives: a name, or a prefix of names followed by `*`. Unset: all
    /// rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<String>,
    /// Whether `http://` may lead to an address that is not private.
    #[serde(default)]
    pub insecure: bool,
    /// The environment variable with the secrets of this endpoint; the variable of this name with
    /// `_FILE` after it may name a file instead. Unset: the secrets of `SIGNALBOX_WEBHOOK_SECRETS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_env: Option<String>,
}

impl WebhookEndpoint {
    /// Whether the endpoint receives this event of this room.
    pub fn matches_event(&self, event: &str, room: &str) -> bool {
        let matches_room = self.rooms.as_deref().is_none_or(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => room.starts_with(prefix),
            None => room == pattern,
        });
        matches_room && (self.events.is_empty() || self.events.iter().any(|wanted| wanted == event))
    }
}

/// The section `[usage]`: joins and peer-minutes, counted by API key and room.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageSettings {
    /// How long the usage of a day is kept after its last write; 1 h to 400 days, or zero: nothing
    /// is counted.
    pub kept: TimeSpan,
    /// Pairs of API key and room that are counted separately on one day; 1 to 100000.
    pub pairs: u32,
}

impl Default for UsageSettings {
    fn default() -> Self {
        Self { kept: TimeSpan::secs(35 * 24 * 60 * 60), pairs: 10_000 }
    }
}
