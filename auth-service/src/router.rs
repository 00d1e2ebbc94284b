//! The paths of the service.
//!
//! Each area lists its own paths. Health and metrics belong to the process (`app.rs`). Next:
//! `auth/mod.rs`, `management/mod.rs`.

use actix_web::{middleware::from_fn, web};
use signalbox_http::{json_config, resource};

use crate::{
    AuthState, auth,
    context::{access_check::refuse_denied_address, api_path::ApiPath},
    management::{self, event_feed},
    openapi,
};

/// Every path of the API. Each of its methods is an operation of the document.
pub(crate) fn api_paths() -> Vec<ApiPath> {
    let document = ApiPath::new("/api/openapi.json", "GET", [web::get().to(openapi::get)]);
    auth::paths().into_iter().chain(management::paths()).chain([document]).collect()
}

/// Registers the paths of the service.
pub fn configure(state: web::Data<AuthState>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let context = &state.context;
        let bodies = json_config(context.body_limit);
        for ApiPath { pattern, methods, routes } in api_paths() {
            let path = resource(pattern, methods).app_data(bodies.clone());
            let path = routes.into_iter().fold(path, |path, route| path.route(route));
            // The key set is public, also to a denied address.
            if pattern.starts_with("/.well-known/") {
                config.service(path);
            } else {
                config.service(path.wrap(from_fn(refuse_denied_address)));
            }
        }
        let feed = resource("/ws/events", "GET").route(web::get().to(event_feed::get));
        config
            .app_data(web::Data::from(context.clone()))
            .app_data(web::Data::from(state.tokens.clone()))
            .app_data(web::Data::from(state.management.clone()))
            .service(feed.wrap(from_fn(refuse_denied_address)));
    }
}
