//! All peers of a room are served by one worker thread, whichever worker has accepted their sockets.
//! The hand-over of a socket loses no byte.

use futures_util::future::join_all;
use serde_json::json;
use signalbox_tests::{
    http::Request,
    net::eventually,
    process::{Process, send_signal},
    raw_socket::{RawFrame, RawSocket},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// `SERVER__WORKERS` of each test. Each accepts in turn.
const WORKERS: usize = 4;
const PEERS: usize = 6;

/// The open connections of each worker.
async fn worker_connections(node: &Process) -> Vec<usize> {
    let mut connections = Vec::new();
    for worker in 0..WORKERS {
        let name = format!("signalbox_worker_connections{{worker=\"{worker}\"}}");
        connections.push(node.metric(&name).await as usize);
    }
    connections
}

on_each_store! {
    /// Each room goes to the worker with the fewest connections, so four rooms use all four.
    async fn peers_of_a_room_are_served_by_one_worker(cluster, [("SERVER__WORKERS", "4")]) {
        let node = &cluster.nodes[0];
        let mut peers = Vec::new();
        for opened in 1..=WORKERS {
            let room = cluster.room(&format!("room-{opened}"));
            for user in 0..PEERS {
                peers.push(room.join_on(node, &format!("user-{user}")).await);
            }
            let mut connections = worker_connections(node).await;
            connections.sort_unstable();
            let expected = [vec![0; WORKERS - opened], vec![PEERS; opened]].concat();
            assert_eq!(connections, expected, "after {opened} rooms of {PEERS} peers");
        }
        let resumed = peers.pop().unwrap().disconnect().await.resume_on(node).await;
        assert_eq!(worker_connections(node).await, [PEERS; WORKERS], "after a resume");
        drop((peers, resumed));
        eventually("no worker has a connection", async || {
            let counts = (worker_connections(node).await, node.metric("signalbox_connections").await);
            (counts == (vec![0; WORKERS], 0.0)).then_some(())
        })
        .await;
    }

    /// All connect at once, so the room is new to several workers at the same time.
    async fn peers_that_join_a_new_room_at_once_meet_on_one_worker(cluster, [("SERVER__WORKERS", "4")]) {
        let (node, room) = (&cluster.nodes[0], cluster.room("rush"));
        let users: Vec<_> = (0..24).map(|user| format!("user-{user}")).collect();
        let peers = join_all(users.iter().map(|user| room.join_on(node, user))).await;
        let connections = worker_connections(node).await;
        assert_eq!(connections.iter().max(), Some(&peers.len()), "{connections:?}");
    }

    /// A client may send at once. The node may read that together with the request.
    async fn bytes_behind_the_upgrade_request_are_not_lost(cluster, [("SERVER__WORKERS", "4")]) {
        let (node, room) = (&cluster.nodes[0], cluster.room("eager"));
        let observer = room.join_on(node, "observer").await;
        let mut open_sockets = Vec::new();
        // More than one for each worker, so most sockets are handed over.
        for number in 0..2 * WORKERS {
            let token = room.token(json!({"user": format!("user-{number}")})).await;
            let message = json!({"type": "message", "id": 1, "data": number}).to_string();
            let frames = [&message, r#"{"type":"ping","id":2}"#].map(|text| RawFrame::text(text.as_bytes()).to_bytes());
            let mut raw = RawSocket::open_and_send(node.address, &token, None, &frames.concat()).await;
            assert_eq!(raw.next_text().await["type"], "joined");
            let mut answers = vec![raw.next_text().await, raw.next_text().await];
            answers.sort_by_key(|answer| answer["id"].as_u64());
            assert_eq!([&answers[0]["type"], &answers[1]["type"]], ["ack", "pong"], "{answers:?}");
            assert_eq!(observer.next_message().await.data, Some(json!(number)));
            open_sockets.push(raw);
        }
        assert!(worker_connections(node).await.contains(&(2 * WORKERS + 1)));
    }

    /// A node that was suspended finds the requests of clients that have gone since. None of them
    /// becomes a peer, also where the request and the end of the socket are found together.
    async fn a_client_that_has_gone_does_not_join(cluster, [("SERVER__WORKERS", "4")]) {
        let (node, room) = (&cluster.nodes[0], cluster.room("late"));
        let observer = room.join_on(node, "observer").await;
        let mut requests = Vec::new();
        for number in 0..4 * WORKERS {
            let token = room.token(json!({"user": format!("gone-{number}")})).await;
            requests.push(Request::upgrade(format!("/ws/signal?token={token}")).to_bytes(node.address));
        }
        send_signal(node.pid(), "STOP");
        for request in requests {
            let mut socket = TcpStream::connect(node.address).await.unwrap();
            socket.write_all(&request).await.unwrap();
            socket.shutdown().await.unwrap();
        }
        send_signal(node.pid(), "CONT");
        // Sockets are accepted in their order, so each worker has had the requests above.
        for number in 0..2 * WORKERS {
            let late = room.join_on(node, &format!("late-{number}")).await;
            let event = observer.next_of_type("peer-joined").await;
            assert_eq!(event["peerId"], late.id(), "{event}");
            late.leave().await;
            observer.next_of_type("peer-left").await;
        }
    }
}
