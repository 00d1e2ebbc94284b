//! `/auth/ice`

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;
use signalbox_http::{ApiError, check_origin};
use signalbox_shared::{
    clock,
    protocol::{IcePolicy, IceServer},
};

use super::validate;
use crate::AuthState;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    ice_servers: Arc<[IceServer]>,
    ice_policy: IcePolicy,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
}

/// What a client is told about ICE, for whoever has a room token in `Authorization: Bearer`: before it joins, or without a socket.
pub(super) async fn get(request: HttpRequest, state: web::Data<AuthState>) -> Result<HttpResponse, ApiError> {
    check_origin(request.headers(), &state.allowed_origins)?;
    let claims = validate::claims(&state, state.client(&request), validate::in_header(&request))?;
    let ice = state.ice.offer(&claims.role, claims.region.as_ref(), claims.grant(), clock::now_s());
    let told = Told {
        ice_servers: ice.servers,
        ice_policy: ice.policy,
        expires_in: ice.life.map(|life| life.as_secs()),
    };
    // It holds a password.
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(told))
}
