//! Logs. What never goes into one: tokens, API keys, SDP, candidates, metadata, message data, resume handles, query
//! strings, client addresses. Rooms, peers, users, nodes, codes, counts and durations may.
//!
//! A value that must be carried beside a log but never in it is wrapped in [`HiddenValue`].

use std::{fmt, io::IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// A value that shows as `[redacted]` wherever it is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HiddenValue<T>(pub T);

impl<T> fmt::Debug for HiddenValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Display for HiddenValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether a text is a filter: each part a level, or a target and a level.
pub fn is_log_filter(text: &str) -> bool {
    let level = |text: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&text);
    text.split(',').map(str::trim).all(|part| match part.rsplit_once('=') {
        Some((target, of)) => !target.is_empty() && level(of),
        None => level(part),
    })
}

/// Starts logging to standard error. Call once, at the start of `main`.
///
/// `filter` is a `tracing` filter such as `info` or `signalbox_signal=debug`. Dependencies that print what they parse (the
/// WebSocket codec, the Redis driver, HTTP internals) never go below `warn`, whatever the filter says, because their debug
/// lines hold payloads.
pub fn init_logging(filter: &str, format: LogFormat) {
    const QUIET_TARGETS: &str = "actix_http=warn,actix_web=warn,actix_server=warn,actix_rt=warn,redis=warn,mio=warn,\
                         h2=warn,tokio=warn,jsonwebtoken=warn";
    let filter = EnvFilter::new(format!("{filter},{QUIET_TARGETS}"));
    // A line that cannot be written is lost; saying so on the same closed pipe would be a panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_value_is_never_printed() {
        let value = HiddenValue("v=0 o=- candidate");
        assert_eq!(format!("{value} {value:?}"), "[redacted] [redacted]");
    }
}
