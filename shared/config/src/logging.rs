//! Logging to standard error.
//!
//! A log line must never contain a token, an API key, SDP, a candidate, metadata, message data, a
//! resume handle, a query string or a client address. It may contain rooms, peers, users, nodes,
//! codes, counts and durations.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    filter::Targets,
    fmt,
    layer::{Layer as _, SubscriberExt as _},
    registry,
    util::SubscriberInitExt as _,
};

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for a terminal.
    #[default]
    Text,
    /// One JSON object per line, for a collector.
    Json,
}

/// Whether a text is a filter: parts separated by commas, each a level or `target=level`.
pub(crate) fn is_log_filter(text: &str) -> bool {
    let is_level = |text: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&text);
    text.split(',').map(str::trim).all(|part| match part.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    })
}

/// Starts logging to standard error. Call once, at the start of `main`.
///
/// `filter` is a `tracing` filter such as `info` or `signalbox_signal=debug`. The WebSocket codec,
/// the Redis driver and the HTTP internals stay at `warn` whatever the filter is, because their
/// debug lines contain payloads.
pub fn init_logging(filter: &str, format: LogFormat) {
    const QUIET_TARGETS: &str = "actix_http=warn,actix_web=warn,actix_server=warn,actix_rt=warn,redis=warn,mio=warn,\
                         h2=warn,tokio=warn,jsonwebtoken=warn";
    // The configuration check has accepted the filter, so an empty filter never applies.
    let filter: Targets = format!("{filter},{QUIET_TARGETS}").parse().unwrap_or_default();
    // A line that cannot be written is lost: to report this on the same closed pipe would panic.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = registry().with(filter).with(lines).try_init();
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}
