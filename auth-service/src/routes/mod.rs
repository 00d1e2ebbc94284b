//! HTTP, and nothing else: read the request, ask [`crate::issuer`], write the answer (docs/PROTOCOL.md, sections 1 and 9).
//!
//! A file is a path, a function is a method. Health and metrics are the process's (`app.rs`), not the service's.

mod api;
mod events;
mod jwks;
mod token;
mod validate;

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
        let bodies = json_config(state.body_limit);
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
            .service(resource(JWKS_PATH, "GET").route(web::get().to(jwks::get)))
            .configure(|config| api::configure(config, &bodies))
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
