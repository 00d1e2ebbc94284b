//! The outcome of an input.

/// The outcome of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputOutcome {
    /// The room is now as the input asks.
    Done,
    /// The connection owns the peer, in this epoch.
    Attached(u64),
    /// The peer has left, or another epoch owns it.
    PeerGone,
    /// A newer connection owns the peer.
    Fenced,
    /// The token has expired.
    TokenExpired,
    /// Another peer holds the grant of the token.
    TokenInUse,
    /// The room has reached its limit of peers.
    RoomFull,
    /// The user has reached the limit of peers in this room.
    UserLimit,
    /// The room is locked.
    RoomLocked,
    /// The room is disabled.
    RoomDisabled,
    /// The room has not started.
    RoomNotStarted,
    /// The room does not exist, and a join does not create it.
    NoImplicitRoom,
    /// The room does not accept this role: it names other roles, or it requires end-to-end encryption
    /// and the server would have to inspect what the role sends.
    RoleRefused,
    /// The room requires end-to-end encryption, and the server would have to inspect what a member
    /// sends.
    E2eeRequired,
    /// The room exists already.
    RoomExists,
    /// The room does not exist.
    NoSuchRoom,
    /// The peer is not in the room, or not in the lobby.
    NoSuchPeer,
    /// The actor may not do this, or not to this peer.
    NotPermitted,
    /// The number of peers that were removed.
    Removed(usize),
}

impl InputOutcome {
    /// Whether the room is now as the input asks.
    pub fn is_applied(self) -> bool {
        matches!(self, Self::Done | Self::Removed(_) | Self::Attached(_))
    }
}
