//! When the connections of a client were last interrupted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The time since the last interruption. All clones read one value, so a reader sees an
/// interruption as soon as the client has recorded it.
#[derive(Debug, Clone)]
// A std mutex: held to read or replace a value.
pub struct InterruptionClock(Arc<Mutex<Instant>>);

impl InterruptionClock {
    pub(crate) fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn record(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago a server was found again, or found to be another one; also while one is
    /// unavailable.
    pub fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_an_interruption_at_once() {
        let five_seconds = Duration::from_secs(5);
        let long_ago = Instant::now().checked_sub(five_seconds).unwrap();
        let clock = InterruptionClock(Arc::new(Mutex::new(long_ago)));
        let reader = clock.clone();
        assert!(reader.elapsed() >= five_seconds);
        clock.record();
        assert!(reader.elapsed() < five_seconds);
    }
}
