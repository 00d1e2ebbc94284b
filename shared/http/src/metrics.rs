//! `/metrics`, on an address of its own: the address of the clients does not serve it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use actix_web::{App, HttpResponse, HttpServer, middleware::from_fn, web};
use prometheus::{Encoder, TextEncoder, proto::MetricFamily};
use signalbox_config::{ServerSettings, ServiceSettings};

use crate::{
    KEEP_ALIVE, ListenError, REQUEST_HEAD_DEADLINE, RequestGate, guard_request, not_found, open_listener,
    resource,
};

/// Opens the socket for `/metrics`, if the settings have an address for it.
///
/// # Errors
/// [`ListenError`], one line for the operator.
pub fn open_metrics_listener(settings: &ServiceSettings) -> Result<Option<TcpListener>, ListenError> {
    let open = |address| open_listener(address, settings.limits.socket_buffer.0);
    settings.server.metrics_listen.map(open).transpose()
}

/// Serves `/metrics` on this socket until the process ends. `gather` reads the metrics.
///
/// # Errors
/// If the socket cannot be used.
pub fn serve_metrics<F>(listener: TcpListener, gather: F) -> io::Result<()>
where
    F: Fn() -> Vec<MetricFamily> + Clone + Send + 'static,
{
    let address = listener.local_addr()?;
    let gate = web::Data::new(metrics_gate(address));
    let app = move || {
        let gather = gather.clone();
        let respond = move || std::future::ready(metrics_response(&gather()));
        App::new()
            .app_data(gate.clone())
            .wrap(from_fn(guard_request))
            .service(resource("/metrics", "GET").route(web::get().to(respond)))
            .default_service(web::to(not_found))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD_DEADLINE)
        .listen(listener)?;
    actix_web::rt::spawn(server.run());
    tracing::info!(event = "metrics_listening", %address);
    Ok(())
}

/// On a loopback address, a web page in a browser on this machine must not read the metrics.
fn metrics_gate(listen: SocketAddr) -> RequestGate {
    RequestGate::new(&ServerSettings { listen, ..ServerSettings::default() })
}

/// Metrics in the text format of Prometheus. Each node and service has its own registry; none is
/// global.
fn metrics_response(families: &[MetricFamily]) -> HttpResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(families, &mut text) {
        Ok(()) => HttpResponse::Ok().content_type(encoder.format_type()).body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be encoded");
            HttpResponse::InternalServerError().finish()
        }
    }
}
