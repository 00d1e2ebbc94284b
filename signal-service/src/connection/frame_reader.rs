//! Reads WebSocket frames from one socket.
//!
//! Owns: the bytes that are not yet a frame, and the fragments that are not yet a message. Must not:
//! parse a message, or limit the rate of frames (`peer_rate` does). Next: `dispatcher` gives each
//! frame its meaning.
//!
//! actix-http parses the frames. Everything is bounded: a frame and a message by `limits.frame`,
//! one read by [`READ_CHUNK_BYTES`].

use std::{cell::RefCell, io};

use actix_codec::Decoder;
use actix_http::ws::{self, Codec, Frame, Item};
use bytes::{Bytes, BytesMut};
use signalbox_protocol::CloseCode;
use tokio::net::TcpStream;

use crate::socket_budget::BufferBytes;

/// The number of bytes that one read takes from a socket at most.
const READ_CHUNK_BYTES: usize = 16 * 1024;

thread_local! {
    /// The read buffer of a thread. A reader takes it for one read and gives it back, so an idle
    /// connection holds none.
    static READ_BUFFER: RefCell<BytesMut> = RefCell::default();
}

/// A frame from the client.
#[derive(Debug)]
pub(super) enum IncomingFrame {
    /// A whole text message.
    Text(Bytes),
    /// A ping with its payload.
    Ping(Bytes),
    /// A pong with its payload.
    Pong(Bytes),
    /// A fragment that does not end its message.
    Fragment,
    /// The client closes with this code.
    Close(u16),
}

/// The result of one read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadProgress {
    /// The socket may hold more.
    More,
    /// The socket holds nothing now.
    Blocked,
    /// The socket is closed or broken.
    EndOfStream,
}

/// Why the connection reads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The server closes.
    ServerClose(CloseCode),
    /// The client closed with this code.
    ClientClose(u16),
}

impl From<CloseCode> for ReadEnd {
    fn from(code: CloseCode) -> Self {
        Self::ServerClose(code)
    }
}

/// Reads the frames of one socket.
pub(super) struct FrameReader {
    codec: Codec,
    max_message_bytes: usize,
    /// The bytes that are not yet a frame. Between two reads: the beginning of a frame.
    unread_bytes: BytesMut,
    /// The fragments of a message whose end has not come.
    fragments: Option<BytesMut>,
    /// What the reader counts in the budget of the node.
    counted_bytes: BufferBytes,
}

impl FrameReader {
    /// A reader for messages of at most `max_message_bytes`; `early_bytes` came with the upgrade
    /// request.
    pub(super) fn new(max_message_bytes: usize, early_bytes: BytesMut, counted_bytes: BufferBytes) -> Self {
        Self {
            codec: Codec::new().max_size(max_message_bytes),
            max_message_bytes,
            unread_bytes: early_bytes,
            fragments: None,
            counted_bytes,
        }
    }

    /// Reads once from the socket. [`FrameReader::next_frame`] must then be called until it returns
    /// none.
    pub(super) fn read_socket(&mut self, socket: &TcpStream) -> ReadProgress {
        let mut buffer = READ_BUFFER.take();
        buffer.clear();
        buffer.extend_from_slice(&self.unread_bytes);
        buffer.reserve(READ_CHUNK_BYTES);
        let progress = match socket.try_read_buf(&mut buffer) {
            Ok(0) => ReadProgress::EndOfStream,
            Ok(_) => ReadProgress::More,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadProgress::Blocked,
            Err(_) => ReadProgress::EndOfStream,
        };
        self.unread_bytes = buffer;
        progress
    }

    /// The next frame of the last read; none when the rest is not a whole frame.
    ///
    /// # Errors
    /// [`ReadEnd::ServerClose`] for a frame that is too large, not allowed or broken.
    pub(super) fn next_frame(&mut self) -> Result<Option<IncomingFrame>, ReadEnd> {
        use actix_http::ws::ProtocolError::Overflow;
        loop {
            match self.codec.decode(&mut self.unread_bytes) {
                Ok(Some(frame)) => {
                    if let Some(frame) = self.convert_frame(frame)? {
                        return Ok(Some(frame));
                    }
                }
                // The parser would wait for the whole of a frame that is too large.
                Ok(None) if declared_payload_length(&self.unread_bytes) > self.max_message_bytes as u64 => {
                    return Err(CloseCode::FrameTooLarge.into());
                }
                Ok(None) => {
                    self.return_buffer();
                    return Ok(None);
                }
                Err(Overflow) => return Err(CloseCode::FrameTooLarge.into()),
                Err(_) => return Err(CloseCode::ProtocolError.into()),
            }
        }
    }

    /// Gives the buffer back to the thread and keeps a copy of the beginning of a frame, if there
    /// is one.
    fn return_buffer(&mut self) {
        let rest = BytesMut::from(&self.unread_bytes[..]);
        READ_BUFFER.set(std::mem::replace(&mut self.unread_bytes, rest));
        self.counted_bytes.set(self.unread_bytes.len() + self.fragments.as_ref().map_or(0, BytesMut::len));
    }

    fn convert_frame(&mut self, frame: Frame) -> Result<Option<IncomingFrame>, CloseCode> {
        match frame {
            Frame::Text(text) => Ok(Some(IncomingFrame::Text(text))),
            Frame::Ping(payload) => Ok(Some(IncomingFrame::Ping(payload))),
            Frame::Pong(payload) => Ok(Some(IncomingFrame::Pong(payload))),
            Frame::Close(reason) => {
                let code = reason.map_or(ws::CloseCode::Normal, |reason| reason.code);
                Ok(Some(IncomingFrame::Close(code.into())))
            }
            Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)) => {
                Err(CloseCode::BinaryNotSupported)
            }
            Frame::Continuation(Item::FirstText(begin)) => {
                self.fragments = Some(BytesMut::from(&begin[..]));
                Ok(Some(IncomingFrame::Fragment))
            }
            Frame::Continuation(Item::Continue(part)) => {
                self.append_fragment(&part)?;
                Ok(Some(IncomingFrame::Fragment))
            }
            Frame::Continuation(Item::Last(part)) => {
                self.append_fragment(&part)?;
                Ok(self.fragments.take().map(|whole| IncomingFrame::Text(whole.freeze())))
            }
        }
    }

    fn append_fragment(&mut self, part: &[u8]) -> Result<(), CloseCode> {
        let whole = self.fragments.get_or_insert_default();
        if whole.len() + part.len() > self.max_message_bytes {
            return Err(CloseCode::FrameTooLarge);
        }
        whole.extend_from_slice(part);
        Ok(())
    }
}

/// The payload length that the header of a frame declares (RFC 6455, section 5.2); 0 while the
/// header is incomplete.
fn declared_payload_length(bytes: &[u8]) -> u64 {
    match *bytes {
        [_, length, high, low, ..] if length & 0x7f == 126 => u64::from(u16::from_be_bytes([high, low])),
        [_, length, a, b, c, d, e, f, g, h, ..] if length & 0x7f == 127 => {
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
        _ => 0,
    }
}
