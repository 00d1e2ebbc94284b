//! Where a message ends in the bytes of a server.

use crate::websocket::{self, parse_frame, write_frame};

/// The framing of a server's connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// An upgrade, then WebSocket frames.
    WebSocket,
    /// The protocol of Redis, from the first byte on.
    Redis,
    /// Answers of HTTP on one connection, each with its length.
    Http,
}

/// What the first bytes of a connection hold.
pub enum Incoming<'a> {
    Message(&'a [u8]),
    /// A WebSocket ping, to be answered with the same payload.
    Ping(&'a [u8]),
    Close(&'a [u8]),
    Nothing,
}

impl Framing {
    /// The first message of `bytes` with its length, or `None` if it is not complete.
    pub fn parse(self, bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
        if self != Self::WebSocket {
            let length = if self == Self::Redis { reply_length(bytes)? } else { answer_length(bytes)? };
            return Some((Incoming::Message(&bytes[..length]), length));
        }
        let (frame, length) = parse_frame(bytes)?;
        let incoming = match frame.opcode {
            websocket::TEXT | websocket::BINARY => Incoming::Message(frame.payload),
            websocket::PING => Incoming::Ping(frame.payload),
            websocket::CLOSE => Incoming::Close(frame.payload.get(2..).unwrap_or_default()),
            _ => Incoming::Nothing,
        };
        Some((incoming, length))
    }

    /// Appends one message.
    pub fn write(self, output: &mut Vec<u8>, message: &[u8]) {
        match self {
            Self::WebSocket => write_frame(output, websocket::TEXT, message),
            Self::Redis | Self::Http => output.extend_from_slice(message),
        }
    }
}

/// The length of the first reply (RESP3) in `bytes`, or `None` if it is not complete.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).ok()?.parse::<i64>().ok();
    let parts = match bytes[0] {
        b'$' | b'=' => {
            let length = end + usize::try_from(number()?).map_or(0, |length| length + 2);
            return (bytes.len() >= length).then_some(length);
        }
        b'*' | b'>' | b'~' => number()?,
        b'%' => number()? * 2,
        _ => 0,
    };
    let mut length = end;
    for _ in 0..parts {
        length += reply_length(bytes.get(length..)?)?;
    }
    Some(length)
}

/// The length of the first answer of HTTP in `bytes`, or `None` if it is not complete.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let (_, length) = text.split_once("content-length:")?;
    let length = head + length.split("\r\n").next()?.trim().parse::<usize>().ok()?;
    (bytes.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_redis_ends_where_its_parts_end() {
        for reply in [
            "+OK\r\n",
            ":17\r\n",
            "$-1\r\n",
            "$5\r\nab\r\nc\r\n",
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
            "%1\r\n$1\r\nk\r\n*2\r\n:1\r\n_\r\n",
        ] {
            let bytes = format!("{reply}+next\r\n");
            assert_eq!(reply_length(bytes.as_bytes()), Some(reply.len()), "{reply}");
            assert_eq!(reply_length(&reply.as_bytes()[..reply.len() - 1]), None, "{reply}");
        }
    }

    #[test]
    fn an_answer_of_http_ends_after_its_body() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: y\r\n\r\nbody";
        assert_eq!(answer_length(format!("{answer}HTTP").as_bytes()), Some(answer.len()));
        assert_eq!(answer_length(&answer.as_bytes()[..answer.len() - 1]), None);
    }
}
