//! The proxy breaks what it is to break, and nothing else.

use std::io::ErrorKind;

use super::*;
use crate::net::within;

/// A proxy before a server that sends everything back.
async fn echo() -> (FaultProxy, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = FaultProxy::start(listener.local_addr().expect("an address")).await;
    let server = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    (proxy, server.abort_handle())
}

async fn says(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.expect("an open connection");
    let mut back = vec![0; text.len()];
    within("the echo", stream.read_exact(&mut back)).await.expect("the echo");
    assert_eq!(back, text);
}

async fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    within("the end", stream.read(&mut [0; 8])).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn it_forwards_and_cuts() {
    let (proxy, _server) = echo().await;
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    says(&mut stream, b"one").await;
    assert_eq!((proxy.connections(), proxy.cut(|| false), proxy.cut(|| true)), (1, 0, 1));
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_until_it_is_healed() {
    for way in [Way::Up, Way::Down, Way::Both] {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
        says(&mut stream, b"one").await;
        proxy.half_open(way, || true);
        stream.write_all(b"two").await.expect("it looks open");
        let silence = tokio::time::timeout(Duration::from_millis(100), end(&mut stream)).await;
        assert!(silence.is_err(), "{way:?}: {silence:?}");
        proxy.heal();
        assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
        let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
        says(&mut stream, b"three").await;
    }
}

#[tokio::test]
async fn arrivals_are_refused_or_swallowed() {
    let (proxy, _server) = echo().await;
    proxy.arrivals(Arrivals::Refused);
    let mut stream = TcpStream::connect(proxy.address).await.expect("a handshake");
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    proxy.part();
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    stream.write_all(b"one").await.expect("it looks open");
    let silence = tokio::time::timeout(Duration::from_millis(100), end(&mut stream)).await;
    assert!(silence.is_err(), "{silence:?}");
}
