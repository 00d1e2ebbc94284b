//! Notices to connected peers. A notice is no rule: it is delivered once and not kept.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signalbox_protocol::id::{RoomId, UserId};

/// The peers that receive a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeAudience {
    /// Every connected peer.
    All,
    /// The peers of a room.
    Room(RoomId),
    /// The peers of a user.
    User(UserId),
}

impl NoticeAudience {
    /// Whether a peer receives the notice.
    pub fn includes_peer(&self, room: &RoomId, user: &UserId) -> bool {
        match self {
            Self::All => true,
            Self::Room(target) => target == room,
            Self::User(target) => target == user,
        }
    }

    /// Whether a peer of a room may receive the notice.
    pub fn may_include_room(&self, room: &RoomId) -> bool {
        !matches!(self, Self::Room(target) if target != room)
    }
}

/// A notice to connected peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The peers that receive the notice.
    pub to: NoticeAudience,
    /// A stable code for clients.
    pub code: Arc<str>,
    /// The text for a person.
    pub message: Arc<str>,
}
