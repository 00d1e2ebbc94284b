//! `/api/denials`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_control::{RuleKey, Terms, parse_denied};
use signalbox_http::ApiError;

use super::{Scope, apply, authorize, life_ms, missing, reason};
use crate::{
    AuthState,
    issuer::wish::{refuse, typed},
    routes::{Body, members},
};

/// Refuses clients of an address or range for a time.
pub(super) async fn post(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [cidr, lasts, why] = members(body, ["cidr", "for", "reason"])?;
    let text = typed::<String>("cidr", &cidr, "must be a string")?.ok_or_else(|| missing("cidr"))?;
    let range = parse_denied(&text).map_err(|bad| refuse("cidr", bad))?;
    let life_ms = life_ms(&lasts)?.ok_or_else(|| missing("for"))?;
    let terms = Terms { reason: reason(&why)?, ..Terms::default() };
    Ok(apply(&state, &caller, "address_denied", (RuleKey::Deny(range), life_ms), terms).await?)
}
