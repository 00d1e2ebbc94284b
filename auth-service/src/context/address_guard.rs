//! Clients at a denied address get nothing here, whatever they bring: no token, no ticket, no room.
//!
//! But for the way back: whoever may lift rules may see and lift them from anywhere, or an operator that has denied his own address would be
//! locked out until the rule is over.

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

/// What stays open; both take the scope `security` and nothing else.
const EXEMPT_PATHS: [&str; 2] = ["/api/rules", "/api/rules/{key}"];

/// Refuses clients at a denied address: 403 `address_denied`.
///
/// # Errors
/// Only what an inner service left unanswered.
pub(crate) async fn refuse_denied_address(
    context: web::Data<ServiceContext>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let address = context.client_address(request.request());
    let denied = address
        .is_some_and(|address| context.access.rules().denies_address(address, context.access.now_ms()));
    let is_way_back = request.match_pattern().is_some_and(|pattern| EXEMPT_PATHS.contains(&&*pattern));
    if !denied || is_way_back {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let problem = AccessRefusal::AddressDenied.to_problem();
    context.metrics.unauthorized.with_label_values(&[problem.code]).inc();
    tracing::info!(target: "signalbox_auth::audit", code = problem.code, "caller_refused");
    let response: HttpResponse = problem_response(&problem);
    Ok(request.into_response(response).map_into_right_body())
}
