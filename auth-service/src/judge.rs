//! What was taken back, asked at every issue: the one place where the auth service meets the rules.
//!
//! Owns: the questions. Must not: know where rules are kept. Until there are rules every answer is yes.

use signalbox_shared::{
    id::{CallerId, RoomId, UserId},
    problem::Problem,
};

/// Somebody to whom something is about to be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The user.
    pub(crate) user: &'a UserId,
    /// The room, where it is for one.
    pub(crate) room: Option<&'a RoomId>,
    /// What it comes from; none where this is the first of its grant.
    pub(crate) grant: Option<&'a str>,
    /// When what is shown was made, seconds since 1970; none where nothing is shown but a secret.
    pub(crate) iat: Option<u64>,
    /// On whose word.
    pub(crate) caller: &'a CallerId,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Judge;

impl Judge {
    /// Whether an API key, and what was made with it, still counts.
    ///
    /// # Errors
    /// 401 `token_revoked`.
    pub(crate) fn key(&self, _id: &CallerId) -> Result<(), Problem> {
        Ok(())
    }

    /// Whether somebody may be given a token, a ticket or the successor of a refresh token.
    ///
    /// # Errors
    /// 403 `banned`, 401 `token_revoked`, 503 `shut_down` or `unavailable`.
    pub(crate) fn issue(&self, asked: Asked<'_>) -> Result<(), Problem> {
        let Asked { user, room, grant, iat, caller } = asked;
        tracing::trace!(%user, room = room.map(RoomId::as_str), grant, iat, %caller, "something is asked for");
        Ok(())
    }

    /// Takes a grant back, for as long as anything of it could be shown: its refresh token was used twice.
    pub(crate) fn take_back(&self, grant: &str, life_ms: u64) {
        tracing::debug!(grant, life_ms, "a grant is taken back");
    }
}
