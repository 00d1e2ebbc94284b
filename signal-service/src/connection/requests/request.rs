//! One request of a peer, and what it does to the room.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::{Command, LeftReason};

use crate::registry::Outgoing;
use signalbox_rooms::{
    room::{Act, Whom},
    store::Target,
};

/// One request of a peer.
#[derive(Debug)]
pub(in crate::connection) enum Request {
    /// A message to forward.
    Forward(Outgoing),
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
        command: Command,
    },
}

impl Request {
    pub(super) fn id(&self) -> Option<u64> {
        match self {
            Self::Forward(item) => item.id,
            Self::Drop { id, .. }
            | Self::Update { id, .. }
            | Self::Leave { id }
            | Self::Command { id, .. } => *id,
        }
    }

    /// Whom it reaches; a change of one's own record reaches everybody.
    pub(super) fn target(&self) -> &Target {
        match self {
            Self::Forward(item) => &item.to,
            Self::Drop { .. } | Self::Update { .. } | Self::Leave { .. } | Self::Command { .. } => {
                &Target::Room
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Forward(item) => item.body.len(),
            Self::Update { metadata, .. } => metadata.as_ref().map_or(0, |json| json.get().len()),
            Self::Drop { .. } | Self::Leave { .. } | Self::Command { .. } => 0,
        }
    }
}

/// What a command does to the room.
pub(super) fn act(command: Command) -> Act {
    match command {
        Command::Kick(peer) => Act::Remove { whom: Whom::Peer(peer), reason: LeftReason::Removed },
        Command::Mute { peer, on } => Act::Mute { peer, on },
        Command::Lock(locked) => Act::Lock(locked),
        Command::Admit(peer) => Act::Admit(peer),
        Command::End { lock } => Act::End { lock },
    }
}
