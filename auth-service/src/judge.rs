//! What was taken back, asked before anything is given or vouched for.

use std::{net::IpAddr, time::Duration};

use actix_web::HttpRequest;
use signalbox_access::{Change, RuleKey, Subject, Terms, Verdict};
use signalbox_protocol::{clock, id::TokenId, problem::Problem};
use signalbox_token::{ManagementClaims, TokenError};

use crate::{AuthState, issuer::Moment};

impl AuthState {
    /// Where a client is; see `server.trusted_proxies`.
    pub(crate) fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        self.proxies.client(request.peer_addr().map(|peer| peer.ip()), request.headers())
    }

    /// Whether somebody may have, or use, a token, by the rules that are held. While the store is away those are decided on. Where the
    /// client is was judged at the door.
    ///
    /// # Errors
    /// 401 `token_revoked`, 403 `banned`, 503 `shut_down` or `unavailable`.
    pub(crate) fn judge(&self, subject: &Subject<'_>) -> Result<(), Problem> {
        self.control.judge(subject).map_err(Verdict::problem)?;
        self.knows_the_rules()
    }

    /// Whether an API key is still good.
    ///
    /// # Errors
    /// 401 `token_revoked`, 503 `unavailable`.
    pub(crate) fn judge_key(&self, id: &str) -> Result<(), Problem> {
        if self.control.rules().has_revoked_key(id, self.control.now_ms()) {
            return Err(Problem::new(401, "token_revoked", "this API key was taken back"));
        }
        self.knows_the_rules()
    }

    /// Whether the rules have been read, so that tokens can be given and judged.
    ///
    /// # Errors
    /// 503 `unavailable`.
    pub(crate) fn knows_the_rules(&self) -> Result<(), Problem> {
        if self.control.is_settled() {
            return Ok(());
        }
        Err(Problem::new(503, "unavailable", "this process does not know yet what was taken back; try again"))
    }

    /// The moment in which a token is made. What it says of that is by the clock that rules are dated with. Times of tokens are whole seconds, and a rule takes back
    /// the whole second it falls into; so who asks in the rest of that second is answered in the next one. To date a token ahead instead would
    /// let it survive the next rule of the same second.
    pub(crate) async fn moment(&self, subject: &Subject<'_>) -> Moment {
        loop {
            let now = self.control.now_ms();
            let first = self.control.rules().first_good_second(subject, now);
            if now / 1_000 >= first {
                return Moment::new(now, clock::now_ms());
            }
            // At most a second: no rule is dated ahead. Longer only if the store's clock was put back meanwhile.
            tokio::time::sleep(Duration::from_millis((first * 1_000 - now).min(1_000))).await;
        }
    }

    /// Whether something that was issued before is still good, by whatever was answered until now, here or by another process.
    ///
    /// What is made from it says that it was issued now, so it must be known to be good after that: a rule that comes later is dated later
    /// than what was made, and takes it back.
    ///
    /// # Errors
    /// As [`AuthState::judge`].
    pub(crate) async fn judge_anew(&self, subject: &Subject<'_>) -> Result<(), Problem> {
        let away = |_| Problem::new(503, "unavailable", "the store does not answer; try again");
        self.control.catch_up().await.map_err(away)?;
        self.judge(subject)
    }

    /// Whether a management token, and the API key it was made with, are still good. It is of no user and no room.
    ///
    /// # Errors
    /// 401 `token_revoked`, 503 `unavailable`.
    pub(crate) fn judge_management(&self, claims: &ManagementClaims) -> Result<(), Problem> {
        let (rules, now) = (self.control.rules(), self.control.now_ms());
        let grant = TokenId::parse(claims.grant()).map(RuleKey::Token);
        let taken_back = grant.is_ok_and(|key| rules.get(&key, now).is_some())
            || rules.get(&RuleKey::AllBefore, now).is_some_and(|rule| claims.iat <= rule.at / 1_000);
        if taken_back {
            return Err(TokenError::Revoked.problem());
        }
        self.judge_key(claims.sub.as_str())
    }

    /// Takes a grant back, for as long as anything of it can be good: its refresh token was used twice. Where that cannot be written the
    /// family is dead all the same, and the next use of it tries again.
    pub(crate) async fn take_back(&self, grant: &str) {
        let Ok(grant) = TokenId::parse(grant) else { return };
        let terms = Terms { by: "refresh".into(), reason: Some("refresh_reused".into()), ..Terms::default() };
        let change = Change { key: RuleKey::Token(grant), life_ms: self.longest_live_ms, terms };
        if let Err(error) = self.control.apply(change).await {
            tracing::warn!(event = "take_back_failed", %error, "a grant could not be taken back");
        }
    }
}
