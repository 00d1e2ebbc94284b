//! Tests of requests from pages of other web sites.

use actix_web::{
    App,
    http::{Method, header},
    middleware::from_fn,
    test::{TestRequest, call_service, init_service},
    web,
};
use signalbox_config::ServerSettings;
use signalbox_http::{RequestGate, guard_request};

use super::TestService;
use crate::configure;

const ALLOWED_ORIGIN: &str = "https://app.example";

fn service_with_origins() -> TestService {
    TestService::with(|settings| settings.server.allowed_origins = vec![ALLOWED_ORIGIN.to_owned()], |_| {})
}

/// Status and headers.
async fn call(service: &TestService, request: TestRequest) -> (u16, header::HeaderMap) {
    let server = ServerSettings {
        listen: ([0, 0, 0, 0], 80).into(),
        allowed_origins: vec![ALLOWED_ORIGIN.to_owned()],
        ..ServerSettings::default()
    };
    let app = App::new()
        .app_data(web::Data::new(RequestGate::new(&server)))
        .wrap(from_fn(guard_request))
        .configure(configure(service.state.clone()));
    let app = init_service(app).await;
    let request = request.insert_header((header::HOST, "rtc.example"));
    let response = call_service(&app, request.to_request()).await;
    (response.status().as_u16(), response.headers().clone())
}

fn preflight(path: &str, origin: &str) -> TestRequest {
    TestRequest::default()
        .method(Method::OPTIONS)
        .uri(path)
        .insert_header((header::ORIGIN, origin))
        .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "POST"))
        .insert_header((header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type"))
}

#[actix_web::test]
async fn allowed_origin_may_call_and_read() {
    let service = service_with_origins();
    for path in ["/auth/token", "/auth/refresh", "/api/rooms/r/invites"] {
        let (status, headers) = call(&service, preflight(path, ALLOWED_ORIGIN)).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), ALLOWED_ORIGIN);
        assert!(headers.get(header::ACCESS_CONTROL_ALLOW_CREDENTIALS).is_none());
        let allowed = headers.get(header::ACCESS_CONTROL_ALLOW_HEADERS).unwrap().to_str().unwrap();
        assert!(allowed.to_lowercase().contains("authorization"), "{allowed}");
    }
    // A page of an allowed site can read a refusal too.
    let request = TestRequest::post().uri("/auth/refresh").insert_header((header::ORIGIN, ALLOWED_ORIGIN));
    let (status, headers) = call(&service, request).await;
    assert_eq!(status, 415);
    assert_eq!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), ALLOWED_ORIGIN);
    let exposed =
        headers.get(header::ACCESS_CONTROL_EXPOSE_HEADERS).unwrap().to_str().unwrap().to_lowercase();
    assert!(exposed.contains("retry-after") && exposed.contains("www-authenticate"), "{exposed}");
    assert!(headers.get(header::VARY).is_some());
}

#[actix_web::test]
async fn foreign_origin_gets_403_in_preflight_and_request() {
    let service = service_with_origins();
    for origin in ["https://evil.example", "null", "https://app.example.evil"] {
        let (status, headers) = call(&service, preflight("/auth/token", origin)).await;
        assert_eq!(status, 403, "{origin}");
        assert!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_none());
        for path in
            ["/auth/token", "/auth/refresh", "/auth/ticket", "/auth/management", "/api/rooms/r/invites"]
        {
            let request = TestRequest::post().uri(path).insert_header((header::ORIGIN, origin));
            let (status, headers) = call(&service, request).await;
            assert_eq!(status, 403, "{origin} {path}");
            assert!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_none());
        }
    }
    let (status, _) = call(&service, preflight("/auth/token", "https://rtc.example")).await;
    assert_eq!(status, 200, "the site of the server itself");
}
