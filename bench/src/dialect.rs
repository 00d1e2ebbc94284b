//! What the messages of a server look like. One implementation for each kind of server, beside the
//! code that starts the server (`servers/`).

use crate::framing::Framing;

/// What a message means to the load generator.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer is in its room; [`Peer::id`] is set.
    Joined,
    /// A message of another peer.
    Delivered,
    /// The server has accepted all own messages up to this number.
    Acknowledged(u64),
    /// Another peer has come, changed or gone.
    PresenceChanged,
    /// Nothing that is counted.
    Ignored,
    /// The server has refused something.
    Refused(String),
}

/// One simulated peer, as far as its messages are concerned.
#[derive(Default)]
pub struct Peer {
    /// The id by which other peers address this peer.
    pub id: String,
    /// The room.
    pub room: String,
    /// The highest number of an entry that has arrived, for servers that number them.
    pub seq: u64,
    /// How many entries were confirmed to the server.
    pub confirmed: u64,
    /// The credential with which the peer resumes, for servers that have one.
    pub resume: String,
    /// Whether a resume has lost nothing.
    pub is_recovered: bool,
}

/// The messages of one kind of server.
pub trait Dialect {
    /// How messages are told apart.
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    /// The request target of the upgrade of this peer; without an upgrade, the first bytes. May
    /// choose [`Peer::id`].
    fn upgrade_path(&self, peer: &mut Peer, user: &str) -> String;

    /// Whether the peer is in its room as soon as its connection is open.
    fn joins_by_upgrade(&self) -> bool {
        false
    }

    /// Whether the server acknowledges each message.
    fn acknowledges(&self) -> bool {
        false
    }

    /// Interprets a message of the server. `reply` sends an answer.
    fn read(&self, peer: &mut Peer, payload: &[u8], reply: &mut dyn FnMut(&[u8])) -> Event;

    /// Writes message number `number` of a peer for the peer with the id `to`.
    fn write_message(&self, to: &str, number: u64, output: &mut Vec<u8>);

    /// Writes message number `number` of a peer for all other peers of its room. Returns whether
    /// the server can do that.
    fn write_broadcast(&self, _room: &str, _number: u64, _output: &mut Vec<u8>) -> bool {
        false
    }

    /// A request of HTTP for a token of this user, for servers that issue tokens.
    fn token_request(&self, _user: &str) -> Option<String> {
        None
    }

    /// The request target with which a peer resumes after it has lost its connection.
    fn resume_path(&self, _peer: &Peer) -> Option<String> {
        None
    }
}

/// The SDP of every message, as the inside of a JSON string: 1,400 bytes of lines as browsers write
/// them, with the escapes that a real offer has.
pub fn sdp_in_json() -> &'static str {
    static SDP: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SDP.get_or_init(|| {
        let mut sdp = String::from(
            "v=0\\r\\no=- 4611731400430051336 2 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\na=group:BUNDLE 0\\r\\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\\r\\nc=IN IP4 0.0.0.0\\r\\na=ice-ufrag:4ZcD\\r\\n",
        );
        let line = "a=candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx raddr 0.0.0.0 rport 0\\r\\n";
        while sdp.len() + line.len() < 1_400 {
            sdp.push_str(line);
        }
        sdp.extend(std::iter::repeat_n('a', 1_396 - sdp.len()));
        sdp.push_str("\\r\\n");
        sdp
    })
}

/// The unsigned number after the first `key` in `text`.
pub fn number_after(text: &[u8], key: &[u8]) -> Option<u64> {
    let digits = &text[find(text, key)? + key.len()..];
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}

/// The string after the first `key` in `text`, up to its closing quote. `key` ends with the opening
/// quote.
pub fn string_after(text: &[u8], key: &[u8]) -> Option<String> {
    let rest = &text[find(text, key)? + key.len()..];
    let length = rest.iter().position(|byte| *byte == b'"')?;
    Some(String::from_utf8_lossy(&rest[..length]).into_owned())
}

/// Where `part` begins in `text`.
pub fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdp_has_1400_bytes_and_is_the_inside_of_a_json_string() {
        let sdp = sdp_in_json();
        assert_eq!(sdp.len(), 1_400);
        let value: String = serde_json::from_str(&format!("\"{sdp}\"")).unwrap();
        assert!(value.starts_with("v=0\r\n") && value.ends_with("\r\n"));
    }

    #[test]
    fn members_are_found_by_their_keys() {
        let text = br#"{"type":"ack","id":17,"from":"ab"}"#;
        assert_eq!(number_after(text, b"\"id\":"), Some(17));
        assert_eq!(string_after(text, b"\"from\":\"").as_deref(), Some("ab"));
        assert_eq!(number_after(text, b"\"seq\":"), None);
    }
}
