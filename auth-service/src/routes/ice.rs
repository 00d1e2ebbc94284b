//! `/auth/ice`

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header};
use serde::Serialize;
use signalbox_http::check_origin;
use signalbox_protocol::{IcePolicy, IceServer, clock};
use utoipa::ToSchema;

use super::{
    Answered, State,
    doc::Problems,
    forms::{IceServerView, IceTransportPolicy},
    room_token_of, validate,
};

/// What a client is told about ICE.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    /// `RTCConfiguration.iceServers`.
    #[schema(value_type = Vec<IceServerView>)]
    ice_servers: Arc<[IceServer]>,
    /// `RTCConfiguration.iceTransportPolicy`.
    #[schema(value_type = IceTransportPolicy)]
    ice_policy: IcePolicy,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
}

/// What a client is told about ICE, for whoever has a room token in `Authorization: Bearer`: before it joins, or without a socket.
#[utoipa::path(get, path = "/auth/ice", tag = "tokens", operation_id = "ice_get",
    responses((status = 200, body = Told), Problems), security(("token" = [])))]
pub(super) async fn get(request: HttpRequest, state: State) -> Answered {
    check_origin(request.headers(), &state.allowed_origins)?;
    let claims = validate::claims(&state, room_token_of(&request))?;
    let ice = state.ice.offer(&claims.role, claims.region.as_ref(), claims.grant(), clock::now_s());
    let told = Told {
        ice_servers: ice.servers,
        ice_policy: ice.policy,
        expires_in: ice.life.map(|life| life.as_secs()),
    };
    // It holds a password.
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(told))
}
