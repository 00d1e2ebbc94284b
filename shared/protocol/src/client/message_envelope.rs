//! The members of a message, and what each `type` asks of them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{ClientMessage, ForwardKind, ForwardMessage, MessageError, MessageLimits, RoomCommand};
use crate::{
    ErrorCode, MAX_SAFE_INTEGER, MAX_TOKEN_BYTES, id::PeerId, is_bounded_object,
    json_bounds::is_depth_bounded,
};

/// Every member a client message may have, unread. `null` is a value here, not an absence.
#[derive(Default, Deserialize)]
#[serde(expecting = "a JSON object")]
pub(super) struct MessageEnvelope<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "deserialize_present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    to: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    re: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    sdp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    seq: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    token: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    peer: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    muted: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    locked: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    lock: Option<&'a RawValue>,
}

fn deserialize_present<'de: 'a, 'a, D: Deserializer<'de>>(d: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// An `RTCIceCandidateInit` (webrtc-pc, section 4.8.1.1), read only to be checked.
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
    pub(super) fn parse_message(
        &self,
        id: Option<u64>,
        bounds: &MessageLimits,
    ) -> Result<ClientMessage<'a>, MessageError> {
        let kind: Cow<'a, str> = parse_required(self.kind, "type", "must be a string")?;
        match &*kind {
            "offer" => self.parse_description(ForwardKind::Offer, id, bounds),
            "answer" => self.parse_description(ForwardKind::Answer, id, bounds),
            "pranswer" => self.parse_description(ForwardKind::Pranswer, id, bounds),
            "rollback" => self.build_forward(ForwardKind::Rollback, self.parse_target()?, id, None),
            "candidate" => self.parse_candidate(id, bounds),
            "message" => self.parse_application_message(id, bounds),
            "update" => self.parse_update(id, bounds),
            "leave" => Ok(ClientMessage::Leave { id }),
            "received" => {
                let seq = parse_safe_integer(self.seq, "seq")?
                    .ok_or(MessageError::invalid_field("seq", "is missing"))?;
                Ok(ClientMessage::Received { seq })
            }
            "ping" => Ok(ClientMessage::Ping { id }),
            "refresh" => self.parse_refresh(id),
            "kick" | "mute" | "lock" | "admit" | "end" => {
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

    pub(super) fn parse_id(&self) -> Result<Option<u64>, MessageError> {
        match parse_safe_integer(self.id, "id")? {
            Some(0) => Err(MessageError::invalid_field("id", "must be 1 or more")),
            id => Ok(id),
        }
    }

    fn parse_command(&self, kind: &str) -> Result<RoomCommand, MessageError> {
        let flag = |raw: Option<&'a RawValue>, field, absent| match raw {
            None => Ok(absent),
            Some(raw) => serde_json::from_str(raw.get())
                .map_err(|_| MessageError::invalid_field(field, "must be true or false")),
        };
        let peer = || {
            let peer: Cow<'a, str> = parse_required(self.peer, "peer", "must be a peerId")?;
            PeerId::parse(&peer).map_err(|_| MessageError::invalid_field("peer", "must be a peerId"))
        };
        Ok(match kind {
            "kick" => RoomCommand::Kick(peer()?),
            "mute" => RoomCommand::Mute { peer: peer()?, muted: flag(self.muted, "muted", true)? },
            "admit" => RoomCommand::Admit(peer()?),
            "lock" => RoomCommand::Lock(flag(self.locked, "locked", true)?),
            _ => RoomCommand::End { lock: flag(self.lock, "lock", false)? },
        })
    }

    fn parse_target(&self) -> Result<PeerId, MessageError> {
        let to: Cow<'a, str> = parse_required(self.to, "to", "must be a peerId")?;
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
        let sdp = self.sdp.map(RawValue::get).ok_or(MessageError::invalid_field("sdp", "is missing"))?;
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
        let raw = self
            .candidate
            .map(RawValue::get)
            .ok_or(MessageError::invalid_field("candidate", "is missing"))?;
        if raw.len() > bounds.candidate {
            return Err(MessageError::field_too_large("candidate"));
        }
        let bad = MessageError::invalid_field(
            "candidate",
            "must be an RTCIceCandidateInit object with a candidate string",
        );
        if !raw.starts_with('{')
            || serde_json::from_str::<CheckedCandidateInit<'_>>(raw).is_err()
            || !is_depth_bounded(raw)
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
        let data = self.data.map(RawValue::get).ok_or(MessageError::invalid_field("data", "is missing"))?;
        if data.len() > bounds.data {
            return Err(MessageError::field_too_large("data"));
        }
        if !is_depth_bounded(data) {
            return Err(MessageError::invalid_field("data", "nests deeper than 64"));
        }
        self.build_forward(ForwardKind::Message, to, id, Some(("data", data)))
    }

    fn parse_refresh(&self, id: Option<u64>) -> Result<ClientMessage<'a>, MessageError> {
        if self.token.is_some_and(|token| token.get().len() > MAX_TOKEN_BYTES) {
            return Err(MessageError::field_too_large("token"));
        }
        let rule = "must be a string that is not empty";
        let token: Cow<'a, str> = parse_required(self.token, "token", rule)?;
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
            Some(raw) => {
                let name: String = serde_json::from_str(raw.get())
                    .map_err(|_| MessageError::invalid_field("name", "must be a string"))?;
                if !crate::display_text::is_display_name(&name) {
                    return Err(MessageError::invalid_field("name", crate::display_text::DISPLAY_NAME_RULE));
                }
                Some(name)
            }
        };
        if let Some(metadata) = self.metadata {
            if metadata.get().len() > bounds.metadata {
                return Err(MessageError::field_too_large("metadata"));
            }
            if !is_bounded_object(metadata.get(), bounds.metadata) {
                return Err(MessageError::invalid_field(
                    "metadata",
                    "must be a JSON object that nests no deeper than 64",
                ));
            }
        }
        Ok(ClientMessage::Update { id, name, metadata: self.metadata })
    }
}

fn parse_required<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    field: &'static str,
    rule: &'static str,
) -> Result<T, MessageError> {
    let raw = raw.ok_or(MessageError::invalid_field(field, "is missing"))?;
    serde_json::from_str(raw.get()).map_err(|_| MessageError::invalid_field(field, rule))
}

fn parse_safe_integer(raw: Option<&RawValue>, field: &'static str) -> Result<Option<u64>, MessageError> {
    let Some(raw) = raw else { return Ok(None) };
    match serde_json::from_str::<u64>(raw.get()) {
        Ok(number) if number <= MAX_SAFE_INTEGER => Ok(Some(number)),
        _ => Err(MessageError::invalid_field(field, "must be an integer from 0 to 2^53-1")),
    }
}
