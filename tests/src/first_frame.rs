//! Finds the first frame that a server sends after its `101` response, and detects a `resumed`
//! frame.

/// The kind of data in the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// More bytes are needed.
    Incomplete,
    /// Not a `resumed` frame.
    Other,
    /// A `resumed` frame, with its position in the bytes.
    Resumed {
        /// The index of the first byte of the frame.
        start: usize,
        /// The index after the last byte of the frame.
        end: usize,
    },
}

const UPGRADED: &[u8] = b"HTTP/1.1 101";

/// Collects the first bytes of a server until they can be classified.
#[derive(Debug, Default)]
pub(crate) struct FirstFrame {
    bytes: Vec<u8>,
}

impl FirstFrame {
    /// Adds bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> FrameKind {
        self.bytes.extend_from_slice(bytes);
        let known = self.bytes.len().min(UPGRADED.len());
        if self.bytes[..known] != UPGRADED[..known] {
            return FrameKind::Other;
        }
        let Some(head) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return FrameKind::Incomplete;
        };
        let start = head + 4;
        match frame_length(&self.bytes[start..]) {
            Some(length) if self.bytes.len() >= start + length => self.classify(start, start + length),
            _ => FrameKind::Incomplete,
        }
    }

    fn classify(&self, start: usize, end: usize) -> FrameKind {
        const MARK: &[u8] = br#""type":"resumed""#;
        let is_resumed = self.bytes[start..end].windows(MARK.len()).any(|part| part == MARK);
        if is_resumed { FrameKind::Resumed { start, end } } else { FrameKind::Other }
    }

    /// All bytes that were added.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The length of the first frame (RFC 6455, section 5.2), once its header is complete. A server
/// does not mask.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = |range: std::ops::Range<usize>| {
        bytes.get(range).map(|part| part.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    match bytes.get(1)? & 0x7f {
        126 => Some(4 + length(2..4)?),
        127 => Some(10 + length(2..10)?),
        short => Some(2 + usize::from(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgraded_stream(payload: &str) -> (Vec<u8>, usize) {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec();
        let start = bytes.len();
        bytes.extend([0x81, 126]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload.as_bytes());
        (bytes, start)
    }

    #[test]
    fn a_resumed_frame_is_found_when_it_arrives_byte_by_byte() {
        let (bytes, start) = upgraded_stream(&format!(r#"{{"type":"resumed","pad":"{}"}}"#, "x".repeat(200)));
        let mut first = FirstFrame::default();
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(first.push(&[*byte]), FrameKind::Incomplete);
        }
        let last = &bytes[bytes.len() - 1..];
        assert_eq!(first.push(last), FrameKind::Resumed { start, end: bytes.len() });
        assert_eq!(first.into_bytes(), bytes);
    }

    #[test]
    fn other_first_bytes_are_not_a_resumed_frame() {
        let (joined, _) = upgraded_stream(&format!(r#"{{"type":"joined","pad":"{}"}}"#, "x".repeat(200)));
        for bytes in [&joined[..], b"+PONG\r\n", b"HTTP/1.1 401 Unauthorized\r\n\r\n"] {
            assert_eq!(FirstFrame::default().push(bytes), FrameKind::Other);
        }
    }
}
