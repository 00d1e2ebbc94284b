//! `/api/denials`

use actix_web::HttpRequest;
use signalbox_access::{RuleKey, Terms, parse_denied};

use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::rules::Shown;
use super::{apply, authorize, life_ms, missing, reason};
use crate::{
    issuer::wish::{refuse, typed},
    routes::{Answered, Body, State, doc::Problems, forms::Reason, members},
};

/// Addresses.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct DenialWish {
    /// An address, or a range of them.
    cidr: String,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: u64,
    reason: Option<Reason>,
}

/// Refuses clients of an address or range for a time.
#[utoipa::path(post, path = "/api/denials", tag = "control", operation_id = "denials_post", request_body = DenialWish,
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [cidr, lasts, why] = members(body, ["cidr", "for", "reason"])?;
    let text = typed::<String>("cidr", &cidr, "must be a string")?.ok_or_else(|| missing("cidr"))?;
    let range = parse_denied(&text).map_err(|bad| refuse("cidr", bad))?;
    let life_ms = life_ms(&lasts)?.ok_or_else(|| missing("for"))?;
    let terms = Terms { reason: reason(&why)?, ..Terms::default() };
    Ok(apply(&state, &caller, "address_denied", (RuleKey::Deny(range), life_ms), terms).await?)
}
