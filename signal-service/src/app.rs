//! The HTTP routes of a node, alone or beside those of other services.
//!
//! Owns: `/ws/validate`, and the answer to a plain request for `/ws/signal`. Must not: serve an
//! upgrade (`connection::upgrade`).
//!
//! A page that may not read the answer of `/ws/validate` can at least find out that there is one, by
//! a request with the mode `no-cors`. So its answers are not limited to the own site; without
//! credentials they say nothing.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, middleware::DefaultHeaders, web};
use signalbox_http::{ApiError, configure_health, not_found, resource};
use signalbox_protocol::problem::Problem;

use crate::{admission::CredentialSource, node::SignalNode};

/// The routes of a node besides the upgrade of `/ws/signal`. The process owns health.
pub fn configure_signal_routes(node: Arc<SignalNode>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let any_site = DefaultHeaders::new().add((header::CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"));
        let validate = resource("/ws/validate", "GET").route(web::get().to(validate_credentials));
        config
            .app_data(web::Data::from(node))
            .service(validate.wrap(any_site))
            .service(resource("/ws/signal", "GET").route(web::get().to(upgrade_required)));
    }
}

/// All routes of the standalone service.
pub fn configure_standalone(node: Arc<SignalNode>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let gate = node.admission.gate().clone();
        let ready_node = node.clone();
        config
            .app_data(web::Data::new(gate))
            .configure(configure_health(move || std::future::ready(ready_node.check_ready())))
            .configure(configure_signal_routes(node))
            .default_service(web::to(not_found));
    }
}

/// The answer that an upgrade would get, as plain HTTP. A browser needs it, because a page cannot
/// read the status of a failed upgrade.
async fn validate_credentials(
    node: web::Data<SignalNode>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (admission, headers) = (&node.admission, request.headers());
    let source = CredentialSource::Validate(request.query_string(), headers);
    let verified = admission.verify_request(&source).await.map_err(ApiError)?;
    drop(admission.acquire_permit().map_err(ApiError)?);
    let socket_address = request.peer_addr().map(|peer| peer.ip());
    let authorized = admission.authorize_request(&verified, headers, socket_address).await;
    let (subject, cost) = authorized.map_err(ApiError)?;
    admission.check_connection_rate(&subject, cost).map_err(ApiError)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"valid":true}"#))
}

async fn upgrade_required() -> Result<HttpResponse, ApiError> {
    Err(ApiError(Problem::new(426, "upgrade_required", "connect with a WebSocket (RFC 6455)")))
}
