//! The response of `/metrics`.

use actix_web::HttpResponse;
use prometheus::{Encoder, TextEncoder, proto::MetricFamily};

/// Metrics in the text format of Prometheus. Each node and service has its own registry; none is
/// global.
pub fn metrics_response(families: &[MetricFamily]) -> HttpResponse {
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
