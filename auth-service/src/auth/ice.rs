//! `GET /auth/ice`: the ICE configuration for a room token.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;
use signalbox_protocol::{IcePolicy, IceServer, clock};
use utoipa::ToSchema;

use super::{token_service::TokenService, validate};
use crate::context::{
    authorization::{bearer_room_token, check_site},
    problem_responses::ProblemResponses,
    request::ApiResult,
};

/// The ICE configuration of a client.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IceResponse {
    /// `RTCConfiguration.iceServers`.
    #[schema(value_type = Vec<IceServer>)]
    ice_servers: Arc<[IceServer]>,
    /// `RTCConfiguration.iceTransportPolicy`.
    ice_policy: IcePolicy,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
}

/// The ICE configuration for the room token in `Authorization: Bearer`. A client can read it before
/// it joins, or without a socket.
#[utoipa::path(get, path = "/auth/ice", tag = "tokens", operation_id = "ice_get",
    responses((status = 200, body = IceResponse), ProblemResponses), security(("token" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<TokenService>) -> ApiResult {
    check_site(&request, &service.context)?;
    let claims = validate::verify_room_token(&service, bearer_room_token(&request))?;
    let ice = service.ice.client_config(&claims.role, claims.region.as_ref(), claims.grant(), clock::now_s());
    let response = IceResponse {
        ice_servers: ice.servers,
        ice_policy: ice.policy,
        expires_in: ice.lifetime.map(|life| life.as_secs()),
    };
    // The response holds a TURN password.
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(response))
}
