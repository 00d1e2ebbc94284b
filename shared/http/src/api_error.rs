//! Problem details as HTTP responses.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use signalbox_protocol::problem::{PROBLEM_MEDIA_TYPE, Problem};

/// A [`Problem`] that a handler returns as its error.
#[derive(Debug)]
pub struct ApiError(pub Problem);

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status, self.0.code)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        problem_status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        problem_response(&self.0)
    }
}

/// The response of a problem, with the headers that its status requires (RFC 9110, sections 7.8,
/// 10.2.3 and 11.6.1).
pub fn problem_response(problem: &Problem) -> HttpResponse {
    let mut response = HttpResponse::build(problem_status(problem));
    response.insert_header((header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after {
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    match problem.status {
        401 => response.insert_header((header::WWW_AUTHENTICATE, authenticate_header(problem.code))),
        426 => response.insert_header((header::UPGRADE, "websocket")),
        _ => &mut response,
    };
    let mut response = response.body(problem.to_json());
    response.extensions_mut().insert(ProblemCode(problem.code));
    response
}

/// The code of a problem, beside its response, for the access log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProblemCode(pub(crate) &'static str);

/// The `WWW-Authenticate` header: Basic where the caller needs an API key (RFC 7617), Bearer where
/// it needs a token (RFC 6750, section 3).
fn authenticate_header(code: &str) -> &'static str {
    match code {
        "caller_unknown" | "guests_off" => r#"Basic realm="signalbox", charset="UTF-8""#,
        "token_missing" => r#"Bearer realm="signalbox""#,
        _ => r#"Bearer realm="signalbox", error="invalid_token""#,
    }
}

fn problem_status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response_header(problem: &Problem, name: header::HeaderName) -> Option<String> {
        let response = ApiError(problem.clone()).error_response();
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), PROBLEM_MEDIA_TYPE);
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_401_names_the_authentication_scheme() {
        for (code, scheme) in [
            ("caller_unknown", "Basic "),
            ("guests_off", "Basic "),
            ("token_missing", "Bearer "),
            ("token_expired", "Bearer "),
        ] {
            let challenge = response_header(&Problem::new(401, code, "x"), header::WWW_AUTHENTICATE).unwrap();
            assert!(challenge.starts_with(scheme), "{code}: {challenge}");
        }
        assert_eq!(
            response_header(&Problem::new(403, "role_not_allowed", "x"), header::WWW_AUTHENTICATE),
            None
        );
    }

    #[test]
    fn a_503_has_retry_after() {
        let problem = Problem::new(503, "overloaded", "x");
        assert_eq!(response_header(&problem, header::RETRY_AFTER).as_deref(), Some("1"));
        assert_eq!(response_header(&Problem::new(404, "not_found", "x"), header::RETRY_AFTER), None);
    }

    #[test]
    fn a_426_names_the_upgrade_protocol() {
        let problem = Problem::new(426, "upgrade_required", "x");
        assert_eq!(response_header(&problem, header::UPGRADE).as_deref(), Some("websocket"));
    }
}
