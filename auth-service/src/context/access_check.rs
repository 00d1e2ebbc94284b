//! The check of the access rules before a token is issued, used or validated.
//!
//! Owns: that no token is dated into a second in which a rule revokes tokens. Must not: write a rule. Next:
//! `signalbox_access` holds the rules.

use std::{net::IpAddr, time::Duration};

use actix_web::HttpRequest;
use signalbox_access::{AccessRefusal, AccessSubject, RuleKey};
use signalbox_protocol::{clock, id::TokenId, problem::Problem};
use signalbox_token::{ManagementClaims, TokenError};

use super::service_context::ServiceContext;

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

impl ServiceContext {
    /// Where a client is; see `server.trusted_proxies`.
    pub(crate) fn client_address(&self, request: &HttpRequest) -> Option<IpAddr> {
        self.proxies.client_address(request.peer_addr().map(|peer| peer.ip()), request.headers())
    }

    /// Whether somebody may have, or use, a token, by the rules that are held. While the store is away those are decided on. Where the
    /// client is was judged at the door.
    ///
    /// # Errors
    /// 401 `token_revoked`, 403 `banned`, 503 `shut_down` or `unavailable`.
    pub(crate) fn check_access(&self, subject: &AccessSubject<'_>) -> Result<(), Problem> {
        self.access.check_access(subject).map_err(AccessRefusal::to_problem)?;
        self.check_rules_loaded()
    }

    /// Whether an API key is still good.
    ///
    /// # Errors
    /// 401 `token_revoked`, 503 `unavailable`.
    pub(crate) fn check_api_key(&self, id: &str) -> Result<(), Problem> {
        if self.access.rules().is_key_revoked(id, self.access.now_ms()) {
            return Err(Problem::new(401, "token_revoked", "this API key was taken back"));
        }
        self.check_rules_loaded()
    }

    /// Whether the rules have been read, so that tokens can be given and judged.
    ///
    /// # Errors
    /// 503 `unavailable`.
    pub(crate) fn check_rules_loaded(&self) -> Result<(), Problem> {
        if self.access.is_synchronized() {
            return Ok(());
        }
        Err(Problem::new(503, "unavailable", "this process does not know yet what was taken back; try again"))
    }

    /// Whether something that was issued before is still good, by whatever was answered until now, here or by another process.
    ///
    /// What is made from it says that it was issued now, so it must be known to be good after that: a rule that comes later is dated later
    /// than what was made, and takes it back.
    ///
    /// # Errors
    /// As [`ServiceContext::check_access`].
    pub(crate) async fn refresh_and_check_access(&self, subject: &AccessSubject<'_>) -> Result<(), Problem> {
        let away = |_| Problem::new(503, "unavailable", "the store does not answer; try again");
        self.access.wait_for_latest_rules().await.map_err(away)?;
        self.check_access(subject)
    }

    /// Whether a management token, and the API key it was made with, are still good. It is of no user and no room.
    ///
    /// # Errors
    /// 401 `token_revoked`, 503 `unavailable`.
    pub(crate) fn check_management_token(&self, claims: &ManagementClaims) -> Result<(), Problem> {
        let (rules, now) = (self.access.rules(), self.access.now_ms());
        let grant = TokenId::parse(claims.grant()).map(RuleKey::Grant);
        let taken_back = grant.is_ok_and(|key| rules.rule_in_force(&key, now).is_some())
            || rules
                .rule_in_force(&RuleKey::AllBefore, now)
                .is_some_and(|rule| claims.iat <= rule.written_at / 1_000);
        if taken_back {
            return Err(TokenError::Revoked.to_problem());
        }
        self.check_api_key(claims.sub.as_str())
    }

    /// The moment in which a token is made. What it says of that is by the clock that rules are dated with. Times of tokens are whole seconds, and a rule takes back
    /// the whole second it falls into; so who asks in the rest of that second is answered in the next one. To date a token ahead instead would
    /// let it survive the next rule of the same second.
    pub(crate) async fn wait_for_issue_time(&self, subject: &AccessSubject<'_>) -> IssueTime {
        loop {
            let now = self.access.now_ms();
            let first = self.access.rules().first_valid_issue_second(subject, now);
            if now / 1_000 >= first {
                return IssueTime::new(now, clock::now_ms());
            }
            // At most a second: no rule is dated ahead. Longer only if the store's clock was put back meanwhile.
            tokio::time::sleep(Duration::from_millis((first * 1_000 - now).min(1_000))).await;
        }
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
