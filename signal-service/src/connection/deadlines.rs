//! What a connection does by itself, and when: pings, the word that its token ends, the end of it, new TURN credentials. One timer
//! for all of it (the earliest).
//!
//! A token ends by the wall clock of the node, a timer runs by another: when the timer fires the wall clock is asked, and with each ping
//! too, should it have been set.

use std::time::Duration;

use tokio::time::Instant;

/// The longest before its end that a client hears of it.
const MAX_WARNING_LEAD: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueAction {
    /// The token has ended.
    TokenExpired,
    /// The token ends in so many milliseconds, and its client has not heard so.
    WarnExpiry(u64),
    /// A sign of life.
    Ping,
    /// New TURN credentials.
    RefreshIce,
}

/// The deadlines of one connection.
pub(super) struct ConnectionDeadlines {
    ping_interval: Duration,
    next_ping_at: Instant,
    /// The life of the token: its begin and its end, milliseconds since 1970.
    token_lifetime_ms: (u64, u64),
    token_ends_at: Instant,
    warn_at: Option<Instant>,
    refresh_ice_at: Option<Instant>,
}

impl ConnectionDeadlines {
    /// The first ping is one interval away. `life` is the begin and the end of the token, seconds since 1970.
    pub(super) fn new(now: Instant, wall_ms: u64, ping_every: Duration, life: (u64, u64)) -> Self {
        let next_ping = now + ping_every;
        let mut deadlines = Self {
            ping_interval: ping_every,
            next_ping_at: next_ping,
            token_lifetime_ms: (0, 0),
            token_ends_at: now,
            warn_at: None,
            refresh_ice_at: None,
        };
        deadlines.set_token_lifetime(now, wall_ms, life);
        deadlines
    }

    /// Another token is in force.
    pub(super) fn set_token_lifetime(&mut self, now: Instant, wall_ms: u64, (begin_s, end_s): (u64, u64)) {
        self.token_lifetime_ms = (begin_s.saturating_mul(1_000), end_s.saturating_mul(1_000));
        self.warn_at = Some(now);
        self.plan_token_deadlines(now, wall_ms);
    }

    /// New TURN credentials are due when a quarter is left of the life of those that were told now; never, if they do not end.
    pub(super) fn set_ice_lifetime(&mut self, now: Instant, life: Option<Duration>) {
        self.refresh_ice_at = life.map(|life| now + life / 4 * 3);
    }

    /// The next moment when something may be due.
    pub(super) fn next_deadline(&self) -> Instant {
        let optional = [self.warn_at, self.refresh_ice_at].into_iter().flatten();
        optional.fold(self.next_ping_at.min(self.token_ends_at), Instant::min)
    }

    /// What is due, the most urgent first; none if nothing is any more.
    pub(super) fn take_due_action(&mut self, now: Instant, wall_ms: impl Fn() -> u64) -> Option<DueAction> {
        if now < self.next_deadline() {
            return None;
        }
        let wall_ms = wall_ms();
        if wall_ms >= self.token_lifetime_ms.1 {
            return Some(DueAction::TokenExpired);
        }
        // The wall clock may have been set.
        self.plan_token_deadlines(now, wall_ms);
        if self.warn_at.is_some_and(|at| at <= now) {
            self.warn_at = None;
            Some(DueAction::WarnExpiry(self.token_lifetime_ms.1 - wall_ms))
        } else if self.next_ping_at <= now {
            self.next_ping_at = now + self.ping_interval;
            Some(DueAction::Ping)
        } else if self.refresh_ice_at.is_some_and(|at| at <= now) {
            self.refresh_ice_at = None;
            Some(DueAction::RefreshIce)
        } else {
            None
        }
    }

    fn plan_token_deadlines(&mut self, now: Instant, wall_ms: u64) {
        let (begin, end) = self.token_lifetime_ms;
        let left = Duration::from_millis(end.saturating_sub(wall_ms));
        self.token_ends_at = now + left;
        let lead = MAX_WARNING_LEAD.min(Duration::from_millis(end.saturating_sub(begin)) / 4);
        self.warn_at = self.warn_at.map(|_| now + left.saturating_sub(lead));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING_INTERVAL: Duration = Duration::from_secs(25);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Everything that happens until the end, with the second it happens in.
    fn run_until_expiry(
        mut deadlines: ConnectionDeadlines,
        start: Instant,
        wall_s: u64,
    ) -> Vec<(u64, DueAction)> {
        let mut story = Vec::new();
        loop {
            let now = deadlines.next_deadline();
            let wall_ms = wall_s * 1_000 + (now - start).as_millis() as u64;
            while let Some(due) = deadlines.take_due_action(now, || wall_ms) {
                story.push(((now - start).as_secs(), due));
                if due == DueAction::TokenExpired {
                    return story;
                }
            }
        }
    }

    #[test]
    fn a_client_is_warned_once_before_its_token_expires() {
        let start = Instant::now();
        let long = ConnectionDeadlines::new(start, 1_000_000, seconds(10_000), (1_000, 1_900));
        assert_eq!(
            run_until_expiry(long, start, 1_000),
            [(840, DueAction::WarnExpiry(60_000)), (900, DueAction::TokenExpired)]
        );
        let short = ConnectionDeadlines::new(start, 1_000_000, seconds(10_000), (1_000, 1_020));
        assert_eq!(
            run_until_expiry(short, start, 1_000),
            [(15, DueAction::WarnExpiry(5_000)), (20, DueAction::TokenExpired)]
        );
    }

    #[test]
    fn a_connection_that_starts_late_is_warned_at_once() {
        let start = Instant::now();
        let late = ConnectionDeadlines::new(start, 1_890_000, seconds(10_000), (1_000, 1_900));
        assert_eq!(
            run_until_expiry(late, start, 1_890),
            [(0, DueAction::WarnExpiry(10_000)), (10, DueAction::TokenExpired)]
        );
    }

    #[test]
    fn a_refreshed_token_moves_the_expiry() {
        let start = Instant::now();
        let mut deadlines = ConnectionDeadlines::new(start, 1_000_000, seconds(10_000), (1_000, 1_020));
        let at = start + seconds(16);
        assert_eq!(deadlines.take_due_action(at, || 1_016_000), Some(DueAction::WarnExpiry(4_000)));
        deadlines.set_token_lifetime(at, 1_016_000, (1_016, 1_036));
        assert_eq!(
            run_until_expiry(deadlines, at, 1_016),
            [(15, DueAction::WarnExpiry(5_000)), (20, DueAction::TokenExpired)]
        );
    }

    #[test]
    fn the_wall_clock_decides_when_a_token_expires() {
        let start = Instant::now();
        let mut deadlines = ConnectionDeadlines::new(start, 1_000_000, seconds(10_000), (1_000, 1_020));
        // Set back by ten seconds: not over yet.
        assert_eq!(deadlines.take_due_action(start + seconds(20), || 1_010_000), None);
        assert_eq!(
            deadlines.take_due_action(start + seconds(25), || 1_015_000),
            Some(DueAction::WarnExpiry(5_000))
        );
        assert_eq!(
            deadlines.take_due_action(start + seconds(30), || 1_020_000),
            Some(DueAction::TokenExpired)
        );
        // Set forward: noticed with the next ping.
        let mut deadlines = ConnectionDeadlines::new(start, 1_000_000, PING_INTERVAL, (1_000, 1_900));
        assert_eq!(
            deadlines.take_due_action(start + PING_INTERVAL, || 1_900_000),
            Some(DueAction::TokenExpired)
        );
    }

    #[test]
    fn pings_and_ice_refreshes_run_before_the_expiry() {
        let start = Instant::now();
        let mut deadlines = ConnectionDeadlines::new(start, 1_000_000, PING_INTERVAL, (1_000, 1_060));
        deadlines.set_ice_lifetime(start, Some(seconds(40)));
        let expected = [
            (25, DueAction::Ping),
            (30, DueAction::RefreshIce),
            (45, DueAction::WarnExpiry(15_000)),
            (50, DueAction::Ping),
            (60, DueAction::TokenExpired),
        ];
        assert_eq!(run_until_expiry(deadlines, start, 1_000), expected);
    }
}
