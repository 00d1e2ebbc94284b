//! A client that breaks the rules: it builds frames by hand (RFC 6455, section 5.2), or does not
//! read.

use std::net::SocketAddr;

use futures_util::future::join;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{http::Request, net::within};

/// Opcodes.
pub mod op {
    #![expect(missing_docs, reason = "RFC 6455, section 11.8")]
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

/// A frame to send. The default is a whole masked text frame.
#[derive(Debug, Clone)]
pub struct RawFrame<'a> {
    /// The opcode.
    pub op: u8,
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// The three reserved bits.
    pub reserved: u8,
    /// Whether the frame is masked. A client must mask.
    pub masked: bool,
    /// The length in the header, if it differs from the length of the payload.
    pub declared: Option<u64>,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> RawFrame<'a> {
    /// A whole text message.
    pub fn text(payload: &'a [u8]) -> Self {
        Self { op: op::TEXT, fin: true, reserved: 0, masked: true, declared: None, payload }
    }

    /// A whole message or control frame with this opcode.
    pub fn with_op(op: u8, payload: &'a [u8]) -> Self {
        Self { op, ..Self::text(payload) }
    }

    /// The bytes of the frame. The mask is constant, because the payload is not secret.
    pub fn to_bytes(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut bytes = vec![(u8::from(self.fin) << 7) | (self.reserved << 4) | self.op];
        let bit = u8::from(self.masked) << 7;
        match self.declared.unwrap_or(self.payload.len() as u64) {
            length @ 0..126 => bytes.push(bit | length as u8),
            length @ 126..0x1_0000 => {
                bytes.push(bit | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(bit | 127);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend_from_slice(&MASK);
            bytes.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend_from_slice(self.payload);
        }
        bytes
    }
}

/// A WebSocket without a library. Data that is not read stays in the kernel.
pub struct RawSocket {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl RawSocket {
    /// Connects. A small `receive_buffer` limits how much the kernel accepts for a client that does
    /// not read.
    ///
    /// # Panics
    /// If the upgrade is rejected.
    pub async fn open(address: SocketAddr, token: &str, receive_buffer: Option<u32>) -> Self {
        Self::open_and_send(address, token, receive_buffer, &[]).await
    }

    /// The same, with bytes that follow the request in one write.
    ///
    /// # Panics
    /// If the upgrade is rejected.
    pub async fn open_and_send(
        address: SocketAddr,
        token: &str,
        receive_buffer: Option<u32>,
        bytes: &[u8],
    ) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size).expect("a socket option");
        }
        let mut stream = within("a connection", socket.connect(address)).await.expect("a connection");
        let request = Request::upgrade(format!("/ws/signal?token={token}"));
        stream.write_all(&[&request.to_bytes(address), bytes].concat()).await.expect("an open socket");
        let mut raw = Self { stream, bytes: Vec::new() };
        let end = within("an upgrade", raw.read_head()).await;
        let head = String::from_utf8_lossy(&raw.bytes[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        raw.bytes.drain(..end);
        raw
    }

    async fn read_head(&mut self) -> usize {
        loop {
            if let Some(at) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                return at + 4;
            }
            assert!(self.read_more().await, "the connection ended before its head: {:?}", self.bytes);
        }
    }

    async fn read_more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.bytes).await, Ok(count) if count > 0)
    }

    /// Sends bytes. Returns whether the socket accepted them.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        within("sending", self.stream.write_all(bytes)).await.is_ok()
    }

    /// Sends a frame. Returns whether the socket accepted it.
    pub async fn send(&mut self, frame: &RawFrame<'_>) -> bool {
        self.send_bytes(&frame.to_bytes()).await
    }

    /// Writes all bytes and reads until the connection ends. Returns the received frames.
    pub async fn flood(&mut self, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let Self { stream, bytes: read } = self;
        let (mut from, mut to) = stream.split();
        let reading = async { while matches!(from.read_buf(read).await, Ok(count) if count > 0) {} };
        // The server may close long before the last byte is written.
        let (_, ()) = within("the end of a flood", join(to.write_all(bytes), reading)).await;
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// The next frame, as opcode and payload; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        within("a frame", self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((head, length)) = frame_lengths(&self.bytes)
                && self.bytes.len() >= head + length
            {
                let op = self.bytes[0] & 0x0f;
                let frame = self.bytes.drain(..head + length).skip(head).collect();
                return Some((op, frame));
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// The next text message as JSON. Pings and pongs are skipped.
    ///
    /// # Panics
    /// If the connection ends before.
    pub async fn next_text(&mut self) -> serde_json::Value {
        loop {
            match self.next().await {
                Some((op::TEXT, payload)) => return serde_json::from_slice(&payload).expect("JSON"),
                Some((op::PING | op::PONG, _)) => {}
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// Reads to the end and returns the close code, if one came.
    pub async fn close_code(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some((op, payload)) = self.next().await {
            if op == op::CLOSE && payload.len() >= 2 {
                code = Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
        code
    }
}

/// The lengths of the header and the payload of a frame, once the header is complete. A server does
/// not mask.
fn frame_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into())),
        127 => Some((10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize)),
        length => Some((2, length.into())),
    }
}
