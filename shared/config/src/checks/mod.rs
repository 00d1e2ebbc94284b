//! What the settings must satisfy beyond their form: bounds, and references between settings.
//!
//! Owns: the bounds that docs/CONFIGURATION.md lists. Must not: read a source, or change a setting.
//! This file checks the short sections; `auth`, `ice`, `server` and `webhooks` check theirs.

mod auth;
mod ice;
mod pem_files;
mod server;
#[cfg(test)]
mod tests;
mod webhooks;

use crate::{
    ApiKeySettings, ConfigError, HostAuthority, HttpClientSettings, LogSettings, PERMISSIONS,
    ServiceSettings,
    error::{ensure_setting, ensure_within},
    logging::is_log_filter,
    model::ENVELOPE_BYTES,
    units::{ByteSize, TimeSpan},
    url::{HttpUrl, split_host_port},
};
use signalbox_protocol::id::CallerId;

use auth::{check_key_sources, check_providers, check_token_lifetimes};
use ice::check_ice;
use pem_files::{check_certificates, check_private_key};
use server::{check_hosts, check_server};
use webhooks::{check_usage, check_webhooks};

pub(super) use auth::check_user_sources;
pub use auth::is_trusted_key_url;
pub use pem_files::canonical_pem;
pub(super) use pem_files::{PemDigests, read_pem_digests};

const DAY: TimeSpan = TimeSpan::secs(24 * 60 * 60);

const UNKNOWN_ROLE: &str = "names a role that is not in [roles]";

/// Checks all settings; returns a warning for each unsafe one.
pub(super) fn check_settings(settings: &ServiceSettings) -> Result<Vec<String>, ConfigError> {
    check_server(&settings.server)?;
    check_log(&settings.log)?;
    check_limits(settings)?;
    check_token_lifetimes(&settings.auth)?;
    check_timing(settings)?;
    check_redis(settings)?;
    check_http_client(&settings.http_client)?;
    check_rooms(settings)?;
    check_reserved_rooms(settings)?;
    check_roles(settings)?;
    check_providers(settings)?;
    let ice_warnings = check_ice(&settings.ice)?;
    check_key_sources(settings)?;
    let webhook_warnings = check_webhooks(&settings.webhooks, &settings.http_client)?;
    check_usage(&settings.usage)?;
    let warnings = unsafe_setting_warnings(settings).into_iter();
    Ok(warnings.chain(ice_warnings).chain(webhook_warnings).collect())
}

fn check_log(log: &LogSettings) -> Result<(), ConfigError> {
    ensure_within(
        log.buffer,
        ByteSize::kib(64)..=ByteSize::kib(256 * 1024),
        "log.buffer",
        "must be from 64KiB to 256MiB",
    )?;
    ensure_setting(
        is_log_filter(&log.filter),
        "log.filter",
        "must be like info, debug or signalbox_signal=debug; the levels are error, warn, info, debug, trace, off",
    )
}

fn check_limits(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let limits = &settings.limits;
    ensure_within(
        limits.frame,
        ByteSize::kib(1)..=ByteSize::kib(1024),
        "limits.frame",
        "must be from 1KiB to 1MiB",
    )?;
    let smallest = limits.sdp.min(limits.candidate).min(limits.data).min(limits.metadata).min(limits.body);
    ensure_setting(
        smallest.0 >= 64,
        "limits.sdp, .candidate, .data, .metadata and .body",
        "must be at least 64B",
    )?;
    let largest = limits.sdp.max(limits.candidate).max(limits.data).max(limits.metadata);
    ensure_setting(
        largest.0 + ENVELOPE_BYTES <= limits.frame.0,
        "limits.frame",
        "must be 512B larger than limits.sdp, .candidate, .data and .metadata",
    )?;
    ensure_within(limits.room_peers, 1..=1000, "limits.room_peers", "must be from 1 to 1000")?;
    ensure_setting(limits.user_peers >= 1, "limits.user_peers", "must be at least 1")?;
    ensure_within(limits.lobby_peers, 1..=1000, "limits.lobby_peers", "must be from 1 to 1000")?;
    ensure_within(limits.extra_moderators, 0..=100, "limits.extra_moderators", "must be from 0 to 100")?;
    ensure_within(limits.room_sanctions, 16..=2_000, "limits.room_sanctions", "must be from 16 to 2000")?;
    ensure_setting(
        limits.key_rules >= 1 && limits.room_rules >= 1,
        "limits.key_rules and limits.room_rules",
        "must be at least 1",
    )?;
    ensure_setting(
        limits.root_families >= 1 && limits.user_families >= 1 && limits.key_invites >= 1,
        "limits.root_families, .user_families and .key_invites",
        "must be at least 1",
    )?;
    ensure_within(limits.timeline_pairs, 0..=500, "limits.timeline_pairs", "must be from 0 to 500")?;
    ensure_within(limits.timeline_steps, 4..=64, "limits.timeline_steps", "must be from 4 to 64")?;
    ensure_within(limits.reserve, 5..=50, "limits.reserve", "must be from 5 to 50")?;
    ensure_setting(limits.connections >= 1, "limits.connections", "must be at least 1")?;
    ensure_setting(
        limits.burst >= 1 && limits.rate >= 1,
        "limits.burst and limits.rate",
        "must be at least 1",
    )?;
    ensure_within(limits.rules, 100..=100_000, "limits.rules", "must be from 100 to 100000")?;
    ensure_within(limits.feed_readers, 1..=64, "limits.feed_readers", "must be from 1 to 64")?;
    ensure_within(limits.backlog, 8..=10_000, "limits.backlog", "must be from 8 to 10000")?;
    ensure_setting(
        limits.backlog_bytes >= limits.frame,
        "limits.backlog_bytes",
        "must be at least limits.frame",
    )?;
    ensure_setting(
        limits.room_backlog_bytes >= limits.backlog_bytes,
        "limits.room_backlog_bytes",
        "must be at least limits.backlog_bytes",
    )?;
    ensure_setting(
        limits.grant_backlog_bytes >= limits.backlog_bytes,
        "limits.grant_backlog_bytes",
        "must be at least limits.backlog_bytes",
    )?;
    ensure_setting(
        limits.node_outbox.0 >= 4 * limits.outbox.0,
        "limits.node_outbox",
        "must be at least four times limits.outbox",
    )?;
    ensure_within(
        limits.socket_buffer,
        ByteSize::kib(16)..=ByteSize::kib(16 * 1024),
        "limits.socket_buffer",
        "must be from 16KiB to 16MiB",
    )?;
    ensure_setting(
        limits.outbox.0 >= 4 * limits.frame.0,
        "limits.outbox",
        "must be at least four times limits.frame",
    )?;
    // The first frame describes all peers of the room and of its lobby.
    let first_frame = limits.max_described_peers() * (limits.metadata.0 + ENVELOPE_BYTES);
    ensure_setting(
        limits.outbox.0 >= first_frame,
        "limits.outbox",
        "must be at least (limits.room_peers + limits.extra_moderators + limits.lobby_peers) times \
         (limits.metadata + 512B)",
    )
}

fn check_timing(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let timing = &settings.timing;
    let five_minutes = TimeSpan::secs(5 * 60);
    ensure_within(
        timing.ping,
        TimeSpan::millis(100)..=five_minutes,
        "timing.ping",
        "must be from 100ms to 5m",
    )?;
    ensure_within(
        timing.resume_window,
        TimeSpan::millis(100)..=five_minutes,
        "timing.resume_window",
        "must be from 100ms to 5m",
    )?;
    ensure_within(
        timing.going_window,
        TimeSpan::millis(100)..=five_minutes,
        "timing.going_window",
        "must be from 100ms to 5m",
    )?;
    ensure_within(
        timing.lease,
        TimeSpan::millis(200)..=TimeSpan::secs(30),
        "timing.lease",
        "must be from 200ms to 30s",
    )?;
    ensure_within(timing.room_life, TimeSpan::secs(60)..=DAY, "timing.room_life", "must be from 1m to 24h")?;
    ensure_within(timing.timeline, TimeSpan::secs(1)..=DAY, "timing.timeline", "must be from 1s to 24h")?;
    ensure_setting(timing.drain <= TimeSpan::secs(10 * 60), "timing.drain", "must be at most 10m")?;
    ensure_setting(
        timing.drain_spread <= timing.drain,
        "timing.drain_spread",
        "must be at most timing.drain, after which a draining process ends",
    )
}

fn check_rooms(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let rooms = &settings.rooms;
    ensure_within(rooms.kept, TimeSpan::secs(60)..=DAY, "rooms.kept", "must be from 1m to 24h")?;
    ensure_within(rooms.per_user, 1..=10_000, "rooms.per_user", "must be from 1 to 10000")?;
    ensure_within(rooms.per_key, 1..=100_000, "rooms.per_key", "must be from 1 to 100000")?;
    ensure_setting(
        rooms.creator_role.as_ref().is_none_or(|role| settings.roles.0.contains_key(role)),
        "rooms.creator_role",
        UNKNOWN_ROLE,
    )?;
    ensure_setting(
        rooms.signal_url.as_deref().is_none_or(is_socket_url),
        "rooms.signal_url",
        "must be like wss://rtc.example/ws/signal, without a user and without #",
    )?;
    let is_page = |text: &String| {
        HttpUrl::split(text).is_some_and(|url| {
            HostAuthority::parse(url.authority).is_some()
                && url.path.starts_with('/')
                && !url.path.contains(|c: char| c <= ' ' || "?#".contains(c))
        })
    };
    ensure_setting(
        rooms.page_url.as_ref().is_none_or(is_page),
        "rooms.page_url",
        "must be like https://rtc.example/ or https://example.org/call/, without a query",
    )
}

/// Whether `new WebSocket(url)` accepts the URL.
fn is_socket_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://")) else { return false };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    split_host_port(authority).is_some() && path.chars().all(|c| c.is_ascii_graphic() && c != '#')
}

/// A reserved name belongs to one API key. A key for all rooms is the operator's and may use it.
fn check_reserved_rooms(settings: &ServiceSettings) -> Result<(), ConfigError> {
    for (id, table) in settings.api_keys.iter().filter(|(_, table)| table.reserved) {
        let invalid = |why: String| Err(ConfigError::invalid_setting(format!("api_keys.{id}.reserved"), why));
        let Some(rooms) = &table.rooms else {
            return invalid("needs `rooms`: the names that are reserved for the key".to_owned());
        };
        let others = settings.api_keys.iter().filter(|(other, _)| *other != id);
        let overlapping = |(_, other): &(&CallerId, &ApiKeySettings)| {
            other.rooms.as_ref().is_some_and(|other| other.overlaps(rooms))
        };
        if let Some((other, _)) = others.into_iter().find(overlapping) {
            return invalid(format!("overlaps with api_keys.{other}.rooms; give each key other names"));
        }
    }
    Ok(())
}

/// Whether a text can stand before the names of a deployment and never be the beginning of the names
/// of another one. A brace would move the hash tag, and a star would be a pattern in an ACL.
fn is_redis_prefix(text: &str) -> bool {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.is_empty()
        || text.len() <= 32
            && text != "sb"
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(is_name_char)
}

fn check_redis(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let redis = &settings.redis;
    ensure_within(
        redis.deadline,
        TimeSpan::millis(50)..=TimeSpan::secs(2),
        "redis.deadline",
        "must be from 50ms to 2s",
    )?;
    ensure_within(
        redis.reconnect,
        TimeSpan::millis(10)..=TimeSpan::secs(60),
        "redis.reconnect",
        "must be from 10ms to 1m",
    )?;
    ensure_within(redis.memory_percent, 10..=90, "redis.memory_percent", "must be from 10 to 90")?;
    ensure_setting(
        is_redis_prefix(&redis.prefix),
        "redis.prefix",
        "must have up to 32 letters, digits, -, _ or ., begin with a letter, and not be sb, with which the names without a prefix begin",
    )?;
    check_certificates("redis.ca_file", redis.ca_file.as_deref())?;
    check_certificates("redis.cert_file", redis.cert_file.as_deref())?;
    check_private_key("redis.key_file", redis.key_file.as_deref())?;
    let (missing, present) = match (&redis.cert_file, &redis.key_file) {
        (Some(_), None) => ("redis.key_file", "redis.cert_file"),
        (None, Some(_)) => ("redis.cert_file", "redis.key_file"),
        _ => return Ok(()),
    };
    Err(ConfigError::invalid_setting(present, format!("is set without {missing}; set both")))
}

fn check_http_client(client: &HttpClientSettings) -> Result<(), ConfigError> {
    check_certificates("http_client.ca_file", client.ca_file.as_deref())?;
    check_hosts("http_client.unencrypted_hosts", &client.unencrypted_hosts)
}

/// TURN servers need a secret, and a secret needs TURN servers.
pub(super) fn check_turn_secrets(settings: &ServiceSettings, secrets: usize) -> Result<(), ConfigError> {
    let has_servers = !settings.ice.turn.is_empty();
    ensure_setting(
        has_servers || secrets == 0,
        "SIGNALBOX_TURN_SECRETS",
        "is set, but there is no [[ice.turn]] that uses it; add one, or unset it",
    )?;
    ensure_setting(
        !has_servers || secrets > 0,
        "ice.turn",
        "has servers, but SIGNALBOX_TURN_SECRETS is not set; set it, or move servers with a fixed password to [[ice.servers]]",
    )
}

fn check_roles(settings: &ServiceSettings) -> Result<(), ConfigError> {
    for (role, template) in &settings.roles.0 {
        if let Some(unknown) = template.permissions.iter().find(|p| !PERMISSIONS.contains(&p.as_str())) {
            let problem =
                format!("has the unknown permission `{unknown}`; permissions are {}", PERMISSIONS.join(", "));
            return Err(ConfigError::invalid_setting(format!("roles.{role}"), problem));
        }
    }
    let auth = &settings.auth;
    for (setting, role) in [("auth.guest_role", &auth.guest_role), ("auth.default_role", &auth.default_role)]
    {
        ensure_setting(settings.roles.0.contains_key(role), setting, UNKNOWN_ROLE)?;
    }
    Ok(())
}

fn unsafe_setting_warnings(settings: &ServiceSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.auth.guests == Some(true) && !settings.server.listen.ip().is_loopback() {
        warnings.push("auth.guests is on: every client that reaches this server gets a token".to_owned());
    }
    if settings.server.allowed_origins.iter().any(|origin| origin == "*") {
        warnings.push(
            "server.allowed_origins contains *: any web site may use this server from the browsers of its visitors"
                .to_owned(),
        );
    }
    warnings
}
