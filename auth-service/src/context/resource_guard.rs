//! The guard of every path: the web sites that may call it, and the denied addresses.
//!
//! Owns: CORS (the Fetch standard, section 3.2) for the sites of `server.allowed_origins`, and the
//! refusal of clients at a denied address, whatever proof they have. A browser never attaches
//! credentials by itself, so a visit to a page authorizes nothing. Two paths stay open to a denied
//! address: an operator who denied the own address can still lift the rule. Next:
//! `authorization.rs` checks the caller.

use actix_cors::Cors;
use actix_web::{
    Error, HttpResponse, Resource,
    body::{EitherBody, MessageBody},
    dev::{HttpServiceFactory, ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::{Next, from_fn},
    web,
};
use signalbox_access::AccessRefusal;
use signalbox_http::{RequestGate, problem_response};

use super::service_context::ServiceContext;

/// How long a browser may cache the response to a preflight, seconds.
const PREFLIGHT_MAX_AGE_S: usize = 600;

/// Adds the guards to a path: preflights, CORS for the allowed sites, denied addresses.
pub(crate) fn with_cors(resource: Resource, gate: &RequestGate) -> impl HttpServiceFactory + use<> {
    let (gate, refusing_gate) = (gate.clone(), gate.clone());
    let cors = Cors::default()
        .allowed_origin_fn(move |_, head| gate.is_origin_allowed(head.headers()))
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_MAX_AGE_S);
    // The address is checked inside CORS, so that a page can read the refusal.
    resource
        .wrap(from_fn(refuse_denied_address))
        .wrap(cors)
        .wrap(from_fn(move |request, next| refuse_foreign_preflight(refusing_gate.clone(), request, next)))
}

/// Refuses the preflight of a site that is not allowed, as its request would be refused.
async fn refuse_foreign_preflight(
    gate: RequestGate,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    match gate.check_origin(request.headers()) {
        Err(problem) => {
            let response: HttpResponse = problem_response(&problem);
            Ok(request.into_response(response).map_into_right_body())
        }
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
    }
}

/// The paths that stay open to a denied address. Both need the scope `security`.
const EXEMPT_PATHS: [&str; 2] = ["/api/rules", "/api/rules/{key}"];

/// Refuses clients at a denied address: 403 `address_denied`.
///
/// # Errors
/// The errors of the inner service.
pub(crate) async fn refuse_denied_address(
    context: web::Data<ServiceContext>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let address = context.client_address(request.request());
    let denied = address
        .is_some_and(|address| context.access.rules().denies_address(address, context.access.now_ms()));
    let is_exempt = request.match_pattern().is_some_and(|pattern| EXEMPT_PATHS.contains(&&*pattern));
    if !denied || is_exempt {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let problem = AccessRefusal::AddressDenied.to_problem();
    context.metrics.unauthorized.with_label_values(&[problem.code]).inc();
    tracing::info!(target: "signalbox_auth::audit", code = problem.code, "caller_refused");
    let response: HttpResponse = problem_response(&problem);
    Ok(request.into_response(response).map_into_right_body())
}
