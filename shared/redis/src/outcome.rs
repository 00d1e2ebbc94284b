//! What an answer means for the one who asked: the only place where redirections are read.
//!
//! Everything but [`Outcome::Done`] and [`Outcome::Refused`] is an answer to a request that was *not* executed, so that sending it again
//! cannot double it.

use redis::{ServerError, ServerErrorKind, Value};

use crate::target::Address;

pub(crate) enum Outcome {
    /// Executed.
    Done(Value),
    /// The server does not want it, now or ever; what a script did before it failed is unknown.
    Refused(ServerError),
    /// Another server has the slot.
    Moved(u16, Address),
    /// Another server has what it is about, while the slot moves.
    Ask(Address),
    /// The server has forgotten the script.
    NoScript,
    /// The server cannot for now. Whether asking who can makes sense.
    NotNow { elsewhere: bool },
}

impl Outcome {
    /// Only the answer itself is looked at: an error *within* it was made by a script, which then has run.
    pub(crate) fn of(answer: Value, asked: &Address) -> Self {
        let error = match answer {
            Value::ServerError(error) => error,
            value => return Self::Done(value),
        };
        match error.kind() {
            Some(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                match redirection(&error, asked) {
                    Some((slot, to)) if kind == ServerErrorKind::Moved => Self::Moved(slot, to),
                    Some((_, to)) => Self::Ask(to),
                    None => Self::NotNow { elsewhere: true },
                }
            }
            Some(ServerErrorKind::NoScript) => Self::NoScript,
            Some(ServerErrorKind::TryAgain | ServerErrorKind::BusyLoading) => {
                Self::NotNow { elsewhere: false }
            }
            Some(ServerErrorKind::ClusterDown | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                Self::NotNow { elsewhere: true }
            }
            None if error.code() == "BUSY" => Self::NotNow { elsewhere: false },
            _ => Self::Refused(error),
        }
    }
}

/// `slot host:port`.
fn redirection(error: &ServerError, asked: &Address) -> Option<(u16, Address)> {
    let (slot, to) = error.details()?.split_once(' ')?;
    Some((slot.parse().ok()?, Address::redirected(to, asked)?))
}
