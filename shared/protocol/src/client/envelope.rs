//! The members of a message, and what each `type` asks of them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Bounds, Broken, ClientMessage, Command, Forward, ForwardKind};
use crate::{ErrorCode, MAX_SAFE_INTEGER, MAX_TOKEN_BYTES, id::PeerId, json::depth_within_bound, object_within};

/// Every member a client message may have, unread. `null` is a value here, not an absence.
#[derive(Default, Deserialize)]
#[serde(expecting = "a JSON object")]
pub(super) struct Envelope<'a> {
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

impl<'a> Envelope<'a> {
    pub(super) fn read(&self, id: Option<u64>, bounds: &Bounds) -> Result<ClientMessage<'a>, Broken> {
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

    pub(super) fn id(&self) -> Result<Option<u64>, Broken> {
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
