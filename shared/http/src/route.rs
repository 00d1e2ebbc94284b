//! The answers for unknown paths and methods.

use std::borrow::Cow;

use actix_web::{HttpResponse, Resource, http::header, web};
use signalbox_protocol::problem::Problem;

use crate::{ApiError, problem_response};

/// A path that answers 405 `method_not_allowed` to every method without a route (RFC 9110, section
/// 15.5.6). `methods` are those of its routes, such as `GET, POST`. The header `Allow` also has
/// HEAD, which [`guard_request`](crate::guard_request) serves wherever GET is served.
pub fn resource(path: &str, methods: &'static str) -> Resource {
    let allow = match methods.strip_prefix("GET") {
        Some(others) => Cow::Owned(format!("GET, HEAD{others}")),
        None => Cow::Borrowed(methods),
    };
    web::resource(path).default_service(web::to(move || {
        let allow = allow.clone();
        async move { method_not_allowed(&allow) }
    }))
}

fn method_not_allowed(allow: &str) -> HttpResponse {
    let detail = format!("this path does not serve the method; use {allow}");
    let mut response = problem_response(&Problem::new(405, "method_not_allowed", detail));
    if let Ok(allow) = header::HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// The default service of an app: 404 `not_found`.
///
/// # Errors
/// Always.
pub async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError(Problem::new(
        404,
        "not_found",
        "this path does not exist; /api/openapi.json of the auth service lists the paths",
    )))
}

#[cfg(test)]
mod tests {
    use actix_web::{App, http::Method, test};

    use super::*;

    #[actix_web::test]
    async fn a_wrong_path_or_method_gives_a_problem() {
        let app = test::init_service(
            App::new()
                .service(resource("/here", "GET").route(web::get().to(HttpResponse::Ok)))
                .default_service(web::to(not_found)),
        )
        .await;
        for (method, path, status, code) in [
            (Method::GET, "/there", 404, "not_found"),
            (Method::POST, "/here", 405, "method_not_allowed"),
            (Method::OPTIONS, "/here", 405, "method_not_allowed"),
        ] {
            let request = test::TestRequest::with_uri(path).method(method).to_request();
            let response = test::call_service(&app, request).await;
            assert_eq!(response.status().as_u16(), status, "{path}");
            assert_eq!(response.headers().contains_key(header::ALLOW), status == 405);
            let body: serde_json::Value = test::read_body_json(response).await;
            assert_eq!(body["code"], code);
        }
    }
}
