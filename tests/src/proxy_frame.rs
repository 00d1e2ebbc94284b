//! Finds the first frame that a server sends after its 101, and whether it is a `resumed`.

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It cannot be said yet.
    Wait,
    /// Nothing to look at.
    Pass,
    /// A `resumed`: where its frame starts and ends among the bytes held.
    Resumed {
        /// Its first byte.
        start: usize,
        /// Behind its last byte.
        end: usize,
    },
}

const UPGRADED: &[u8] = b"HTTP/1.1 101";

/// The beginning of what a server sends.
#[derive(Debug, Default)]
pub(crate) struct FirstFrame {
    held: Vec<u8>,
}

impl FirstFrame {
    /// Takes more bytes and holds them.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Verdict {
        self.held.extend_from_slice(bytes);
        let known = self.held.len().min(UPGRADED.len());
        if self.held[..known] != UPGRADED[..known] {
            return Verdict::Pass;
        }
        let Some(head) = self.held.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Verdict::Wait;
        };
        let start = head + 4;
        match frame_end(&self.held[start..]) {
            Some(length) if self.held.len() >= start + length => self.judge(start, start + length),
            _ => Verdict::Wait,
        }
    }

    fn judge(&self, start: usize, end: usize) -> Verdict {
        const MARK: &[u8] = br#""type":"resumed""#;
        let is_resumed = self.held[start..end].windows(MARK.len()).any(|part| part == MARK);
        if is_resumed { Verdict::Resumed { start, end } } else { Verdict::Pass }
    }

    /// All that was taken.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.held
    }
}

/// The length of the frame at the beginning (RFC 6455, section 5.2), once its head is there. A server does not mask.
fn frame_end(bytes: &[u8]) -> Option<usize> {
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

    fn stream(payload: &str) -> (Vec<u8>, usize) {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec();
        let start = bytes.len();
        bytes.extend([0x81, 126]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload.as_bytes());
        (bytes, start)
    }

    #[test]
    fn a_resumed_is_found_however_its_bytes_come() {
        let (bytes, start) = stream(&format!(r#"{{"type":"resumed","pad":"{}"}}"#, "x".repeat(200)));
        let mut first = FirstFrame::default();
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(first.look(&[*byte]), Verdict::Wait);
        }
        let last = &bytes[bytes.len() - 1..];
        assert_eq!(first.look(last), Verdict::Resumed { start, end: bytes.len() });
        assert_eq!(first.into_bytes(), bytes);
    }

    #[test]
    fn anything_else_passes() {
        let (joined, _) = stream(&format!(r#"{{"type":"joined","pad":"{}"}}"#, "x".repeat(200)));
        for bytes in [&joined[..], b"+PONG\r\n", b"HTTP/1.1 401 Unauthorized\r\n\r\n"] {
            assert_eq!(FirstFrame::default().look(bytes), Verdict::Pass);
        }
    }
}
