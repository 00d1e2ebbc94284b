//! The moment in which a token is issued.
//!
//! Owns: that no token is dated into a second in which a rule revokes tokens. Next: `token_response.rs` waits for it.

use std::time::Duration;

use signalbox_access::{AccessControl, AccessSubject};
use signalbox_protocol::clock;

/// How long before its making a token is good already, seconds: the clocks of two machines differ.
pub(crate) const NOT_BEFORE_SKEW_S: u64 = 10;

/// The moment of a token's making, read once: of two readings a second may end between, and a token would say of itself that it lives for
/// another time than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IssueTime {
    /// What it says of when it was issued, seconds since 1970: by the clock of the rules, which may take back what was issued before them.
    pub(crate) issued_s: u64,
    /// What its begin and end count from, seconds since 1970: by the clock of this machine, as those who judge it have one like it.
    pub(crate) now_s: u64,
}

impl IssueTime {
    /// From what both clocks say at the same moment. Where they agree to a second they are taken for one.
    pub(crate) fn new(rules_ms: u64, here_ms: u64) -> Self {
        let issued_s = rules_ms / 1_000;
        let now_s = if rules_ms.abs_diff(here_ms) < 1_000 { issued_s } else { here_ms / 1_000 };
        Self { issued_s, now_s }
    }
}

/// The moment in which a token is made. What it says of that is by the clock that rules are dated with. Times of tokens are whole seconds, and a rule takes back
/// the whole second it falls into; so who asks in the rest of that second is answered in the next one. To date a token ahead instead would
/// let it survive the next rule of the same second.
pub(crate) async fn wait_for_issue_time(access: &AccessControl, subject: &AccessSubject<'_>) -> IssueTime {
    loop {
        let now = access.now_ms();
        let first = access.rules().first_valid_issue_second(subject, now);
        if now / 1_000 >= first {
            return IssueTime::new(now, clock::now_ms());
        }
        // At most a second: no rule is dated ahead. Longer only if the store's clock was put back meanwhile.
        tokio::time::sleep(Duration::from_millis((first * 1_000 - now).min(1_000))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_less_than_a_second_apart_count_as_one() {
        for (rules_ms, here_ms) in [(5_999, 6_000), (6_000, 5_999), (5_000, 5_999), (6_998, 5_999)] {
            let IssueTime { issued_s, now_s } = IssueTime::new(rules_ms, here_ms);
            assert_eq!((issued_s, now_s), (rules_ms / 1_000, rules_ms / 1_000), "{rules_ms} {here_ms}");
        }
    }

    #[test]
    fn clocks_further_apart_keep_their_own_times() {
        assert_eq!(IssueTime::new(9_000, 5_999), IssueTime { issued_s: 9, now_s: 5 });
    }
}
