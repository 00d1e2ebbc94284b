//! The only place that reads the wall clock. Other code receives the time as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "this function is the only reader of the wall clock")]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Seconds since 1970-01-01T00:00:00Z, as JWTs count them (RFC 7519, NumericDate).
pub fn now_s() -> u64 {
    now_ms() / 1_000
}
