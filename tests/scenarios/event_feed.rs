//! The event feed of the operator.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use signalbox_tests::{
    cluster::TestCluster,
    http::Request,
    net::{eventually, within},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

/// The socket of a reader of the feed.
pub(crate) type Feed = WebSocketStream<TcpStream>;

pub(crate) async fn open(cluster: &TestCluster) -> Feed {
    let address = cluster.auth_address();
    let mut request = format!("ws://{address}/ws/events").into_client_request().unwrap();
    request.headers_mut().insert("Authorization", cluster.basic_auth().parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    within("an upgrade", client_async(request, stream)).await.unwrap().0
}

pub(crate) async fn next(feed: &mut Feed) -> Value {
    let text = async {
        loop {
            match feed.next().await.expect("an open feed").expect("an open feed") {
                Message::Text(text) => return text,
                _ => continue,
            }
        }
    };
    serde_json::from_str(&within("an event", text).await).unwrap()
}

on_each_store! {
    async fn the_feed_reports_the_life_of_a_room_in_order(cluster) {
        if let Some(auth) = &cluster.auth {
            // The subscription is not part of readiness.
            eventually("the auth service has subscribed to the events", async || auth.log().contains("the event feed is subscribed").then_some(())).await;
        }
        let mut feed = open(cluster).await;
        let room = cluster.room("r");
        let (alice, bob) = room.join2().await;
        let (alice_id, bob_id) = (alice.id().to_owned(), bob.id().to_owned());
        bob.send_acked(json!({"type": "update", "name": "Bob"})).await;
        bob.drop_socket();
        alice.next_of_type("peer-left").await;
        alice.leave().await;
        let expected = [
            ("room-opened", None, None),
            ("peer-joined", Some(&alice_id), None),
            ("peer-joined", Some(&bob_id), None),
            ("peer-updated", Some(&bob_id), None),
            ("peer-detached", Some(&bob_id), None),
            ("peer-left", Some(&bob_id), Some("timeout")),
            ("peer-left", Some(&alice_id), Some("left")),
            ("room-closed", None, None),
        ];
        let mut last = 0;
        for (event, peer, reason) in expected {
            let line = next(&mut feed).await;
            let text = |name: &str| line[name].as_str();
            assert_eq!((text("event"), text("room")), (Some(event), Some("r")), "{line}");
            assert_eq!((text("peerId"), text("reason")), (peer.map(String::as_str), reason), "{line}");
            assert_eq!(text("userId").is_some(), peer.is_some(), "{line}");
            assert_eq!(text("node").map(str::len), Some(32), "{line}");
            let at = line["at"].as_u64().unwrap();
            // Each node estimates the clock of the store by itself.
            assert!(at + 50 >= last, "{line}");
            last = at;
        }
        let extra = tokio::time::timeout(Duration::from_millis(100), next(&mut feed)).await;
        assert!(extra.is_err(), "an unexpected event: {extra:?}");
    }

    async fn the_feed_accepts_only_api_keys(cluster) {
        let address = cluster.auth_address();
        let token = cluster.sign_token("r", "alice");
        for authorization in [None, Some("Basic YmFja2VuZDp3cm9uZw==".to_owned()), Some(format!("Bearer {token}"))] {
            let request = Request::upgrade("/ws/events");
            let request = authorization.map_or(request.clone(), |value| request.header("Authorization", value));
            request.send(address).await.assert_problem(401, "caller_unknown");
        }
        Request::upgrade(format!("/ws/events?token={token}")).send(address).await.assert_problem(401, "caller_unknown");
        let foreign = Request::upgrade("/ws/events").header("Authorization", cluster.basic_auth()).header("Origin", "https://evil.example");
        foreign.send(address).await.assert_problem(403, "origin_not_allowed");
    }
}
