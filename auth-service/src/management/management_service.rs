//! The objects that the management routes share beside the context.
//!
//! Owns: the room service and its settings, the webhooks, the usage reader and the event feed. Must
//! not: sign a token itself; it asks the [`TokenService`]. Next: `rooms/`, `access_rules/` and the
//! other routes of this folder.

use std::{sync::Arc, time::Duration};

use signalbox_config::{LiveValue, ServiceSettings};
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_rooms::{feed::FeedSender, room::RoomPolicy, room_service::RoomService};

use super::{
    feed_readers::FeedReaders, room_settings::RoomApiSettings, usage_reader::UsageReader,
    webhooks::WebhookService,
};
use crate::{auth::token_service::TokenService, context::service_context::ServiceContext};

/// The management API of one process.
pub(crate) struct ManagementService {
    pub(crate) context: Arc<ServiceContext>,
    pub(crate) tokens: Arc<TokenService>,
    pub(crate) rooms: Option<Arc<dyn RoomService>>,
    pub(crate) room_settings: LiveValue<RoomApiSettings>,
    pub(crate) webhooks: LiveValue<WebhookService>,
    pub(crate) usage: UsageReader,
    pub(crate) feed: FeedSender,
    pub(crate) feed_readers: Arc<FeedReaders>,
    pub(crate) ping_interval: Duration,
    /// The longest life of a credential of a grant. A revocation is kept for this time.
    pub(crate) max_grant_ms: u64,
}

/// What [`ManagementService::new`] needs beside the settings.
pub(crate) struct ManagementParts {
    pub(crate) tokens: Arc<TokenService>,
    pub(crate) rooms: Option<Arc<dyn RoomService>>,
    pub(crate) webhooks: LiveValue<WebhookService>,
    pub(crate) usage: UsageReader,
    pub(crate) feed: FeedSender,
}

impl ManagementService {
    pub(crate) fn new(settings: &ServiceSettings, parts: ManagementParts) -> Self {
        Self {
            context: parts.tokens.context.clone(),
            tokens: parts.tokens,
            rooms: parts.rooms,
            room_settings: LiveValue::new(RoomApiSettings::new(settings)),
            webhooks: parts.webhooks,
            usage: parts.usage,
            feed: parts.feed,
            feed_readers: FeedReaders::new(settings.limits.feed_readers as usize),
            ping_interval: settings.timing.ping.0,
            max_grant_ms: settings.max_grant_life_ms(),
        }
    }

    /// Puts the limits of a new configuration in force.
    pub(crate) fn reload(&self, settings: &ServiceSettings) {
        self.room_settings.replace(RoomApiSettings::new(settings));
        self.feed_readers.set_max_per_key(settings.limits.feed_readers as usize);
    }

    /// Refuses a question about rooms, usage or events in a process that learns of none.
    ///
    /// # Errors
    /// 503 `unavailable` without Redis, unless the node is in this process.
    pub(crate) fn room_service(&self) -> Result<&Arc<dyn RoomService>, Problem> {
        let detail = "this process has no Redis, so it knows no room, no usage and no event; set REDIS_URL";
        self.rooms.as_ref().ok_or_else(|| Problem::new(503, "unavailable", detail))
    }

    /// The link to a room on the call page.
    pub(crate) fn room_link(&self, room: &RoomId) -> String {
        format!("{}?room={room}", self.room_settings.load().page_url)
    }

    /// The policy of rooms, with the limits in force.
    pub(crate) fn room_policy_in_force(&self) -> RoomPolicy {
        let access = &self.context.access;
        self.room_settings.load().policy_with(&access.rules().limit_changes(access.now_ms()))
    }
}
