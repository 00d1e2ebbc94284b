//! The outcome of an input, and the answer that its caller receives.
//!
//! Owns: the one table of codes, statuses and texts, for the socket (docs/PROTOCOL.md, sections 5
//! and 6) and for the HTTP API (section 11). Must not: send an answer.

use signalbox_protocol::{CloseCode, ErrorCode, ServerMessage, problem::Problem};

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
    /// The room does not exist, and the configuration does not let a join create it.
    AutoCreateDisabled,
    /// The token is for an earlier room with this name.
    OtherCreation,
    /// The room does not accept this role: it names other roles, or it requires end-to-end
    /// encryption and the server would have to inspect what the role sends.
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
    /// A moderator or the API removed a peer of this user.
    UserRemoved,
    /// A peer of this user was not admitted from the lobby.
    UserDenied,
    /// The user is banned from the room.
    UserBanned,
    /// The room has reached its limit of users with a sanction.
    SanctionLimit,
    /// The user has no sanction in this room.
    NoSuchSanction,
    /// The number of peers that were removed.
    Removed(usize),
}

/// The answer to a caller whose input was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeRefusal {
    /// The code of the error message on a socket, with the member at fault. None: a socket gets no
    /// error message. A new connection is closed, and a connected peer is resynced.
    pub error: Option<(ErrorCode, Option<&'static str>)>,
    /// The close code of a connection whose join or resume is refused.
    pub close_code: CloseCode,
    /// The status of the HTTP API.
    pub http_status: u16,
    /// The code of the HTTP API.
    pub problem_code: &'static str,
    /// The member of the HTTP request at fault.
    pub problem_field: Option<&'static str>,
    /// The text, for a socket and for the HTTP API.
    pub text: &'static str,
}

/// The room does not exist.
pub const NO_SUCH_ROOM: OutcomeRefusal = OutcomeRefusal::new(404, "no_such_room", "there is no such room");

/// The peer is not in the room, or not in the lobby.
pub const NO_SUCH_PEER: OutcomeRefusal =
    OutcomeRefusal::new(404, "no_such_peer", "the peer is not in this room, or not in its lobby");

impl InputOutcome {
    /// Whether the room is now as the input asks.
    pub fn is_applied(self) -> bool {
        self.refusal().is_none()
    }

    /// The answer to the caller. None: the input was applied.
    pub fn refusal(self) -> Option<OutcomeRefusal> {
        use OutcomeRefusal as Refusal;
        Some(match self {
            Self::Done | Self::Attached(_) | Self::Removed(_) => return None,
            Self::PeerGone => NO_SUCH_PEER,
            Self::Fenced => NO_SUCH_PEER.with_close(CloseCode::Replaced),
            Self::TokenExpired => NO_SUCH_PEER.with_close(CloseCode::TokenExpired),
            Self::NoSuchPeer => NO_SUCH_PEER.with_error(ErrorCode::NoSuchPeer, Some("peer")),
            Self::NoSuchRoom => NO_SUCH_ROOM,
            Self::RoomExists => Refusal::new(409, "room_exists", "the room exists already"),
            Self::TokenInUse => {
                Refusal::new(409, "conflict", "the peer of this token is connected elsewhere")
                    .with_error(ErrorCode::TokenInUse, None)
                    .with_close(CloseCode::TokenInUse)
            }
            Self::RoomFull => Refusal::new(409, "room_full", "the room has reached its limit of peers")
                .with_error(ErrorCode::RoomFull, None)
                .with_close(CloseCode::RoomFull),
            Self::UserLimit => {
                Refusal::new(409, "user_limit", "the user has reached the limit of peers in this room")
                    .with_error(ErrorCode::UserLimit, None)
                    .with_close(CloseCode::UserLimit)
            }
            Self::RoomLocked => Refusal::new(403, "room_locked", "the room is locked; no new peer can join")
                .with_error(ErrorCode::RoomLocked, None)
                .with_close(CloseCode::RoomLocked),
            Self::RoomDisabled => Refusal::new(403, "room_disabled", "the room is disabled")
                .with_error(ErrorCode::RoomDisabled, None)
                .with_close(CloseCode::RoomDisabled),
            Self::RoomNotStarted => Refusal::new(403, "room_not_started", "the room has not started")
                .with_error(ErrorCode::RoomNotStarted, None)
                .with_close(CloseCode::RoomNotStarted),
            Self::AutoCreateDisabled => {
                let text = "there is no such room, and a join does not create one";
                Refusal::new(403, "room_not_allowed", text)
                    .with_error(ErrorCode::RoomNotAllowed, None)
                    .with_close(CloseCode::RoomNotAllowed)
            }
            Self::OtherCreation => {
                let text = "the token is for an earlier room with this name; get a new token";
                Refusal::new(403, "room_not_allowed", text)
                    .with_error(ErrorCode::RoomNotAllowed, None)
                    .with_close(CloseCode::RoomNotAllowed)
            }
            Self::RoleRefused => Refusal::new(403, "role_not_allowed", "the room does not accept this role")
                .with_problem_field("role")
                .with_error(ErrorCode::RoomNotAllowed, None)
                .with_close(CloseCode::RoomNotAllowed),
            Self::E2eeRequired => {
                Refusal::new(409, "conflict", E2EE_REQUIRED).with_error(ErrorCode::NotPermitted, None)
            }
            Self::UserRemoved => Refusal::new(403, "removed", "the user was removed from the room")
                .with_error(ErrorCode::Removed, None)
                .with_close(CloseCode::Removed),
            Self::UserDenied => Refusal::new(403, "denied", "the user was not admitted from the lobby")
                .with_error(ErrorCode::Denied, None)
                .with_close(CloseCode::Denied),
            Self::UserBanned => Refusal::new(403, "banned", "the user is banned from the room")
                .with_error(ErrorCode::Banned, None)
                .with_close(CloseCode::Banned),
            Self::SanctionLimit => {
                Refusal::new(409, "sanction_limit", SANCTION_LIMIT).with_error(ErrorCode::SanctionLimit, None)
            }
            Self::NoSuchSanction => {
                Refusal::new(404, "no_such_sanction", "the user has no sanction in this room")
            }
            Self::NotPermitted => {
                Refusal::new(403, "not_permitted", "you may not do this, or not to this peer")
                    .with_error(ErrorCode::NotPermitted, None)
            }
        })
    }

    /// The answer to a request for a connection that resumes or replaces a peer. None: the request
    /// may go on, or its token has expired, for which `TokenError` has the answer.
    pub fn resume_problem(self) -> Option<Problem> {
        let (code, text) = match self {
            Self::Fenced => {
                ("resume_replaced", "a newer connection owns this peer; do not use this handle again")
            }
            Self::PeerGone => ("resume_expired", "the peer has left the room; join again with a token"),
            _ => return None,
        };
        Some(Problem::new(401, code, text))
    }
}

const SANCTION_LIMIT: &str =
    "the room has as many users with a sanction as it may have; lift a sanction, or lock the room";

const E2EE_REQUIRED: &str =
    "the room requires end-to-end encryption, and the server would have to inspect what the peer sends";

impl OutcomeRefusal {
    const fn new(http_status: u16, problem_code: &'static str, text: &'static str) -> Self {
        let (error, problem_field) = (None, None);
        Self { error, close_code: CloseCode::SessionGone, http_status, problem_code, problem_field, text }
    }

    const fn with_error(mut self, code: ErrorCode, field: Option<&'static str>) -> Self {
        self.error = Some((code, field));
        self
    }

    const fn with_close(mut self, code: CloseCode) -> Self {
        self.close_code = code;
        self
    }

    const fn with_problem_field(mut self, field: &'static str) -> Self {
        self.problem_field = Some(field);
        self
    }

    /// The error message for a socket, if there is one. `id` is the id of the request.
    pub fn to_error_message(&self, id: Option<u64>) -> Option<ServerMessage> {
        self.error.map(|(code, field)| ServerMessage::error(id, code, field, self.text))
    }

    /// The answer of the HTTP API.
    pub fn to_problem(&self) -> Problem {
        let problem = Problem::new(self.http_status, self.problem_code, self.text);
        match self.problem_field {
            Some(field) => problem.with_field(field),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::InputOutcome as Outcome;

    const REFUSED_ON_SOCKET: [Outcome; 16] = [
        Outcome::TokenInUse,
        Outcome::RoomFull,
        Outcome::UserLimit,
        Outcome::RoomLocked,
        Outcome::RoomDisabled,
        Outcome::RoomNotStarted,
        Outcome::AutoCreateDisabled,
        Outcome::OtherCreation,
        Outcome::RoleRefused,
        Outcome::E2eeRequired,
        Outcome::NotPermitted,
        Outcome::NoSuchPeer,
        Outcome::UserRemoved,
        Outcome::UserDenied,
        Outcome::UserBanned,
        Outcome::SanctionLimit,
    ];

    #[test]
    fn socket_and_api_differ_in_three_codes_only() {
        let refusals = REFUSED_ON_SOCKET.map(|outcome| outcome.refusal().unwrap());
        let codes = refusals.map(|refusal| (refusal.error.unwrap().0.as_str(), refusal.problem_code));
        let different: Vec<_> = codes.into_iter().filter(|(socket, api)| socket != api).collect();
        assert_eq!(
            different,
            [
                ("token_in_use", "conflict"),
                ("room_not_allowed", "role_not_allowed"),
                ("not_permitted", "conflict"),
            ]
        );
    }

    #[test]
    fn a_lost_peer_gets_no_error_message() {
        use Outcome::{Fenced, NoSuchRoom, NoSuchSanction, PeerGone, TokenExpired};
        for outcome in [PeerGone, Fenced, TokenExpired, NoSuchRoom, NoSuchSanction] {
            assert_eq!(outcome.refusal().unwrap().error, None, "{outcome:?}");
        }
    }
}
