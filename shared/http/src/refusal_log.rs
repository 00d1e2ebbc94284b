//! The log of requests that the lists of the configuration refuse: each line says what to add.
//!
//! Owns: the bound of the log. Clients choose the refused values, so each value is logged once a
//! minute, and only some values a minute. Must not: log a value that is not in canonical form.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The time after which a value is logged again.
const INTERVAL: Duration = Duration::from_secs(60);

/// The most values that are logged in that time.
const MAX_VALUES: usize = 20;

/// The values that were logged since the start of the interval.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<LoggedValues>);

#[derive(Debug, Default)]
struct LoggedValues {
    since: Option<Instant>,
    values: HashSet<String>,
    left_out: usize,
}

impl RefusalLog {
    /// Logs that a value was refused, with what the operator can do.
    pub(crate) fn report(&self, code: &'static str, name: &'static str, value: &str, remedy: &str) {
        let line = format!("{code} {name}={value} ({remedy})");
        // A std mutex: held for a lookup.
        let left_out = {
            let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left_out) = logged.accept(&line, Instant::now()) else { return };
            left_out
        };
        if left_out > 0 {
            tracing::warn!(event = "refusals_not_logged", refusals = left_out);
        }
        tracing::warn!(event = "request_refused", "{line}");
    }
}

impl LoggedValues {
    /// Whether to log the line now: then the number of lines that were left out before it.
    fn accept(&mut self, line: &str, now: Instant) -> Option<usize> {
        let mut left_out = 0;
        if self.since.is_none_or(|since| now.duration_since(since) >= INTERVAL) {
            left_out = std::mem::take(&mut self.left_out);
            self.values.clear();
            self.since = Some(now);
        }
        if self.values.contains(line) {
            return None;
        }
        if self.values.len() >= MAX_VALUES {
            self.left_out += 1;
            return None;
        }
        self.values.insert(line.to_owned());
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_logged_once_a_minute_and_the_values_are_bounded() {
        let (mut logged, start) = (LoggedValues::default(), Instant::now());
        assert_eq!(logged.accept("a", start), Some(0));
        assert_eq!(logged.accept("a", start + INTERVAL / 2), None);
        let values: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let accepted = values.iter().filter(|value| logged.accept(value, start).is_some()).count();
        assert_eq!(accepted, MAX_VALUES - 1);
        assert_eq!(logged.accept("a", start + INTERVAL), Some(100 - accepted));
        assert_eq!(logged.accept("b", start + INTERVAL), Some(0));
    }
}
