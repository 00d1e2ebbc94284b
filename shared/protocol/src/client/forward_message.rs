//! A message to forward, and the frame that its targets get.

use std::{borrow::Cow, fmt::Write as _, ops::Range};

use crate::id::PeerId;

/// What kind of message is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardKind {
    /// An SDP offer.
    Offer,
    /// An SDP answer.
    Answer,
    /// A provisional answer.
    Pranswer,
    /// A rollback (RFC 9429, section 4.1.10.2).
    Rollback,
    /// A trickled ICE candidate (RFC 8838).
    Candidate,
    /// An application message.
    Message,
}

impl ForwardKind {
    /// Whether a message of this kind carries SDP or a candidate, which the rules of a role may restrict.
    pub fn carries_sdp_or_candidate(self) -> bool {
        !matches!(self, Self::Rollback | Self::Message)
    }

    /// The `type` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Pranswer => "pranswer",
            Self::Rollback => "rollback",
            Self::Candidate => "candidate",
            Self::Message => "message",
        }
    }
}

/// A message to forward.
#[derive(Debug)]
pub struct ForwardMessage<'a> {
    /// What it is.
    pub kind: ForwardKind,
    /// The target; none is every other peer of the room.
    pub to: Option<PeerId>,
    /// To be acknowledged under this number.
    pub id: Option<u64>,
    /// The `id` of the offer it belongs to.
    pub re: Option<u64>,
    /// The payload member's name and its JSON, as it came.
    pub(super) payload: Option<(&'static str, Cow<'a, str>)>,
}

impl ForwardMessage<'_> {
    /// The JSON of its payload: a string for a description, an object for a candidate.
    pub fn payload(&self) -> Option<&str> {
        self.payload.as_ref().map(|(_, json)| &**json)
    }

    /// The same message with another payload, which must be JSON.
    pub fn replace_payload(&mut self, json: String) {
        if let Some((_, payload)) = &mut self.payload {
            *payload = json.into();
        }
    }

    /// The JSON object that the targets get, without `seq`: `{"type":…,"from":…,…}`. Its payload, if it has one, is its last member.
    pub fn to_frame(&self, from: &PeerId) -> String {
        let payload = self.payload.as_ref().map_or(0, |(name, json)| name.len() + json.len());
        let mut out = String::with_capacity(payload + 120);
        // Writing to a String cannot fail, and every part is JSON already: names are checked alphabets.
        let _ = write!(out, r#"{{"type":"{}","from":"{from}""#, self.kind.as_str());
        if self.to.is_none() {
            out.push_str(r#","room":true"#);
        }
        if let Some(id) = self.id {
            let _ = write!(out, r#","id":{id}"#);
        }
        if let Some(re) = self.re {
            let _ = write!(out, r#","re":{re}"#);
        }
        if let Some((name, json)) = &self.payload {
            let _ = write!(out, r#","{name}":{json}"#);
        }
        out.push('}');
        out
    }

    /// Where in its frame the JSON of the payload stands.
    pub fn payload_range(&self, frame: &str) -> Option<Range<usize>> {
        let end = frame.len().checked_sub(1)?;
        Some(end.checked_sub(self.payload()?.len())?..end)
    }
}
