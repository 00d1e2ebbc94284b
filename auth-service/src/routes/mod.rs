//! HTTP, and nothing else: read the request, ask [`crate::issuer`], write the answer (docs/PROTOCOL.md, sections 1 and 9).
//!
//! A file is a path, a function is a method. Health and metrics are the process's (`app.rs`), not the service's.

mod api;
mod events;
mod ice;
mod jwks;
pub(crate) mod rooms;
mod token;
mod usage;
mod validate;
mod webhooks;

use actix_web::{
    Error, HttpRequest,
    http::header::{self, HeaderMap},
    web,
};
use signalbox_http::{ApiError, Members, json_config, resource};
use signalbox_shared::{problem::Problem, token::JWKS_PATH};

use crate::AuthState;

/// Registers the service's paths.
pub fn configure(state: web::Data<AuthState>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let body_limit = state.body_limit;
        let bodies = json_config(body_limit);
        config
            .app_data(state)
            .service(
                resource("/auth/token", "POST").app_data(bodies.clone()).route(web::post().to(token::post)),
            )
            .service(
                resource("/auth/validate", "GET, POST")
                    .app_data(bodies.clone())
                    .route(web::get().to(validate::get))
                    .route(web::post().to(validate::post)),
            )
            .service(resource("/auth/ice", "GET").route(web::get().to(ice::get)))
            .service(resource(JWKS_PATH, "GET").route(web::get().to(jwks::get)))
            .service(resource("/api/usage", "GET").route(web::get().to(usage::get)))
            .service(resource("/api/webhooks/dead", "GET").route(web::get().to(webhooks::dead)))
            .service(
                resource("/api/webhooks/replay", "POST")
                    .app_data(bodies.clone())
                    .route(web::post().to(webhooks::replay)),
            )
            .configure(|config| api::configure(config, &bodies))
            .configure(|config| rooms::configure(config, &bodies))
            .service(resource("/ws/events", "GET").route(web::get().to(events::get)));
    }
}

/// A JSON object. Taken as a result, so that who asks is judged before what is asked.
type Body = Result<web::Json<Members>, Error>;

fn members<const N: usize>(
    body: Body,
    names: [&str; N],
) -> Result<[Option<Box<serde_json::value::RawValue>>; N], Problem> {
    match body {
        Ok(members) => members.into_inner().take(names),
        Err(error) => Err(match error.as_error::<ApiError>() {
            Some(ApiError(problem)) => problem.clone(),
            None => Problem::new(400, "bad_request", "the body could not be read"),
        }),
    }
}

/// The `Authorization` header; one that stands twice proves nothing.
fn authorization(request: &HttpRequest) -> Option<&[u8]> {
    let headers: &HeaderMap = request.headers();
    let mut values = headers.get_all(header::AUTHORIZATION);
    let first = values.next()?;
    Some(if values.next().is_some() { b"" } else { first.as_bytes() })
}

/// The parameters of a query, each at most once, and none but these.
fn query<const N: usize>(request: &HttpRequest, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let bad = |detail: &str| Problem::new(400, "bad_request", detail.to_owned());
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| bad("the query could not be read"))?;
    let mut found = names.map(|_| None);
    for (name, value) in pairs.into_inner() {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(bad(&format!("the query may hold {}", names.join(", "))));
        };
        if found[place].replace(value).is_some() {
            return Err(bad("it stands there twice").field(names[place]));
        }
    }
    Ok(found)
}
