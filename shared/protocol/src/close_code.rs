//! Close codes: they tell a client whether to reconnect (docs/PROTOCOL.md, section 6).

/// Why the server closes a connection. After 4000–4499 the client reconnects, after 4500–4999
/// it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The client sent `leave`.
    Left,
    /// The node drains.
    GoingAway,
    /// The client read too slowly, so its outbox was full.
    SlowConsumer,
    /// No frame came from the client for two and a half ping intervals.
    PingTimeout,
    /// The client kept sending too fast after `rate_limited` errors.
    RateLimited,
    /// The room or the peer no longer exists in the store.
    SessionGone,
    /// The store was unavailable, so the join was not committed.
    Unavailable,
    /// The token has expired.
    TokenExpired,
    /// A fault of the server.
    Internal,
    /// The operator has shut down the service for some time.
    ShutDown,
    /// The peer of this token has another connection.
    TokenInUse,
    /// A frame that RFC 6455 does not allow, or text that is not UTF-8.
    ProtocolError,
    /// A binary message.
    BinaryNotSupported,
    /// A message over the frame limit.
    FrameTooLarge,
    /// The room has reached its maximum of peers.
    RoomFull,
    /// The user has reached the maximum of peers in the room.
    UserLimit,
    /// A newer connection of the same client replaced this one.
    Replaced,
    /// A moderator removed the peer.
    Removed,
    /// The room has ended.
    Ended,
    /// The user is banned.
    Banned,
    /// The token was revoked.
    Revoked,
    /// The room is locked.
    RoomLocked,
    /// The room is disabled.
    RoomDisabled,
    /// The start time of the room has not come.
    RoomNotStarted,
    /// The address of the client is denied.
    AddressDenied,
    /// A moderator rejected the peer in the lobby.
    Denied,
    /// The room does not exist, and a join may not create it.
    RoomNotAllowed,
}

impl CloseCode {
    /// Every code.
    pub const ALL: [Self; 27] = [
        Self::Left,
        Self::GoingAway,
        Self::SlowConsumer,
        Self::PingTimeout,
        Self::RateLimited,
        Self::SessionGone,
        Self::Unavailable,
        Self::TokenExpired,
        Self::Internal,
        Self::ShutDown,
        Self::TokenInUse,
        Self::ProtocolError,
        Self::BinaryNotSupported,
        Self::FrameTooLarge,
        Self::RoomFull,
        Self::UserLimit,
        Self::Replaced,
        Self::Removed,
        Self::Ended,
        Self::Banned,
        Self::Revoked,
        Self::RoomLocked,
        Self::RoomDisabled,
        Self::RoomNotStarted,
        Self::AddressDenied,
        Self::Denied,
        Self::RoomNotAllowed,
    ];

    /// The number on the wire (RFC 6455, section 7.4).
    pub fn number(self) -> u16 {
        match self {
            Self::Left => 1000,
            Self::GoingAway => 4000,
            Self::SlowConsumer => 4001,
            Self::PingTimeout => 4002,
            Self::RateLimited => 4003,
            Self::SessionGone => 4004,
            Self::Unavailable => 4005,
            Self::TokenExpired => 4006,
            Self::Internal => 4007,
            Self::ShutDown => 4008,
            Self::TokenInUse => 4009,
            Self::ProtocolError => 4500,
            Self::BinaryNotSupported => 4501,
            Self::FrameTooLarge => 4502,
            Self::RoomFull => 4510,
            Self::UserLimit => 4511,
            Self::Replaced => 4512,
            Self::Removed => 4513,
            Self::Ended => 4514,
            Self::Banned => 4515,
            Self::Revoked => 4516,
            Self::RoomLocked => 4517,
            Self::RoomDisabled => 4518,
            Self::RoomNotStarted => 4519,
            Self::AddressDenied => 4520,
            Self::Denied => 4521,
            Self::RoomNotAllowed => 4522,
        }
    }

    /// The stable text of the code: the close reason, and the metric label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::GoingAway => "going_away",
            Self::SlowConsumer => "slow_consumer",
            Self::PingTimeout => "ping_timeout",
            Self::RateLimited => "rate_limited",
            Self::SessionGone => "session_gone",
            Self::Unavailable => "unavailable",
            Self::TokenExpired => "token_expired",
            Self::Internal => "internal",
            Self::ShutDown => "shut_down",
            Self::TokenInUse => "token_in_use",
            Self::ProtocolError => "protocol_error",
            Self::BinaryNotSupported => "binary_not_supported",
            Self::FrameTooLarge => "frame_too_large",
            Self::RoomFull => "room_full",
            Self::UserLimit => "user_limit",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Ended => "ended",
            Self::Banned => "banned",
            Self::Revoked => "revoked",
            Self::RoomLocked => "room_locked",
            Self::RoomDisabled => "room_disabled",
            Self::RoomNotStarted => "room_not_started",
            Self::AddressDenied => "address_denied",
            Self::Denied => "denied",
            Self::RoomNotAllowed => "room_not_allowed",
        }
    }

    /// How long the client should wait before it reconnects, milliseconds. None if it may reconnect
    /// at once, or not at all.
    pub fn retry_ms(self) -> Option<u32> {
        match self {
            Self::SlowConsumer | Self::RateLimited | Self::Internal | Self::TokenInUse => Some(1_000),
            Self::ShutDown => Some(30_000),
            Self::Unavailable => Some(500),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_code_is_in_the_range_of_its_reconnect_rule() {
        for code in CloseCode::ALL {
            let number = code.number();
            assert!(number == 1000 || (4000..5000).contains(&number), "{code:?}");
            assert!(code.retry_ms().is_none() || (4000..4500).contains(&number), "{code:?}");
        }
    }

    #[test]
    fn every_close_code_is_in_the_protocol_document() {
        let text = include_str!("../../../docs/PROTOCOL.md");
        for code in CloseCode::ALL {
            let row = format!("| {} | `{}` |", code.number(), code.reason());
            assert!(text.contains(&row), "docs/PROTOCOL.md lacks {row}");
        }
    }
}
