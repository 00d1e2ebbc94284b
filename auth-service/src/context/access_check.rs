//! What was taken back, asked before anything is given or vouched for.

use std::net::IpAddr;

use actix_web::HttpRequest;
use signalbox_access::{AccessRefusal, AccessSubject, RuleKey};
use signalbox_protocol::{id::TokenId, problem::Problem};
use signalbox_token::{ManagementClaims, TokenError};

use super::service_context::ServiceContext;

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
}
