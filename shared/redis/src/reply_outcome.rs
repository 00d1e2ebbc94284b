//! What an answer means for the one who asked: the only place where redirections are read.
//!
//! Everything but [`ReplyOutcome::Done`] and [`ReplyOutcome::PolicyRefusal`] is an answer to a request that was *not* executed, so that sending it again
//! cannot double it.

use redis::{ServerError, ServerErrorKind, Value};

use crate::redis_address::RedisAddress;

pub(crate) enum ReplyOutcome {
    /// Executed.
    Done(Value),
    /// The server does not want it, now or ever; what a script did before it failed is unknown.
    Refused(ServerError),
    /// Another server has the slot.
    Moved(u16, RedisAddress),
    /// Another server has what it is about, while the slot moves.
    Ask(RedisAddress),
    /// The server has forgotten the script.
    NoScript,
    /// The server cannot for now. Whether asking who can makes sense.
    RetryLater { ask_other_server: bool },
}

impl ReplyOutcome {
    /// Only the answer itself is looked at: an error *within* it was made by a script, which then has run.
    pub(crate) fn classify_reply(answer: Value, asked: &RedisAddress) -> Self {
        let error = match answer {
            Value::ServerError(error) => error,
            value => return Self::Done(value),
        };
        match error.kind() {
            Some(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                match parse_redirection(&error, asked) {
                    Some((slot, to)) if kind == ServerErrorKind::Moved => Self::Moved(slot, to),
                    Some((_, to)) => Self::Ask(to),
                    None => Self::RetryLater { ask_other_server: true },
                }
            }
            Some(ServerErrorKind::NoScript) => Self::NoScript,
            Some(ServerErrorKind::TryAgain | ServerErrorKind::BusyLoading) => {
                Self::RetryLater { ask_other_server: false }
            }
            Some(ServerErrorKind::ClusterDown | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                Self::RetryLater { ask_other_server: true }
            }
            None if error.code() == "BUSY" => Self::RetryLater { ask_other_server: false },
            _ => Self::Refused(error),
        }
    }
}

/// `slot host:port`.
fn parse_redirection(error: &ServerError, asked: &RedisAddress) -> Option<(u16, RedisAddress)> {
    let (slot, to) = error.details()?.split_once(' ')?;
    Some((slot.parse().ok()?, RedisAddress::parse_redirected(to, asked)?))
}
