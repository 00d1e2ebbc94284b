//! `/api/shutdown`

use actix_web::HttpRequest;
use signalbox_access::{LONGEST_MS, RuleKey, Terms};

use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::rules::Shown;
use super::{apply, authorize, life_ms, lift, reason};
use crate::{
    issuer::wish::within,
    routes::{Answered, Body, State, doc::Problems, forms::Reason, members},
};

/// An emergency stop.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct ShutdownWish {
    /// When clients are to ask again, seconds.
    #[schema(minimum = 1, maximum = 3_600)]
    retry: Option<u32>,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: Option<u64>,
    reason: Option<Reason>,
}

/// Sends everybody away and lets nobody in, until it is lifted or over.
#[utoipa::path(put, path = "/api/shutdown", tag = "control", operation_id = "shutdown_put", request_body = ShutdownWish,
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn put(request: HttpRequest, state: State, body: Body) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [retry, lasts, why] = members(body, ["retry", "for", "reason"])?;
    let retry = within("retry", &retry, 1, 3_600, "a whole number of seconds")?;
    let life_ms = life_ms(&lasts)?.unwrap_or(LONGEST_MS);
    let retry_ms = retry.and_then(|seconds| u32::try_from(seconds * 1_000).ok());
    let terms = Terms { reason: reason(&why)?, retry_ms, ..Terms::default() };
    Ok(apply(&state, &caller, "shutdown_started", (RuleKey::Shutdown, life_ms), terms).await?)
}

/// Lets everybody in again.
#[utoipa::path(delete, path = "/api/shutdown", tag = "control", operation_id = "shutdown_delete",
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn delete(request: HttpRequest, state: State) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    Ok(lift(&state, &caller, &RuleKey::Shutdown).await?)
}
