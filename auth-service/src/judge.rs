//! What was taken back, asked before anything is given or vouched for.

use std::net::IpAddr;

use actix_web::HttpRequest;
use signalbox_control::{Subject, Verdict};
use signalbox_shared::{clock, problem::Problem};

use crate::AuthState;

impl AuthState {
    /// Where a client is; see `server.trusted_proxies`.
    pub(crate) fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        self.proxies.client(request.peer_addr().map(|peer| peer.ip()), request.headers())
    }

    /// Whether somebody may have, or use, a token, by the rules that are held. While the store is away those are decided on.
    ///
    /// # Errors
    /// 401 `token_revoked`, 403 `banned` or `address_denied`, 503 `shut_down` or `unavailable`.
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

    fn knows_the_rules(&self) -> Result<(), Problem> {
        if self.control.is_settled() {
            return Ok(());
        }
        Err(Problem::new(503, "unavailable", "this process does not know yet what was taken back; try again"))
    }

    /// What a token says of when it was issued: by the clock that rules are dated with, and later than every rule that was there before.
    pub(crate) fn issued_s(&self, subject: &Subject<'_>) -> u64 {
        let now = self.control.now_ms();
        // Not further ahead than verifiers allow, should the clocks differ by more.
        let latest = clock::now_s() + 50;
        (now / 1_000).max(self.control.rules().first_good_second(subject, now)).min(latest)
    }
}
