//! How fast one connection may send: a burst, then so many frames a second.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that also counts how often it was overdrawn without a pause.
#[derive(Debug)]
pub(super) struct Rate {
    burst: u32,
    per_second: u32,
    tokens: f64,
    at: Instant,
    overdrawn: u32,
}

/// Whether a frame may be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It may.
    Pass,
    /// Too fast: an error.
    Refuse,
    /// Refused a whole burst long: a close.
    Close,
}

impl Rate {
    /// A full bucket.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst, per_second, tokens: f64::from(burst), at: now, overdrawn: 0 }
    }

    /// From now on these count; what was saved up stays, up to the new burst.
    pub(super) fn change(&mut self, burst: u32, per_second: u32) {
        (self.burst, self.per_second) = (burst, per_second);
    }

    /// Judges one frame.
    pub(super) fn frame(&mut self, now: Instant) -> Pace {
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(self.per_second);
        self.at = now;
        self.tokens = (self.tokens + refill).min(f64::from(self.burst));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            // Back to a quarter of the bucket means that the sender has slowed down.
            if self.tokens > f64::from(self.burst) / 4.0 {
                self.overdrawn = 0;
            }
            return Pace::Pass;
        }
        self.overdrawn += 1;
        if self.overdrawn > self.burst { Pace::Close } else { Pace::Refuse }
    }

    /// Charges what a frame costs beyond itself, at most another burst ahead.
    pub(super) fn charge(&mut self, extra: u32) {
        self.tokens = (self.tokens - f64::from(extra)).max(-f64::from(self.burst));
    }

    /// How long until a frame passes again.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / f64::from(self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds_then_it_is_closed() {
        let now = Instant::now();
        let mut rate = Rate::new(10, 100, now);
        let verdicts: Vec<_> = (0..21).map(|_| rate.frame(now)).collect();
        assert!(verdicts[..10].iter().all(|v| *v == Pace::Pass));
        assert!(verdicts[10..20].iter().all(|v| *v == Pace::Refuse));
        assert_eq!(verdicts[20], Pace::Close);
    }

    #[test]
    fn a_frame_to_many_is_paid_for_before_the_next_one_passes() {
        let now = Instant::now();
        let mut rate = Rate::new(10, 10, now);
        assert_eq!(rate.frame(now), Pace::Pass);
        rate.charge(14);
        assert_eq!(rate.frame(now), Pace::Refuse);
        assert_eq!(rate.frame(now + rate.wait()), Pace::Pass);
    }

    #[test]
    fn a_pause_of_the_told_length_lets_a_frame_pass() {
        let now = Instant::now();
        let mut rate = Rate::new(1, 10, now);
        assert_eq!((rate.frame(now), rate.frame(now)), (Pace::Pass, Pace::Refuse));
        assert_eq!(rate.frame(now + rate.wait()), Pace::Pass);
    }
}
