//! The routes of a node, alone or beside those of other services.

use std::sync::Arc;

use actix_web::web;
use signalbox_http::{RequestGate, configure_health, metrics_response, not_found, resource};

use crate::{node::SignalNode, routes};

/// The routes of a node besides `/ws/signal`'s upgrade, without health and metrics, which the process owns.
pub fn configure_signal_routes(signal: Arc<SignalNode>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| routes::add_routes(config, signal)
}

/// All routes of the standalone service.
pub fn configure_standalone(signal: Arc<SignalNode>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let gate = RequestGate::new(&signal.settings.server);
        let (ready, counted) = (signal.clone(), signal.clone());
        let metrics = move || std::future::ready(metrics_response(&counted.gather_metrics()));
        config
            .app_data(web::Data::new(gate))
            .configure(configure_health(move || std::future::ready(ready.check_ready())))
            .service(resource("/metrics", "GET").route(web::get().to(metrics)))
            .configure(configure_signal_routes(signal))
            .default_service(web::to(not_found));
    }
}
