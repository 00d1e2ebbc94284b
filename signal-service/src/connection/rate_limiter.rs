//! How fast one connection may send: a burst, then so many frames a second.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that also counts how often it was overdrawn without a pause.
#[derive(Debug)]
pub(super) struct RateLimiter {
    burst: u32,
    per_second: u32,
    tokens: f64,
    refilled_at: Instant,
    refused_frames: u32,
}

/// Whether a frame may be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    /// It may.
    Pass,
    /// Too fast: an error.
    Refuse,
    /// Refused a whole burst long: a close.
    Close,
}

impl RateLimiter {
    /// A full bucket.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst, per_second, tokens: f64::from(burst), refilled_at: now, refused_frames: 0 }
    }

    /// From now on these count; what was saved up stays, up to the new burst.
    pub(super) fn set_rate(&mut self, burst: u32, per_second: u32) {
        (self.burst, self.per_second) = (burst, per_second);
    }

    /// Judges one frame.
    pub(super) fn check_frame(&mut self, now: Instant) -> RateDecision {
        let refill =
            now.saturating_duration_since(self.refilled_at).as_secs_f64() * f64::from(self.per_second);
        self.refilled_at = now;
        self.tokens = (self.tokens + refill).min(f64::from(self.burst));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            // Back to a quarter of the bucket means that the sender has slowed down.
            if self.tokens > f64::from(self.burst) / 4.0 {
                self.refused_frames = 0;
            }
            return RateDecision::Pass;
        }
        self.refused_frames += 1;
        if self.refused_frames > self.burst { RateDecision::Close } else { RateDecision::Refuse }
    }

    /// Charges what a frame costs beyond itself, at most another burst ahead.
    pub(super) fn charge_extra(&mut self, extra: u32) {
        self.tokens = (self.tokens - f64::from(extra)).max(-f64::from(self.burst));
    }

    /// How long until a frame passes again.
    pub(super) fn time_until_pass(&self) -> Duration {
        Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / f64::from(self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_frames_are_refused_then_the_connection_closes() {
        let now = Instant::now();
        let mut rate = RateLimiter::new(10, 100, now);
        let verdicts: Vec<_> = (0..21).map(|_| rate.check_frame(now)).collect();
        assert!(verdicts[..10].iter().all(|v| *v == RateDecision::Pass));
        assert!(verdicts[10..20].iter().all(|v| *v == RateDecision::Refuse));
        assert_eq!(verdicts[20], RateDecision::Close);
    }

    #[test]
    fn an_extra_charge_is_paid_before_the_next_frame_passes() {
        let now = Instant::now();
        let mut rate = RateLimiter::new(10, 10, now);
        assert_eq!(rate.check_frame(now), RateDecision::Pass);
        rate.charge_extra(14);
        assert_eq!(rate.check_frame(now), RateDecision::Refuse);
        assert_eq!(rate.check_frame(now + rate.time_until_pass()), RateDecision::Pass);
    }

    #[test]
    fn a_frame_passes_after_the_announced_wait() {
        let now = Instant::now();
        let mut rate = RateLimiter::new(1, 10, now);
        assert_eq!(
            (rate.check_frame(now), rate.check_frame(now)),
            (RateDecision::Pass, RateDecision::Refuse)
        );
        assert_eq!(rate.check_frame(now + rate.time_until_pass()), RateDecision::Pass);
    }
}
