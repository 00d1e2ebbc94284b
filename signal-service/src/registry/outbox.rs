//! What waits for one socket, in whole frames, within a bound.
//!
//! While nothing waits a frame goes straight into the socket, from whichever thread delivers it. What the socket does not
//! take waits here; the connection's task writes it when the socket is writable again.

use std::{cell::RefCell, collections::VecDeque, io, sync::Arc};

use actix_http::ws::{CloseReason, OpCode, Parser};
use bytes::{Buf, BytesMut};
use signalbox_protocol::CloseCode;
use tokio::net::TcpStream;

thread_local! {
    /// Where frames are put together before they are written; one for each thread, so an idle connection holds none.
    static WRITE_SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// The outbox is full: its reader is too slow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutboxFull;

/// One socket's outbox.
pub(super) struct Outbox {
    socket: Arc<TcpStream>,
    pending: BytesMut,
    /// The lengths of the frames in `waiting`; the first may have been written in part.
    frame_lengths: VecDeque<usize>,
    max_bytes: usize,
}

impl Outbox {
    /// An empty outbox that holds at most `limit` bytes.
    pub(super) fn new(socket: Arc<TcpStream>, max_bytes: usize) -> Self {
        Self { socket, pending: BytesMut::new(), frame_lengths: VecDeque::new(), max_bytes }
    }

    /// Sends text frames, joined into one write where the socket takes it.
    ///
    /// # Errors
    /// [`OutboxFull`]: they did not fit, and none was queued.
    pub(super) fn send_texts<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>) -> Result<(), OutboxFull> {
        WRITE_SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let mut lengths = FrameLengths::default();
            for text in texts {
                let before = scratch.len();
                Parser::write_message(scratch, text, OpCode::Text, true, false);
                lengths.push(scratch.len() - before);
            }
            self.write_or_queue(scratch, &lengths)
        })
    }

    /// Sends a control frame: ping or pong.
    ///
    /// # Errors
    /// [`OutboxFull`].
    pub(super) fn send_control(&mut self, op: OpCode, payload: &[u8]) -> Result<(), OutboxFull> {
        let mut frame = BytesMut::with_capacity(payload.len() + 2);
        Parser::write_message(&mut frame, payload, op, true, false);
        self.write_or_queue(&frame, &FrameLengths::single(frame.len()))
    }

    /// Queues the close frame behind whatever has begun to be written; the rest is given up if the reader is too slow.
    pub(super) fn queue_close(&mut self, code: CloseCode) {
        if code == CloseCode::SlowConsumer {
            let begun = self.frame_lengths.pop_front().unwrap_or(0);
            self.pending.truncate(begun);
            self.frame_lengths = VecDeque::from([begun]);
        }
        let reason = match code.retry_ms() {
            Some(ms) => format!("{};{ms}", code.reason()),
            None => code.reason().to_owned(),
        };
        self.queue_close_frame(code.number(), reason);
    }

    /// Queues a close frame behind what waits.
    pub(super) fn queue_close_frame(&mut self, code: u16, reason: String) {
        let mut frame = BytesMut::new();
        let reason =
            CloseReason { code: code.into(), description: Some(reason).filter(|text| !text.is_empty()) };
        Parser::write_close(&mut frame, Some(reason), false);
        self.pending.extend_from_slice(&frame);
        self.frame_lengths.push_back(frame.len());
        self.flush_pending();
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush_pending(&mut self) {
        while !self.pending.is_empty() {
            match self.socket.try_write(&self.pending) {
                Ok(written) => self.drop_written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The reading side learns of a broken socket.
                Err(_) => self.drop_written(self.pending.len()),
            }
        }
        self.pending = BytesMut::new();
        self.frame_lengths = VecDeque::new();
    }

    /// Whether anything waits for the socket.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Frames that wait, the first perhaps in part.
    pub(super) fn pending_frames(&self) -> usize {
        self.frame_lengths.len()
    }

    fn write_or_queue(&mut self, bytes: &[u8], lengths: &FrameLengths) -> Result<(), OutboxFull> {
        let mut written = 0;
        if self.pending.is_empty() {
            // Would block, or broken: either way nothing was written, and the connection's task finds out.
            written = self.socket.try_write(bytes).unwrap_or(0);
            if written == bytes.len() {
                return Ok(());
            }
        }
        let full = self.pending.len() + bytes.len() - written > self.max_bytes;
        self.queue_rest(&bytes[written..], lengths, written, full);
        if full { Err(OutboxFull) } else { Ok(()) }
    }

    /// Keeps what the socket did not take. When full, only the rest of a frame that has begun: it must end, or the close frame
    /// behind it could not be read.
    fn queue_rest(&mut self, mut rest: &[u8], lengths: &FrameLengths, mut written: usize, full: bool) {
        for length in lengths.iter() {
            let done = written.min(length);
            written -= done;
            if done == length {
                continue;
            }
            if full && done == 0 {
                return;
            }
            let (left, after) = rest.split_at(length - done);
            self.pending.extend_from_slice(left);
            self.frame_lengths.push_back(left.len());
            rest = after;
        }
    }

    fn drop_written(&mut self, mut written: usize) {
        self.pending.advance(written);
        while let Some(first) = self.frame_lengths.front_mut() {
            if written < *first {
                *first -= written;
                return;
            }
            written -= *first;
            self.frame_lengths.pop_front();
        }
    }
}

/// Frame lengths of one write: nearly always one, so that it needs no allocation.
#[derive(Default)]
struct FrameLengths {
    first: usize,
    others: Vec<usize>,
}

impl FrameLengths {
    fn single(length: usize) -> Self {
        Self { first: length, others: Vec::new() }
    }

    fn push(&mut self, length: usize) {
        if self.first == 0 {
            self.first = length;
        } else {
            self.others.push(length);
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.first).filter(|first| *first > 0).chain(self.others.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use actix_codec::Decoder;
    use actix_http::ws::{Codec, Frame};
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    async fn socket_pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Arc::new(near.unwrap()), far.unwrap().0)
    }

    /// Everything the other side reads, as frames; what is left over is not a whole frame.
    async fn read_frames(mut far: TcpStream) -> (Vec<Frame>, usize) {
        let mut bytes = BytesMut::new();
        while far.read_buf(&mut bytes).await.unwrap() > 0 {}
        let mut codec = Codec::new().client_mode();
        let mut frames = Vec::new();
        while let Some(frame) = codec.decode(&mut bytes).unwrap() {
            frames.push(frame);
        }
        (frames, bytes.len())
    }

    fn sample_text(n: u32) -> String {
        format!("{n:09}{}", "x".repeat(3_000))
    }

    #[tokio::test]
    async fn a_slow_consumer_gets_whole_frames_in_order_and_then_the_close_code() {
        const LIMIT: usize = 40_000;
        let (near, far) = socket_pair().await;
        let mut outbox = Outbox::new(near.clone(), LIMIT);
        let mut sent = 0;
        // Two at a time, so that the bound is met in the middle of a write.
        while outbox
            .send_texts([sample_text(sent), sample_text(sent + 1)].iter().map(|text| text.as_bytes()))
            .is_ok()
        {
            sent += 2;
            assert!(outbox.pending_bytes() <= LIMIT, "the bound holds");
        }
        assert!(outbox.pending_bytes() > 0, "the socket took no more");
        outbox.queue_close(CloseCode::SlowConsumer);
        assert!(outbox.pending_bytes() < 7_000, "what had not begun was given up");

        let reading = tokio::spawn(read_frames(far));
        while outbox.has_pending() {
            near.writable().await.unwrap();
            outbox.flush_pending();
        }
        drop(outbox);
        drop(near);
        let (frames, left_over) = reading.await.unwrap();
        assert_eq!(left_over, 0, "no frame is cut");
        let (last, texts) = frames.split_last().unwrap();
        assert!(matches!(last, Frame::Close(Some(reason)) if u16::from(reason.code) == 4001), "{last:?}");
        for (n, frame) in texts.iter().enumerate() {
            assert_eq!(
                *frame,
                Frame::Text(sample_text(n as u32).into()),
                "in order, none missing before the end"
            );
        }
    }

    #[tokio::test]
    async fn pending_frames_are_written_when_the_client_reads() {
        let (near, far) = socket_pair().await;
        let mut outbox = Outbox::new(near.clone(), usize::MAX);
        for n in 0..4_000 {
            outbox.send_texts(std::iter::once(sample_text(n).as_bytes())).unwrap();
        }
        assert!(outbox.has_pending(), "12 MB are more than a socket takes");
        let reading = tokio::spawn(read_frames(far));
        while outbox.has_pending() {
            near.writable().await.unwrap();
            outbox.flush_pending();
        }
        outbox.queue_close(CloseCode::GoingAway);
        drop(outbox);
        drop(near);
        let (frames, left_over) = reading.await.unwrap();
        assert_eq!((frames.len(), left_over), (4_001, 0));
    }
}
