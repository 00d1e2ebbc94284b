//! `GET /.well-known/jwks.json`

use actix_web::{
    App,
    http::header,
    test::{TestRequest, call_service, init_service, read_body},
};
use serde_json::Value;
use signalbox_config::Settings;
use signalbox_protocol::clock;
use signalbox_token::KeyAlgorithm;

use super::Service;
use crate::{
    configure,
    keys::{SigningKeys, operate},
};

#[actix_web::test]
async fn the_public_keys_are_there_for_everybody_and_asked_for_again_for_nothing() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kid = operate::first(&path, KeyAlgorithm::EdDSA, clock::now_s()).unwrap();
    let keys = SigningKeys::in_folder(path, &Settings::default().auth, [], clock::now_s()).unwrap();
    let service = Service::with(|_| {}, |parts| parts.keys = keys);
    let app = init_service(App::new().configure(configure(service.state.clone()))).await;
    let ask = || TestRequest::get().uri("/.well-known/jwks.json");

    let answer = call_service(&app, ask().to_request()).await;
    let head =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(head("content-type").as_deref(), Some("application/jwk-set+json"));
    assert_eq!(head("cache-control").as_deref(), Some("public, max-age=300"));
    let etag = head("etag").unwrap();
    let set: Value = serde_json::from_slice(&read_body(answer).await).unwrap();
    assert_eq!(set["keys"][0]["kid"], kid);

    for (tag, status) in [(etag.as_str(), 304), ("*", 304), ("\"x\"", 200)] {
        let again = ask().insert_header((header::IF_NONE_MATCH, tag)).to_request();
        assert_eq!(call_service(&app, again).await.status().as_u16(), status, "{tag}");
    }
    let (status, issued) = service.ask(r#"{"room":"r","user":"u"}"#).await;
    assert_eq!(status, 200, "{issued}");
    assert_eq!(service.validate(issued["token"].as_str().unwrap()).await.0, 200);
}

#[actix_web::test]
async fn a_shared_secret_is_never_published() {
    let (status, problem) = Service::new().call(TestRequest::get().uri("/.well-known/jwks.json")).await;
    assert_eq!((status, &problem["code"]), (404, &"not_found".into()));
}
