//! `/api/…` and `/ws/events`: rooms, access rules, usage, webhooks and the event feed.

pub(crate) mod access_rules;
pub(crate) mod event_feed;
pub mod feed_subscription;
pub(crate) mod management_service;
pub mod redis_client;
pub(crate) mod room_settings;
pub(crate) mod rooms;
pub(crate) mod usage;
pub mod usage_reader;
pub mod webhooks;
