//! Plain HTTP of a node: the verdict over a token, metrics, and what a plain request to `/ws/signal` is told.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_http::{ApiError, resource};
use signalbox_protocol::problem::Problem;

use crate::{admission::CredentialSource, connection_subject::ConnectionSubject, node::SignalNode};

/// Registers the routes.
pub(crate) fn add_routes(config: &mut web::ServiceConfig, signal: Arc<SignalNode>) {
    config
        .app_data(web::Data::from(signal))
        .service(resource("/ws/validate", "GET").route(web::get().to(validate_credentials)))
        .service(resource("/ws/signal", "GET").route(web::get().to(upgrade_required)));
}

/// The verdict that an upgrade would get, over HTTP, because a browser cannot read the status of a failed upgrade.
async fn validate_credentials(
    signal: web::Data<SignalNode>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let knock = CredentialSource::Validate(request.query_string(), request.headers());
    let admission = signal.admission.verify_request(&knock).await.map_err(ApiError)?;
    drop(signal.admission.acquire_permit().map_err(ApiError)?);
    let address =
        signal.trusted_proxies.client_address(request.peer_addr().map(|peer| peer.ip()), request.headers());
    signal.check_access(&ConnectionSubject::from_intent(&admission.intent, address)).map_err(ApiError)?;
    signal.check_intent(&admission.intent).await.map_err(ApiError)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"valid":true}"#))
}

async fn upgrade_required() -> Result<HttpResponse, ApiError> {
    Err(ApiError(Problem::new(426, "upgrade_required", "connect with a WebSocket (RFC 6455)")))
}
