//! The proxy breaks the selected connections and no others.

use std::io::ErrorKind;

use super::*;
use crate::net::within;

/// A proxy in front of a server that echoes all data.
async fn echo_proxy() -> (FaultProxy, AbortHandle) {
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

async fn assert_echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.expect("an open connection");
    let mut back = vec![0; text.len()];
    within("the echo", stream.read_exact(&mut back)).await.expect("the echo");
    assert_eq!(back, text);
}

async fn read_end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    within("the end", stream.read(&mut [0; 8])).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn the_proxy_forwards_and_cuts_connections() {
    let (proxy, _server) = echo_proxy().await;
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    assert_echo(&mut stream, b"one").await;
    assert_eq!((proxy.open_connections(), proxy.cut(|| false), proxy.cut(|| true)), (1, 0, 1));
    assert_eq!(read_end(&mut stream).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_half_open_connection_is_silent_until_the_proxy_heals() {
    for way in [Direction::ToServer, Direction::ToClient, Direction::Both] {
        let (proxy, _server) = echo_proxy().await;
        let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
        assert_echo(&mut stream, b"one").await;
        proxy.half_open_all(way);
        stream.write_all(b"two").await.expect("an open connection");
        let silence = tokio::time::timeout(Duration::from_millis(100), read_end(&mut stream)).await;
        assert!(silence.is_err(), "{way:?}: {silence:?}");
        proxy.heal();
        assert_eq!(read_end(&mut stream).await, Err(ErrorKind::ConnectionReset));
        let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
        assert_echo(&mut stream, b"three").await;
    }
}

#[tokio::test]
async fn new_connections_are_reset_or_receive_nothing() {
    let (proxy, _server) = echo_proxy().await;
    proxy.set_new_connections(NewConnections::Reset);
    let mut stream = TcpStream::connect(proxy.address).await.expect("a handshake");
    assert_eq!(read_end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    proxy.isolate();
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    stream.write_all(b"one").await.expect("an open connection");
    let silence = tokio::time::timeout(Duration::from_millis(100), read_end(&mut stream)).await;
    assert!(silence.is_err(), "{silence:?}");
}
