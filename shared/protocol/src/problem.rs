//! Errors over HTTP: problem details (RFC 9457) with a stable `code`.

use serde::Serialize;

/// An HTTP error. `detail` is for a person and never repeats a value of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(description = "An HTTP error (RFC 9457)."))]
pub struct Problem {
    /// Always `about:blank`, because `code` identifies the error.
    #[serde(rename = "type")]
    type_uri: &'static str,
    /// The reason phrase of the status.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The stable code (docs/PROTOCOL.md, section 1).
    pub code: &'static str,
    /// What happened and what to do next, for a person.
    pub detail: String,
    /// The member of the request at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value of the `Retry-After` header, seconds.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

/// The media type of a problem.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

impl Problem {
    /// A problem with the title of its status. A 503 may be retried after one second.
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        let retry_after = (status == 503).then_some(1);
        Self {
            type_uri: "about:blank",
            title: status_title(status),
            status,
            code,
            detail: detail.into(),
            field: None,
            retry_after,
        }
    }

    /// Names the member of the request at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The body as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn status_title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
