//! The thread that writes the log lines.
//!
//! A reader of standard error may stop reading, and then a write blocks. So only this thread
//! writes. Every other thread puts its lines into a queue that is bounded in bytes, and never
//! waits: a line that has no room is dropped and counted.
//!
//! Owns: the queue, the count of dropped lines, and the line that reports them. Must not: format a
//! line.

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// What a waiting line costs besides its text, in bytes.
const LINE_OVERHEAD: usize = 64;

/// Before another attempt to write to a pipe that does not block and is full.
const FULL_PIPE_WAIT: Duration = Duration::from_millis(20);

/// An item of the queue.
enum LogItem {
    Line(Vec<u8>),
    /// Answered when all earlier lines are written.
    Flush(SyncSender<()>),
}

/// How much waits, and how much was dropped.
#[derive(Default)]
struct QueueState {
    waiting_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
}

/// The queue of log lines. Clones share it.
#[derive(Clone)]
pub(crate) struct LogWriter {
    items: Sender<LogItem>,
    state: Arc<QueueState>,
    max_bytes: usize,
}

impl LogWriter {
    /// Starts the thread. At most `max_bytes` of lines wait for it. `report` logs how many lines were
    /// dropped, once there is room again.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        max_bytes: usize,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (items, queue) = mpsc::channel();
        let state = Arc::new(QueueState::default());
        let writer = Self { items, state: state.clone(), max_bytes };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_items(&queue, out, &state, max_bytes, report))?;
        Ok(writer)
    }

    /// The number of lines that were dropped.
    pub(crate) fn dropped_lines(&self) -> u64 {
        self.state.dropped_lines.load(Ordering::Relaxed)
    }

    /// Waits until the lines so far are written, at most `limit`. Returns whether they are.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let (written, all_written) = mpsc::sync_channel(1);
        self.items.send(LogItem::Flush(written)).is_ok() && all_written.recv_timeout(limit).is_ok()
    }

    fn push_line(&self, line: &[u8]) {
        let cost = line.len() + LINE_OVERHEAD;
        let before = self.state.waiting_bytes.fetch_add(cost, Ordering::Relaxed);
        // The thread ends with the process only.
        if before + cost > self.max_bytes || self.items.send(LogItem::Line(line.to_vec())).is_err() {
            self.state.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
            self.state.dropped_lines.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The formatter writes each line in one call.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn write_items(
    queue: &Receiver<LogItem>,
    mut out: impl Write,
    state: &QueueState,
    max_bytes: usize,
    report: impl Fn(u64),
) {
    let mut reported = 0;
    while let Ok(item) = queue.recv() {
        match item {
            LogItem::Line(line) => {
                write_line(&mut out, &line);
                state.waiting_bytes.fetch_sub(line.len() + LINE_OVERHEAD, Ordering::Relaxed);
            }
            // The receiver may have waited long enough.
            LogItem::Flush(written) => _ = written.try_send(()),
        }
        let dropped = state.dropped_lines.load(Ordering::Relaxed);
        // The report is a line too, so it waits until there is room.
        if dropped > reported && state.waiting_bytes.load(Ordering::Relaxed) <= max_bytes / 2 {
            report(dropped - reported);
            reported = dropped;
        }
    }
}

/// Writes a line as a whole. A line that cannot be written, for example because the pipe is closed,
/// is lost: there is no other place to report it.
fn write_line(out: &mut impl Write, mut rest: &[u8]) {
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return,
            Ok(written) => rest = &rest[written..],
            // The other side has made the pipe non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE_WAIT),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::net::UnixStream,
        sync::{Mutex, PoisonError},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn start_writer(max_bytes: usize) -> (LogWriter, UnixStream, Arc<Mutex<Vec<u64>>>) {
        let (out, reader) = UnixStream::pair().unwrap();
        reader.set_read_timeout(Some(LIMIT)).unwrap();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let kept = reports.clone();
        let report = move |count| kept.lock().unwrap_or_else(PoisonError::into_inner).push(count);
        (LogWriter::start(out, max_bytes, report).unwrap(), reader, reports)
    }

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let (mut writer, mut reader, _) = start_writer(1 << 20);
        for line in ["one\n", "two\n", "three\n"] {
            writer.write_all(line.as_bytes()).unwrap();
        }
        assert!(LogWriter::flush(&writer, LIMIT));
        let mut read = [0; 14];
        reader.read_exact(&mut read).unwrap();
        assert_eq!((&read[..], writer.dropped_lines()), (&b"one\ntwo\nthree\n"[..], 0));
    }

    #[test]
    fn a_reader_that_stops_costs_the_bound_and_the_dropped_lines_are_reported_once() {
        const MAX_BYTES: usize = 64 * 1024;
        let (mut writer, mut reader, reports) = start_writer(MAX_BYTES);
        let line = [b'x'; 1_000];
        // Until the socket is full, and then more than the queue holds.
        while LogWriter::flush(&writer, Duration::from_millis(200)) {
            (0..40).for_each(|_| writer.write_all(&line).unwrap());
        }
        (0..100).for_each(|_| writer.write_all(&line).unwrap());
        let dropped = writer.dropped_lines();
        assert!(dropped > 0 && writer.state.waiting_bytes.load(Ordering::Relaxed) <= MAX_BYTES);
        let reading = thread::spawn(move || {
            let mut sink = vec![0; 64 * 1024];
            while reader.read(&mut sink).is_ok_and(|count| count > 0) {}
        });
        assert!(LogWriter::flush(&writer, LIMIT), "the reader reads again");
        assert!(LogWriter::flush(&writer, LIMIT));
        assert_eq!(*reports.lock().unwrap(), [dropped]);
        drop(writer);
        reading.join().unwrap();
    }

    #[test]
    fn a_pipe_that_does_not_block_gets_whole_lines() {
        let (out, mut reader) = UnixStream::pair().unwrap();
        out.set_nonblocking(true).unwrap();
        let mut writer = LogWriter::start(out, 8 << 20, |_| {}).unwrap();
        let line = vec![b'x'; 1 << 20];
        writer.write_all(&line).unwrap();
        writer.write_all(b"end").unwrap();
        let mut read = Vec::new();
        reader
            .read_exact({
                read.resize(line.len() + 3, 0);
                &mut read
            })
            .unwrap();
        assert!(read.ends_with(b"xend"));
    }
}
