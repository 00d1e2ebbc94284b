//! The paths of the service and the functions that serve them.
//!
//! Adding a route: its handler with `#[utoipa::path]` stands in [`crate::openapi`], its path in [`api_paths`]. Health
//! and metrics are the process's (`app.rs`), not the service's.

use actix_web::{Route, middleware::from_fn, web};
use signalbox_http::{json_config, resource};
use signalbox_token::JWKS_PATH;

use crate::{
    AuthState,
    auth::{exchange, ice, jwks, management_token, refresh, ticket, token, validate},
    context::{address_guard, api_path::ApiPath, cors},
    management::{
        access_rules, event_feed,
        rooms::{self, invites},
        usage,
        webhooks::dead_letters,
    },
    openapi,
};

/// Every path of the API. Each of its methods is an operation of the document.
pub(crate) fn api_paths(bodies: &web::JsonConfig) -> Vec<ApiPath> {
    let path = |pattern, methods, routes: &[fn() -> Route]| {
        let resource = resource(pattern, methods).app_data(bodies.clone());
        let resource = routes.iter().fold(resource, |resource, route| resource.route(route()));
        ApiPath { pattern, methods, resource }
    };
    let mut paths = vec![
        path("/auth/token", "POST", &[|| web::post().to(token::post)]),
        path(
            "/auth/validate",
            "GET, POST",
            &[|| web::get().to(validate::get), || web::post().to(validate::post)],
        ),
        path("/auth/refresh", "POST", &[|| web::post().to(refresh::post)]),
        path("/auth/exchange", "POST", &[|| web::post().to(exchange::post)]),
        path("/auth/ticket", "POST", &[|| web::post().to(ticket::post)]),
        path("/auth/ice", "GET", &[|| web::get().to(ice::get)]),
        path("/auth/management", "POST", &[|| web::post().to(management_token::post)]),
        path(
            "/api/rooms/{room}/invites",
            "GET, POST",
            &[|| web::get().to(invites::get), || web::post().to(invites::post)],
        ),
        path("/api/rooms/{room}/invites/{invite}", "DELETE", &[|| web::delete().to(invites::delete)]),
        path(JWKS_PATH, "GET", &[|| web::get().to(jwks::get)]),
        path("/api/usage", "GET", &[|| web::get().to(usage::get)]),
        path("/api/webhooks/dead", "GET", &[|| web::get().to(dead_letters::list_dead_letters)]),
        path("/api/webhooks/replay", "POST", &[|| web::post().to(dead_letters::replay_dead_letters)]),
        path("/api/openapi.json", "GET", &[openapi::openapi_route]),
    ];
    paths.extend(access_rules::rule_paths(path));
    paths.extend(rooms::room_paths(path));
    paths
}

/// Registers the service's paths.
pub fn configure(state: web::Data<AuthState>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let context = &state.context;
        for path in api_paths(&json_config(context.body_limit)) {
            // What is for everybody says so itself.
            if path.pattern.starts_with("/.well-known/") {
                config.service(path.resource);
            } else {
                config.service(cors::with_cors(path.resource, &context.allowed_origins));
            }
        }
        let feed = resource("/ws/events", "GET").route(web::get().to(event_feed::get));
        config
            .app_data(web::Data::from(context.clone()))
            .app_data(web::Data::from(state.tokens.clone()))
            .app_data(web::Data::from(state.management.clone()))
            .service(feed.wrap(from_fn(address_guard::refuse_denied_address)));
    }
}
