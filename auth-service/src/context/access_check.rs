//! The check of the access rules: of the address of every request, and before a token is issued, used
//! or validated.
//!
//! Owns: that no token is dated into a second in which a rule revokes tokens, and the two paths that
//! stay open to a denied address: an operator who denied the own address can still lift the rule. Must
//! not: write a rule. Next: `signalbox_access` holds the rules.

use std::{net::IpAddr, time::Duration};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};
use signalbox_access::{AccessRefusal, AccessSubject, RuleKey};
use signalbox_http::problem_response;
use signalbox_protocol::{
    CredentialRoot, clock,
    id::{CallerId, TokenId},
    problem::Problem,
};
use signalbox_token::{ManagementClaims, TokenError};

use super::{
    principal::{DerivedRight, LostRight},
    service_context::ServiceContext,
};

/// The paths that stay open to a denied address. Both need the scope `security`.
const EXEMPT_PATHS: [&str; 2] = ["/api/rules", "/api/rules/{key}"];

/// Refuses clients at a denied address: 403 `address_denied`.
///
/// # Errors
/// The errors of the inner service.
pub(crate) async fn refuse_denied_address(
    context: web::Data<ServiceContext>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let address = context.client_address(request.request());
    let denied = address
        .is_some_and(|address| context.access.rules().denies_address(address, context.access.now_ms()));
    let is_exempt = request.match_pattern().is_some_and(|pattern| EXEMPT_PATHS.contains(&&*pattern));
    if !denied || is_exempt {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let problem = AccessRefusal::AddressDenied.to_problem();
    context.metrics.unauthorized.with_label_values(&[problem.code]).inc();
    tracing::info!(target: "signalbox_auth::audit", code = problem.code, "caller_refused");
    let response: HttpResponse = problem_response(&problem);
    Ok(request.into_response(response).map_into_right_body())
}

/// How long before its issue a token is valid already, seconds: the clocks of two machines differ.
pub(crate) const NOT_BEFORE_SKEW_S: u64 = 10;

/// The time of issue of a token. It is read once: between two readings a second may end, and the
/// token would live longer or shorter than requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IssueTime {
    /// The `iat` of the token, seconds since 1970, by the clock of the access rules: a rule revokes
    /// what was issued before it.
    pub(crate) issued_s: u64,
    /// The base of `nbf` and `exp`, seconds since 1970, by the clock of this machine: verifiers
    /// compare them with clocks like it.
    pub(crate) now_s: u64,
}

impl IssueTime {
    /// From the readings of both clocks at one moment. Clocks less than a second apart count as
    /// one.
    pub(crate) fn new(rules_ms: u64, local_ms: u64) -> Self {
        let issued_s = rules_ms / 1_000;
        let now_s = if rules_ms.abs_diff(local_ms) < 1_000 { issued_s } else { local_ms / 1_000 };
        Self { issued_s, now_s }
    }
}

impl ServiceContext {
    /// The address of the client; see `server.trusted_proxies`.
    pub(crate) fn client_address(&self, request: &HttpRequest) -> Option<IpAddr> {
        self.gate.client_address(request.peer_addr().map(|peer| peer.ip()), request.headers())
    }

    /// Checks that a token may be issued or used, by the rules that this process has loaded; it
    /// uses them also while the store is unavailable. [`refuse_denied_address`] has checked the address.
    ///
    /// # Errors
    /// 401 `token_revoked`, 403 `banned`, 503 `shut_down` or `unavailable`.
    pub(crate) fn check_access(&self, subject: &AccessSubject<'_>) -> Result<(), Problem> {
        self.access.check_access(subject).map_err(AccessRefusal::to_problem)?;
        self.check_rules_loaded()
    }

    /// Checks that an API key is not revoked.
    ///
    /// # Errors
    /// 401 `token_revoked`, 503 `unavailable`.
    pub(crate) fn check_api_key(&self, id: &CallerId) -> Result<(), Problem> {
        let root = CredentialRoot::ApiKey(id.clone());
        if self.access.rules().is_root_revoked(&root, self.access.now_ms()) {
            return Err(Problem::new(401, "token_revoked", "this API key was revoked"));
        }
        self.check_rules_loaded()
    }

    /// Whether the root of a credential still has a right, by the configuration and the access rules.
    /// Asked at every use of a derived credential: a refresh, an invite, a ticket, a validation, a
    /// management token and a user token; and before every first token. A signaling node knows no
    /// API key; there, a rule about the root reaches the connections.
    ///
    /// # Errors
    /// [`LostRight`]: the first right that is gone.
    pub(crate) fn still_allowed(&self, right: &DerivedRight<'_>) -> Result<(), LostRight> {
        self.roots.load().check_right(&self.applications.load(), right)?;
        if right.issues && self.access.rules().is_root_revoked(right.root, self.access.now_ms()) {
            return Err(LostRight::Revoked);
        }
        Ok(())
    }

    /// Checks that the access rules are loaded. Without them no token can be issued or validated.
    ///
    /// # Errors
    /// 503 `unavailable`.
    pub(crate) fn check_rules_loaded(&self) -> Result<(), Problem> {
        if self.access.is_synchronized() {
            return Ok(());
        }
        Err(Problem::new(503, "unavailable", "this process has not loaded the access rules yet; try again"))
    }

    /// Checks that a credential is still valid, by all rules that any process has written until
    /// now.
    ///
    /// A new credential of the same grant is dated now. A rule written after this check has a later
    /// date, so it revokes the new credential too.
    ///
    /// # Errors
    /// As [`ServiceContext::check_access`].
    pub(crate) async fn refresh_and_check_access(&self, subject: &AccessSubject<'_>) -> Result<(), Problem> {
        self.wait_for_latest_rules().await?;
        self.check_access(subject)
    }

    /// Waits until this process has all rules that any process has written until now.
    ///
    /// # Errors
    /// 503 `unavailable`.
    pub(crate) async fn wait_for_latest_rules(&self) -> Result<(), Problem> {
        let unavailable = |_| Problem::new(503, "unavailable", "the store does not answer; try again");
        self.access.wait_for_latest_rules().await.map_err(unavailable)
    }

    /// Checks that a management token is not revoked, and that its API key is neither revoked nor
    /// removed. A management token has no
    /// user and no room.
    ///
    /// # Errors
    /// 401 `token_revoked`, 503 `unavailable`.
    pub(crate) fn check_management_token(&self, claims: &ManagementClaims) -> Result<(), Problem> {
        let (rules, now) = (self.access.rules(), self.access.now_ms());
        let grant = TokenId::parse(claims.grant()).map(RuleKey::Grant);
        let is_revoked = grant.is_ok_and(|key| rules.rule_in_force(&key, now).is_some())
            || rules
                .rule_in_force(&RuleKey::AllBefore, now)
                .is_some_and(|rule| claims.iat <= rule.written_at / 1_000);
        if is_revoked {
            return Err(TokenError::Revoked.to_problem());
        }
        let root = claims.credential_root();
        let right = DerivedRight { root: &root, scope: None, room: None, role: None, issues: true };
        self.still_allowed(&right).map_err(LostRight::to_problem)?;
        self.check_rules_loaded()
    }

    /// Waits for a moment in which a token may be issued, by the clock that dates the rules. Times
    /// of tokens are whole seconds, and a rule revokes the whole second of its date. So a request
    /// in the rest of that second is answered in the next one. A token dated ahead would survive
    /// the next rule of the same second.
    pub(crate) async fn wait_for_issue_time(&self, subject: &AccessSubject<'_>) -> IssueTime {
        loop {
            let now = self.access.now_ms();
            let first = self.access.rules().first_valid_issue_second(subject, now);
            if now / 1_000 >= first {
                return IssueTime::new(now, clock::now_ms());
            }
            // At most a second: no rule is dated ahead. It is longer only if the clock of the store
            // was set back.
            tokio::time::sleep(Duration::from_millis((first * 1_000 - now).min(1_000))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_less_than_a_second_apart_count_as_one() {
        for (rules_ms, local_ms) in [(5_999, 6_000), (6_000, 5_999), (5_000, 5_999), (6_998, 5_999)] {
            let IssueTime { issued_s, now_s } = IssueTime::new(rules_ms, local_ms);
            assert_eq!((issued_s, now_s), (rules_ms / 1_000, rules_ms / 1_000), "{rules_ms} {local_ms}");
        }
    }

    #[test]
    fn clocks_further_apart_keep_their_own_times() {
        assert_eq!(IssueTime::new(9_000, 5_999), IssueTime { issued_s: 9, now_s: 5 });
    }
}
