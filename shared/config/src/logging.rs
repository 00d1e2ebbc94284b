//! Logging to standard error.
//!
//! A log line must never contain a token, an API key, SDP, a candidate, metadata, message data, a
//! resume handle, a query string or a client address. It may contain rooms, peers, users, nodes,
//! codes, counts and durations.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_subscriber::{
    filter::Targets,
    fmt,
    layer::{Layer as _, SubscriberExt as _},
    registry,
    util::SubscriberInitExt as _,
};

use crate::log_writer::LogWriter;

/// How long the end of a process waits for its last lines.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(1);

/// The queue of log lines of this process. The subscriber of a process is global too.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

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
/// A thread of its own writes the lines, so that no other thread waits for the reader of standard
/// error. At most `buffer_bytes` of lines wait; more lines are dropped and counted. A panic is
/// logged as a line, for the same reason.
///
/// `filter` is a `tracing` filter such as `info` or `signalbox_signal=debug`. The WebSocket codec,
/// the Redis driver and the HTTP internals stay at `warn` whatever the filter is, because their
/// debug lines contain payloads.
///
/// # Errors
/// If the system refuses a thread.
pub fn init_logging(filter: &str, format: LogFormat, buffer_bytes: usize) -> io::Result<()> {
    const QUIET_TARGETS: &str = "actix_http=warn,actix_web=warn,actix_server=warn,actix_rt=warn,redis=warn,mio=warn,\
                         h2=warn,tokio=warn,jsonwebtoken=warn";
    // The configuration check has accepted the filter, so an empty filter never applies.
    let filter: Targets = format!("{filter},{QUIET_TARGETS}").parse().unwrap_or_default();
    let writer = LogWriter::start(io::stderr(), buffer_bytes, |lines| {
        tracing::warn!(event = "log_lines_dropped", lines, "standard error was not read in time");
    })?;
    let writer = WRITER.get_or_init(|| writer).clone();
    let lines = fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = registry().with(filter).with(lines).try_init();
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace('\n', " ");
        tracing::error!(event = "panic", "{text}");
    }));
    Ok(())
}

/// The number of log lines of this process that were dropped because nothing read them.
pub fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, LogWriter::dropped_lines)
}

/// Waits until the last log lines are written, at most a second.
pub fn flush_lines() {
    if let Some(writer) = WRITER.get() {
        writer.flush(LAST_LINES_LIMIT);
    }
}

/// Writes the last line of a process to standard error. Waits at most a second for its reader.
pub fn write_last_line(line: String) {
    let (written, is_written) = mpsc::sync_channel(1);
    let write = move || {
        // Standard error may be closed, and the process has no other output.
        let _ = writeln!(io::stderr(), "{line}");
        let _ = written.try_send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = is_written.recv_timeout(LAST_LINES_LIMIT);
    }
}
