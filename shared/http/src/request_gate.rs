//! What happens to every request: the Host check before it, security headers and one log line after it.

use std::time::Instant;

use actix_web::{
    Error,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    web,
};
use signalbox_config::ServerSettings;
use signalbox_token::JWKS_PATH;

use crate::{origin::check_host, problem_response};

/// The names a loopback address goes by.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Headers that every response carries, unless its handler has set its own.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// What [`gate`] needs to know, as `web::MessageData`.
#[derive(Debug, Clone)]
pub struct RequestGate {
    allowed_hosts: Vec<String>,
}

impl RequestGate {
    /// The rules of the configuration. On loopback an empty list means the loopback names: a web page that points its own
    /// name at 127.0.0.1 must not reach us.
    pub fn new(server: &ServerSettings) -> Self {
        let mut allowed_hosts = server.allowed_hosts.clone();
        if allowed_hosts.is_empty() && server.listen.ip().is_loopback() {
            allowed_hosts.extend(LOOPBACK_HOSTS.map(str::to_owned));
            allowed_hosts.extend(listen_host(server));
        }
        Self { allowed_hosts }
    }

    /// The names this server answers to; empty is any.
    pub fn allowed_hosts(&self) -> &[String] {
        &self.allowed_hosts
    }
}

/// The listening address itself: loopback is more than 127.0.0.1.
fn listen_host(server: &ServerSettings) -> Option<String> {
    let ip = server.listen.ip().to_string();
    (!LOOPBACK_HOSTS.contains(&ip.as_str()) && !ip.contains(':')).then_some(ip)
}

/// The outermost middleware (`actix_web::middleware::from_fn`) of every app.
///
/// # Errors
/// Only what an inner middleware left unanswered.
pub async fn guard_request(
    rules: web::Data<RequestGate>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let start = Instant::now();
    // Signaling nodes ask for the public keys under the name that they know this service by, and there is nothing in them that a
    // page under another name must not see.
    let any_host = request.path() == JWKS_PATH;
    let hosts = if any_host { &[][..] } else { &rules.allowed_hosts };
    let mut response = match check_host(request.headers(), hosts) {
        Ok(()) => next.call(request).await?.map_into_left_body(),
        Err(problem) => request.into_response(problem_response(&problem)).map_into_right_body(),
    };
    add_security_headers(response.headers_mut());
    log_request(&response, start);
    Ok(response)
}

fn add_security_headers(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// One line, without query, headers and address.
fn log_request<B>(response: &ServiceResponse<B>, start: Instant) {
    let request = response.request();
    // A path of ours is a known text; an unknown one may be a misplaced token and is not shown.
    let pattern = request.match_pattern();
    let path = pattern.as_deref().unwrap_or("-");
    let (method, status, ms) =
        (request.method(), response.status().as_u16(), start.elapsed().as_micros() as f64 / 1_000.0);
    if path.starts_with("/health/") {
        tracing::debug!(target: "signalbox_http::access", %method, path, status, ms, "request");
    } else {
        tracing::info!(target: "signalbox_http::access", %method, path, status, ms, "request");
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpResponse, middleware::from_fn, test};

    use super::*;
    use crate::not_found;

    async fn call_app(server: ServerSettings, host: &str) -> ServiceResponse<impl MessageBody> {
        let own =
            || async { HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "max-age=60")).finish() };
        let app = test::init_service(
            App::new()
                .app_data(web::Data::new(RequestGate::new(&server)))
                .wrap(from_fn(guard_request))
                .route("/own", web::get().to(own))
                .default_service(web::to(not_found)),
        )
        .await;
        let request = test::TestRequest::with_uri("/own").insert_header((header::HOST, host)).to_request();
        test::call_service(&app, request).await
    }

    #[actix_web::test]
    async fn every_response_has_security_headers_and_keeps_its_own() {
        let response = call_app(ServerSettings::default(), "localhost:8080").await;
        assert_eq!(response.status(), 200);
        for (name, value) in SECURITY_HEADERS {
            let expected = if name == header::CACHE_CONTROL { "max-age=60" } else { value };
            assert_eq!(response.headers().get(&name).unwrap(), expected);
        }
    }

    #[actix_web::test]
    async fn an_unknown_host_is_rejected_before_any_handler() {
        let response = call_app(ServerSettings::default(), "evil.example").await;
        assert_eq!(response.status(), 403);
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        let body: serde_json::Value = test::read_body_json(response).await;
        assert_eq!(body["code"], "host_not_allowed");
    }

    #[actix_web::test]
    async fn an_empty_host_list_on_a_public_address_allows_every_host() {
        let public = ServerSettings { listen: ([0, 0, 0, 0], 80).into(), ..ServerSettings::default() };
        assert_eq!(call_app(public.clone(), "rtc.example").await.status(), 200);
        let named = ServerSettings { allowed_hosts: vec!["rtc.example".to_owned()], ..public };
        assert_eq!(call_app(named.clone(), "rtc.example:443").await.status(), 200);
        assert_eq!(call_app(named, "localhost").await.status(), 403);
    }
}
