//! A WebSocket client that can read the response to a rejected upgrade.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

use crate::http::{Request, Response};

/// An open WebSocket.
pub type Socket = WebSocketStream<TcpStream>;

/// Why there is no WebSocket.
#[derive(Debug)]
pub enum UpgradeError {
    /// The server rejected the upgrade.
    Rejected(Response),
    /// No response came.
    Connection(io::Error),
}

impl From<io::Error> for UpgradeError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl UpgradeError {
    /// The problem code (RFC 9457) of the response; empty if there is none.
    pub fn code(&self) -> String {
        let Self::Rejected(response) = self else { return String::new() };
        let body: serde_json::Value = serde_json::from_str(response.body()).unwrap_or_default();
        body["code"].as_str().unwrap_or("").to_owned()
    }
}

/// Opens a WebSocket at `/ws/signal?QUERY`, within `limit`.
///
/// # Errors
/// If the upgrade is rejected or no response comes.
pub async fn open(address: SocketAddr, query: &str, limit: Duration) -> Result<Socket, UpgradeError> {
    let request =
        Request::upgrade(format!("/ws/signal?{query}")).header("Sec-WebSocket-Protocol", "signalbox.v1");
    match tokio::time::timeout(limit, upgrade(address, &request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Sends an upgrade request that the caller made.
///
/// # Errors
/// As [`open`].
pub async fn upgrade(address: SocketAddr, request: &Request) -> Result<Socket, UpgradeError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&request.to_bytes(address)).await?;
    let mut bytes = Vec::with_capacity(2_048);
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    };
    if !bytes.starts_with(b"HTTP/1.1 101") {
        return Err(UpgradeError::Rejected(Response::read(&mut stream, bytes).await?));
    }
    let rest = bytes.split_off(head);
    // tungstenite fills the buffer with zeros at each read, so a large buffer is slow.
    let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
    Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await)
}
