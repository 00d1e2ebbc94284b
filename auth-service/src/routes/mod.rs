//! HTTP, and nothing else: read the request, ask [`crate::issuer`] and the store, write the answer (docs/PROTOCOL.md, sections 1 and 9).
//!
//! - `caller`: who asks; `issue`: from a grant to an answer; `doc`: the OpenAPI document; `cors`: what other sites may do; `denied`: whom nothing here is
//!   for
//! - `forms`: the forms of names and texts, as the document has them
//! - the other files are a path each, their functions a method
//!
//! Adding a route: its handler with `#[utoipa::path]` stands in `doc::ApiDocument`, its path in [`paths`]. Health and metrics are the process's
//! (`app.rs`), not the service's.

mod access_rules;
mod address_guard;
mod authorization;
mod cors;
mod events;
mod exchange;
mod ice;
mod invites;
mod jwks;
mod management;
pub(crate) mod openapi;
mod refresh;
pub(crate) mod rooms;
mod schemas;
mod ticket;
mod token;
mod token_response;
mod usage;
mod validate;
mod webhooks;

use actix_web::{Error, HttpRequest, HttpResponse, Resource, Route, middleware::from_fn, web};
use authorization::{
    authorize_api_key, authorize_api_key_or_guest, authorize_application, authorize_application_or_user,
    authorize_user, bearer_room_token, user_access_subject,
};
use signalbox_http::{ApiError, JsonMembers, json_config, resource};
use signalbox_protocol::{id::RoomId, problem::Problem};
use signalbox_token::JWKS_PATH;

use crate::{AuthState, issuer::token_request::bad_member};

/// What every handler is given, and what it gives.
type StateData = web::Data<AuthState>;
type ApiResult = Result<HttpResponse, ApiError>;

/// A path of the API: its pattern, the methods it takes as in `AllowArgs`, and what serves it.
pub(crate) struct ApiPath {
    pub(crate) pattern: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds it against the document"))]
    pub(crate) methods: &'static str,
    pub(crate) resource: Resource,
}

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
        path("/auth/management", "POST", &[|| web::post().to(management::post)]),
        path(
            "/api/rooms/{room}/invites",
            "GET, POST",
            &[|| web::get().to(invites::get), || web::post().to(invites::post)],
        ),
        path("/api/rooms/{room}/invites/{invite}", "DELETE", &[|| web::delete().to(invites::delete)]),
        path(JWKS_PATH, "GET", &[|| web::get().to(jwks::get)]),
        path("/api/usage", "GET", &[|| web::get().to(usage::get)]),
        path("/api/webhooks/dead", "GET", &[|| web::get().to(webhooks::list_dead_letters)]),
        path("/api/webhooks/replay", "POST", &[|| web::post().to(webhooks::replay_dead_letters)]),
        path("/api/openapi.json", "GET", &[openapi::openapi_route]),
    ];
    paths.extend(access_rules::rule_paths(path));
    paths.extend(rooms::room_paths(path));
    paths
}

/// Registers the service's paths.
pub fn configure(state: StateData) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        for path in api_paths(&json_config(state.body_limit)) {
            // What is for everybody says so itself.
            if path.pattern.starts_with("/.well-known/") {
                config.service(path.resource);
            } else {
                config.service(cors::with_cors(path.resource, &state.allowed_origins));
            }
        }
        let feed = resource("/ws/events", "GET").route(web::get().to(events::get));
        config.app_data(state).service(feed.wrap(from_fn(address_guard::refuse_denied_address)));
    }
}

/// A JSON object. Taken as a result, so that who asks is judged before what is asked.
type JsonBody = Result<web::Json<JsonMembers>, Error>;

fn read_members<const N: usize>(
    body: JsonBody,
    names: [&str; N],
) -> Result<[Option<Box<serde_json::value::RawValue>>; N], Problem> {
    match body {
        Ok(members) => members.into_inner().into_values(names),
        Err(error) => Err(match error.as_error::<ApiError>() {
            Some(ApiError(problem)) => problem.clone(),
            None => Problem::new(400, "bad_request", "the body could not be read"),
        }),
    }
}

/// The room in a path.
fn parse_room_path(text: &str) -> Result<RoomId, Problem> {
    RoomId::parse(text).map_err(|bad| bad_member("room", bad))
}

/// The parameters of a query, each at most once, and none but these.
fn read_query<const N: usize>(
    request: &HttpRequest,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let bad = |detail: &str| Problem::new(400, "bad_request", detail.to_owned());
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| bad("the query could not be read"))?;
    let mut found = names.map(|_| None);
    for (name, value) in pairs.into_inner() {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(bad(&format!("the query may hold {}", names.join(", "))));
        };
        if found[place].replace(value).is_some() {
            return Err(bad_member(names[place], "stands there twice"));
        }
    }
    Ok(found)
}
