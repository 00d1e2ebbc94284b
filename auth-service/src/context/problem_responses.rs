//! The problems that any operation may answer, for the API document.

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// An HTTP error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemView {
    /// Always `about:blank`: `code` says what it is.
    #[serde(rename = "type")]
    kind: String,
    /// What the status means.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code (docs/PROTOCOL.md, section 1).
    code: String,
    /// What happened and what to do next, for a person.
    detail: String,
    /// The member of the request at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

/// The errors that any operation may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) enum ProblemResponses {
    /// The request does not parse; `field` names what is wrong.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemView),
    /// No proof, or a bad one.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(ProblemView),
    /// Known, and not allowed.
    #[response(status = 403, content_type = "application/problem+json")]
    NotAllowed(ProblemView),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemView),
    /// It contradicts what is there.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(ProblemView),
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLong(ProblemView),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(ProblemView),
    /// Not now; `Retry-After` says when.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemView),
}
