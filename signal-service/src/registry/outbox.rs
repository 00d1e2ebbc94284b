//! The outbox of one socket: the frames that wait for their write, within a bound.
//!
//! Owns: the order of the frames, the bytes that wait, the rule that no frame is cut, and when the
//! outboxes of a thread are flushed. Must not: wait for a socket, or know what a frame contains.
//!
//! Frames collect here until the flush task of the thread writes them, after the tasks that are
//! ready now. A worker that has read from many sockets has many tasks ready, and each of them may
//! send to the same peer: messages, acks of its own messages, events. All of them leave in one
//! write, because the system call costs more than all else that a message needs. The bytes that the
//! socket does not take stay. The task of the connection writes them when the socket is writable
//! again.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Poll, Waker},
};

use actix_http::ws::{CloseReason, OpCode, Parser};
use bytes::{Buf as _, BufMut as _, BytesMut};
use signalbox_protocol::CloseCode;
use tokio::net::TcpStream;

use crate::socket_budget::BufferBytes;

/// An outbox with more bytes is flushed at once.
const MAX_COLLECTED_BYTES: usize = 64 * 1024;

/// A new buffer takes the answers and one offer of usual size.
const MIN_CAPACITY: usize = 2 * 1024;

/// The empty buffers that a thread keeps for its outboxes, in bytes: those of a turn in which many
/// peers send.
const MAX_SPARE_BYTES: usize = 4 * 1024 * 1024;

/// A larger buffer is not kept.
const MAX_SPARE_CAPACITY: usize = 2 * MAX_COLLECTED_BYTES;

thread_local! {
    /// Empty buffers. An outbox takes one for its first frame and gives it back when all is written,
    /// so an idle connection holds none.
    static SPARE_BUFFERS: RefCell<SpareBuffers> = RefCell::default();
}

#[derive(Default)]
struct SpareBuffers {
    buffers: Vec<BytesMut>,
    bytes: usize,
}

impl SpareBuffers {
    fn take(&mut self) -> Option<BytesMut> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn keep(&mut self, buffer: BytesMut) {
        if buffer.capacity() <= MAX_SPARE_CAPACITY && self.bytes + buffer.capacity() <= MAX_SPARE_BYTES {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

/// The outbox is full, because the client reads too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutboxFull;

/// The outbox of one socket.
pub(super) struct Outbox {
    socket: Arc<TcpStream>,
    pending: BytesMut,
    /// The number of frames in `pending`; the first may have been written in part.
    frames: usize,
    /// The bytes of the first frame that are still in `pending`, if a part of it was written.
    partial_frame_rest: usize,
    /// Whether the socket has refused bytes. It is then written when it is writable again.
    is_blocked: bool,
    max_bytes: usize,
    /// What the outbox counts in the budget of the node.
    counted_bytes: BufferBytes,
}

impl Outbox {
    /// An empty outbox that holds at most `max_bytes`.
    pub(super) fn new(socket: Arc<TcpStream>, max_bytes: usize, counted_bytes: BufferBytes) -> Self {
        Self {
            socket,
            pending: BytesMut::new(),
            frames: 0,
            partial_frame_rest: 0,
            is_blocked: false,
            max_bytes,
            counted_bytes,
        }
    }

    /// Adds a text frame, whose text is `start` and `rest` joined.
    ///
    /// # Errors
    /// [`OutboxFull`] if the frame does not fit; then nothing was added.
    pub(super) fn push_text(&mut self, start: &[u8], rest: &[u8]) -> Result<(), OutboxFull> {
        self.push_frame(OpCode::Text, start, rest)
    }

    /// Adds a ping or a pong.
    ///
    /// # Errors
    /// [`OutboxFull`] if the frame does not fit.
    pub(super) fn push_control(&mut self, op: OpCode, payload: &[u8]) -> Result<(), OutboxFull> {
        self.push_frame(op, payload, &[])
    }

    fn push_frame(&mut self, op: OpCode, start: &[u8], rest: &[u8]) -> Result<(), OutboxFull> {
        let payload_bytes = start.len() + rest.len();
        let frame_bytes = payload_bytes + MAX_HEADER_BYTES;
        if self.pending.len() + frame_bytes > MAX_COLLECTED_BYTES.min(self.max_bytes) {
            self.flush();
            // A single frame may be larger than the bound: the socket may take it.
            if self.is_blocked && self.pending.len() + frame_bytes > self.max_bytes {
                return Err(OutboxFull);
            }
        }
        if self.pending.capacity() == 0 {
            let spare = SPARE_BUFFERS.with_borrow_mut(SpareBuffers::take);
            self.pending = spare.unwrap_or_else(|| BytesMut::with_capacity(frame_bytes.max(MIN_CAPACITY)));
        }
        self.pending.reserve(frame_bytes);
        write_frame_header(&mut self.pending, op, payload_bytes);
        self.pending.extend_from_slice(start);
        self.pending.extend_from_slice(rest);
        self.frames += 1;
        if self.is_blocked {
            self.counted_bytes.set(self.pending.len());
        }
        Ok(())
    }

    /// Sends the close frame behind the waiting frames. For a slow consumer these are dropped,
    /// except the first, which may be written in part.
    pub(super) fn send_close(&mut self, code: CloseCode) {
        if code == CloseCode::SlowConsumer {
            self.pending.truncate(self.partial_frame_rest);
            self.frames = usize::from(self.partial_frame_rest > 0);
        }
        let reason = match code.retry_ms() {
            Some(ms) => format!("{};{ms}", code.reason()),
            None => code.reason().to_owned(),
        };
        self.send_close_frame(code.number(), reason);
    }

    /// Sends a close frame behind the waiting frames (RFC 6455, section 5.5.1).
    pub(super) fn send_close_frame(&mut self, code: u16, reason: String) {
        let reason =
            CloseReason { code: code.into(), description: Some(reason).filter(|text| !text.is_empty()) };
        Parser::write_close(&mut self.pending, Some(reason), false);
        self.frames += 1;
        self.flush();
    }

    /// Writes as many waiting bytes as the socket takes.
    pub(super) fn flush(&mut self) {
        self.is_blocked = false;
        while !self.pending.is_empty() {
            match self.socket.try_write(&self.pending) {
                Ok(written) if written == 0 || written == self.pending.len() => break,
                Ok(written) => self.drop_written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return self.counted_bytes.set(self.pending.len());
                }
                // The next read finds the broken socket.
                Err(_) => break,
            }
        }
        (self.frames, self.partial_frame_rest) = (0, 0);
        self.counted_bytes.set(0);
        self.release_buffer();
    }

    /// The number of bytes that the socket has refused so far.
    pub(super) fn blocked_bytes(&self) -> usize {
        if self.is_blocked { self.pending.len() } else { 0 }
    }

    /// Whether the socket has refused bytes.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether frames wait that the next flush writes.
    pub(super) fn needs_flush(&self) -> bool {
        self.frames > 0 && !self.is_blocked
    }

    /// The number of bytes that wait.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The number of frames that wait; the first may be written in part.
    pub(super) fn pending_frames(&self) -> usize {
        self.frames
    }

    /// A part of the waiting bytes was written.
    fn drop_written(&mut self, mut written: usize) {
        let mut first = self.partial_frame_rest;
        if first == 0 {
            first = frame_length(&self.pending);
        }
        while written >= first {
            self.pending.advance(first);
            self.frames -= 1;
            written -= first;
            first = frame_length(&self.pending);
        }
        self.pending.advance(written);
        self.partial_frame_rest = if written > 0 { first - written } else { 0 };
    }

    fn release_buffer(&mut self) {
        let mut buffer = std::mem::take(&mut self.pending);
        buffer.clear();
        SPARE_BUFFERS.with_borrow_mut(|spare| spare.keep(buffer));
    }
}

/// The longest header of a frame (RFC 6455, section 5.2); the server does not mask.
const MAX_HEADER_BYTES: usize = 10;

/// Writes the header of a whole, unmasked frame.
fn write_frame_header(out: &mut BytesMut, op: OpCode, payload_bytes: usize) {
    let fin_and_op = 0x80 | u8::from(op);
    match payload_bytes {
        0..=125 => out.put_slice(&[fin_and_op, payload_bytes as u8]),
        126..=65_535 => {
            out.put_slice(&[fin_and_op, 126]);
            out.put_u16(payload_bytes as u16);
        }
        _ => {
            out.put_slice(&[fin_and_op, 127]);
            out.put_u64(payload_bytes as u64);
        }
    }
}

/// The length of the first of some whole frames, with its header.
fn frame_length(frames: &[u8]) -> usize {
    match *frames {
        [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [_, 127, a, b, c, d, e, f, g, h, ..] => 10 + u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize,
        [_, length, ..] => 2 + usize::from(length),
        _ => usize::MAX,
    }
}

thread_local! {
    /// None on a thread without a flush task.
    static PLANNED: RefCell<Option<PlannedFlushes>> = const { RefCell::new(None) };
}

/// Flushes an outbox from outside its owner.
pub(super) trait FlushOutbox {
    /// Flushes the outbox.
    fn flush_outbox(&self);
}

#[derive(Default)]
struct PlannedFlushes {
    outboxes: Vec<Arc<dyn FlushOutbox>>,
    waker: Option<Waker>,
}

/// Starts the flush task of this thread, if it has none. The thread must run a `LocalSet`.
pub fn start_flush_task() {
    let is_missing = PLANNED.with_borrow_mut(|planned| {
        let is_missing = planned.is_none();
        planned.get_or_insert_default();
        is_missing
    });
    if is_missing {
        tokio::task::spawn_local(run_flush_task(FlushTaskEnd));
    }
}

/// Plans the flush of an outbox. Returns whether this thread has a flush task; if not, the caller
/// flushes the outbox.
pub(super) fn plan_flush(outbox: impl FnOnce() -> Option<Arc<dyn FlushOutbox>>) -> bool {
    PLANNED.with_borrow_mut(|planned| {
        let Some((planned, outbox)) = planned.as_mut().zip(outbox()) else { return false };
        planned.outboxes.push(outbox);
        planned.waker.take().inspect(Waker::wake_by_ref);
        true
    })
}

async fn run_flush_task(_end: FlushTaskEnd) {
    let mut outboxes = Vec::new();
    loop {
        poll_fn(|context| {
            PLANNED.with_borrow_mut(|planned| {
                let planned = planned.get_or_insert_default();
                if planned.outboxes.is_empty() {
                    planned.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
                std::mem::swap(&mut planned.outboxes, &mut outboxes);
                Poll::Ready(())
            })
        })
        .await;
        outboxes.drain(..).for_each(|outbox| outbox.flush_outbox());
    }
}

/// Flushes what is planned when the task ends, as the thread stops. From then on each sender
/// flushes.
struct FlushTaskEnd;

impl Drop for FlushTaskEnd {
    fn drop(&mut self) {
        let planned = PLANNED.try_with(RefCell::take).ok().flatten();
        let outboxes = planned.into_iter().flat_map(|planned| planned.outboxes);
        outboxes.for_each(|outbox| outbox.flush_outbox());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
        while outbox.push_text(b"", sample_text(sent).as_bytes()).is_ok() {
            sent += 1;
            assert!(outbox.pending_bytes() <= LIMIT, "the bound holds");
        }
        assert!(outbox.blocked_bytes() > 0, "the socket took no more");
        outbox.send_close(CloseCode::SlowConsumer);
        assert!(outbox.pending_bytes() < 7_000, "only a partly written frame and the close frame wait");

        let reading = tokio::spawn(read_frames(client));
        while outbox.is_blocked() {
            server.writable().await.unwrap();
            outbox.flush();
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
            let text = sample_text(n);
            outbox.push_text(&text.as_bytes()[..10], &text.as_bytes()[10..]).unwrap();
        }
        assert!(!outbox.needs_flush());
        assert!(outbox.is_blocked(), "12 MB are more than a socket takes");
        let reading = tokio::spawn(read_frames(client));
        while outbox.is_blocked() {
            server.writable().await.unwrap();
            outbox.flush();
        }
        outbox.send_close(CloseCode::GoingAway);
        drop(outbox);
        drop(server);
        let (frames, left_over) = reading.await.unwrap();
        assert_eq!((frames.len(), left_over), (4_001, 0));
    }

    /// Counts its flushes.
    #[derive(Default)]
    struct CountedFlushes(AtomicUsize);

    impl FlushOutbox for CountedFlushes {
        fn flush_outbox(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn outboxes_are_flushed_after_the_ready_tasks_and_at_the_end_of_the_flush_task() {
        let outbox = Arc::new(CountedFlushes::default());
        let plan = || plan_flush(|| Some(outbox.clone() as _));
        assert!(!plan(), "without a flush task the sender flushes");
        let tasks = tokio::task::LocalSet::new();
        tasks.run_until(async { start_flush_task() }).await;
        let flushes_before_a_ready_task = |plans_first: bool| {
            let (first, second) = (outbox.clone(), outbox.clone());
            tasks.spawn_local(async move { plans_first && plan_flush(|| Some(first as _)) });
            tasks.spawn_local(async move { second.0.load(Relaxed) })
        };
        let seen_by_second = flushes_before_a_ready_task(true);
        assert_eq!(tasks.run_until(seen_by_second).await.unwrap(), 0, "both tasks were ready");
        let seen_later = flushes_before_a_ready_task(false);
        assert_eq!(tasks.run_until(seen_later).await.unwrap(), 1);
        assert!(plan());
        drop(tasks);
        assert_eq!(outbox.0.load(Relaxed), 2, "nothing that was planned is lost");
        assert!(!plan(), "then the sender flushes again");
    }
}
