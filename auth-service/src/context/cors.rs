//! What pages of other sites may do: those on `server.allowed_origins` may call the API and read its answers (the Fetch standard, section
//! 3.2). Credentials that browsers attach by themselves are never asked for, so nobody is logged in by merely visiting a page.

use actix_cors::Cors;
use actix_web::{
    Error, HttpResponse, Resource,
    body::{EitherBody, MessageBody},
    dev::{HttpServiceFactory, ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::{Next, from_fn},
};
use signalbox_config::origin::is_origin_allowed;
use signalbox_http::{check_origin, problem_response};

use super::address_guard;

/// How long a browser may remember the answer to a preflight, seconds.
const PREFLIGHT_MAX_AGE_S: usize = 600;

/// A path that answers preflights, and lets the sites on the list read.
pub(crate) fn with_cors(resource: Resource, allowed: &[String]) -> impl HttpServiceFactory + use<> {
    let (list, refused) = (allowed.to_vec(), allowed.to_vec());
    let cors = Cors::default()
        .allowed_origin_fn(move |origin, head| {
            let host = head.headers().get(header::HOST).and_then(|host| host.to_str().ok());
            is_origin_allowed(Some(origin.to_str().unwrap_or_default()), host, &list)
        })
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_MAX_AGE_S);
    // Addresses are judged within, so that a page can read why it was refused.
    resource
        .wrap(from_fn(address_guard::refuse_denied_address))
        .wrap(cors)
        .wrap(from_fn(move |request, next| refuse_foreign_preflight(refused.clone(), request, next)))
}

/// A preflight of a site that is not on the list is refused as its request would be.
async fn refuse_foreign_preflight(
    allowed: Vec<String>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    match check_origin(request.headers(), &allowed) {
        Err(problem) if asks => {
            let response: HttpResponse = problem_response(&problem);
            Ok(request.into_response(response).map_into_right_body())
        }
        _ => Ok(next.call(request).await?.map_into_left_body()),
    }
}
