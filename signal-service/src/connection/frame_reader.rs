//! From bytes to messages: frames by actix-http's parser, fragments joined, everything bounded.

use std::{cell::RefCell, io};

use actix_codec::Decoder;
use actix_http::ws::{self, Codec, Frame, Item};
use bytes::{Bytes, BytesMut};
use signalbox_protocol::CloseCode;
use tokio::net::TcpStream;

/// How much is read from a socket at a time.
const READ_CHUNK_BYTES: usize = 16 * 1024;

thread_local! {
    /// Where bytes are read and frames are cut out; one for each thread, so an idle connection holds none.
    static READ_SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// What a client sent.
#[derive(Debug)]
pub(super) enum IncomingFrame {
    /// A whole text message.
    Text(Bytes),
    /// A ping, to be answered with its payload.
    Ping(Bytes),
    /// A pong, with its payload.
    Pong(Bytes),
    /// A fragment that does not end its message: nothing to do, but it counts.
    Fragment,
    /// The client closes, with this code.
    Close(u16),
}

/// What reading found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadProgress {
    /// There may be more.
    More,
    /// Nothing more for now.
    Blocked,
    /// The socket is at its end, or broken.
    EndOfStream,
}

/// Why reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The server closes.
    ServerClose(CloseCode),
    /// The client has closed, with this code.
    ClientClose(u16),
}

impl From<CloseCode> for ReadEnd {
    fn from(code: CloseCode) -> Self {
        Self::ServerClose(code)
    }
}

/// Cuts one connection's bytes into messages.
pub(super) struct FrameReader {
    codec: Codec,
    max_message_bytes: usize,
    /// The begin of a frame whose rest has not come.
    partial_frame: BytesMut,
    /// The fragments of a message whose end has not come.
    fragments: Option<BytesMut>,
}

impl FrameReader {
    /// Messages of at most `limit` bytes; `early` came with the upgrade request.
    pub(super) fn new(max_message_bytes: usize, early: BytesMut) -> Self {
        Self {
            codec: Codec::new().max_size(max_message_bytes),
            max_message_bytes,
            partial_frame: early,
            fragments: None,
        }
    }

    /// Reads once and hands each message to `take`, until it breaks with a close code.
    ///
    /// # Errors
    /// A broken frame, or what `take` broke with.
    pub(super) fn read_socket(
        &mut self,
        socket: &TcpStream,
        take: &mut impl FnMut(IncomingFrame) -> Result<(), ReadEnd>,
    ) -> Result<ReadProgress, ReadEnd> {
        READ_SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.extend_from_slice(&self.partial_frame);
            self.partial_frame = BytesMut::new();
            scratch.reserve(READ_CHUNK_BYTES);
            let progress = match socket.try_read_buf(scratch) {
                Ok(0) => ReadProgress::EndOfStream,
                Ok(_) => ReadProgress::More,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadProgress::Blocked,
                Err(_) => ReadProgress::EndOfStream,
            };
            let outcome = self.parse_frames(scratch, take);
            if !scratch.is_empty() {
                self.partial_frame = BytesMut::from(&scratch[..]);
            }
            outcome.map(|()| progress)
        })
    }

    fn parse_frames(
        &mut self,
        bytes: &mut BytesMut,
        take: &mut impl FnMut(IncomingFrame) -> Result<(), ReadEnd>,
    ) -> Result<(), ReadEnd> {
        use actix_http::ws::ProtocolError::Overflow;
        loop {
            match self.codec.decode(bytes) {
                Ok(Some(frame)) => {
                    if let Some(message) = self.convert_frame(frame)? {
                        take(message)?;
                    }
                }
                // The parser waits for the whole of a frame that is too large; nobody needs to send it.
                Ok(None) if declared_payload_length(bytes) > self.max_message_bytes as u64 => {
                    return Err(CloseCode::FrameTooLarge.into());
                }
                Ok(None) => return Ok(()),
                Err(Overflow) => return Err(CloseCode::FrameTooLarge.into()),
                Err(_) => return Err(CloseCode::ProtocolError.into()),
            }
        }
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

/// The payload length that the head of a frame declares (RFC 6455, section 5.2); 0 while that much of it has not come.
fn declared_payload_length(bytes: &[u8]) -> u64 {
    match *bytes {
        [_, length, high, low, ..] if length & 0x7f == 126 => u64::from(u16::from_be_bytes([high, low])),
        [_, length, a, b, c, d, e, f, g, h, ..] if length & 0x7f == 127 => {
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
        _ => 0,
    }
}
