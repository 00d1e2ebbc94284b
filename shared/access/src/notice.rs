//! What is said once: not a rule, and nobody keeps it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signalbox_protocol::id::{RoomId, UserId};

/// To whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeAudience {
    /// Every connected peer.
    All,
    /// Those of a room.
    Room(RoomId),
    /// Those of a user.
    User(UserId),
}

impl NoticeAudience {
    /// Whether a peer is addressed.
    pub fn includes_peer(&self, room: &RoomId, user: &UserId) -> bool {
        match self {
            Self::All => true,
            Self::Room(of) => of == room,
            Self::User(of) => of == user,
        }
    }

    /// Whether somebody in a room may be.
    pub fn may_include_room(&self, room: &RoomId) -> bool {
        !matches!(self, Self::Room(of) if of != room)
    }
}

/// A notice to connected peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// To whom.
    pub to: NoticeAudience,
    /// A word that a client branches on.
    pub code: Arc<str>,
    /// For a person.
    pub message: Arc<str>,
}
