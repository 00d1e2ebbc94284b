//! The checks of every request before its handler: `Host`, `Origin`, the address of the client.
//! Then headers and one log line.
//!
//! Owns: [`RequestGate`] with its middleware [`guard_request`], [`check_host`], [`check_origin`],
//! [`TrustedProxies`]. Must not: know a route or a token. A header that comes twice, or is not
//! text, never counts as absent.
//!
//! The address of a client is the other end of its socket, unless that is a trusted proxy. Then it
//! is the last address in `X-Forwarded-For` that is not the address of a trusted proxy. A client
//! may have written the addresses before that one.

use std::{net::IpAddr, time::Instant};

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
use signalbox_config::{LOOPBACK_HOSTS, ServerSettings, address_ranges::AddressRanges};
use signalbox_protocol::problem::Problem;
use signalbox_token::JWKS_PATH;

use crate::problem_response;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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

/// The host names that [`guard_request`] accepts, as `web::Data`.
#[derive(Debug, Clone)]
pub struct RequestGate {
    allowed_hosts: Vec<String>,
}

impl RequestGate {
    /// The names of the configuration. On a loopback address an empty list means the loopback
    /// names: a web page whose name resolves to 127.0.0.1 must not reach this server.
    pub fn new(server: &ServerSettings) -> Self {
        let mut allowed_hosts = server.allowed_hosts.clone();
        if allowed_hosts.is_empty() && server.listen.ip().is_loopback() {
            allowed_hosts.extend(LOOPBACK_HOSTS.map(str::to_owned));
            allowed_hosts.extend(listen_host(server));
        }
        Self { allowed_hosts }
    }

    /// The accepted names; an empty list accepts any name.
    pub fn allowed_hosts(&self) -> &[String] {
        &self.allowed_hosts
    }
}

/// The listening address as a host name: a loopback address may differ from 127.0.0.1.
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
    // A signaling node fetches the public keys under a host name of its own, and public keys are no
    // secret.
    let any_host = request.path() == JWKS_PATH;
    let hosts = if any_host { &[][..] } else { &rules.allowed_hosts };
    let checked = check_host(request.headers(), hosts).and_then(|()| check_upgrade(&request));
    let mut response = match checked {
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
    // Only the pattern of a known path is logged: an unknown path may hold a misplaced token.
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
    let is_local_host =
        |host: &str| LOOPBACK_HOSTS.iter().any(|name| name.eq_ignore_ascii_case(strip_port(host)));
    let is_local_origin =
        |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| is_local_host(authority));
    request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
        // A proxy without settings speaks HTTP/1.0.
        && request.version() == Version::HTTP_11
        && single_header_value(headers, header::HOST).is_some_and(is_local_host)
        && single_header_value(headers, header::ORIGIN).is_none_or(is_local_origin)
        && !PROXY_HEADERS.iter().any(|name| headers.contains_key(name))
}

/// Checks the `Origin` of a request (RFC 6454). A request without one comes from a native client
/// and passes.
///
/// # Errors
/// 403 `origin_not_allowed`.
pub fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let (origin, host) =
        (single_header_value(headers, header::ORIGIN), single_header_value(headers, header::HOST));
    if is_origin_allowed(origin, host, allowed) {
        return Ok(());
    }
    let detail = "this web site may not use this server; the operator can add it to server.allowed_origins";
    Err(Problem::new(403, "origin_not_allowed", detail))
}

/// Checks the `Host` of a request, against DNS rebinding.
///
/// # Errors
/// 403 `host_not_allowed`.
pub fn check_host(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    if is_host_allowed(single_header_value(headers, header::HOST), allowed) {
        return Ok(());
    }
    let detail = "this server does not answer to that name; the operator can add it to server.allowed_hosts";
    Err(Problem::new(403, "host_not_allowed", detail))
}

/// The value of a header. An empty text, which no rule allows, if the header comes twice or is not
/// text.
fn single_header_value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    Some(if values.next().is_some() { "" } else { first.to_str().unwrap_or("") })
}

/// Whether an `Origin` may use the service. A request without one comes from a native client; a
/// browser always sends it where it matters.
///
/// An origin is allowed if its authority is the `Host` of the request, or if it is on the list. The
/// scheme is not compared with that of the request, because TLS ends at the edge.
pub fn is_origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if allowed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

/// Whether this server answers to a `Host`; an empty list allows all. Ports are not compared.
fn is_host_allowed(host: Option<&str>, allowed: &[String]) -> bool {
    allowed.is_empty()
        || host.is_some_and(|host| allowed.iter().any(|entry| entry.eq_ignore_ascii_case(strip_port(host))))
}

/// The host without its port. An IPv6 literal keeps its brackets.
fn strip_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// The proxies whose `X-Forwarded-For` is trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(AddressRanges<()>);

impl TrustedProxies {
    /// The proxies of the configuration.
    pub fn new(server: &ServerSettings) -> Self {
        Self(server.trusted_proxies.iter().copied().collect())
    }

    /// The address of a client. None if the socket has none, or if a trusted proxy sends no
    /// readable address: the address of the proxy would stand for all of its clients.
    pub fn client_address(&self, socket: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let socket = socket?.to_canonical();
        if !self.0.contains(socket) {
            return Some(socket);
        }
        let lines: Vec<&str> =
            headers.get_all(FORWARDED_FOR).map(|line| line.to_str().unwrap_or("?")).collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let address = parse_address(hop.trim())?;
            if !self.0.contains(address) {
                return Some(address);
            }
        }
        // Every hop is a trusted proxy, so a proxy made the request itself.
        None
    }
}

/// An address, with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare =
        text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(inside, _)| inside);
    let address =
        bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|with| with.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpResponse, middleware::from_fn, test as web_test};
    use signalbox_config::address_ranges::parse_range;

    use super::*;
    use crate::not_found;

    async fn call_app(server: ServerSettings, host: &str) -> ServiceResponse<impl MessageBody> {
        let own =
            || async { HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "max-age=60")).finish() };
        let app = web_test::init_service(
            App::new()
                .app_data(web::Data::new(RequestGate::new(&server)))
                .wrap(from_fn(guard_request))
                .route("/own", web::get().to(own))
                .default_service(web::to(not_found)),
        )
        .await;
        let request =
            web_test::TestRequest::with_uri("/own").insert_header((header::HOST, host)).to_request();
        web_test::call_service(&app, request).await
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
        let body: serde_json::Value = web_test::read_body_json(response).await;
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

    #[test]
    fn only_the_same_site_and_listed_origins_are_allowed() {
        let list = ["https://app.example".to_owned()];
        for (origin, host, expected) in [
            (None, Some("x"), true),
            (Some("https://app.example"), Some("rtc.example"), true),
            (Some("https://RTC.example"), Some("rtc.example"), true),
            (Some("http://localhost:8080"), Some("localhost:8080"), true),
            (Some("http://localhost:8081"), Some("localhost:8080"), false),
            (Some("https://evil.example"), Some("rtc.example"), false),
            (Some("https://app.example.evil"), Some("rtc.example"), false),
            (Some("null"), Some("null"), false),
            (Some(""), Some(""), false),
            (Some("https://evil.example"), None, false),
        ] {
            assert_eq!(is_origin_allowed(origin, host, &list), expected, "{origin:?} at {host:?}");
        }
    }

    #[test]
    fn a_dns_rebinding_host_is_rejected() {
        let ours = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        for (host, expected) in [
            (Some("localhost:8080"), true),
            (Some("127.0.0.1"), true),
            (Some("[::1]:8080"), true),
            (Some("[::1]"), true),
            (Some("evil.example:8080"), false),
            (Some("localhost.evil.example"), false),
            (None, false),
        ] {
            assert_eq!(is_host_allowed(host, &ours), expected, "{host:?}");
        }
        assert!(is_host_allowed(Some("anything"), &[]));
    }

    fn header_map(pairs: &[(HeaderName, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn an_unreadable_or_repeated_origin_does_not_count_as_absent() {
        let host = (header::HOST, &b"rtc.example"[..]);
        let own = (header::ORIGIN, &b"https://rtc.example"[..]);
        assert!(check_origin(&header_map(std::slice::from_ref(&host)), &[]).is_ok());
        assert!(check_origin(&header_map(&[host.clone(), own.clone()]), &[]).is_ok());
        let unreadable = (header::ORIGIN, &b"https://\xff"[..]);
        for bad in [vec![host.clone(), unreadable], vec![host.clone(), own.clone(), own]] {
            assert_eq!(check_origin(&header_map(&bad), &[]).unwrap_err().code, "origin_not_allowed");
        }
        let twice = [host.clone(), host];
        let ours = ["rtc.example".to_owned()];
        assert_eq!(check_host(&header_map(&twice), &ours).unwrap_err().code, "host_not_allowed");
        assert!(check_host(&header_map(&twice[..1]), &ours).is_ok());
    }

    #[test]
    fn only_a_trusted_proxy_sets_the_client_address() {
        let server = ServerSettings {
            trusted_proxies: ["10.0.0.0/8", "::1"].map(|text| parse_range(text).unwrap()).to_vec(),
            ..ServerSettings::default()
        };
        let proxies = TrustedProxies::new(&server);
        for (socket, lines, expected) in [
            ("203.0.113.7", &["198.51.100.1"][..], Some("203.0.113.7")),
            ("203.0.113.7", &[], Some("203.0.113.7")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::ffff:10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::1", &["198.51.100.1, 203.0.113.9"], Some("203.0.113.9")),
            // What a client claims stands before what the proxy adds.
            ("10.0.0.1", &["127.0.0.1, 198.51.100.1, 10.0.0.2"], Some("198.51.100.1")),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["198.51.100.1:4711"], Some("198.51.100.1")),
            ("10.0.0.1", &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("10.0.0.1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &["198.51.100.1, unknown"], None),
            ("10.0.0.1", &["10.0.0.3"], None),
            ("10.0.0.1", &[], None),
            ("10.0.0.1", &[""], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            let found = proxies.client_address(Some(socket.parse().unwrap()), &headers);
            assert_eq!(found.map(|address| address.to_string()).as_deref(), expected, "{socket} {lines:?}");
        }
        assert_eq!(proxies.client_address(None, &HeaderMap::new()), None);
        assert!(
            TrustedProxies::default()
                .client_address(Some("10.0.0.1".parse().unwrap()), &HeaderMap::new())
                .is_some()
        );
    }
}
