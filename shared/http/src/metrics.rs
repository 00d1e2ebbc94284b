//! Metrics as text.

use actix_web::HttpResponse;
use prometheus::{Encoder, TextEncoder, proto::MetricFamily};

/// What a Prometheus server reads. Each process has its own registry; nothing is global.
pub fn metrics_response(families: &[MetricFamily]) -> HttpResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(families, &mut text) {
        Ok(()) => HttpResponse::Ok().content_type(encoder.format_type()).body(text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}
