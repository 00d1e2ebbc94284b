//! CORS (the Fetch standard, section 3.2): which answers a page of another web site may read.
//!
//! Owns: the answer to every preflight, and the CORS headers of every other answer, refusals
//! included: a page that cannot read a refusal would wait and retry without end. A browser never
//! attaches credentials by itself, so a visit to a page authorizes nothing. Must not: decide which
//! sites are allowed (`request_gate`), or refuse another request than a preflight.

use actix_web::{
    HttpResponse,
    dev::ServiceRequest,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use signalbox_protocol::problem::Problem;

use crate::problem_response;

/// The headers of the answer to a preflight. A browser may keep the answer for ten minutes.
const PREFLIGHT_HEADERS: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type"),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];

/// The headers of an answer that a page may read besides those that every page may read.
const EXPOSED_HEADERS: &str = "Retry-After, WWW-Authenticate, Location";

/// Whether a browser asks whether a page may send a request.
pub(crate) fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight as its request would be answered: 403 `origin_not_allowed` for the page of a
/// site that is not allowed.
pub(crate) fn answer_preflight(origin_check: Result<(), Problem>) -> HttpResponse {
    if let Err(problem) = origin_check {
        return problem_response(&problem);
    }
    let mut response = HttpResponse::Ok();
    for header in PREFLIGHT_HEADERS {
        response.insert_header(header);
    }
    response.finish()
}

/// Adds the headers that let the page of an allowed `Origin` read an answer. A handler that has
/// allowed every site keeps its own header.
pub(crate) fn add_cors_headers(headers: &mut HeaderMap, allowed_origin: Option<HeaderValue>) {
    let Some(origin) = allowed_origin else { return };
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
}
