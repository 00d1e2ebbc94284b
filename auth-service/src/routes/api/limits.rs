//! `/api/limits`

use actix_web::HttpRequest;
use serde::Serialize;
use signalbox_access::{LONGEST_MS, LimitChanges, RuleKey, Terms};
use signalbox_protocol::problem::Problem;

use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::rules::Shown;
use super::{Raw, apply, authorize, life_ms, lift, reason};
use crate::{
    issuer::wish::{refuse, within},
    routes::{Answered, Body, State, doc::Problems, forms::Reason, members},
};

/// Changed limits as callers name them.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedLimits)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    #[serde(skip_serializing_if = "Option::is_none")]
    room_peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u32>,
}

impl From<&LimitChanges> for Named {
    fn from(changes: &LimitChanges) -> Self {
        let LimitChanges { room_peers, user_peers, connections, burst, rate, backlog } = *changes;
        Self { room_peers, user_peers, connections, burst, rate, backlog }
    }
}

const MEMBERS: [&str; 8] =
    ["roomPeers", "userPeers", "connections", "burst", "rate", "backlog", "for", "reason"];

/// Limits in place of the configured ones.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct LimitsWish {
    #[schema(minimum = 1, maximum = 1_000)]
    room_peers: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000)]
    user_peers: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    connections: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    burst: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate: Option<u32>,
    #[schema(minimum = 8, maximum = 10_000)]
    backlog: Option<u32>,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: Option<u64>,
    reason: Option<Reason>,
}

/// Puts limits in force on every node, in place of those that were changed before; what is absent is as it is configured.
#[utoipa::path(put, path = "/api/limits", tag = "control", operation_id = "limits_put", request_body = LimitsWish,
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn put(request: HttpRequest, state: State, body: Body) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [room_peers, user_peers, connections, burst, rate, backlog, lasts, why] = members(body, MEMBERS)?;
    let changes = LimitChanges {
        room_peers: limit("roomPeers", &room_peers, 1, state.largest_room)?,
        user_peers: limit("userPeers", &user_peers, 1, 1_000)?,
        connections: limit("connections", &connections, 1, 1_000_000)?,
        burst: limit("burst", &burst, 1, 1_000_000)?,
        rate: limit("rate", &rate, 1, 1_000_000)?,
        backlog: limit("backlog", &backlog, 8, 10_000)?,
    };
    if changes == LimitChanges::default() {
        return Err(refuse("roomPeers", "or another limit must be there").into());
    }
    let life_ms = life_ms(&lasts)?.unwrap_or(LONGEST_MS);
    let terms = Terms { reason: reason(&why)?, limits: Some(changes), ..Terms::default() };
    Ok(apply(&state, &caller, "limits_changed", (RuleKey::Limits, life_ms), terms).await?)
}

fn limit(field: &str, raw: &Raw, low: u32, high: u32) -> Result<Option<u32>, Problem> {
    let value = within(field, raw, low.into(), high.into(), "a whole number")?;
    Ok(value.and_then(|value| u32::try_from(value).ok()))
}

/// The configured limits are in force again.
#[utoipa::path(delete, path = "/api/limits", tag = "control", operation_id = "limits_delete",
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn delete(request: HttpRequest, state: State) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    Ok(lift(&state, &caller, &RuleKey::Limits).await?)
}
