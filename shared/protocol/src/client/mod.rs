//! The messages of a client: one JSON object per text frame, parsed strictly; `sdp`, candidates and
//! data stay as they came.
//!
//! Owns: [`ClientMessage`] and its parser, and [`ForwardMessage`] with the frame that its targets
//! receive. Must not: decide whether a peer may send a message. The payload stays a slice of the
//! frame and is copied once, into the frame for the targets. An error names the member at fault and
//! never repeats its value. Next: `signal-service/src/connection/dispatcher.rs`.

mod envelope;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    display_text::{DISPLAY_NAME_RULE, is_display_name},
    error_code::ErrorCode,
    id::PeerId,
    json_bounds::{MAX_SAFE_INTEGER, MAX_TOKEN_BYTES},
    pair_outcome::{FailureCode, MAX_OUTCOME_MS, PairOutcome, PairResult, PathProtocol},
};
use envelope::{MemberJson, MessageEnvelope};

/// The longest members of a client message, bytes.
#[derive(Debug, Clone, Copy)]
pub struct MessageLimits {
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
    /// A message for one peer or for the room.
    Forward(ForwardMessage<'a>),
    /// The peer changes its public record.
    Update {
        /// The message id.
        id: Option<u64>,
        /// The new name, where given.
        name: Option<String>,
        /// The new metadata, where given.
        metadata: Option<&'a RawValue>,
    },
    /// The peer leaves.
    Leave {
        /// The message id.
        id: Option<u64>,
    },
    /// The client is about to close its socket and probably does not return: its page closes.
    Going {
        /// The message id.
        id: Option<u64>,
    },
    /// A command about the room or another peer.
    Command {
        /// The message id.
        id: Option<u64>,
        /// The command.
        command: RoomCommand,
    },
    /// The client reports how an attempt to connect to another peer ended. It has no message id,
    /// because it is not answered.
    Outcome(PairOutcome),
    /// The client has all entries up to `seq`.
    Received {
        /// The last entry that the client has.
        seq: u64,
    },
    /// The peer sends a newer token.
    Refresh {
        /// The message id.
        id: Option<u64>,
        /// The token.
        token: Cow<'a, str>,
    },
    /// The client asks for a `pong`.
    Ping {
        /// Echoed in the `pong`.
        id: Option<u64>,
    },
}

/// A command of a moderator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomCommand {
    /// Remove a peer from the room or the lobby.
    Kick(PeerId),
    /// Mute a peer, or unmute it.
    Mute {
        /// Which peer.
        peer: PeerId,
        /// Whether it is muted.
        muted: bool,
    },
    /// Lock the room against new peers, or unlock it.
    Lock(bool),
    /// New peers wait in the lobby, or no longer.
    Lobby(bool),
    /// Admit a peer from the lobby.
    Admit(PeerId),
    /// End the room: all peers leave.
    End {
        /// Whether the room is locked afterwards.
        lock: bool,
    },
}

/// Why a message is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct MessageError {
    /// The stable code.
    pub code: ErrorCode,
    /// The member at fault, if there is one.
    pub field: Option<&'static str>,
    /// The `id` of the message, if it could be read.
    pub id: Option<u64>,
    /// The text for a person. It never repeats the message.
    pub message: &'static str,
}

impl MessageError {
    fn invalid_field(field: &'static str, message: &'static str) -> Self {
        Self { code: ErrorCode::BadMessage, field: Some(field), id: None, message }
    }

    fn field_too_large(field: &'static str) -> Self {
        Self {
            code: ErrorCode::TooLarge,
            field: Some(field),
            id: None,
            message: "over its limit, see joined.limits",
        }
    }
}

impl<'a> ClientMessage<'a> {
    /// The `id` under which the message is answered.
    pub fn message_id(&self) -> Option<u64> {
        match self {
            Self::Forward(forward) => forward.id,
            Self::Update { id, .. }
            | Self::Leave { id }
            | Self::Going { id }
            | Self::Refresh { id, .. }
            | Self::Ping { id }
            | Self::Command { id, .. } => *id,
            Self::Received { .. } | Self::Outcome(_) => None,
        }
    }

    /// Whether a peer in the lobby may send it.
    pub fn is_allowed_in_lobby(&self) -> bool {
        matches!(
            self,
            Self::Leave { .. }
                | Self::Going { .. }
                | Self::Ping { .. }
                | Self::Received { .. }
                | Self::Refresh { .. }
        )
    }

    /// Parses one text message.
    ///
    /// # Errors
    /// [`MessageError`] with `bad_message`, `unknown_type`, `unsupported` or `too_large`, and the
    /// message's `id` if it has one.
    pub fn parse(text: &'a str, bounds: &MessageLimits) -> Result<Self, MessageError> {
        let not_json = MessageError {
            code: ErrorCode::BadMessage,
            field: None,
            id: None,
            message: "a message is one JSON object without repeated members",
        };
        let envelope = MessageEnvelope::read(text).map_err(|_| not_json)?;
        let id = envelope.parse_id()?;
        envelope.parse_message(id, bounds).map_err(|broken| MessageError { id, ..broken })
    }
}

/// The kind of a forwarded message.
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
    /// Whether a message of this kind carries SDP or a candidate, which the rules of a role may
    /// restrict.
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
    /// The kind.
    pub kind: ForwardKind,
    /// The target; none means every other peer of the room.
    pub to: Option<PeerId>,
    /// The message id.
    pub id: Option<u64>,
    /// The `id` of the offer it belongs to.
    pub re: Option<u64>,
    /// The name of the payload member and its JSON, as it came.
    payload: Option<(&'static str, Cow<'a, str>)>,
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

    /// The frame for the targets, without `seq`: `{"type":…,"from":…,…}`. The payload, if there is
    /// one, is its last member.
    pub fn to_frame(&self, from: &PeerId) -> String {
        let mut frame = String::new();
        self.write_frame(from, &mut frame);
        frame
    }

    /// Adds the frame for the targets to a text. Every part is JSON already: ids have a checked
    /// alphabet.
    pub fn write_frame(&self, from: &PeerId, out: &mut String) {
        let payload = self.payload.as_ref().map_or(0, |(name, json)| name.len() + json.len());
        out.reserve(payload + 120);
        let start = [r#"{"type":""#, self.kind.as_str(), r#"","from":""#, from.as_str(), r#"""#];
        start.iter().for_each(|part| out.push_str(part));
        if self.to.is_none() {
            out.push_str(r#","room":true"#);
        }
        // A write to a String cannot fail.
        if let Some(id) = self.id {
            let _ = write!(out, r#","id":{id}"#);
        }
        if let Some(re) = self.re {
            let _ = write!(out, r#","re":{re}"#);
        }
        if let Some((name, json)) = &self.payload {
            [r#",""#, name, r#"":"#, json].iter().for_each(|part| out.push_str(part));
        }
        out.push('}');
    }

    /// The range of the payload in the frame.
    pub fn payload_range(&self, frame: &str) -> Option<Range<usize>> {
        let end = frame.len().checked_sub(1)?;
        Some(end.checked_sub(self.payload()?.len())?..end)
    }
}

/// An `RTCIceCandidateInit` (webrtc-pc, section 4.8.1.1), parsed for a check only.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the members are read to check their types; the object is forwarded as it came")]
struct CheckedCandidateInit<'a> {
    #[serde(borrow)]
    candidate: Cow<'a, str>,
    #[serde(borrow, default)]
    sdp_mid: Option<Cow<'a, str>>,
    #[serde(default, rename = "sdpMLineIndex")]
    sdp_m_line_index: Option<u16>,
    #[serde(borrow, default)]
    username_fragment: Option<Cow<'a, str>>,
}

impl<'a> MessageEnvelope<'a> {
    fn parse_message(
        &self,
        id: Option<u64>,
        bounds: &MessageLimits,
    ) -> Result<ClientMessage<'a>, MessageError> {
        let kind = parse_text(self.kind, "type", "must be a string")?;
        match &*kind {
            "offer" => self.parse_description(ForwardKind::Offer, id, bounds),
            "answer" => self.parse_description(ForwardKind::Answer, id, bounds),
            "pranswer" => self.parse_description(ForwardKind::Pranswer, id, bounds),
            "rollback" => self.build_forward(ForwardKind::Rollback, self.parse_target()?, id, None),
            "candidate" => self.parse_candidate(id, bounds),
            "message" => self.parse_application_message(id, bounds),
            "update" => self.parse_update(id, bounds),
            "leave" => Ok(ClientMessage::Leave { id }),
            "going" => Ok(ClientMessage::Going { id }),
            "received" => {
                let seq = parse_safe_integer(self.seq, "seq")?
                    .ok_or(MessageError::invalid_field("seq", "is missing"))?;
                Ok(ClientMessage::Received { seq })
            }
            "ping" => Ok(ClientMessage::Ping { id }),
            "refresh" => self.parse_refresh(id),
            "outcome" => Ok(ClientMessage::Outcome(self.parse_outcome()?)),
            "kick" | "mute" | "lock" | "lobby" | "admit" | "end" => {
                Ok(ClientMessage::Command { id, command: self.parse_command(&kind)? })
            }
            "report" => Err(MessageError {
                code: ErrorCode::Unsupported,
                field: Some("type"),
                id: None,
                message: "reserved; this server does not serve it",
            }),
            _ => Err(MessageError {
                code: ErrorCode::UnknownType,
                field: Some("type"),
                id: None,
                message: "no such type in signalbox.v1",
            }),
        }
    }

    fn parse_id(&self) -> Result<Option<u64>, MessageError> {
        match parse_safe_integer(self.id, "id")? {
            Some(0) => Err(MessageError::invalid_field("id", "must be 1 or more")),
            id => Ok(id),
        }
    }

    fn parse_command(&self, kind: &str) -> Result<RoomCommand, MessageError> {
        let flag = |member, field, absent| parse_flag(member, field).map(|flag| flag.unwrap_or(absent));
        let peer = || self.parse_peer();
        Ok(match kind {
            "kick" => RoomCommand::Kick(peer()?),
            "mute" => RoomCommand::Mute { peer: peer()?, muted: flag(self.muted, "muted", true)? },
            "admit" => RoomCommand::Admit(peer()?),
            "lock" => RoomCommand::Lock(flag(self.locked, "locked", true)?),
            "lobby" => RoomCommand::Lobby(flag(self.lobby, "lobby", true)?),
            _ => RoomCommand::End { lock: flag(self.lock, "lock", false)? },
        })
    }

    fn parse_peer(&self) -> Result<PeerId, MessageError> {
        let peer = parse_text(self.peer, "peer", "must be a peerId")?;
        PeerId::parse(&peer).map_err(|_| MessageError::invalid_field("peer", "must be a peerId"))
    }

    fn parse_outcome(&self) -> Result<PairOutcome, MessageError> {
        const RESULTS: &str = "must be connected, failed or closed";
        const CODES: &str = "must be a failure code of the protocol; leave it out if none fits";
        const PROTOCOLS: &str = "must be udp, tcp or tls";
        const NO_CODE: &str = "must be left out if the result is connected";
        let result = parse_word(self.result, "result", RESULTS, PairResult::parse)?
            .ok_or(MessageError::invalid_field("result", "is missing"))?;
        let code = parse_word(self.code, "code", CODES, FailureCode::parse)?;
        if code.is_some() && result == PairResult::Connected {
            return Err(MessageError::invalid_field("code", NO_CODE));
        }
        let ms = match parse_safe_integer(self.ms, "ms")? {
            Some(ms) if ms > MAX_OUTCOME_MS => {
                return Err(MessageError::invalid_field("ms", "must be at most 3600000"));
            }
            ms => ms.map(|ms| ms as u32),
        };
        Ok(PairOutcome {
            peer: self.parse_peer()?,
            result,
            code,
            ms,
            relayed: parse_flag(self.relayed, "relayed")?,
            protocol: parse_word(self.protocol, "protocol", PROTOCOLS, PathProtocol::parse)?,
        })
    }

    fn parse_target(&self) -> Result<PeerId, MessageError> {
        let to = parse_text(self.to, "to", "must be a peerId")?;
        PeerId::parse(&to).map_err(|_| MessageError::invalid_field("to", "must be a peerId"))
    }

    fn build_forward(
        &self,
        kind: ForwardKind,
        to: impl Into<Option<PeerId>>,
        id: Option<u64>,
        payload: Option<(&'static str, &'a str)>,
    ) -> Result<ClientMessage<'a>, MessageError> {
        let re = if matches!(kind, ForwardKind::Offer | ForwardKind::Message) {
            None
        } else {
            match parse_safe_integer(self.re, "re")? {
                Some(0) => return Err(MessageError::invalid_field("re", "must be 1 or more")),
                re => re,
            }
        };
        let payload = payload.map(|(name, json)| (name, json.into()));
        Ok(ClientMessage::Forward(ForwardMessage { kind, to: to.into(), id, re, payload }))
    }

    fn parse_description(
        &self,
        kind: ForwardKind,
        id: Option<u64>,
        bounds: &MessageLimits,
    ) -> Result<ClientMessage<'a>, MessageError> {
        let to = self.parse_target()?;
        let sdp = self.sdp.ok_or(MessageError::invalid_field("sdp", "is missing"))?.text;
        if !sdp.starts_with('"') || sdp == r#""""# {
            return Err(MessageError::invalid_field("sdp", "must be a string that is not empty"));
        }
        if sdp.len() > bounds.sdp {
            return Err(MessageError::field_too_large("sdp"));
        }
        self.build_forward(kind, to, id, Some(("sdp", sdp)))
    }

    fn parse_candidate(
        &self,
        id: Option<u64>,
        bounds: &MessageLimits,
    ) -> Result<ClientMessage<'a>, MessageError> {
        let to = self.parse_target()?;
        let candidate = self.candidate.ok_or(MessageError::invalid_field("candidate", "is missing"))?;
        let raw = candidate.text;
        if raw.len() > bounds.candidate {
            return Err(MessageError::field_too_large("candidate"));
        }
        let bad = MessageError::invalid_field(
            "candidate",
            "must be an RTCIceCandidateInit object with a candidate string",
        );
        if !raw.starts_with('{')
            || serde_json::from_str::<CheckedCandidateInit<'_>>(raw).is_err()
            || candidate.is_too_deep
        {
            return Err(bad);
        }
        self.build_forward(ForwardKind::Candidate, to, id, Some(("candidate", raw)))
    }

    fn parse_application_message(
        &self,
        id: Option<u64>,
        bounds: &MessageLimits,
    ) -> Result<ClientMessage<'a>, MessageError> {
        let to = self.to.map(|_| self.parse_target()).transpose()?;
        let data = self.data.ok_or(MessageError::invalid_field("data", "is missing"))?;
        if data.text.len() > bounds.data {
            return Err(MessageError::field_too_large("data"));
        }
        if data.is_too_deep {
            return Err(MessageError::invalid_field("data", "nests deeper than 64"));
        }
        self.build_forward(ForwardKind::Message, to, id, Some(("data", data.text)))
    }

    fn parse_refresh(&self, id: Option<u64>) -> Result<ClientMessage<'a>, MessageError> {
        if self.token.is_some_and(|token| token.text.len() > MAX_TOKEN_BYTES) {
            return Err(MessageError::field_too_large("token"));
        }
        let rule = "must be a string that is not empty";
        let token = parse_text(self.token, "token", rule)?;
        if token.is_empty() {
            return Err(MessageError::invalid_field("token", rule));
        }
        Ok(ClientMessage::Refresh { id, token })
    }

    fn parse_update(
        &self,
        id: Option<u64>,
        bounds: &MessageLimits,
    ) -> Result<ClientMessage<'a>, MessageError> {
        let name = match self.name {
            None => None,
            Some(_) => {
                let name = parse_text(self.name, "name", "must be a string")?;
                if !is_display_name(&name) {
                    return Err(MessageError::invalid_field("name", DISPLAY_NAME_RULE));
                }
                Some(name.into_owned())
            }
        };
        if let Some(metadata) = self.metadata {
            if metadata.text.len() > bounds.metadata {
                return Err(MessageError::field_too_large("metadata"));
            }
            if !metadata.text.starts_with('{') || metadata.is_too_deep {
                return Err(MessageError::invalid_field(
                    "metadata",
                    "must be a JSON object that nests no deeper than 64",
                ));
            }
        }
        let metadata = self.metadata.and_then(|metadata| serde_json::from_str(metadata.text).ok());
        Ok(ClientMessage::Update { id, name, metadata })
    }
}

/// The text of a member that must be a JSON string.
fn parse_text<'a>(
    member: Option<MemberJson<'a>>,
    field: &'static str,
    rule: &'static str,
) -> Result<Cow<'a, str>, MessageError> {
    let json = member.ok_or(MessageError::invalid_field(field, "is missing"))?.text;
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    match inner.filter(|inner| !inner.contains('\\')) {
        Some(inner) => Ok(inner.into()),
        None => serde_json::from_str(json)
            .map(|text: String| text.into())
            .map_err(|_| MessageError::invalid_field(field, rule)),
    }
}

fn parse_flag(member: Option<MemberJson<'_>>, field: &'static str) -> Result<Option<bool>, MessageError> {
    match member.map(|member| member.text) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(MessageError::invalid_field(field, "must be true or false")),
    }
}

/// One of some stable words.
fn parse_word<T>(
    member: Option<MemberJson<'_>>,
    field: &'static str,
    rule: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>, MessageError> {
    let Some(_) = member else { return Ok(None) };
    let word = parse(&parse_text(member, field, rule)?);
    word.ok_or(MessageError::invalid_field(field, rule)).map(Some)
}

fn parse_safe_integer(
    member: Option<MemberJson<'_>>,
    field: &'static str,
) -> Result<Option<u64>, MessageError> {
    let Some(member) = member else { return Ok(None) };
    // Valid JSON without a sign, a fraction and an exponent is digits without a leading zero.
    let is_digits = member.text.bytes().all(|byte| byte.is_ascii_digit());
    match member.text.parse() {
        Ok(number) if is_digits && number <= MAX_SAFE_INTEGER => Ok(Some(number)),
        _ => Err(MessageError::invalid_field(field, "must be an integer from 0 to 2^53-1")),
    }
}
