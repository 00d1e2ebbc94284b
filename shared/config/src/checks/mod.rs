//! What a configuration must satisfy beyond parsing.

mod auth;
#[cfg(test)]
mod tests;

use base64::Engine as _;

use super::{ConfigError, PERMISSIONS, ServiceSettings, units::TimeSpan};
use auth::{check_keys, check_providers};

pub use auth::is_trusted_key_url;

/// Checks ranges and references; returns the unsafe choices, to be logged.
pub(super) fn check_settings(settings: &ServiceSettings) -> Result<Vec<String>, ConfigError> {
    check_server(settings)?;
    check_limits(settings)?;
    check_timing(settings)?;
    check_redis(settings)?;
    check_rooms(settings)?;
    check_roles(settings)?;
    check_providers(settings)?;
    check_turn(settings)?;
    check_keys(settings)?;
    let hooks = super::webhooks::check_webhooks(&settings.webhooks, &settings.usage)?;
    Ok(unsafe_setting_warnings(settings).into_iter().chain(hooks).collect())
}

fn ensure_setting(holds: bool, setting: &str, problem: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::invalid_setting(setting, problem)) }
}

fn check_server(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let server = &settings.server;
    ensure_setting(server.workers <= 512, "server.workers", "must be at most 512; 0 is one per core")?;
    let origin = |text: &String| {
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        text == "*"
            || authority.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']))
    };
    ensure_setting(
        server.allowed_origins.iter().all(origin),
        "server.allowed_origins",
        "must hold origins like https://app.example, without a path or a slash at the end",
    )?;
    let host = |text: &String| match text.strip_prefix('[') {
        Some(rest) => rest.ends_with(']'),
        None => !text.is_empty() && !text.contains([':', '/', ' ']),
    };
    ensure_setting(
        server.allowed_hosts.iter().all(host),
        "server.allowed_hosts",
        "must hold names without a port, like rtc.example or [2001:db8::1]",
    )?;
    let schemes = ["stun:", "stuns:", "turn:", "turns:"];
    let urls = settings.ice.servers.iter().flat_map(|server| &server.urls);
    ensure_setting(
        urls.into_iter().all(|url| schemes.iter().any(|scheme| url.starts_with(scheme))),
        "ice.servers",
        "must hold urls that begin with stun:, stuns:, turn: or turns:",
    )?;
    ensure_setting(
        crate::telemetry::is_log_filter(&settings.log.filter),
        "log.filter",
        "must be like info, debug or signalbox_signal=debug; the levels are error, warn, info, debug, trace, off",
    )
}

fn check_limits(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let limits = &settings.limits;
    ensure_setting(
        (1024..=1024 * 1024).contains(&limits.frame.0),
        "limits.frame",
        "must be from 1KiB to 1MiB",
    )?;
    // The envelope around a payload is under 512 bytes.
    let smallest = limits.sdp.min(limits.candidate).min(limits.data).min(limits.metadata).min(limits.body);
    ensure_setting(
        smallest.0 >= 64,
        "limits.sdp, .candidate, .data, .metadata and .body",
        "must be at least 64B",
    )?;
    let largest = limits.sdp.max(limits.candidate).max(limits.data).max(limits.metadata);
    ensure_setting(
        largest.0 + 512 <= limits.frame.0,
        "limits.frame",
        "must be 512B larger than limits.sdp, .candidate, .data and .metadata",
    )?;
    ensure_setting((1..=1000).contains(&limits.room_peers), "limits.room_peers", "must be from 1 to 1000")?;
    ensure_setting(limits.user_peers >= 1, "limits.user_peers", "must be at least 1")?;
    ensure_setting(limits.connections >= 1, "limits.connections", "must be at least 1")?;
    ensure_setting(
        limits.burst >= 1 && limits.rate >= 1,
        "limits.burst and limits.rate",
        "must be at least 1",
    )?;
    ensure_setting((100..=100_000).contains(&limits.rules), "limits.rules", "must be from 100 to 100000")?;
    ensure_setting((8..=10_000).contains(&limits.backlog), "limits.backlog", "must be from 8 to 10000")?;
    ensure_setting(
        limits.backlog_bytes >= limits.frame,
        "limits.backlog_bytes",
        "must be at least limits.frame",
    )?;
    ensure_setting(
        limits.outbox.0 >= 4 * limits.frame.0,
        "limits.outbox",
        "must be at least four times limits.frame",
    )?;
    // The first frame tells a peer of everybody in the room.
    let joined = limits.room_peers as usize * (limits.metadata.0 + 512);
    ensure_setting(
        limits.outbox.0 >= joined,
        "limits.outbox",
        "must be at least limits.room_peers times (limits.metadata + 512B)",
    )
}

fn check_timing(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let (auth, timing) = (&settings.auth, &settings.timing);
    let day = TimeSpan::secs(24 * 60 * 60);
    let within = |span: TimeSpan, low: TimeSpan, high: TimeSpan| (low..=high).contains(&span);
    ensure_setting(
        within(auth.token_ttl_max, TimeSpan::secs(1), day),
        "auth.token_ttl_max",
        "must be from 1s to 24h",
    )?;
    ensure_setting(
        within(auth.token_ttl, TimeSpan::secs(1), auth.token_ttl_max),
        "auth.token_ttl",
        "must be from 1s to auth.token_ttl_max",
    )?;
    ensure_setting(
        within(auth.guest_ttl, TimeSpan::secs(1), auth.token_ttl_max),
        "auth.guest_ttl",
        "must be from 1s to auth.token_ttl_max",
    )?;
    let month = TimeSpan::secs(30 * 24 * 60 * 60);
    ensure_setting(
        within(auth.refresh_ttl_max, TimeSpan::secs(60), month),
        "auth.refresh_ttl_max",
        "must be from 1m to 30d",
    )?;
    ensure_setting(
        within(auth.refresh_ttl, TimeSpan::secs(60), auth.refresh_ttl_max),
        "auth.refresh_ttl",
        "must be from 1m to auth.refresh_ttl_max",
    )?;
    ensure_setting(
        within(timing.ping, TimeSpan::millis(100), TimeSpan::secs(300)),
        "timing.ping",
        "must be from 100ms to 5m",
    )?;
    ensure_setting(
        within(timing.resume_window, TimeSpan::millis(100), TimeSpan::secs(300)),
        "timing.resume_window",
        "must be from 100ms to 5m",
    )?;
    ensure_setting(
        within(timing.lease, TimeSpan::millis(200), TimeSpan::secs(30)),
        "timing.lease",
        "must be from 200ms to 30s",
    )?;
    ensure_setting(
        within(timing.room_life, TimeSpan::secs(60), day),
        "timing.room_life",
        "must be from 1m to 24h",
    )?;
    ensure_setting(
        within(timing.drain, TimeSpan::millis(0), TimeSpan::secs(600)),
        "timing.drain",
        "must be at most 10m",
    )?;
    ensure_setting(
        timing.drain_spread <= timing.drain,
        "timing.drain_spread",
        "must be at most timing.drain, the time when a stopping node ends",
    )
}

fn check_rooms(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let rooms = &settings.rooms;
    let day = TimeSpan::secs(24 * 60 * 60);
    ensure_setting((TimeSpan::secs(60)..=day).contains(&rooms.kept), "rooms.kept", "must be from 1m to 24h")?;
    ensure_setting((1..=10_000).contains(&rooms.per_user), "rooms.per_user", "must be from 1 to 10000")?;
    ensure_setting(
        rooms.creator_role.as_ref().is_none_or(|role| settings.roles.0.contains_key(role)),
        "rooms.creator_role",
        "names a role that [roles] does not have",
    )?;
    let is_url = |url: &String| url.starts_with("wss://") || url.starts_with("ws://");
    ensure_setting(
        rooms.signal_url.as_ref().is_none_or(is_url),
        "rooms.signal_url",
        "must begin with wss:// or ws://",
    )
}

fn check_redis(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let redis = &settings.redis;
    let within = |span: TimeSpan, low: TimeSpan, high: TimeSpan| (low..=high).contains(&span);
    ensure_setting(
        within(redis.deadline, TimeSpan::millis(50), TimeSpan::secs(2)),
        "redis.deadline",
        "must be from 50ms to 2s",
    )?;
    ensure_setting(
        within(redis.reconnect, TimeSpan::millis(10), TimeSpan::secs(60)),
        "redis.reconnect",
        "must be from 10ms to 1m",
    )?;
    let Some(path) = &redis.ca_file else { return Ok(()) };
    let setting = "redis.ca_file";
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::invalid_setting(setting, format!("cannot be read: {error}")))?;
    ensure_setting(
        contains_certificate(&text),
        setting,
        "names a file without a certificate in PEM (RFC 7468)",
    )
}

/// Whether there is at least one certificate in PEM, its content being base64 of a DER sequence. TLS looks closer.
fn contains_certificate(text: &str) -> bool {
    let begin = "-----BEGIN CERTIFICATE-----";
    let mut blocks = text.split(begin).skip(1).map(|rest| {
        let body = rest.split_once("-----END CERTIFICATE-----").map_or("", |(body, _)| body);
        let body: String = body.split_ascii_whitespace().collect();
        base64::engine::general_purpose::STANDARD.decode(body).is_ok_and(|der| der.first() == Some(&0x30))
    });
    blocks.clone().next().is_some() && blocks.all(|holds| holds)
}

fn check_turn(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let ice = &settings.ice;
    let is_url = |url: &String| {
        let rest = url.strip_prefix("turn:").or_else(|| url.strip_prefix("turns:"));
        rest.is_some_and(|rest| {
            !rest.is_empty() && !rest.starts_with(['/', '?']) && !rest.contains([' ', '@'])
        })
    };
    ensure_setting(
        ice.turn.iter().all(|server| !server.urls.is_empty() && server.urls.iter().all(is_url)),
        "ice.turn",
        "must hold urls like turn:turn.example:3478?transport=udp or turns:turn.example:5349 (RFC 7065)",
    )?;
    ensure_setting(
        (TimeSpan::secs(4)..=TimeSpan::secs(24 * 60 * 60)).contains(&ice.turn_ttl),
        "ice.turn_ttl",
        "must be from 4s to 24h",
    )
}

/// TURN servers and what their credentials are made with belong together.
pub(super) fn check_turn_secrets(settings: &ServiceSettings, secrets: usize) -> Result<(), ConfigError> {
    match (settings.ice.turn.is_empty(), secrets) {
        (true, 1..) => Err(ConfigError::invalid_setting(
            "SIGNALBOX_TURN_SECRETS",
            "is set, and there is no [[ice.turn]] to use it for",
        )),
        (false, 0) => {
            let problem = "has servers and SIGNALBOX_TURN_SECRETS is not set; servers with a fixed password stand in [[ice.servers]]";
            Err(ConfigError::invalid_setting("ice.turn", problem))
        }
        _ => Ok(()),
    }
}

fn check_roles(settings: &ServiceSettings) -> Result<(), ConfigError> {
    for (role, template) in &settings.roles.0 {
        if let Some(unknown) = template.permissions.iter().find(|p| !PERMISSIONS.contains(&p.as_str())) {
            let problem =
                format!("has the unknown permission `{unknown}`; there are {}", PERMISSIONS.join(", "));
            return Err(ConfigError::invalid_setting(format!("roles.{role}"), problem));
        }
    }
    for (setting, role) in
        [("auth.guest_role", &settings.auth.guest_role), ("auth.default_role", &settings.auth.default_role)]
    {
        ensure_setting(
            settings.roles.0.contains_key(role),
            setting,
            "names a role that [roles] does not have",
        )?;
    }
    Ok(())
}

fn unsafe_setting_warnings(settings: &ServiceSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.auth.guests == Some(true) && !settings.server.listen.ip().is_loopback() {
        warnings.push("guests are on: anybody who reaches this server gets a token".to_owned());
    }
    if settings.server.allowed_origins.iter().any(|origin| origin == "*") {
        warnings.push(
            "server.allowed_origins holds *: any web site may use this server from its visitors' browsers"
                .to_owned(),
        );
    }
    warnings
}
