//! Plain HTTP of a node: the verdict over a token, metrics, and what a plain request to `/ws/signal` is told.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_http::{ApiError, resource};
use signalbox_protocol::problem::Problem;

use crate::{door::Knock, node::Signal, standing::Standing};

/// Registers the routes.
pub(crate) fn configure(config: &mut web::ServiceConfig, signal: Arc<Signal>) {
    config
        .app_data(web::Data::from(signal))
        .service(resource("/ws/validate", "GET").route(web::get().to(validate)))
        .service(resource("/ws/signal", "GET").route(web::get().to(upgrade_required)));
}

/// The verdict that an upgrade would get, over HTTP, because a browser cannot read the status of a failed upgrade.
async fn validate(signal: web::Data<Signal>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let knock = Knock::Question(request.query_string(), request.headers());
    let admission = signal.door.judge(&knock).await.map_err(ApiError)?;
    drop(signal.door.enter().map_err(ApiError)?);
    let address = signal.proxies.client(request.peer_addr().map(|peer| peer.ip()), request.headers());
    signal.judge(&Standing::of(&admission.wish, address)).map_err(ApiError)?;
    signal.consult(&admission.wish).await.map_err(ApiError)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"valid":true}"#))
}

async fn upgrade_required() -> Result<HttpResponse, ApiError> {
    Err(ApiError(Problem::new(426, "upgrade_required", "connect with a WebSocket (RFC 6455)")))
}
