//! What clients send: one JSON object per text message, strictly parsed, with `sdp`, candidates and data left as they came.
//!
//! Only the envelope is understood here; the payload stays a borrowed slice of the frame and is copied once, into the
//! frame that the targets get. Every refusal names the member at fault and never repeats its value.
//!
//! Next: `envelope` for what each `type` must look like, `forward` for the frame that the targets get.

mod forward_message;
mod message_envelope;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::ErrorCode;
use crate::id::PeerId;

pub use forward_message::{ForwardKind, ForwardMessage};
use message_envelope::MessageEnvelope;

/// Byte bounds of the members of a client message.
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
    /// To be forwarded to one peer, or to the room.
    Forward(ForwardMessage<'a>),
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
        command: RoomCommand,
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
pub enum RoomCommand {
    /// A peer is removed, or sent away from the lobby.
    Kick(PeerId),
    /// A peer may not publish any more, or again.
    Mute {
        /// Which peer.
        peer: PeerId,
        /// Whether it may not.
        muted: bool,
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

/// Why a message was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct MessageError {
    /// The stable code.
    pub code: ErrorCode,
    /// The member at fault, where there is one.
    pub field: Option<&'static str>,
    /// The `id` of the message, where it could be read.
    pub id: Option<u64>,
    /// For a person; never repeats what was sent.
    pub message: &'static str,
}

impl MessageError {
    pub(super) fn invalid_field(field: &'static str, message: &'static str) -> Self {
        Self { code: ErrorCode::BadMessage, field: Some(field), id: None, message }
    }

    pub(super) fn field_too_large(field: &'static str) -> Self {
        Self {
            code: ErrorCode::TooLarge,
            field: Some(field),
            id: None,
            message: "over its limit, see joined.limits",
        }
    }
}

impl<'a> ClientMessage<'a> {
    /// The number it is to be answered under.
    pub fn message_id(&self) -> Option<u64> {
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
    pub fn is_allowed_in_lobby(&self) -> bool {
        matches!(self, Self::Leave { .. } | Self::Ping { .. } | Self::Received { .. } | Self::Refresh { .. })
    }

    /// Parses one text message.
    ///
    /// # Errors
    /// [`MessageError`] with `bad_message`, `unknown_type`, `unsupported` or `too_large`, and the message's `id` if it has one.
    pub fn parse(text: &'a str, bounds: &MessageLimits) -> Result<Self, MessageError> {
        let not_json = MessageError {
            code: ErrorCode::BadMessage,
            field: None,
            id: None,
            message: "a message is one JSON object without repeated members",
        };
        // serde would also read a struct from an array.
        if !text.trim_start().starts_with('{') {
            return Err(not_json);
        }
        let envelope: MessageEnvelope<'a> = serde_json::from_str(text).map_err(|_| not_json)?;
        let id = envelope.parse_id()?;
        envelope.parse_message(id, bounds).map_err(|broken| MessageError { id, ..broken })
    }
}
