//! `/api/shutdown`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_control::{LONGEST_MS, RuleKey, Terms};
use signalbox_http::ApiError;

use super::{Scope, apply, authorize, life_ms, lift, reason};
use crate::{
    AuthState,
    issuer::wish::{refuse, typed},
    routes::{Body, members},
};

/// Sends everybody away and lets nobody in, until it is lifted or over.
pub(super) async fn put(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [retry, lasts, why] = members(body, ["retry", "for", "reason"])?;
    let rule = "must be a whole number of seconds from 1 to 3600";
    let retry = typed::<u32>("retry", &retry, rule)?;
    if retry.is_some_and(|seconds| !(1..=3_600).contains(&seconds)) {
        return Err(refuse("retry", rule).into());
    }
    let life_ms = life_ms(&lasts)?.unwrap_or(LONGEST_MS);
    let retry_ms = retry.map(|seconds| seconds * 1_000);
    let terms = Terms { reason: reason(&why)?, retry_ms, ..Terms::default() };
    Ok(apply(&state, &caller, "shutdown_started", (RuleKey::Shutdown, life_ms), terms).await?)
}

/// Lets everybody in again.
pub(super) async fn delete(
    request: HttpRequest,
    state: web::Data<AuthState>,
) -> Result<HttpResponse, ApiError> {
    let caller = authorize(&request, &state, Scope::Security)?;
    Ok(lift(&state, &caller, &RuleKey::Shutdown).await?)
}
