//! The access subject that rules are checked against, and the refusal. Values that know no rule.

use std::net::IpAddr;

use signalbox_protocol::{
    CloseCode, CredentialRoot,
    id::{RoomId, UserId},
    problem::Problem,
};

/// A connection, or a request for one or for a token, that access rules are checked against.
#[derive(Debug, Clone, Copy)]
pub struct AccessSubject<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The room; none if the request is about no room.
    pub room: Option<&'a RoomId>,
    /// The id that all tokens of one grant share; empty before a token is issued.
    pub grant: &'a str,
    /// The time at which the token was issued, seconds since 1970; none before that.
    pub issued_s: Option<u64>,
    /// The root of the token.
    pub root: Option<&'a CredentialRoot>,
    /// The address of the client, if it is known.
    pub address: Option<IpAddr>,
}

/// Why a subject is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessRefusal {
    /// The address of the client is denied.
    AddressDenied,
    /// The user is banned from the room or from all rooms.
    Banned,
    /// The token is revoked.
    Revoked,
    /// The operator has shut the service down.
    ShutDown {
        /// When the client may retry, milliseconds.
        retry_ms: u32,
    },
}

impl AccessRefusal {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::AddressDenied => "address_denied",
            Self::Banned => "banned",
            Self::Revoked => "token_revoked",
            Self::ShutDown { .. } => "shut_down",
        }
    }

    /// The HTTP answer.
    pub fn to_problem(self) -> Problem {
        let (status, detail) = match self {
            Self::AddressDenied => (403, "clients at this address are denied"),
            Self::Banned => (403, "the user is banned; do not ask again with another token"),
            Self::Revoked => (401, "the token was revoked; get a new one"),
            Self::ShutDown { .. } => (503, "the operator has shut the service down; retry later"),
        };
        let mut problem = Problem::new(status, self.code(), detail);
        if let Self::ShutDown { retry_ms } = self {
            problem.retry_after = Some(retry_ms.div_ceil(1_000).max(1));
        }
        problem
    }

    /// The close code of an open connection.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::AddressDenied => CloseCode::AddressDenied,
            Self::Banned => CloseCode::Banned,
            Self::Revoked => CloseCode::Revoked,
            Self::ShutDown { .. } => CloseCode::ShutDown,
        }
    }
}
