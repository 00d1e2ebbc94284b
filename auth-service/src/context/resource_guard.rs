//! The guard of every path: the denied addresses.
//!
//! Owns: the refusal of clients at a denied address, whatever proof they have. Two paths stay open
//! to a denied address: an operator who denied the own address can still lift the rule. Next:
//! `authorization.rs` checks the caller.

use actix_web::{
    Error, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};
use signalbox_access::AccessRefusal;
use signalbox_http::problem_response;

use super::service_context::ServiceContext;

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
