//! `/auth/ice`

use actix_web::{http::header, test::TestRequest};
use serde_json::{Value, json};
use signalbox_config::TurnServer;
use signalbox_protocol::{IcePolicy, clock, id::RegionId};

use super::TestService;

fn service_with_turn() -> TestService {
    let change = |settings: &mut signalbox_config::ServiceSettings| {
        let server = |url: &str, region: Option<&str>| TurnServer {
            urls: vec![url.to_owned()],
            region: region.map(|region| RegionId::parse(region).unwrap()),
        };
        settings.ice.turn =
            vec![server("turn:eu.example", Some("eu")), server("turn:us.example", Some("us"))];
        let (_, guest) = settings.roles.0.iter_mut().find(|(role, _)| role.as_str() == "guest").unwrap();
        guest.ice = Some(IcePolicy::Relay);
    };
    TestService::with(change, |_| {})
}

async fn get_ice(service: &TestService, token: &str) -> (u16, Value) {
    let request = TestRequest::get().uri("/auth/ice");
    service.call(request.insert_header((header::AUTHORIZATION, format!("Bearer {token}")))).await
}

#[actix_web::test]
async fn room_token_gets_ice_servers_and_policy() {
    let service = service_with_turn();
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u"}"#).await;
    let (status, ice) = get_ice(&service, issued["token"].as_str().unwrap()).await;
    assert_eq!((status, &ice["icePolicy"], &ice["expiresIn"]), (200, &json!("relay"), &json!(3_600)));
    let servers = ice["iceServers"].as_array().unwrap();
    assert_eq!(servers.len(), 2, "{ice}");
    let (end, name) = servers[0]["username"].as_str().unwrap().split_once(':').unwrap();
    let end: u64 = end.parse().unwrap();
    assert!(end.abs_diff(clock::now_s() + 3_600) < 5 && name.len() == 32, "{ice}");
    assert!(servers[0]["credential"].is_string());
}

#[actix_web::test]
async fn ice_without_a_room_token_is_refused() {
    let service = service_with_turn();
    let bare = service.call(TestRequest::get().uri("/auth/ice")).await;
    assert_eq!((bare.0, &bare.1["code"]), (401, &json!("token_missing")));
    let bad = get_ice(&service, "nonsense").await;
    assert_eq!((bad.0, &bad.1["code"]), (401, &json!("token_malformed")));
    let foreign = TestRequest::get().uri("/auth/ice").insert_header((header::ORIGIN, "https://evil.example"));
    assert_eq!(service.call(foreign).await.0, 403);
}
