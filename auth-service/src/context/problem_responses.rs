//! The problems that any operation may answer, for the API document.

use signalbox_protocol::problem::Problem;
use utoipa::IntoResponses;

/// The errors of every operation.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) enum ProblemResponses {
    /// The request is malformed; `field` names the member at fault.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// The credentials are missing or invalid.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(Problem),
    /// The caller is authenticated and not allowed.
    #[response(status = 403, content_type = "application/problem+json")]
    NotAllowed(Problem),
    /// The resource does not exist.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The request conflicts with the current state.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLong(Problem),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(Problem),
    /// The service is not available now; `Retry-After` says when to retry.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}
