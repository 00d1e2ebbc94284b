//! Reads WebSocket frames from one socket, and limits their rate.
//!
//! Owns: the bytes that are not yet a frame, the fragments that are not yet a message
//! ([`FrameReader`]), and the token bucket of the connection ([`RateLimiter`]). Must not: parse a
//! message. Next: `dispatcher` gives each frame its meaning.
//!
//! actix-http parses the frames. Everything is bounded: a frame and a message by `limits.frame`,
//! one read by [`READ_CHUNK_BYTES`].

use std::{cell::RefCell, io, time::Duration};

use actix_codec::Decoder;
use actix_http::ws::{self, Codec, Frame, Item};
use bytes::{Bytes, BytesMut};
use signalbox_protocol::CloseCode;
use tokio::{net::TcpStream, time::Instant};

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

/// The token bucket of a connection. It also counts the frames that it refused without a pause.
#[derive(Debug)]
pub(super) struct RateLimiter {
    burst: u32,
    per_second: u32,
    tokens: f64,
    refilled_at: Instant,
    refused_frames: u32,
}

/// The decision about one frame. A client above the rate limit is first refused, then closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    /// The rate is within the limit: handle the frame.
    Pass,
    /// The rate is above the limit: answer with `rate_limited`.
    Refuse,
    /// The client did not slow down while a whole burst of frames was refused: close the connection.
    Close,
}

impl RateLimiter {
    /// A full bucket.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst, per_second, tokens: f64::from(burst), refilled_at: now, refused_frames: 0 }
    }

    /// Changes the limits; saved tokens stay, up to the new burst.
    pub(super) fn set_rate(&mut self, burst: u32, per_second: u32) {
        (self.burst, self.per_second) = (burst, per_second);
    }

    /// Takes a token for one frame.
    pub(super) fn check_frame(&mut self, now: Instant) -> RateDecision {
        let refill =
            now.saturating_duration_since(self.refilled_at).as_secs_f64() * f64::from(self.per_second);
        self.refilled_at = now;
        self.tokens = (self.tokens + refill).min(f64::from(self.burst));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            // Back to a quarter of the bucket means that the sender has slowed down.
            if self.tokens > f64::from(self.burst) / 4.0 {
                self.refused_frames = 0;
            }
            return RateDecision::Pass;
        }
        self.refused_frames += 1;
        if self.refused_frames > self.burst { RateDecision::Close } else { RateDecision::Refuse }
    }

    /// Charges the extra cost of a frame, at most one burst in advance.
    pub(super) fn charge_extra(&mut self, extra: u32) {
        self.tokens = (self.tokens - f64::from(extra)).max(-f64::from(self.burst));
    }

    /// The time until a frame passes again.
    pub(super) fn time_until_pass(&self) -> Duration {
        Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / f64::from(self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_frames_are_refused_then_the_connection_closes() {
        let now = Instant::now();
        let mut rate = RateLimiter::new(10, 100, now);
        let decisions: Vec<_> = (0..21).map(|_| rate.check_frame(now)).collect();
        assert!(decisions[..10].iter().all(|decision| *decision == RateDecision::Pass));
        assert!(decisions[10..20].iter().all(|decision| *decision == RateDecision::Refuse));
        assert_eq!(decisions[20], RateDecision::Close);
    }

    #[test]
    fn an_extra_charge_is_paid_before_the_next_frame_passes() {
        let now = Instant::now();
        let mut rate = RateLimiter::new(10, 10, now);
        assert_eq!(rate.check_frame(now), RateDecision::Pass);
        rate.charge_extra(14);
        assert_eq!(rate.check_frame(now), RateDecision::Refuse);
        assert_eq!(rate.check_frame(now + rate.time_until_pass()), RateDecision::Pass);
    }

    #[test]
    fn a_frame_passes_after_the_announced_wait() {
        let now = Instant::now();
        let mut rate = RateLimiter::new(1, 10, now);
        assert_eq!(
            (rate.check_frame(now), rate.check_frame(now)),
            (RateDecision::Pass, RateDecision::Refuse)
        );
        assert_eq!(rate.check_frame(now + rate.time_until_pass()), RateDecision::Pass);
    }
}
