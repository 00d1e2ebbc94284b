//! `GET /.well-known/jwks.json`

use actix_web::{
    App,
    http::header,
    test::{TestRequest, call_service, init_service, read_body},
};
use serde_json::Value;
use signalbox_config::ServiceSettings;
use signalbox_protocol::clock;
use signalbox_token::KeyAlgorithm;

use super::TestService;
use crate::{
    auth::keys::{SigningKeys, operations},
    configure,
};

#[actix_web::test]
async fn jwks_is_public_and_an_etag_match_gives_304() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kid = operations::create_first_key(&path, KeyAlgorithm::EdDSA, clock::now_s()).unwrap();
    let keys = SigningKeys::from_folder(path, &ServiceSettings::default().auth, [], clock::now_s()).unwrap();
    let service = TestService::with(|_| {}, |parts| parts.keys = keys);
    let app = init_service(App::new().configure(configure(service.state.clone()))).await;
    let request = || TestRequest::get().uri("/.well-known/jwks.json");

    let answer = call_service(&app, request().to_request()).await;
    let header_text =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(header_text("content-type").as_deref(), Some("application/jwk-set+json"));
    assert_eq!(header_text("cache-control").as_deref(), Some("public, max-age=300"));
    let etag = header_text("etag").unwrap();
    let set: Value = serde_json::from_slice(&read_body(answer).await).unwrap();
    assert_eq!(set["keys"][0]["kid"], kid);

    for (tag, status) in [(etag.as_str(), 304), ("*", 304), ("\"x\"", 200)] {
        let again = request().insert_header((header::IF_NONE_MATCH, tag)).to_request();
        assert_eq!(call_service(&app, again).await.status().as_u16(), status, "{tag}");
    }
    let (status, issued) = service.request_token(r#"{"room":"r","user":"u"}"#).await;
    assert_eq!(status, 200, "{issued}");
    assert_eq!(service.validate(issued["token"].as_str().unwrap()).await.0, 200);
}

#[actix_web::test]
async fn shared_secret_is_never_published() {
    let (status, problem) = TestService::new().call(TestRequest::get().uri("/.well-known/jwks.json")).await;
    assert_eq!((status, &problem["code"]), (404, &"not_found".into()));
}
