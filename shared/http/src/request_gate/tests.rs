//! The gate as an app has it, and its rules over the spellings of a name.

use actix_web::{App, HttpResponse, middleware::from_fn, test as web_test};

use super::*;
use crate::{configure_health, not_found, resource};

async fn call_app(server: ServerSettings, host: &str) -> ServiceResponse<impl MessageBody> {
    call(server, Method::GET, "/own", host).await
}

async fn call(
    server: ServerSettings,
    method: Method,
    path: &str,
    host: &str,
) -> ServiceResponse<impl MessageBody> {
    let own = || async { HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "max-age=60")).finish() };
    let app = web_test::init_service(
        App::new()
            .app_data(web::Data::new(RequestGate::new(&server)))
            .wrap(from_fn(guard_request))
            .configure(configure_health(|| std::future::ready(Ok(()))))
            .service(resource("/own", "GET").route(web::get().to(own)))
            .service(resource("/written", "POST").route(web::post().to(own)))
            .service(resource(JWKS_PATH, "GET").route(web::get().to(own)))
            .default_service(web::to(not_found)),
    )
    .await;
    let request = web_test::TestRequest::with_uri(path).method(method).insert_header((header::HOST, host));
    web_test::call_service(&app, request.to_request()).await
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

fn header_map(pairs: &[(HeaderName, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn gate(origins: &[&str], hosts: &[&str]) -> RequestGate {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    RequestGate::new(&ServerSettings {
        listen: ([0, 0, 0, 0], 80).into(),
        allowed_origins: texts(origins),
        allowed_hosts: texts(hosts),
        ..ServerSettings::default()
    })
}

fn check_site(gate: &RequestGate, origin: Option<&str>, host: Option<&str>) -> bool {
    let named = [(header::ORIGIN, origin), (header::HOST, host)];
    let pairs: Vec<_> =
        named.iter().filter_map(|(name, text)| Some((name.clone(), text.as_ref()?.as_bytes()))).collect();
    gate.check_origin(&header_map(&pairs)).is_ok()
}

#[test]
fn only_the_same_site_and_listed_origins_are_allowed() {
    let gate = gate(
        &[
            "https://app.example",
            "https://b\u{fc}ro.example:443",
            "capacitor://localhost",
            "http://[0::1]:3000",
        ],
        &[],
    );
    for (origin, host, expected) in [
        (None, Some("x"), true),
        (Some("https://app.example"), Some("rtc.example"), true),
        (Some("https://RTC.example"), Some("rtc.example"), true),
        (Some("https://rtc.example"), Some("rtc.example:443"), true),
        (Some("http://rtc.example"), Some("rtc.example:80"), true),
        (Some("https://rtc.example"), Some("rtc.example."), true),
        (Some("https://rtc.example"), Some("rtc.example:80"), false),
        (Some("http://[::1]:8080"), Some("[0:0:0:0:0:0:0:1]:8080"), true),
        (Some("http://localhost:8080"), Some("localhost:8080"), true),
        (Some("http://localhost:8081"), Some("localhost:8080"), false),
        (Some("https://xn--bro-hoa.example"), Some("rtc.example"), true),
        (Some("capacitor://localhost"), Some("rtc.example"), true),
        (Some("tauri://localhost"), Some("rtc.example"), false),
        (Some("capacitor://localhost"), Some("localhost"), true),
        (Some("tauri://localhost"), Some("localhost"), false),
        (Some("http://[::1]:3000"), Some("rtc.example"), true),
        (Some("https://evil.example"), Some("rtc.example"), false),
        (Some("https://app.example.evil"), Some("rtc.example"), false),
        (Some("https://app.example/"), Some("rtc.example"), false),
        (Some("null"), Some("null"), false),
        (Some(""), Some(""), false),
        (Some("https://evil.example"), None, false),
    ] {
        assert_eq!(check_site(&gate, origin, host), expected, "{origin:?} at {host:?}");
    }
}

#[test]
fn a_dns_rebinding_host_is_rejected() {
    let gate = RequestGate::new(&ServerSettings::default());
    for (host, expected) in [
        (Some("localhost:8080"), true),
        (Some("LOCALHOST."), true),
        (Some("127.0.0.1"), true),
        (Some("[::1]:8080"), true),
        (Some("[0:0:0:0:0:0:0:1]"), true),
        (Some("evil.example:8080"), false),
        (Some("localhost.evil.example"), false),
        (Some("localhost@evil.example"), false),
        (Some(""), false),
        (None, false),
    ] {
        let pairs: Vec<_> = host.iter().map(|host| (header::HOST, host.as_bytes())).collect();
        assert_eq!(gate.check_host(&header_map(&pairs)).is_ok(), expected, "{host:?}");
    }
}

#[test]
fn every_spelling_of_a_listed_host_is_accepted() {
    let gate = gate(&[], &["RTC.example", "b\u{fc}ro.example.", "2001:DB8:0::1"]);
    for (host, expected) in [
        ("rtc.example", true),
        ("rtc.example:443", true),
        ("Rtc.Example.:8443", true),
        ("xn--bro-hoa.example", true),
        ("[2001:db8::1]", true),
        ("[2001:0db8:0:0:0:0:0:1]:443", true),
        ("www.rtc.example", false),
        ("[2001:db8::2]", false),
    ] {
        let headers = header_map(&[(header::HOST, host.as_bytes())]);
        assert_eq!(gate.check_host(&headers).is_ok(), expected, "{host}");
    }
}

#[test]
fn a_reload_changes_the_rules_of_every_clone() {
    let gate = gate(&["https://old.example"], &["old.example"]);
    let clone = gate.clone();
    let server = ServerSettings {
        allowed_origins: vec!["https://new.example".to_owned()],
        allowed_hosts: vec!["new.example".to_owned()],
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..ServerSettings::default()
    };
    gate.reload(&server);
    assert!(check_site(&clone, Some("https://new.example"), Some("x")));
    assert!(!check_site(&clone, Some("https://old.example"), Some("x")));
    assert!(clone.check_host(&header_map(&[(header::HOST, b"new.example")])).is_ok());
    let forwarded = header_map(&[(FORWARDED_FOR, b"203.0.113.9")]);
    let client = clone.client_address(Some("10.0.0.1".parse().unwrap()), &forwarded).unwrap();
    assert_eq!(client.to_string(), "203.0.113.9");
}

#[test]
fn an_unreadable_or_repeated_origin_does_not_count_as_absent() {
    let any = gate(&[], &[]);
    let host = (header::HOST, &b"rtc.example"[..]);
    let own = (header::ORIGIN, &b"https://rtc.example"[..]);
    assert!(any.check_origin(&header_map(std::slice::from_ref(&host))).is_ok());
    assert!(any.check_origin(&header_map(&[host.clone(), own.clone()])).is_ok());
    let unreadable = (header::ORIGIN, &b"https://\xff"[..]);
    for bad in [vec![host.clone(), unreadable], vec![host.clone(), own.clone(), own]] {
        assert_eq!(any.check_origin(&header_map(&bad)).unwrap_err().code, "origin_not_allowed");
    }
    let twice = [host.clone(), host];
    let ours = gate(&[], &["rtc.example"]);
    assert_eq!(ours.check_host(&header_map(&twice)).unwrap_err().code, "host_not_allowed");
    assert!(ours.check_host(&header_map(&twice[..1])).is_ok());
}

#[actix_web::test]
async fn health_and_keys_answer_under_any_host() {
    let server =
        ServerSettings { allowed_hosts: vec!["rtc.example".to_owned()], ..ServerSettings::default() };
    for path in HEALTH_PATHS.into_iter().chain([JWKS_PATH]) {
        for host in ["10.0.0.7:8080", "localhost", "signal-1", ""] {
            let response = call(server.clone(), Method::GET, path, host).await;
            assert_eq!(response.status(), 200, "{path} {host}");
        }
    }
    assert_eq!(call(server, Method::GET, "/own", "10.0.0.7").await.status(), 403);
}

#[actix_web::test]
async fn head_works_wherever_get_does() {
    for path in HEALTH_PATHS.into_iter().chain(["/own"]) {
        let response = call(ServerSettings::default(), Method::HEAD, path, "localhost").await;
        assert_eq!(response.status(), 200, "{path}");
    }
    let response = call(ServerSettings::default(), Method::HEAD, "/written", "localhost").await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers().get(header::ALLOW).unwrap(), "POST");
}
