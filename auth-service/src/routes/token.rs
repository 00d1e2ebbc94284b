//! `/auth/token`

use std::net::IpAddr;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use signalbox_control::Subject;
use signalbox_http::{ApiError, check_origin};
use signalbox_shared::{
    clock,
    id::{Role, RoomId, TokenId, UserId, random_hex},
    problem::Problem,
};

use super::{Body, authorization, members};
use crate::{
    AuthState,
    issuer::{Caller, Wish, identify},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    token: String,
    expires_in: u64,
    room: RoomId,
    user: UserId,
    role: Role,
}

/// Makes a token. Judged in this order: the web site, the caller, the body.
pub(super) async fn post(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = check_origin(request.headers(), &state.allowed_origins)
        .and_then(|()| identify(authorization(&request), &state.api_keys, state.guests))
        .map_err(|problem| refused(&state, None, problem))?;
    let address = state.client(&request);
    let issued =
        issue(&state, &caller, address, body).map_err(|problem| refused(&state, Some(&caller), problem))?;
    state.metrics.issued.with_label_values(&[caller.kind()]).inc();
    let Issued { room, user, role, expires_in, .. } = &issued;
    tracing::info!(target: "signalbox_auth::audit", caller = caller.id(), kind = caller.kind(),
        %room, %user, %role, ttl_s = expires_in, "token_issued");
    Ok(HttpResponse::Ok().json(issued))
}

fn issue(
    state: &AuthState,
    caller: &Caller<'_>,
    address: Option<IpAddr>,
    body: Body,
) -> Result<Issued, Problem> {
    if let Caller::ApiKey(key) = caller {
        state.judge_key(&key.id)?;
    }
    let wish = Wish::from(members(body, Wish::MEMBERS)?);
    let grant = state.policy.grant(caller, wish, &random_hex())?;
    let subject = Subject {
        user: &grant.user,
        room: Some(&grant.room),
        grant: "",
        issued_s: None,
        issuer: None,
        address,
    };
    state.judge(&subject)?;
    let issued_s = state.issued_s(&subject);
    let (room, user, role, expires_in) =
        (grant.room.clone(), grant.user.clone(), grant.role.clone(), grant.ttl_s);
    let token = state.minter.mint(grant, clock::now_s(), issued_s, TokenId::random()).map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        Problem::new(500, "internal", "the token could not be made; the server's log says why")
    })?;
    Ok(Issued { token, expires_in, room, user, role })
}

/// Counts and logs a refusal. A caller that has not proven itself has no name here: what it calls itself may be a secret
/// in the wrong place.
fn refused(state: &AuthState, caller: Option<&Caller<'_>>, problem: Problem) -> ApiError {
    let (code, field) = (problem.code, problem.field.as_deref());
    state.metrics.refused.with_label_values(&[code]).inc();
    let caller = caller.map_or("unknown", Caller::id);
    tracing::info!(target: "signalbox_auth::audit", caller, code, field, "token_refused");
    ApiError(problem)
}
