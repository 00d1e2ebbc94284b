//! What a connection does by itself, and when: pings, the word that its token ends, the end of it, new TURN credentials. One timer
//! for all of it (the earliest).
//!
//! A token ends by the wall clock of the node, a timer runs by another: when the timer fires the wall clock is asked, and with each ping
//! too, should it have been set.

use std::time::Duration;

use tokio::time::Instant;

/// The longest before its end that a client hears of it.
const WARN_AT_MOST: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The token has ended.
    Ended,
    /// The token ends in so many milliseconds, and its client has not heard so.
    Warn(u64),
    /// A sign of life.
    Ping,
    /// New TURN credentials.
    Ice,
}

/// The deadlines of one connection.
pub(super) struct Deadlines {
    ping_every: Duration,
    next_ping: Instant,
    /// The life of the token: its begin and its end, milliseconds since 1970.
    life: (u64, u64),
    end_at: Instant,
    warn_at: Option<Instant>,
    ice_at: Option<Instant>,
}

impl Deadlines {
    /// The first ping is one interval away. `life` is the begin and the end of the token, seconds since 1970.
    pub(super) fn new(now: Instant, wall_ms: u64, ping_every: Duration, life: (u64, u64)) -> Self {
        let next_ping = now + ping_every;
        let mut deadlines =
            Self { ping_every, next_ping, life: (0, 0), end_at: now, warn_at: None, ice_at: None };
        deadlines.set_token(now, wall_ms, life);
        deadlines
    }

    /// Another token is in force.
    pub(super) fn set_token(&mut self, now: Instant, wall_ms: u64, (begin_s, end_s): (u64, u64)) {
        self.life = (begin_s.saturating_mul(1_000), end_s.saturating_mul(1_000));
        self.warn_at = Some(now);
        self.plan(now, wall_ms);
    }

    /// New TURN credentials are due when a quarter is left of the life of those that were told now; never, if they do not end.
    pub(super) fn set_ice(&mut self, now: Instant, life: Option<Duration>) {
        self.ice_at = life.map(|life| now + life / 4 * 3);
    }

    /// The next moment when something may be due.
    pub(super) fn next(&self) -> Instant {
        let optional = [self.warn_at, self.ice_at].into_iter().flatten();
        optional.fold(self.next_ping.min(self.end_at), Instant::min)
    }

    /// What is due, the most urgent first; none if nothing is any more.
    pub(super) fn due(&mut self, now: Instant, wall_ms: impl Fn() -> u64) -> Option<Due> {
        if now < self.next() {
            return None;
        }
        let wall_ms = wall_ms();
        if wall_ms >= self.life.1 {
            return Some(Due::Ended);
        }
        // The wall clock may have been set.
        self.plan(now, wall_ms);
        if self.warn_at.is_some_and(|at| at <= now) {
            self.warn_at = None;
            Some(Due::Warn(self.life.1 - wall_ms))
        } else if self.next_ping <= now {
            self.next_ping = now + self.ping_every;
            Some(Due::Ping)
        } else if self.ice_at.is_some_and(|at| at <= now) {
            self.ice_at = None;
            Some(Due::Ice)
        } else {
            None
        }
    }

    fn plan(&mut self, now: Instant, wall_ms: u64) {
        let (begin, end) = self.life;
        let left = Duration::from_millis(end.saturating_sub(wall_ms));
        self.end_at = now + left;
        let lead = WARN_AT_MOST.min(Duration::from_millis(end.saturating_sub(begin)) / 4);
        self.warn_at = self.warn_at.map(|_| now + left.saturating_sub(lead));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Duration = Duration::from_secs(25);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Everything that happens until the end, with the second it happens in.
    fn story(mut deadlines: Deadlines, start: Instant, wall_s: u64) -> Vec<(u64, Due)> {
        let mut story = Vec::new();
        loop {
            let now = deadlines.next();
            let wall_ms = wall_s * 1_000 + (now - start).as_millis() as u64;
            while let Some(due) = deadlines.due(now, || wall_ms) {
                story.push(((now - start).as_secs(), due));
                if due == Due::Ended {
                    return story;
                }
            }
        }
    }

    #[test]
    fn a_client_hears_once_that_its_token_ends_and_then_it_has_ended() {
        let start = Instant::now();
        let long = Deadlines::new(start, 1_000_000, secs(10_000), (1_000, 1_900));
        assert_eq!(story(long, start, 1_000), [(840, Due::Warn(60_000)), (900, Due::Ended)]);
        let short = Deadlines::new(start, 1_000_000, secs(10_000), (1_000, 1_020));
        assert_eq!(story(short, start, 1_000), [(15, Due::Warn(5_000)), (20, Due::Ended)]);
    }

    #[test]
    fn who_comes_late_hears_at_once() {
        let start = Instant::now();
        let late = Deadlines::new(start, 1_890_000, secs(10_000), (1_000, 1_900));
        assert_eq!(story(late, start, 1_890), [(0, Due::Warn(10_000)), (10, Due::Ended)]);
    }

    #[test]
    fn another_token_is_another_end() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, 1_000_000, secs(10_000), (1_000, 1_020));
        let at = start + secs(16);
        assert_eq!(deadlines.due(at, || 1_016_000), Some(Due::Warn(4_000)));
        deadlines.set_token(at, 1_016_000, (1_016, 1_036));
        assert_eq!(story(deadlines, at, 1_016), [(15, Due::Warn(5_000)), (20, Due::Ended)]);
    }

    #[test]
    fn the_wall_clock_says_when_it_is_over_not_the_timer() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, 1_000_000, secs(10_000), (1_000, 1_020));
        // Set back by ten seconds: not over yet.
        assert_eq!(deadlines.due(start + secs(20), || 1_010_000), None);
        assert_eq!(deadlines.due(start + secs(25), || 1_015_000), Some(Due::Warn(5_000)));
        assert_eq!(deadlines.due(start + secs(30), || 1_020_000), Some(Due::Ended));
        // Set forward: noticed with the next ping.
        let mut deadlines = Deadlines::new(start, 1_000_000, PING, (1_000, 1_900));
        assert_eq!(deadlines.due(start + PING, || 1_900_000), Some(Due::Ended));
    }

    #[test]
    fn pings_and_credentials_come_in_between() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start, 1_000_000, PING, (1_000, 1_060));
        deadlines.set_ice(start, Some(secs(40)));
        let expected =
            [(25, Due::Ping), (30, Due::Ice), (45, Due::Warn(15_000)), (50, Due::Ping), (60, Due::Ended)];
        assert_eq!(story(deadlines, start, 1_000), expected);
    }
}
