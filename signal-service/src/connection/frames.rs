//! From bytes to messages: frames by actix-http's parser, fragments joined, everything bounded.

use std::{cell::RefCell, io};

use actix_codec::Decoder;
use actix_http::ws::{self, Codec, Frame, Item};
use bytes::{Bytes, BytesMut};
use signalbox_protocol::CloseCode;
use tokio::net::TcpStream;

/// How much is read from a socket at a time.
const CHUNK: usize = 16 * 1024;

thread_local! {
    /// Where bytes are read and frames are cut out; one for each thread, so an idle connection holds none.
    static SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// What a client sent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A whole text message.
    Text(Bytes),
    /// A ping, to be answered with its payload.
    Ping(Bytes),
    /// A pong, with its payload.
    Pong(Bytes),
    /// A fragment that does not end its message: nothing to do, but it counts.
    Nothing,
    /// The client closes, with this code.
    Close(u16),
}

/// What reading found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There may be more.
    More,
    /// Nothing more for now.
    Blocked,
    /// The socket is at its end, or broken.
    End,
}

/// Why reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// The server closes.
    Close(CloseCode),
    /// The client has closed, with this code.
    Closed(u16),
}

impl From<CloseCode> for Break {
    fn from(code: CloseCode) -> Self {
        Self::Close(code)
    }
}

/// Cuts one connection's bytes into messages.
pub(super) struct Frames {
    codec: Codec,
    limit: usize,
    /// The begin of a frame whose rest has not come.
    partial: BytesMut,
    /// The fragments of a message whose end has not come.
    fragments: Option<BytesMut>,
}

impl Frames {
    /// Messages of at most `limit` bytes; `early` came with the upgrade request.
    pub(super) fn new(limit: usize, early: BytesMut) -> Self {
        Self { codec: Codec::new().max_size(limit), limit, partial: early, fragments: None }
    }

    /// Reads once and hands each message to `take`, until it breaks with a close code.
    ///
    /// # Errors
    /// A broken frame, or what `take` broke with.
    pub(super) fn read(
        &mut self,
        socket: &TcpStream,
        take: &mut impl FnMut(Incoming) -> Result<(), Break>,
    ) -> Result<Progress, Break> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.extend_from_slice(&self.partial);
            self.partial = BytesMut::new();
            scratch.reserve(CHUNK);
            let progress = match socket.try_read_buf(scratch) {
                Ok(0) => Progress::End,
                Ok(_) => Progress::More,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Blocked,
                Err(_) => Progress::End,
            };
            let outcome = self.cut(scratch, take);
            if !scratch.is_empty() {
                self.partial = BytesMut::from(&scratch[..]);
            }
            outcome.map(|()| progress)
        })
    }

    fn cut(
        &mut self,
        bytes: &mut BytesMut,
        take: &mut impl FnMut(Incoming) -> Result<(), Break>,
    ) -> Result<(), Break> {
        use actix_http::ws::ProtocolError::Overflow;
        loop {
            match self.codec.decode(bytes) {
                Ok(Some(frame)) => {
                    if let Some(message) = self.message(frame)? {
                        take(message)?;
                    }
                }
                // The parser waits for the whole of a frame that is too large; nobody needs to send it.
                Ok(None) if declared_length(bytes) > self.limit as u64 => {
                    return Err(CloseCode::FrameTooLarge.into());
                }
                Ok(None) => return Ok(()),
                Err(Overflow) => return Err(CloseCode::FrameTooLarge.into()),
                Err(_) => return Err(CloseCode::ProtocolError.into()),
            }
        }
    }

    fn message(&mut self, frame: Frame) -> Result<Option<Incoming>, CloseCode> {
        match frame {
            Frame::Text(text) => Ok(Some(Incoming::Text(text))),
            Frame::Ping(payload) => Ok(Some(Incoming::Ping(payload))),
            Frame::Pong(payload) => Ok(Some(Incoming::Pong(payload))),
            Frame::Close(reason) => {
                let code = reason.map_or(ws::CloseCode::Normal, |reason| reason.code);
                Ok(Some(Incoming::Close(code.into())))
            }
            Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)) => {
                Err(CloseCode::BinaryNotSupported)
            }
            Frame::Continuation(Item::FirstText(begin)) => {
                self.fragments = Some(BytesMut::from(&begin[..]));
                Ok(Some(Incoming::Nothing))
            }
            Frame::Continuation(Item::Continue(part)) => {
                self.append(&part)?;
                Ok(Some(Incoming::Nothing))
            }
            Frame::Continuation(Item::Last(part)) => {
                self.append(&part)?;
                Ok(self.fragments.take().map(|whole| Incoming::Text(whole.freeze())))
            }
        }
    }

    fn append(&mut self, part: &[u8]) -> Result<(), CloseCode> {
        let whole = self.fragments.get_or_insert_default();
        if whole.len() + part.len() > self.limit {
            return Err(CloseCode::FrameTooLarge);
        }
        whole.extend_from_slice(part);
        Ok(())
    }
}

/// The payload length that the head of a frame declares (RFC 6455, section 5.2); 0 while that much of it has not come.
fn declared_length(bytes: &[u8]) -> u64 {
    match *bytes {
        [_, length, high, low, ..] if length & 0x7f == 126 => u64::from(u16::from_be_bytes([high, low])),
        [_, length, a, b, c, d, e, f, g, h, ..] if length & 0x7f == 127 => {
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
        _ => 0,
    }
}
