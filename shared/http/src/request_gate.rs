//! The checks of every request before its handler: `Host`, `Origin`, the address of the client.
//! Then headers and one log line.
//!
//! Owns: [`RequestGate`] with its middleware [`guard_request`]. Must not: know a route or a token. A
//! header that comes twice, or is not text, never counts as absent.

use std::{net::IpAddr, sync::Arc, time::Instant};

use actix_web::{
    Error, HttpRequest,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, Version,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use signalbox_config::{HostAuthority, HostName, LiveValue, ServerSettings, WebOrigin};
use signalbox_protocol::problem::Problem;
use signalbox_token::JWKS_PATH;

use crate::{
    api_error::ProblemCode,
    client_address::{FORWARDED_FOR, TrustedProxies},
    cors::{add_cors_headers, answer_preflight, is_preflight},
    health::HEALTH_PATHS,
    problem_response,
    refusal_log::RefusalLog,
    remedy::remedy_of,
};

/// Headers that a proxy adds.
const PROXY_HEADERS: [HeaderName; 6] = [
    FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    header::FORWARDED,
    header::VIA,
];

/// Headers that every response carries, unless its handler has set its own.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// The hosts, web sites and proxies of the configuration; as `web::Data` for [`guard_request`]. All
/// clones have the same rules.
#[derive(Debug, Clone)]
pub struct RequestGate {
    rules: LiveValue<GateRules>,
    refusals: Arc<RefusalLog>,
}

#[derive(Debug)]
struct GateRules {
    /// An empty list allows any host.
    hosts: Vec<HostName>,
    allows_any_site: bool,
    origins: Vec<WebOrigin>,
    proxies: TrustedProxies,
}

impl GateRules {
    /// On a loopback address an empty list of hosts means the loopback names: a web page whose name
    /// resolves to 127.0.0.1 must not reach this server.
    fn new(server: &ServerSettings) -> Self {
        // The check of the configuration has accepted every entry.
        let mut hosts: Vec<HostName> =
            server.allowed_hosts.iter().filter_map(|entry| HostName::parse_entry(entry).ok()).collect();
        if server.allowed_hosts.is_empty() && server.listen.ip().is_loopback() {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].iter().filter_map(|name| HostName::parse(name)));
            hosts.push(server.listen.ip().into());
        }
        Self {
            hosts,
            allows_any_site: server.allowed_origins.iter().any(|entry| entry == "*"),
            origins: server.allowed_origins.iter().filter_map(|entry| WebOrigin::parse(entry).ok()).collect(),
            proxies: TrustedProxies::new(server),
        }
    }
}

impl RequestGate {
    /// A gate with the rules of the configuration.
    pub fn new(server: &ServerSettings) -> Self {
        Self { rules: LiveValue::new(GateRules::new(server)), refusals: Arc::default() }
    }

    /// Puts the rules of a new configuration in force.
    pub fn reload(&self, server: &ServerSettings) {
        self.rules.replace(GateRules::new(server));
    }

    /// Checks the `Host` of a request, against DNS rebinding. Ports are not compared.
    ///
    /// # Errors
    /// 403 `host_not_allowed`.
    pub fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let authority = single_header_value(headers, header::HOST).and_then(HostAuthority::parse);
        let rules = self.rules.load();
        if rules.hosts.is_empty() || authority.as_ref().is_some_and(|found| rules.hosts.contains(&found.host))
        {
            return Ok(());
        }
        let (code, remedy) = ("host_not_allowed", "add it to server.allowed_hosts");
        match authority {
            Some(found) => self.refusals.report(code, "host", &found.host.to_string(), remedy),
            None => self.refusals.report(code, "host", "-", "the request names no host"),
        }
        let detail =
            "this server does not answer to that name; the operator can add it to server.allowed_hosts";
        Err(Problem::new(403, code, detail))
    }

    /// Checks the `Origin` of a request (RFC 6454). A request without one comes from a native client
    /// and passes.
    ///
    /// # Errors
    /// 403 `origin_not_allowed`.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.is_origin_allowed(headers) {
            return Ok(());
        }
        let code = "origin_not_allowed";
        let origin = single_header_value(headers, header::ORIGIN).unwrap_or_default();
        match WebOrigin::parse(origin) {
            Ok(origin) => {
                let remedy = "add it to server.allowed_origins; if it is the address of this server, let the proxy pass Host";
                self.refusals.report(code, "origin", &origin.to_string(), remedy);
            }
            Err(_) if origin == "null" => {
                let remedy = "a page without an origin, such as a file or a sandboxed frame; serve the page from a web site";
                self.refusals.report(code, "origin", "null", remedy);
            }
            Err(_) => self.refusals.report(code, "origin", "-", "no request of a browser has such an origin"),
        }
        let detail =
            "this web site may not use this server; the operator can add it to server.allowed_origins";
        Err(Problem::new(403, code, detail))
    }

    /// Whether the web site of a request may use the service: it is on the list, or its host and
    /// port are those of `Host`. The scheme of the request is not compared, because TLS ends at the
    /// edge.
    pub fn is_origin_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = single_header_value(headers, header::ORIGIN) else { return true };
        let rules = self.rules.load();
        if rules.allows_any_site {
            return true;
        }
        let Ok(origin) = WebOrigin::parse(origin) else { return false };
        let host = single_header_value(headers, header::HOST).and_then(HostAuthority::parse);
        rules.origins.contains(&origin) || host.is_some_and(|host| origin.is_same_site(&host))
    }

    /// The address of a client. None if the socket has none, or if a trusted proxy sends no readable
    /// address: the address of the proxy would stand for all of its clients.
    pub fn client_address(&self, socket: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        self.rules.load().proxies.client_address(socket, headers)
    }
}

/// The outermost middleware (`actix_web::middleware::from_fn`) of every app. A handler of GET also
/// answers HEAD (RFC 9110, section 9.3.2); the HTTP library leaves the body out.
///
/// # Errors
/// Only what an inner middleware left unanswered.
pub async fn guard_request(
    gate: web::Data<RequestGate>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let (start, method) = (Instant::now(), request.method().clone());
    let host = if answers_any_host(request.path()) { Ok(()) } else { gate.check_host(request.headers()) };
    let checked = host.and_then(|()| check_upgrade(&request));
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed_origin = origin.filter(|_| gate.is_origin_allowed(request.headers()));
    if method == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    let mut response = if is_preflight(&request) {
        let answer = answer_preflight(gate.check_origin(request.headers()));
        request.into_response(answer).map_into_right_body()
    } else {
        match checked {
            Ok(()) => next.call(request).await?.map_into_left_body(),
            Err(problem) => request.into_response(problem_response(&problem)).map_into_right_body(),
        }
    };
    add_cors_headers(response.headers_mut(), allowed_origin);
    add_security_headers(response.headers_mut());
    log_request(&method, &response, start);
    Ok(response)
}

/// Whether a path is served under any `Host`. A signaling node fetches the public keys under a host
/// name of its own, and orchestrators check health under an address; neither shows a secret.
fn answers_any_host(path: &str) -> bool {
    path == JWKS_PATH || HEALTH_PATHS.contains(&path)
}

fn add_security_headers(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// One line, without query, headers and address.
fn log_request<B>(method: &Method, response: &ServiceResponse<B>, start: Instant) {
    // Only the pattern of a known path is logged: an unknown path may hold a misplaced token.
    let pattern = response.request().match_pattern();
    let path = pattern.as_deref().unwrap_or("-");
    let (status, ms) = (response.status().as_u16(), start.elapsed().as_micros() as f64 / 1_000.0);
    let code = response.response().extensions().get::<ProblemCode>().map(|code| code.0);
    let remedy = code.and_then(remedy_of);
    if path.starts_with("/health/") {
        tracing::debug!(target: "signalbox_http::access", event = "request", %method, path, status, code, remedy, ms);
    } else {
        tracing::info!(target: "signalbox_http::access", event = "request", %method, path, status, code, remedy, ms);
    }
}

/// Refuses an upgrade to a WebSocket with a method other than GET (RFC 6455, section 4.1). The HTTP
/// library takes its body for a stream without end, so a handler would wait for the end.
fn check_upgrade(request: &ServiceRequest) -> Result<(), Problem> {
    let is_websocket = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    };
    let upgrades = request.headers().get_all(header::UPGRADE).any(is_websocket);
    if request.method() == Method::GET || !upgrades {
        return Ok(());
    }
    Err(Problem::new(400, "bad_request", "only GET may upgrade to a WebSocket; drop the header Upgrade"))
}

/// Whether a request comes from this machine and not through a proxy: the other end of the socket,
/// `Host` and `Origin` are loopback addresses, and no proxy has left a trace.
pub fn is_local_request(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let is_local_host = |host: &str| HostAuthority::parse(host).is_some_and(|found| found.host.is_loopback());
    let is_local_origin = |origin: &str| WebOrigin::parse(origin).is_ok_and(|origin| origin.is_local_site());
    request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
        // A proxy without settings speaks HTTP/1.0.
        && request.version() == Version::HTTP_11
        && single_header_value(headers, header::HOST).is_some_and(is_local_host)
        && single_header_value(headers, header::ORIGIN).is_none_or(is_local_origin)
        && !PROXY_HEADERS.iter().any(|name| headers.contains_key(name))
}

/// The value of a header. An empty text, which no rule allows, if the header comes twice or is not
/// text.
fn single_header_value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    Some(if values.next().is_some() { "" } else { first.to_str().unwrap_or("") })
}

#[cfg(test)]
mod tests;
