//! Error codes: why a message was refused, while the connection stays (docs/PROTOCOL.md, section
//! 5.1).

use serde::{Deserialize, Serialize};

/// Why a message was refused. The text of a code is stable, so clients may branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The message is not a JSON object, or a member is missing or has the wrong type.
    BadMessage,
    /// The `type` does not exist.
    UnknownType,
    /// The `type` is reserved, and this server does not serve it.
    Unsupported,
    /// A member is longer than its limit.
    TooLarge,
    /// The target is not in the room.
    NoSuchPeer,
    /// The role lacks a permission.
    NotPermitted,
    /// The client sent more frames than its burst and its rate allow.
    RateLimited,
    /// The backlog of the target is full.
    PeerBacklogged,
    /// The store did not answer, so the outcome is unknown.
    Unavailable,
    /// The room has reached its maximum of peers.
    RoomFull,
    /// The user has reached the maximum of peers in the room.
    UserLimit,
    /// The peer of this token has another connection.
    TokenInUse,
    /// The token of a `refresh` is not valid for this peer.
    BadToken,
    /// The room is locked.
    RoomLocked,
    /// The room is disabled.
    RoomDisabled,
    /// The start time of the room has not come.
    RoomNotStarted,
    /// The room does not exist, and a join may not create it.
    RoomNotAllowed,
    /// The user is banned.
    Banned,
    /// The token was revoked.
    Revoked,
    /// A moderator rejected the peer in the lobby.
    Denied,
    /// A moderator or the application removed the user from the room.
    Removed,
    /// The room has reached its maximum of users with a sanction.
    SanctionLimit,
    /// A fault of the server.
    Internal,
}

impl ErrorCode {
    /// Every code, for tests.
    pub const ALL: [Self; 23] = [
        Self::BadMessage,
        Self::UnknownType,
        Self::Unsupported,
        Self::TooLarge,
        Self::NoSuchPeer,
        Self::NotPermitted,
        Self::RateLimited,
        Self::PeerBacklogged,
        Self::Unavailable,
        Self::RoomFull,
        Self::UserLimit,
        Self::TokenInUse,
        Self::BadToken,
        Self::RoomLocked,
        Self::RoomDisabled,
        Self::RoomNotStarted,
        Self::RoomNotAllowed,
        Self::Banned,
        Self::Revoked,
        Self::Denied,
        Self::Removed,
        Self::SanctionLimit,
        Self::Internal,
    ];

    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadMessage => "bad_message",
            Self::UnknownType => "unknown_type",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too_large",
            Self::NoSuchPeer => "no_such_peer",
            Self::NotPermitted => "not_permitted",
            Self::RateLimited => "rate_limited",
            Self::PeerBacklogged => "peer_backlogged",
            Self::Unavailable => "unavailable",
            Self::RoomFull => "room_full",
            Self::UserLimit => "user_limit",
            Self::TokenInUse => "token_in_use",
            Self::BadToken => "bad_token",
            Self::RoomLocked => "room_locked",
            Self::RoomDisabled => "room_disabled",
            Self::RoomNotStarted => "room_not_started",
            Self::RoomNotAllowed => "room_not_allowed",
            Self::Banned => "banned",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
            Self::Removed => "removed",
            Self::SanctionLimit => "sanction_limit",
            Self::Internal => "internal",
        }
    }

    /// Reads [`ErrorCode::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// The wait before a retry, milliseconds. None if a retry does not help.
    pub fn retry_ms(self) -> Option<u32> {
        match self {
            Self::RateLimited | Self::TokenInUse => Some(1_000),
            Self::PeerBacklogged | Self::Unavailable | Self::Internal => Some(500),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_is_in_the_protocol_document() {
        let text = include_str!("../../../docs/PROTOCOL.md");
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert!(text.contains(&format!("`{}`", code.as_str())), "docs/PROTOCOL.md lacks {code:?}");
        }
    }
}
