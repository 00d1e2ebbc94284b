//! The problems that any operation may answer, for the API document.

use signalbox_protocol::problem::Problem;
use utoipa::IntoResponses;

/// The errors that any operation may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) enum ProblemResponses {
    /// The request does not parse; `field` names what is wrong.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// No proof, or a bad one.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(Problem),
    /// Known, and not allowed.
    #[response(status = 403, content_type = "application/problem+json")]
    NotAllowed(Problem),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// It contradicts what is there.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLong(Problem),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(Problem),
    /// Not now; `Retry-After` says when.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}
