//! The outbox of one socket: the frames that the socket has not taken, within a bound.
//!
//! Owns: the order of the frames, the bytes that wait, and the rule that no frame is cut. Must not:
//! wait for the socket, or know what a frame contains.
//!
//! While the outbox is empty, the delivering thread writes a frame into the socket directly. The
//! bytes that the socket does not take wait here. The task of the connection writes them when the
//! socket is writable again.

use std::{cell::RefCell, collections::VecDeque, io, sync::Arc};

use actix_http::ws::{CloseReason, OpCode, Parser};
use bytes::{Buf, BytesMut};
use signalbox_protocol::CloseCode;
use tokio::net::TcpStream;

use crate::socket_budget::BufferBytes;

thread_local! {
    /// The buffer in which frames are built before a write. Each thread has one, so an idle
    /// connection holds none.
    static WRITE_SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// The outbox is full, because the client reads too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutboxFull;

/// The outbox of one socket.
pub(super) struct Outbox {
    socket: Arc<TcpStream>,
    pending: BytesMut,
    /// The lengths of the frames in `pending`; the first may have been written in part.
    frame_lengths: VecDeque<usize>,
    max_bytes: usize,
    /// What the outbox counts in the budget of the node.
    counted_bytes: BufferBytes,
}

impl Outbox {
    /// An empty outbox that holds at most `max_bytes`.
    pub(super) fn new(socket: Arc<TcpStream>, max_bytes: usize, counted_bytes: BufferBytes) -> Self {
        let (pending, frame_lengths) = (BytesMut::new(), VecDeque::new());
        Self { socket, pending, frame_lengths, max_bytes, counted_bytes }
    }

    /// Sends text frames, joined into one write if the outbox is empty.
    ///
    /// # Errors
    /// [`OutboxFull`] if the frames do not fit; then no whole frame was queued.
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

    /// Sends a ping or a pong.
    ///
    /// # Errors
    /// [`OutboxFull`] if the frame does not fit.
    pub(super) fn send_control(&mut self, op: OpCode, payload: &[u8]) -> Result<(), OutboxFull> {
        let mut frame = BytesMut::with_capacity(payload.len() + 2);
        Parser::write_message(&mut frame, payload, op, true, false);
        self.write_or_queue(&frame, &FrameLengths::single(frame.len()))
    }

    /// Queues the close frame behind the waiting frames. For a slow consumer these are dropped,
    /// except the first, which may be written in part.
    pub(super) fn queue_close(&mut self, code: CloseCode) {
        if code == CloseCode::SlowConsumer {
            let first_length = self.frame_lengths.pop_front().unwrap_or(0);
            self.pending.truncate(first_length);
            self.frame_lengths = VecDeque::from([first_length]);
        }
        let reason = match code.retry_ms() {
            Some(ms) => format!("{};{ms}", code.reason()),
            None => code.reason().to_owned(),
        };
        self.queue_close_frame(code.number(), reason);
    }

    /// Queues a close frame behind the waiting frames (RFC 6455, section 5.5.1).
    pub(super) fn queue_close_frame(&mut self, code: u16, reason: String) {
        let mut frame = BytesMut::new();
        let reason =
            CloseReason { code: code.into(), description: Some(reason).filter(|text| !text.is_empty()) };
        Parser::write_close(&mut frame, Some(reason), false);
        self.pending.extend_from_slice(&frame);
        self.frame_lengths.push_back(frame.len());
        self.flush_pending();
    }

    /// Writes as many waiting bytes as the socket takes.
    pub(super) fn flush_pending(&mut self) {
        while !self.pending.is_empty() {
            match self.socket.try_write(&self.pending) {
                Ok(written) => self.drop_written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.counted_bytes.set(self.pending.len());
                }
                // The next read finds the broken socket.
                Err(_) => self.drop_written(self.pending.len()),
            }
        }
        self.pending = BytesMut::new();
        self.frame_lengths = VecDeque::new();
        self.counted_bytes.set(0);
    }

    /// Whether bytes wait for the socket.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The number of bytes that wait.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The number of frames that wait; the first may be written in part.
    pub(super) fn pending_frames(&self) -> usize {
        self.frame_lengths.len()
    }

    fn write_or_queue(&mut self, bytes: &[u8], lengths: &FrameLengths) -> Result<(), OutboxFull> {
        let mut written = 0;
        if self.pending.is_empty() {
            // On an error nothing was written. The task of the connection finds a broken socket.
            written = self.socket.try_write(bytes).unwrap_or(0);
            if written == bytes.len() {
                return Ok(());
            }
        }
        let is_full = self.pending.len() + bytes.len() - written > self.max_bytes;
        self.queue_rest(&bytes[written..], lengths, written, is_full);
        self.counted_bytes.set(self.pending.len());
        if is_full { Err(OutboxFull) } else { Ok(()) }
    }

    /// Queues the bytes that the socket did not take. A full outbox queues only the rest of a frame
    /// that is written in part: without it the client could not read the close frame.
    fn queue_rest(&mut self, mut rest: &[u8], lengths: &FrameLengths, mut written: usize, is_full: bool) {
        for length in lengths.iter() {
            let written_of_frame = written.min(length);
            written -= written_of_frame;
            if written_of_frame == length {
                continue;
            }
            if is_full && written_of_frame == 0 {
                return;
            }
            let (frame_rest, later_frames) = rest.split_at(length - written_of_frame);
            self.pending.extend_from_slice(frame_rest);
            self.frame_lengths.push_back(frame_rest.len());
            rest = later_frames;
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

/// The lengths of the frames of one write. Nearly always there is one, which needs no allocation.
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
    use crate::socket_budget::SocketBudget;

    fn test_buffer() -> BufferBytes {
        SocketBudget::new(usize::MAX).open_connection().open_buffer()
    }

    async fn socket_pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, client) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Arc::new(server.unwrap()), client.unwrap().0)
    }

    /// All frames that the client reads, and the number of bytes after the last whole frame.
    async fn read_frames(mut client: TcpStream) -> (Vec<Frame>, usize) {
        let mut bytes = BytesMut::new();
        while client.read_buf(&mut bytes).await.unwrap() > 0 {}
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
        let (server, client) = socket_pair().await;
        let mut outbox = Outbox::new(server.clone(), LIMIT, test_buffer());
        let mut sent = 0;
        // Two frames at a time, so that the bound is reached in the middle of a write.
        while outbox
            .send_texts([sample_text(sent), sample_text(sent + 1)].iter().map(|text| text.as_bytes()))
            .is_ok()
        {
            sent += 2;
            assert!(outbox.pending_bytes() <= LIMIT, "the bound holds");
        }
        assert!(outbox.pending_bytes() > 0, "the socket took no more");
        outbox.queue_close(CloseCode::SlowConsumer);
        assert!(outbox.pending_bytes() < 7_000, "only a partly written frame and the close frame wait");

        let reading = tokio::spawn(read_frames(client));
        while outbox.has_pending() {
            server.writable().await.unwrap();
            outbox.flush_pending();
        }
        drop(outbox);
        drop(server);
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
        let (server, client) = socket_pair().await;
        let mut outbox = Outbox::new(server.clone(), usize::MAX, test_buffer());
        for n in 0..4_000 {
            outbox.send_texts(std::iter::once(sample_text(n).as_bytes())).unwrap();
        }
        assert!(outbox.has_pending(), "12 MB are more than a socket takes");
        let reading = tokio::spawn(read_frames(client));
        while outbox.has_pending() {
            server.writable().await.unwrap();
            outbox.flush_pending();
        }
        outbox.queue_close(CloseCode::GoingAway);
        drop(outbox);
        drop(server);
        let (frames, left_over) = reading.await.unwrap();
        assert_eq!((frames.len(), left_over), (4_001, 0));
    }
}
