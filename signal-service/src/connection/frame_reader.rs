//! Reads WebSocket frames (RFC 6455, section 5) from one socket.
//!
//! Owns: the bytes that are not yet a frame, and the fragments that are not yet a message. Must not:
//! parse a message, or limit the rate of frames (`peer_rate` does). Next: `dispatcher` gives each
//! frame its meaning.
//!
//! Payloads are unmasked in place and stay in the read buffer of the thread, so a frame costs no
//! allocation. A frame and a message are bounded by `limits.frame`, one read by
//! [`READ_BUFFER_BYTES`].

use std::{
    cell::Cell,
    io::{self, Read as _},
};

use bytes::BytesMut;
use signalbox_protocol::CloseCode;
use tokio::{io::Interest, net::TcpStream};

use crate::socket_budget::BufferBytes;

/// The size of the read buffer of a thread.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// The longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: u64 = 125;

thread_local! {
    /// The read buffer of a thread. A reader takes it for one read and gives it back, so an idle
    /// connection holds none.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A frame from the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IncomingFrame<'a> {
    /// A whole text message.
    Text(&'a [u8]),
    /// A ping with its payload.
    Ping(&'a [u8]),
    /// A pong with its payload.
    Pong(&'a [u8]),
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
    /// Bytes were read, and the socket holds no more now.
    Drained,
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
    max_message_bytes: usize,
    /// After a read this is the buffer of the thread; between two reads it holds the beginning of a
    /// frame, if there is one.
    buffer: Vec<u8>,
    /// The bytes of `buffer` that are not handled yet.
    unread: std::ops::Range<usize>,
    /// The fragments of a message whose end has not come.
    fragments: Option<Vec<u8>>,
    /// A message that came in fragments, while it is handled.
    whole_message: Vec<u8>,
    /// What the reader counts in the budget of the node.
    counted_bytes: BufferBytes,
}

impl FrameReader {
    /// A reader for messages of at most `max_message_bytes`; `early_bytes` came with the upgrade
    /// request.
    pub(super) fn new(max_message_bytes: usize, early_bytes: BytesMut, counted_bytes: BufferBytes) -> Self {
        Self {
            max_message_bytes,
            unread: 0..early_bytes.len(),
            buffer: early_bytes.to_vec(),
            fragments: None,
            whole_message: Vec::new(),
            counted_bytes,
        }
    }

    /// Reads once from the socket. [`FrameReader::next_frame`] must then be called until it returns
    /// none.
    pub(super) fn read_socket(&mut self, socket: &TcpStream) -> ReadProgress {
        self.make_room();
        let free = &mut self.buffer[self.unread.end..];
        let mut read_bytes = None;
        let result = socket.try_io(Interest::READABLE, || {
            let length = (&*socket2::SockRef::from(socket)).read(free)?;
            read_bytes = Some(length);
            // The socket is empty: for the runtime it is not readable any more, which saves a read.
            if length > 0 && length < free.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (read_bytes, result) {
            (Some(0), _) => ReadProgress::EndOfStream,
            (Some(length), result) => {
                self.unread.end += length;
                if result.is_ok() { ReadProgress::More } else { ReadProgress::Drained }
            }
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => ReadProgress::Blocked,
            (None, _) => ReadProgress::EndOfStream,
        }
    }

    /// Moves the unread bytes to the start of a buffer with room for a read.
    fn make_room(&mut self) {
        let unread = self.unread.len();
        if unread < READ_BUFFER_BYTES {
            let mut buffer = READ_BUFFER.take();
            buffer.resize(READ_BUFFER_BYTES, 0);
            buffer[..unread].copy_from_slice(&self.buffer[self.unread.clone()]);
            self.buffer = buffer;
        } else {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.buffer.resize(unread + READ_BUFFER_BYTES, 0);
        }
        self.unread = 0..unread;
    }

    /// Gives the buffer back to the thread and keeps a copy of the unread bytes, if there are any.
    pub(super) fn release_buffer(&mut self) {
        let rest = self.buffer[self.unread.clone()].to_vec();
        self.unread = 0..rest.len();
        let buffer = std::mem::replace(&mut self.buffer, rest);
        if buffer.len() == READ_BUFFER_BYTES {
            READ_BUFFER.set(buffer);
        }
        self.counted_bytes.set(self.buffer.len() + self.fragments.as_ref().map_or(0, Vec::len));
    }

    /// The next frame of the last read; none when the rest is not a whole frame.
    ///
    /// # Errors
    /// [`ReadEnd::ServerClose`] for a frame that is too large, not allowed or broken.
    pub(super) fn next_frame(&mut self) -> Result<Option<IncomingFrame<'_>>, ReadEnd> {
        self.whole_message = Vec::new();
        let unread = &self.buffer[self.unread.clone()];
        let header = FrameHeader::parse(unread)?;
        // A frame that is too large is refused before it has come.
        if header.as_ref().is_some_and(|header| header.payload_bytes > self.max_message_bytes as u64) {
            return Err(CloseCode::FrameTooLarge.into());
        }
        let Some(header) = header.filter(|header| header.frame_bytes() <= unread.len()) else {
            self.release_buffer();
            return Ok(None);
        };
        let start = self.unread.start + header.header_bytes;
        self.unread.start += header.frame_bytes();
        let payload = &mut self.buffer[start..self.unread.start];
        unmask(payload, header.mask);
        let payload = &*payload;
        match header.opcode {
            TEXT | BINARY if self.fragments.is_some() => Err(CloseCode::ProtocolError.into()),
            TEXT if header.is_final => Ok(Some(IncomingFrame::Text(payload))),
            TEXT => {
                self.fragments = Some(payload.to_vec());
                Ok(Some(IncomingFrame::Fragment))
            }
            CONTINUATION => {
                let Some(whole) = &mut self.fragments else { return Err(CloseCode::ProtocolError.into()) };
                if whole.len() + payload.len() > self.max_message_bytes {
                    return Err(CloseCode::FrameTooLarge.into());
                }
                whole.extend_from_slice(payload);
                if !header.is_final {
                    return Ok(Some(IncomingFrame::Fragment));
                }
                self.whole_message = self.fragments.take().unwrap_or_default();
                Ok(Some(IncomingFrame::Text(&self.whole_message)))
            }
            BINARY => Err(CloseCode::BinaryNotSupported.into()),
            PING => Ok(Some(IncomingFrame::Ping(payload))),
            PONG => Ok(Some(IncomingFrame::Pong(payload))),
            CLOSE => Ok(Some(IncomingFrame::Close(parse_close_code(payload)?))),
            _ => Err(CloseCode::ProtocolError.into()),
        }
    }
}

// The opcodes of RFC 6455, section 5.2.
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The header of a frame (RFC 6455, section 5.2).
#[derive(Debug)]
struct FrameHeader {
    is_final: bool,
    opcode: u8,
    header_bytes: usize,
    payload_bytes: u64,
    mask: [u8; 4],
}

impl FrameHeader {
    /// Parses the header; none if it is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, CloseCode> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (is_masked, length) = (second & 0x80 != 0, second & 0x7f);
        let (payload_bytes, rest) = match (length, rest) {
            (126, &[high, low, ref rest @ ..]) => (u64::from(u16::from_be_bytes([high, low])), rest),
            (127, &[a, b, c, d, e, f, g, h, ref rest @ ..]) => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
            }
            (126 | 127, _) => return Ok(None),
            _ => (u64::from(length), rest),
        };
        let is_control = opcode & 0x8 != 0;
        // No extension was negotiated, so no reserved bit may be set. A client must mask.
        if first & 0x70 != 0 || !is_masked || is_control && (!is_final || payload_bytes > MAX_CONTROL_BYTES) {
            return Err(CloseCode::ProtocolError);
        }
        // Without the mask yet: the length is known, and may already be too large.
        let header_bytes = bytes.len() - rest.len() + 4;
        let mask = rest.first_chunk().copied().unwrap_or_default();
        Ok(Some(Self { is_final, opcode, header_bytes, payload_bytes, mask }))
    }

    /// The length of the frame with its header.
    fn frame_bytes(&self) -> usize {
        self.header_bytes + self.payload_bytes as usize
    }
}

/// Removes the mask (RFC 6455, section 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let double_mask = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ double_mask).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

/// The code of a close frame; 1000 if it has none (RFC 6455, sections 5.5.1 and 7.4).
fn parse_close_code(payload: &[u8]) -> Result<u16, CloseCode> {
    let &[high, low, ref reason @ ..] = payload else {
        return if payload.is_empty() { Ok(1000) } else { Err(CloseCode::ProtocolError) };
    };
    let code = u16::from_be_bytes([high, low]);
    let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if may_be_sent && std::str::from_utf8(reason).is_ok() { Ok(code) } else { Err(CloseCode::ProtocolError) }
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::CloseCode::{BinaryNotSupported, FrameTooLarge, ProtocolError};

    use super::*;
    use crate::socket_budget::SocketBudget;

    const MASK: [u8; 4] = [0x12, 0xfe, 0x00, 0x7f];

    /// A masked frame, with its first byte as given.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn reader(max_message_bytes: usize, bytes: &[u8]) -> FrameReader {
        let counted_bytes = SocketBudget::new(usize::MAX).open_connection().open_buffer();
        FrameReader::new(max_message_bytes, bytes.into(), counted_bytes)
    }

    #[test]
    fn each_broken_frame_ends_the_connection_with_its_code() {
        let mut unmasked = frame(0x81, b"{}");
        unmasked[1] &= 0x7f;
        let large = |payload: usize| frame(0x81, &vec![b'x'; payload]);
        let cases: [(&str, Vec<u8>, CloseCode); 19] = [
            ("not masked", unmasked, ProtocolError),
            ("reserved bit 1", frame(0xc1, b"{}"), ProtocolError),
            ("reserved bit 2", frame(0xa1, b"{}"), ProtocolError),
            ("reserved bit 3", frame(0x91, b"{}"), ProtocolError),
            ("reserved opcode 3", frame(0x83, b"{}"), ProtocolError),
            ("reserved control opcode 11", frame(0x8b, b""), ProtocolError),
            ("a ping in fragments", frame(0x09, b""), ProtocolError),
            ("a long ping", frame(0x89, &[0; 126]), ProtocolError),
            ("a continuation of nothing", frame(0x80, b"{}"), ProtocolError),
            ("a text inside a message", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), ProtocolError),
            ("a close code of one byte", frame(0x88, &[3]), ProtocolError),
            ("a close code that is never sent", frame(0x88, &[0x03, 0xed]), ProtocolError),
            ("a close reason that is not UTF-8", frame(0x88, &[0x03, 0xe8, 0xff]), ProtocolError),
            ("binary", frame(0x82, b"{}"), BinaryNotSupported),
            ("the beginning of binary", frame(0x02, b"{}"), BinaryNotSupported),
            ("a text that is too long", large(101), FrameTooLarge),
            ("only the header of a text that is too long", large(70_000)[..10].to_vec(), FrameTooLarge),
            ("a length with the highest bit", vec![0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0], FrameTooLarge),
            (
                "fragments that are too long together",
                [frame(0x01, &[b'x'; 60]), frame(0x80, &[b'x'; 60])].concat(),
                FrameTooLarge,
            ),
        ];
        for (name, bytes, code) in cases {
            let mut reader = reader(100, &bytes);
            let end = loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => assert_eq!(frame, IncomingFrame::Fragment, "{name}"),
                    Ok(None) => panic!("{name}: accepted"),
                    Err(end) => break end,
                }
            };
            assert_eq!(end, ReadEnd::ServerClose(code), "{name}");
        }
    }

    #[test]
    fn frames_of_every_length_are_whole_wherever_the_reads_end() {
        for length in [0, 1, 7, 8, 9, 125, 126, 127, 1_000, 65_535, 65_536, 70_000] {
            let text: Vec<u8> = (0..length).map(|n| b'a' + (n % 26) as u8).collect();
            let bytes = [frame(0x81, &text), frame(0x89, b"ping"), frame(0x88, &[0x0f, 0xa0])].concat();
            for cut in [1, 2, 5, 9, bytes.len() / 2, bytes.len() - 1] {
                let mut reader = reader(usize::MAX, &bytes[..cut]);
                let mut seen = Vec::new();
                for rest in [&[][..], &bytes[cut..]] {
                    reader.buffer.extend_from_slice(rest);
                    reader.unread.end = reader.buffer.len();
                    while let Some(frame) = reader.next_frame().unwrap() {
                        seen.push(match frame {
                            IncomingFrame::Text(read) => format!("text {}", read == text),
                            other => format!("{other:?}"),
                        });
                    }
                }
                assert_eq!(
                    seen,
                    ["text true", "Ping([112, 105, 110, 103])", "Close(4000)"],
                    "{length} {cut}"
                );
            }
        }
    }

    #[test]
    fn a_message_in_fragments_is_joined_and_control_frames_may_come_between() {
        let bytes =
            [frame(0x01, b"{\"a\""), frame(0x8a, b"7"), frame(0x00, b":"), frame(0x80, b"1}")].concat();
        let mut reader = reader(100, &bytes);
        let mut seen = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            seen.push(format!("{frame:?}"));
        }
        let whole = format!("{:?}", IncomingFrame::Text(b"{\"a\":1}"));
        assert_eq!(seen, ["Fragment", "Pong([55])", "Fragment", &whole]);
    }
}
