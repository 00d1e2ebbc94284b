//! A WebSocket whose refused upgrade can be read.

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
pub enum Refusal {
    /// The server said so.
    Answered(Response),
    /// Nobody answered.
    Lost(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Refusal {
    /// The problem's code (RFC 9457); empty where there is none.
    pub fn code(&self) -> String {
        let Self::Answered(response) = self else { return String::new() };
        let body: serde_json::Value = serde_json::from_str(response.body()).unwrap_or_default();
        body["code"].as_str().unwrap_or("").to_owned()
    }
}

/// Opens a WebSocket at `/ws/signal?QUERY`, at most in `limit`.
///
/// # Errors
/// Where the upgrade is refused or nobody answers.
pub async fn open(address: SocketAddr, query: &str, limit: Duration) -> Result<Socket, Refusal> {
    let request =
        Request::upgrade(format!("/ws/signal?{query}")).header("Sec-WebSocket-Protocol", "signalbox.v1");
    match tokio::time::timeout(limit, upgrade(address, &request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Sends an upgrade request of one's own.
///
/// # Errors
/// As [`open`].
pub async fn upgrade(address: SocketAddr, request: &Request) -> Result<Socket, Refusal> {
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
        return Err(Refusal::Answered(Response::read(&mut stream, bytes).await?));
    }
    let rest = bytes.split_off(head);
    // A large default is filled with zeros at each read.
    let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
    Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await)
}
