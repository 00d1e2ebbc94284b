//! One request of a peer, and what it does to the room.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::{LeaveReason, RoomCommand};

use crate::registry::OutgoingMessage;
use signalbox_rooms::{
    room::{PeerSelector, RoomAction},
    store::MessageTarget,
};

/// One request of a peer.
#[derive(Debug)]
pub(in crate::connection) enum PeerRequest {
    /// A message to forward.
    Forward(OutgoingMessage),
    /// A message that the rules of its sender's role keep back: it is accepted and goes nowhere.
    Drop {
        /// Its number.
        id: Option<u64>,
    },
    /// A change of its own public record.
    Update {
        /// Its number.
        id: Option<u64>,
        /// The new name.
        name: Option<Arc<str>>,
        /// The new metadata.
        metadata: Option<Arc<RawValue>>,
    },
    /// The peer leaves.
    Leave {
        /// Its number.
        id: Option<u64>,
    },
    /// The peer asks for something to be done to the room, or to another.
    Command {
        /// Its number.
        id: Option<u64>,
        /// What.
        command: RoomCommand,
    },
}

impl PeerRequest {
    pub(super) fn message_id(&self) -> Option<u64> {
        match self {
            Self::Forward(item) => item.id,
            Self::Drop { id, .. }
            | Self::Update { id, .. }
            | Self::Leave { id }
            | Self::Command { id, .. } => *id,
        }
    }

    /// Whom it reaches; a change of one's own record reaches everybody.
    pub(super) fn message_target(&self) -> &MessageTarget {
        match self {
            Self::Forward(item) => &item.target,
            Self::Drop { .. } | Self::Update { .. } | Self::Leave { .. } | Self::Command { .. } => {
                &MessageTarget::Room
            }
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        match self {
            Self::Forward(item) => item.body.len(),
            Self::Update { metadata, .. } => metadata.as_ref().map_or(0, |json| json.get().len()),
            Self::Drop { .. } | Self::Leave { .. } | Self::Command { .. } => 0,
        }
    }
}

/// What a command does to the room.
pub(super) fn room_action(command: RoomCommand) -> RoomAction {
    match command {
        RoomCommand::Kick(peer) => {
            RoomAction::Remove { selector: PeerSelector::Peer(peer), reason: LeaveReason::Removed }
        }
        RoomCommand::Mute { peer, muted: on } => RoomAction::Mute { peer, muted: on },
        RoomCommand::Lock(locked) => RoomAction::Lock(locked),
        RoomCommand::Admit(peer) => RoomAction::Admit(peer),
        RoomCommand::End { lock } => RoomAction::End { lock_room: lock },
    }
}
