//! What clients send: one JSON object per text message, strictly parsed, with `sdp`, candidates and data left as they came.
//!
//! Only the envelope is understood here; the payload stays a borrowed slice of the frame and is copied once, into the
//! frame that the targets get. Every refusal names the member at fault and never repeats its value.

use std::{borrow::Cow, fmt::Write as _, ops::Range};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{ErrorCode, MAX_SAFE_INTEGER, json::depth_within_bound, object_within};
use crate::{id::PeerId, token::MAX_TOKEN_BYTES};

/// Byte bounds of the members of a client message.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest `sdp`.
    pub sdp: usize,
    /// Longest `candidate` object.
    pub candidate: usize,
    /// Longest `data`.
    pub data: usize,
    /// Longest `metadata`.
    pub metadata: usize,
}

/// A parsed client message.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    /// To be forwarded to one peer, or to the room.
    Forward(Forward<'a>),
    /// The peer changes its own public record.
    Update {
        /// To be acknowledged under this number.
        id: Option<u64>,
        /// The new name, where given.
        name: Option<String>,
        /// The new metadata, where given.
        metadata: Option<&'a RawValue>,
    },
    /// The peer leaves.
    Leave {
        /// To be acknowledged under this number.
        id: Option<u64>,
    },
    /// The peer asks for something to be done to the room, or to another.
    Command {
        /// To be acknowledged under this number.
        id: Option<u64>,
        /// What.
        command: Command,
    },
    /// All entries up to `seq` have arrived.
    Received {
        /// The last entry that arrived.
        seq: u64,
    },
    /// The peer shows a newer token.
    Refresh {
        /// To be acknowledged under this number.
        id: Option<u64>,
        /// The token.
        token: Cow<'a, str>,
    },
    /// A sign of life is asked for.
    Ping {
        /// Echoed in the `pong`.
        id: Option<u64>,
    },
}

/// What a peer may ask to be done to the room, or to another, where it is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A peer is removed, or sent away from the lobby.
    Kick(PeerId),
    /// A peer may not publish any more, or again.
    Mute {
        /// Which peer.
        peer: PeerId,
        /// Whether it may not.
        on: bool,
    },
    /// The room takes nobody in any more, or somebody again.
    Lock(bool),
    /// A peer is let in from the lobby.
    Admit(PeerId),
    /// Everybody leaves.
    End {
        /// Whether the room takes nobody in afterwards.
        lock: bool,
    },
}

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
pub struct Forward<'a> {
    /// What it is.
    pub kind: ForwardKind,
    /// The target; none is every other peer of the room.
    pub to: Option<PeerId>,
    /// To be acknowledged under this number.
    pub id: Option<u64>,
    /// The `id` of the offer it belongs to.
    pub re: Option<u64>,
    /// The payload member's name and its JSON, as it came.
    payload: Option<(&'static str, Cow<'a, str>)>,
}

impl Forward<'_> {
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
    pub fn payload_in(&self, frame: &str) -> Option<Range<usize>> {
        let end = frame.len().checked_sub(1)?;
        Some(end.checked_sub(self.payload()?.len())?..end)
    }
}

/// Why a message was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    /// The stable code.
    pub code: ErrorCode,
    /// The member at fault, where there is one.
    pub field: Option<&'static str>,
    /// The `id` of the message, where it could be read.
    pub id: Option<u64>,
    /// For a person; never repeats what was sent.
    pub message: &'static str,
}

impl Broken {
    fn field(field: &'static str, message: &'static str) -> Self {
        Self { code: ErrorCode::BadMessage, field: Some(field), id: None, message }
    }

    fn too_large(field: &'static str) -> Self {
        Self {
            code: ErrorCode::TooLarge,
            field: Some(field),
            id: None,
            message: "over its limit, see joined.limits",
        }
    }
}

/// Every member a client message may have, unread. `null` is a value here, not an absence.
#[derive(Default, Deserialize)]
#[serde(expecting = "a JSON object")]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    to: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    re: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    sdp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    seq: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    token: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    peer: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    muted: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    locked: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    lock: Option<&'a RawValue>,
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(d: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// An `RTCIceCandidateInit` (webrtc-pc, section 4.8.1.1), read only to be checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the members are read to check their types; the object is forwarded as it came")]
struct CandidateInit<'a> {
    #[serde(borrow)]
    candidate: Cow<'a, str>,
    #[serde(borrow, default)]
    sdp_mid: Option<Cow<'a, str>>,
    #[serde(default, rename = "sdpMLineIndex")]
    sdp_m_line_index: Option<u16>,
    #[serde(borrow, default)]
    username_fragment: Option<Cow<'a, str>>,
}

impl<'a> ClientMessage<'a> {
    /// The number it is to be answered under.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Forward(forward) => forward.id,
            Self::Update { id, .. }
            | Self::Leave { id }
            | Self::Refresh { id, .. }
            | Self::Ping { id }
            | Self::Command { id, .. } => *id,
            Self::Received { .. } => None,
        }
    }

    /// Whether one may send it who waits to be let in.
    pub fn is_for_anybody(&self) -> bool {
        matches!(self, Self::Leave { .. } | Self::Ping { .. } | Self::Received { .. } | Self::Refresh { .. })
    }

    /// Parses one text message.
    ///
    /// # Errors
    /// [`Broken`] with `bad_message`, `unknown_type`, `unsupported` or `too_large`, and the message's `id` if it has one.
    pub fn parse(text: &'a str, bounds: &Bounds) -> Result<Self, Broken> {
        let not_json = Broken {
            code: ErrorCode::BadMessage,
            field: None,
            id: None,
            message: "a message is one JSON object without repeated members",
        };
        // serde would also read a struct from an array.
        if !text.trim_start().starts_with('{') {
            return Err(not_json);
        }
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|_| not_json)?;
        let id = envelope.id()?;
        envelope.read(id, bounds).map_err(|broken| Broken { id, ..broken })
    }
}

impl<'a> Envelope<'a> {
    fn read(&self, id: Option<u64>, bounds: &Bounds) -> Result<ClientMessage<'a>, Broken> {
        let kind: Cow<'a, str> = required(self.kind, "type", "must be a string")?;
        match &*kind {
            "offer" => self.description(ForwardKind::Offer, id, bounds),
            "answer" => self.description(ForwardKind::Answer, id, bounds),
            "pranswer" => self.description(ForwardKind::Pranswer, id, bounds),
            "rollback" => self.forward(ForwardKind::Rollback, self.target()?, id, None),
            "candidate" => self.candidate(id, bounds),
            "message" => self.message(id, bounds),
            "update" => self.update(id, bounds),
            "leave" => Ok(ClientMessage::Leave { id }),
            "received" => {
                let seq = number(self.seq, "seq")?.ok_or(Broken::field("seq", "is missing"))?;
                Ok(ClientMessage::Received { seq })
            }
            "ping" => Ok(ClientMessage::Ping { id }),
            "refresh" => self.refresh(id),
            "kick" | "mute" | "lock" | "admit" | "end" => {
                Ok(ClientMessage::Command { id, command: self.command(&kind)? })
            }
            "report" => Err(Broken {
                code: ErrorCode::Unsupported,
                field: Some("type"),
                id: None,
                message: "reserved; this server does not serve it",
            }),
            _ => Err(Broken {
                code: ErrorCode::UnknownType,
                field: Some("type"),
                id: None,
                message: "no such type in signalbox.v1",
            }),
        }
    }

    fn id(&self) -> Result<Option<u64>, Broken> {
        match number(self.id, "id")? {
            Some(0) => Err(Broken::field("id", "must be 1 or more")),
            id => Ok(id),
        }
    }

    fn command(&self, kind: &str) -> Result<Command, Broken> {
        let flag = |raw: Option<&'a RawValue>, field, absent| match raw {
            None => Ok(absent),
            Some(raw) => {
                serde_json::from_str(raw.get()).map_err(|_| Broken::field(field, "must be true or false"))
            }
        };
        let peer = || {
            let peer: Cow<'a, str> = required(self.peer, "peer", "must be a peerId")?;
            PeerId::parse(&peer).map_err(|_| Broken::field("peer", "must be a peerId"))
        };
        Ok(match kind {
            "kick" => Command::Kick(peer()?),
            "mute" => Command::Mute { peer: peer()?, on: flag(self.muted, "muted", true)? },
            "admit" => Command::Admit(peer()?),
            "lock" => Command::Lock(flag(self.locked, "locked", true)?),
            _ => Command::End { lock: flag(self.lock, "lock", false)? },
        })
    }

    fn target(&self) -> Result<PeerId, Broken> {
        let to: Cow<'a, str> = required(self.to, "to", "must be a peerId")?;
        PeerId::parse(&to).map_err(|_| Broken::field("to", "must be a peerId"))
    }

    fn forward(
        &self,
        kind: ForwardKind,
        to: impl Into<Option<PeerId>>,
        id: Option<u64>,
        payload: Option<(&'static str, &'a str)>,
    ) -> Result<ClientMessage<'a>, Broken> {
        let re = if matches!(kind, ForwardKind::Offer | ForwardKind::Message) {
            None
        } else {
            match number(self.re, "re")? {
                Some(0) => return Err(Broken::field("re", "must be 1 or more")),
                re => re,
            }
        };
        let payload = payload.map(|(name, json)| (name, json.into()));
        Ok(ClientMessage::Forward(Forward { kind, to: to.into(), id, re, payload }))
    }

    fn description(
        &self,
        kind: ForwardKind,
        id: Option<u64>,
        bounds: &Bounds,
    ) -> Result<ClientMessage<'a>, Broken> {
        let to = self.target()?;
        let sdp = self.sdp.map(RawValue::get).ok_or(Broken::field("sdp", "is missing"))?;
        if !sdp.starts_with('"') || sdp == r#""""# {
            return Err(Broken::field("sdp", "must be a string that is not empty"));
        }
        if sdp.len() > bounds.sdp {
            return Err(Broken::too_large("sdp"));
        }
        self.forward(kind, to, id, Some(("sdp", sdp)))
    }

    fn candidate(&self, id: Option<u64>, bounds: &Bounds) -> Result<ClientMessage<'a>, Broken> {
        let to = self.target()?;
        let raw = self.candidate.map(RawValue::get).ok_or(Broken::field("candidate", "is missing"))?;
        if raw.len() > bounds.candidate {
            return Err(Broken::too_large("candidate"));
        }
        let bad = Broken::field("candidate", "must be an RTCIceCandidateInit object with a candidate string");
        if !raw.starts_with('{')
            || serde_json::from_str::<CandidateInit<'_>>(raw).is_err()
            || !depth_within_bound(raw)
        {
            return Err(bad);
        }
        self.forward(ForwardKind::Candidate, to, id, Some(("candidate", raw)))
    }

    fn message(&self, id: Option<u64>, bounds: &Bounds) -> Result<ClientMessage<'a>, Broken> {
        let to = self.to.map(|_| self.target()).transpose()?;
        let data = self.data.map(RawValue::get).ok_or(Broken::field("data", "is missing"))?;
        if data.len() > bounds.data {
            return Err(Broken::too_large("data"));
        }
        if !depth_within_bound(data) {
            return Err(Broken::field("data", "nests deeper than 64"));
        }
        self.forward(ForwardKind::Message, to, id, Some(("data", data)))
    }

    fn refresh(&self, id: Option<u64>) -> Result<ClientMessage<'a>, Broken> {
        if self.token.is_some_and(|token| token.get().len() > MAX_TOKEN_BYTES) {
            return Err(Broken::too_large("token"));
        }
        let rule = "must be a string that is not empty";
        let token: Cow<'a, str> = required(self.token, "token", rule)?;
        if token.is_empty() {
            return Err(Broken::field("token", rule));
        }
        Ok(ClientMessage::Refresh { id, token })
    }

    fn update(&self, id: Option<u64>, bounds: &Bounds) -> Result<ClientMessage<'a>, Broken> {
        let name = match self.name {
            None => None,
            Some(raw) => {
                let name: String =
                    serde_json::from_str(raw.get()).map_err(|_| Broken::field("name", "must be a string"))?;
                if !crate::text::is_display_name(&name) {
                    return Err(Broken::field("name", crate::text::DISPLAY_NAME_RULE));
                }
                Some(name)
            }
        };
        if let Some(metadata) = self.metadata {
            if metadata.get().len() > bounds.metadata {
                return Err(Broken::too_large("metadata"));
            }
            if !object_within(metadata.get(), bounds.metadata) {
                return Err(Broken::field("metadata", "must be a JSON object that nests no deeper than 64"));
            }
        }
        Ok(ClientMessage::Update { id, name, metadata: self.metadata })
    }
}

fn required<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    field: &'static str,
    rule: &'static str,
) -> Result<T, Broken> {
    let raw = raw.ok_or(Broken::field(field, "is missing"))?;
    serde_json::from_str(raw.get()).map_err(|_| Broken::field(field, rule))
}

fn number(raw: Option<&RawValue>, field: &'static str) -> Result<Option<u64>, Broken> {
    let Some(raw) = raw else { return Ok(None) };
    match serde_json::from_str::<u64>(raw.get()) {
        Ok(number) if number <= MAX_SAFE_INTEGER => Ok(Some(number)),
        _ => Err(Broken::field(field, "must be an integer from 0 to 2^53-1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { sdp: 200, candidate: 200, data: 200, metadata: 100 };

    fn peer() -> PeerId {
        PeerId::from_bits(0xb0b)
    }

    fn frame(json: &str) -> Result<String, Broken> {
        let text = json.replace("$B", peer().as_str());
        match ClientMessage::parse(&text, &BOUNDS)? {
            ClientMessage::Forward(forward) => Ok(forward.to_frame(&PeerId::from_bits(0xa))),
            other => panic!("{other:?}"),
        }
    }

    fn refused(json: &str) -> (ErrorCode, Option<&'static str>) {
        let broken = frame(json).unwrap_err();
        (broken.code, broken.field)
    }

    #[test]
    fn an_offer_is_forwarded_without_to_and_with_from() {
        let out =
            frame(r#"{"type":"offer","to":"$B","id":7,"sdp":"v=0\r\n","from":"forged","x":1}"#).unwrap();
        assert_eq!(
            out,
            format!(r#"{{"type":"offer","from":"{}","id":7,"sdp":"v=0\r\n"}}"#, PeerId::from_bits(0xa))
        );
    }

    #[test]
    fn a_candidate_is_forwarded_byte_for_byte() {
        let init = r#"{"candidate":"","sdpMid":null, "usernameFragment" : "xyz","later":[1]}"#;
        let out = frame(&format!(r#"{{"type":"candidate","to":"$B","re":3,"candidate":{init}}}"#)).unwrap();
        assert!(out.ends_with(&format!(r#","re":3,"candidate":{init}}}"#)), "{out}");
    }

    #[test]
    fn null_is_data_and_absence_is_not() {
        assert!(frame(r#"{"type":"message","data":null}"#).unwrap().ends_with(r#""room":true,"data":null}"#));
        assert_eq!(refused(r#"{"type":"message"}"#), (ErrorCode::BadMessage, Some("data")));
    }

    #[test]
    fn each_defect_names_its_field() {
        use ErrorCode::{BadMessage, TooLarge, UnknownType, Unsupported};
        let long = "x".repeat(300);
        for (json, code, field) in [
            ("", BadMessage, None),
            ("[]", BadMessage, None),
            ("{", BadMessage, None),
            (r#"["offer"]"#, BadMessage, None),
            (r#"{"type":"ping","type":"ping"}"#, BadMessage, None),
            (r#"{"id":1}"#, BadMessage, Some("type")),
            (r#"{"type":1}"#, BadMessage, Some("type")),
            (r#"{"type":"Offer"}"#, UnknownType, Some("type")),
            (r#"{"type":"report"}"#, Unsupported, Some("type")),
            (r#"{"type":"kick"}"#, BadMessage, Some("peer")),
            (r#"{"type":"admit","peer":"bob"}"#, BadMessage, Some("peer")),
            (r#"{"type":"mute","peer":"$B","muted":1}"#, BadMessage, Some("muted")),
            (r#"{"type":"lock","locked":null}"#, BadMessage, Some("locked")),
            (r#"{"type":"end","lock":"yes"}"#, BadMessage, Some("lock")),
            (r#"{"type":"offer","sdp":"v=0"}"#, BadMessage, Some("to")),
            (r#"{"type":"offer","to":"bob","sdp":"v=0"}"#, BadMessage, Some("to")),
            (r#"{"type":"offer","to":"$B"}"#, BadMessage, Some("sdp")),
            (r#"{"type":"offer","to":"$B","sdp":""}"#, BadMessage, Some("sdp")),
            (r#"{"type":"offer","to":"$B","sdp":{}}"#, BadMessage, Some("sdp")),
            (&format!(r#"{{"type":"offer","to":"$B","sdp":"{long}"}}"#), TooLarge, Some("sdp")),
            (r#"{"type":"candidate","to":"$B","candidate":null}"#, BadMessage, Some("candidate")),
            (
                r#"{"type":"candidate","to":"$B","candidate":{"sdpMLineIndex":-1}}"#,
                BadMessage,
                Some("candidate"),
            ),
            (r#"{"type":"answer","to":"$B","sdp":"v=0","re":"x"}"#, BadMessage, Some("re")),
            (r#"{"type":"ping","id":0}"#, BadMessage, Some("id")),
            (r#"{"type":"ping","id":9007199254740992}"#, BadMessage, Some("id")),
            (r#"{"type":"ping","id":1.5}"#, BadMessage, Some("id")),
            (r#"{"type":"received"}"#, BadMessage, Some("seq")),
            (r#"{"type":"update","name":"a\u0007"}"#, BadMessage, Some("name")),
            (r#"{"type":"update","metadata":[]}"#, BadMessage, Some("metadata")),
            (&format!(r#"{{"type":"message","data":"{long}"}}"#), TooLarge, Some("data")),
            (
                &format!(r#"{{"type":"message","data":{}{}}}"#, "[".repeat(65), "]".repeat(65)),
                BadMessage,
                Some("data"),
            ),
        ] {
            assert_eq!(refused(json), (code, field), "{json}");
        }
    }

    #[test]
    fn a_refusal_carries_the_id_of_the_message() {
        assert_eq!(frame(r#"{"type":"offer","id":9}"#).unwrap_err().id, Some(9));
    }
}
