//! `/ws/events`, over a real socket.

use std::{sync::Arc, time::Duration};

use actix_web::{App, HttpServer};
use futures_util::{SinkExt as _, StreamExt as _};
use signalbox_config::{ApiKeySettings, units::TimeSpan};
use signalbox_protocol::id::CallerId;
use signalbox_token::scope::RoomPattern;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use super::TestService;
use crate::configure;

type FeedSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const DEADLINE: Duration = Duration::from_secs(5);

/// Starts a server that runs until the test ends, and returns its address.
fn start_server(service: &TestService) -> String {
    let state = service.state.clone();
    let listener = signalbox_http::open_listener(([127, 0, 0, 1], 0).into(), 256 * 1024).unwrap();
    let addr = listener.local_addr().unwrap();
    let server = HttpServer::new(move || App::new().configure(configure(state.clone())));
    actix_web::rt::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
    addr.to_string()
}

async fn open_feed(addr: &str, headers: &[(&'static str, &str)]) -> Result<FeedSocket, u16> {
    let mut request = format!("ws://{addr}/ws/events").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((reader, _)) => Ok(reader),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The next frame that is no ping.
async fn next_message(reader: &mut FeedSocket) -> Option<Message> {
    loop {
        match timeout(DEADLINE, reader.next()).await.unwrap() {
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(message)) => return Some(message),
            Some(Err(_)) | None => return None,
        }
    }
}

fn count_readers(service: &TestService) -> usize {
    service.state.management.feed_readers.counts.borrow().total
}

/// Waits until all places are free again.
async fn wait_for_free_places(service: &TestService) {
    let mut counts = service.state.management.feed_readers.counts.subscribe();
    timeout(DEADLINE, counts.wait_for(|counts| counts.total == 0)).await.unwrap().unwrap();
}

#[actix_web::test]
async fn feed_reader_receives_events_from_its_connection_on() {
    let service = TestService::new();
    let addr = start_server(&service);
    let mut reader = open_feed(&addr, &[("authorization", &service.basic_header())]).await.unwrap();
    reader.send(Message::text("ignored")).await.unwrap();
    service.feed.send(Arc::from(r#"{"event":"room-opened"}"#)).unwrap();
    assert_eq!(next_message(&mut reader).await.unwrap().to_text().unwrap(), r#"{"event":"room-opened"}"#);

    service.state.stop();
    assert!(
        matches!(next_message(&mut reader).await, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1001)
    );
    assert_eq!(open_feed(&addr, &[("authorization", &service.basic_header())]).await.unwrap_err(), 503);
}

#[actix_web::test]
async fn feed_needs_an_api_key_and_an_allowed_origin() {
    let service = TestService::with_guests();
    let addr = start_server(&service);
    let basic = service.basic_header();
    assert_eq!(open_feed(&addr, &[]).await.unwrap_err(), 401);
    assert_eq!(open_feed(&addr, &[("authorization", "Basic eDp5")]).await.unwrap_err(), 401);
    let foreign = [("authorization", &*basic), ("origin", "https://evil.example")];
    assert_eq!(open_feed(&addr, &foreign).await.unwrap_err(), 403);
    let (status, answer) = service
        .call(actix_web::test::TestRequest::get().uri("/ws/events").insert_header(("authorization", basic)))
        .await;
    assert_eq!((status, &answer["code"]), (426, &"upgrade_required".into()));
}

#[actix_web::test]
async fn slow_feed_reader_receives_the_count_of_skipped_events() {
    let service = TestService::new();
    let addr = start_server(&service);
    let mut reader = open_feed(&addr, &[("authorization", &service.basic_header())]).await.unwrap();
    // More than socket buffers and queues hold while the client does not read. The feed holds
    // eight events.
    let line: Arc<str> = Arc::from("x".repeat(64 * 1024));
    for _ in 0..500 {
        service.feed.send(Arc::clone(&line)).unwrap();
    }
    let (mut got, mut skipped) = (0, 0);
    while got + skipped < 500 {
        let frame = next_message(&mut reader).await.unwrap();
        match frame.to_text().unwrap() {
            text if *text == *line => got += 1,
            text => {
                let notice: serde_json::Value = serde_json::from_str(text).unwrap();
                assert_eq!(notice["event"], "skipped");
                skipped += notice["count"].as_u64().unwrap();
            }
        }
    }
    assert!(skipped > 0);
}

#[actix_web::test]
async fn oversized_frame_closes_the_feed_reader_and_frees_its_slot() {
    let service = TestService::new();
    let addr = start_server(&service);
    let mut reader = open_feed(&addr, &[("authorization", &service.basic_header())]).await.unwrap();
    assert_eq!(count_readers(&service), 1);
    reader.send(Message::text("x".repeat(2_000))).await.unwrap();
    assert!(next_message(&mut reader).await.is_none_or(|message| message.is_close()));
    wait_for_free_places(&service).await;
}

#[actix_web::test]
async fn feed_reader_without_pongs_is_closed() {
    let service = TestService::with(|settings| settings.timing.ping = TimeSpan::millis(100), |_| {});
    let addr = start_server(&service);
    let reader = open_feed(&addr, &[("authorization", &service.basic_header())]).await.unwrap();
    assert_eq!(count_readers(&service), 1);
    // The test does not read, so the client library answers no ping.
    wait_for_free_places(&service).await;
    drop(reader);
}

#[actix_web::test]
async fn number_of_feed_readers_of_a_key_is_bounded() {
    let service = TestService::with(|settings| settings.limits.feed_readers = 2, |_| {});
    let addr = start_server(&service);
    let basic = service.basic_header();
    let first = open_feed(&addr, &[("authorization", &basic)]).await.unwrap();
    let _second = open_feed(&addr, &[("authorization", &basic)]).await.unwrap();
    assert_eq!(open_feed(&addr, &[("authorization", &basic)]).await.unwrap_err(), 409);
    drop(first);
    let mut counts = service.state.management.feed_readers.counts.subscribe();
    timeout(DEADLINE, counts.wait_for(|counts| counts.total == 1)).await.unwrap().unwrap();
    assert!(open_feed(&addr, &[("authorization", &basic)]).await.is_ok());
}

#[actix_web::test]
async fn limited_api_key_receives_the_events_of_its_rooms_only() {
    let acme = RoomPattern::try_from("acme-*".to_owned()).unwrap();
    let service = TestService::with(
        |settings| {
            let table = ApiKeySettings { rooms: Some(acme), ..ApiKeySettings::default() };
            settings.api_keys.insert(CallerId::parse("backend").unwrap(), table);
        },
        |_| {},
    );
    let addr = start_server(&service);
    let mut reader = open_feed(&addr, &[("authorization", &service.basic_header())]).await.unwrap();
    let visible = r#"{"event":"peer-joined","room":"acme-1","userId":"own"}"#;
    for line in [
        r#"{"event":"peer-joined","room":"globex-secret-merger","userId":"ceo@globex"}"#,
        r#"{"event":"peer-joined","room":"acme","userId":"ceo@globex"}"#,
        r#"{"event":"of-no-room"}"#,
        r#"{"event":"peer-joined","room":"globex","x":"acme-1"}"#,
        "not JSON",
        visible,
    ] {
        service.feed.send(Arc::from(line)).unwrap();
    }
    assert_eq!(next_message(&mut reader).await.unwrap().to_text().unwrap(), visible);
}
