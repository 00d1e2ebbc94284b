//! The routes of a node, alone or beside those of other services.

use std::sync::Arc;

use actix_web::web;
use signalbox_http::{Gate, health, metrics_response, not_found, resource};

use crate::{node::Signal, routes};

/// The routes of a node besides `/ws/signal`'s upgrade, without health and metrics, which the process owns.
pub fn configure(signal: Arc<Signal>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| routes::configure(config, signal)
}

/// All routes of the standalone service.
pub fn configure_standalone(signal: Arc<Signal>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let gate = Gate::new(&signal.settings.server);
        let (ready, counted) = (signal.clone(), signal.clone());
        let metrics = move || std::future::ready(metrics_response(&counted.metrics()));
        config
            .app_data(web::Data::new(gate))
            .configure(health(move || std::future::ready(ready.ready())))
            .service(resource("/metrics", "GET").route(web::get().to(metrics)))
            .configure(configure(signal))
            .default_service(web::to(not_found));
    }
}
