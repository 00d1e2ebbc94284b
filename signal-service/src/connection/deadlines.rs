//! The deadlines of a connection: pings, the warning before its token expires, the expiry, new TURN
//! credentials. One timer waits for the earliest.
//!
//! Owns: the times and their order. Must not: act; `task` runs each [`DueAction`].
//!
//! A token expires by the wall clock of the node, but a timer uses the monotonic clock. So the wall
//! clock is read when the timer fires, at the latest with each ping: it may have been set.

use std::time::Duration;

use tokio::time::Instant;

/// The longest time between the warning and the expiry of a token.
const MAX_WARNING_LEAD: Duration = Duration::from_secs(60);

/// An action that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueAction {
    /// The token has expired: close the connection.
    TokenExpired,
    /// Tell the client that its token expires in so many milliseconds.
    WarnExpiry(u64),
    /// Send a ping, or close if the client has been silent for too long.
    Ping,
    /// Send new TURN credentials.
    RefreshIce,
}

/// The deadlines of one connection.
pub(super) struct ConnectionDeadlines {
    ping_interval: Duration,
    next_ping_at: Instant,
    /// The issue time and the expiry of the token, milliseconds since 1970.
    token_lifetime_ms: (u64, u64),
    token_expires_at: Instant,
    warn_at: Option<Instant>,
    refresh_ice_at: Option<Instant>,
}

impl ConnectionDeadlines {
    /// The deadlines of a new connection; the first ping follows after one interval.
    /// `token_lifetime` is the issue time and the expiry of the token, seconds since 1970.
    pub(super) fn new(
        now: Instant,
        wall_ms: u64,
        ping_interval: Duration,
        token_lifetime: (u64, u64),
    ) -> Self {
        let mut deadlines = Self {
            ping_interval,
            next_ping_at: now + ping_interval,
            token_lifetime_ms: (0, 0),
            token_expires_at: now,
            warn_at: None,
            refresh_ice_at: None,
        };
        deadlines.set_token_lifetime(now, wall_ms, token_lifetime);
        deadlines
    }

    /// Sets the issue time and the expiry of the token in force, seconds since 1970.
    pub(super) fn set_token_lifetime(
        &mut self,
        now: Instant,
        wall_ms: u64,
        (issued_s, expires_s): (u64, u64),
    ) {
        self.token_lifetime_ms = (issued_s.saturating_mul(1_000), expires_s.saturating_mul(1_000));
        self.warn_at = Some(now);
        self.plan_token_deadlines(now, wall_ms);
    }

    /// Sets the lifetime of the TURN credentials that the client gets now. New ones are due when a
    /// quarter of it is left, or never without a lifetime.
    pub(super) fn set_ice_lifetime(&mut self, now: Instant, lifetime: Option<Duration>) {
        self.refresh_ice_at = lifetime.map(|lifetime| now + lifetime / 4 * 3);
    }

    /// The next time at which an action may be due.
    pub(super) fn next_deadline(&self) -> Instant {
        let optional = [self.warn_at, self.refresh_ice_at].into_iter().flatten();
        optional.fold(self.next_ping_at.min(self.token_expires_at), Instant::min)
    }

    /// The most urgent action that is due; none if no action is due.
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
        let (issued_ms, expires_ms) = self.token_lifetime_ms;
        let remaining = Duration::from_millis(expires_ms.saturating_sub(wall_ms));
        self.token_expires_at = now + remaining;
        let lead = MAX_WARNING_LEAD.min(Duration::from_millis(expires_ms.saturating_sub(issued_ms)) / 4);
        self.warn_at = self.warn_at.map(|_| now + remaining.saturating_sub(lead));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING_INTERVAL: Duration = Duration::from_secs(25);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// All actions until the expiry, each with its second.
    fn run_until_expiry(
        mut deadlines: ConnectionDeadlines,
        start: Instant,
        wall_s: u64,
    ) -> Vec<(u64, DueAction)> {
        let mut actions = Vec::new();
        loop {
            let now = deadlines.next_deadline();
            let wall_ms = wall_s * 1_000 + (now - start).as_millis() as u64;
            while let Some(action) = deadlines.take_due_action(now, || wall_ms) {
                actions.push(((now - start).as_secs(), action));
                if action == DueAction::TokenExpired {
                    return actions;
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
        // The clock was set back by ten seconds, so the token has not expired.
        assert_eq!(deadlines.take_due_action(start + seconds(20), || 1_010_000), None);
        assert_eq!(
            deadlines.take_due_action(start + seconds(25), || 1_015_000),
            Some(DueAction::WarnExpiry(5_000))
        );
        assert_eq!(
            deadlines.take_due_action(start + seconds(30), || 1_020_000),
            Some(DueAction::TokenExpired)
        );
        // The clock was set forward: the next ping finds the expiry.
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
